"""Losses of distillation, computed in float32 whatever the model's precision.

Masking is by selection: masked rows never enter the arithmetic, so a mask of no rows gives a loss of exactly
zero that can still be differentiated, and no infinity ever meets a softmax.
"""

import torch.nn.functional as F
from torch import Tensor


def kl_divergence(
    teacher: Tensor, student: Tensor, rows: Tensor, temperature: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """T² · mean over selected rows of KL(softmax(teacher / T) ‖ softmax(student / T)), in nats.

    The soft-target term of Hinton et al. 2015 (arXiv 1503.02531); T² keeps its gradient's size independent of T.

    Args:
        teacher: [rows, classes] logits, or log-probabilities up to a constant per row; no gradient reaches it.
        student: [rows, classes] logits over the same columns.
        rows: the rows that have a teacher target, as [rows] bool or as their int64 indices.
        temperature: T > 0.
        weights: [rows], by which each row's divergence is multiplied; None for ones.

    Returns:
        A float32 scalar; exactly 0 where teacher and student agree (the gradient then is 0 up to rounding) or where no
        row is selected.
    """
    target = F.log_softmax(teacher.detach()[rows].float() / temperature, dim=-1)
    prediction = F.log_softmax(student[rows].float() / temperature, dim=-1)
    losses = F.kl_div(prediction, target, log_target=True, reduction="none").sum(-1)
    if weights is not None:
        losses = losses * weights[rows]
    return temperature**2 * losses.sum() / max(len(losses), 1)


def cross_entropy(student: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Mean over selected rows of −log softmax(student)[label], in nats.

    Args:
        student: [rows, classes] logits.
        labels: [rows] int64 class indices; masked rows may hold anything.
        rows: the rows that have a gold label, as [rows] bool or as their int64 indices.

    Returns:
        A float32 scalar; 0 with zero gradient where no row is selected.
    """
    losses = F.cross_entropy(student[rows].float(), labels[rows], reduction="none")
    return losses.sum() / max(len(losses), 1)


def context_distillation_loss(kl: Tensor, ce: Tensor, kl_weight: float) -> Tensor:
    """λ · KL + (1 − λ) · CE, the objective of context distillation (arXiv 2412.13243); both are scalars."""
    return kl_weight * kl + (1.0 - kl_weight) * ce
