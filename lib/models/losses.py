"""Losses of distillation: means over rows, in nats, computed in float32 whatever the model's precision.

The loss of no rows is exactly zero and can still be differentiated. No gradient reaches a teacher.
"""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def kl_divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · mean over rows of KL(softmax(teacher / T) ‖ softmax(student / T)).

    The soft-target term of Hinton et al. 2015 (arXiv 1503.02531); T² keeps its gradient's size independent of T.

    Args:
        teacher: [rows, classes] logits, or log-probabilities up to a constant per row.
        student: [rows, classes] logits over the same columns.
        temperature: T > 0.

    Returns:
        A float32 scalar; exactly 0 where teacher and student agree (the gradient then is 0 up to rounding).
    """
    target = F.log_softmax(teacher.detach().float() / temperature, dim=-1)
    prediction = F.log_softmax(student.float() / temperature, dim=-1)
    losses = F.kl_div(prediction, target, log_target=True, reduction="none").sum(-1)
    return temperature**2 * losses.sum() / max(len(losses), 1)


def soft_cross_entropy(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """−T² · mean over rows of Σ softmax(teacher / T) · log softmax(student / T); arguments as of `kl_divergence`.

    L_soft of in-context learning distillation (arXiv 2212.10670). It is the teacher's entropy where both agree.
    """
    target = F.softmax(teacher.detach().float() / temperature, dim=-1)
    losses = -(target * F.log_softmax(student.float() / temperature, dim=-1)).sum(-1)
    return temperature**2 * losses.sum() / max(len(losses), 1)


def cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows of −log softmax(student)[label]; `student` [rows, classes] logits, `labels` [rows] int64."""
    losses = F.cross_entropy(student.float(), labels, reduction="none")
    return losses.sum() / max(len(losses), 1)


# a(t) by name: how gold labels weigh against the teacher, as a share of where they begin, by the share of the training
# that is done. `linear` and `cosine` fall to 0.
HARD_WEIGHTS: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2,
}
