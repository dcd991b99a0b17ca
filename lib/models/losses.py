"""Losses of distillation, computed in float32 whatever the model's precision.

Masking is by selection: masked rows never enter the arithmetic, so a mask of no rows gives a loss of exactly
zero that can still be differentiated, and no infinity ever meets a softmax.
"""

import math
from collections.abc import Callable

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


def soft_cross_entropy(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """−T² · mean over rows of Σ softmax(teacher / T) · log softmax(student / T), in nats.

    L_soft of in-context learning distillation (arXiv 2212.10670): over a task's options, or over a vocabulary.

    Args:
        teacher: [rows, classes] logits, or log-probabilities up to a constant per row; no gradient reaches it.
        student: [rows, classes] logits over the same columns.
        temperature: T > 0.

    Returns:
        A float32 scalar, the teacher's entropy where both agree; exactly 0 where there are no rows.
    """
    target = F.softmax(teacher.detach().float() / temperature, dim=-1)
    losses = -(target * F.log_softmax(student.float() / temperature, dim=-1)).sum(-1)
    return temperature**2 * losses.sum() / max(len(losses), 1)


def hard_weight(schedule: str, progress: float, start: float = 1.0) -> float:
    """a(t): by how much gold labels weigh against the teacher, at a share `progress` of the training (0 to 1).

    It begins at `start`. `constant` stays there; `linear` falls to 0; `cosine` does so along half a cosine.
    """
    return start * HARD_WEIGHTS[schedule](progress)


HARD_WEIGHTS: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2,
}


def in_context_distillation_loss(hard: Tensor, soft: Tensor, weight: float) -> Tensor:
    """a · L_hard + (1 − a) · L_soft, the objective of arXiv 2212.10670; all are scalars."""
    return weight * hard + (1.0 - weight) * soft
