"""From label log-probabilities to scores: accuracy, macro-F1, each half apart, shares, and the same calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score

from lib.tasks.task import CLASSES

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions. Lists go over the classes, entailment first.

    `halves` is the accuracy on the items of each gold class, `shares` how often each class is predicted.
    """

    accuracy: float
    macro_f1: float
    halves: list[float]
    shares: list[float]


@dataclass(frozen=True)
class Evaluation:
    """One model on one dataset: scores as they are and after contextual calibration, and all they come from.

    `gold` holds a class a digit; `label_log_probs` is [items, classes]; `content_free` the label prior that
    content-free inputs show under the same context; `mean_label_log_probs` is [gold classes, classes].
    """

    plain: Scores
    calibrated: Scores
    gold: str
    label_log_probs: list[list[float]]
    mean_label_log_probs: list[list[float]]
    content_free: list[float]


def calibrate(label_log_probs: Array, content_free: Array) -> Array:
    """Log-probabilities less the log of the label prior that a content-free input shows.

    Contextual calibration, Zhao et al. 2021 (arXiv 2102.09690), section 4: W = diag(p_cf)⁻¹, b = 0.

    Args:
        label_log_probs: [items, classes].
        content_free: [classes] probabilities that sum to one, averaged over the content-free inputs.
    """
    return label_log_probs - np.log(content_free)


def scores(label_log_probs: Array, gold: Sequence[int]) -> Scores:
    """Scores of predicting the likeliest label; a tie goes to the first class."""
    predicted = label_log_probs.argmax(axis=1)
    classes = range(len(CLASSES))
    return Scores(
        accuracy=float(accuracy_score(gold, predicted)),
        macro_f1=float(f1_score(gold, predicted, labels=classes, average="macro", zero_division=0)),
        halves=recall_score(gold, predicted, labels=classes, average=None, zero_division=0).tolist(),
        shares=[float(np.mean(predicted == label)) for label in classes],
    )


def evaluate(label_log_probs: Array, content_free_log_probs: Array, gold: Sequence[int]) -> Evaluation:
    """All that a result keeps of one dataset.

    Args:
        label_log_probs: [items, classes].
        content_free_log_probs: [content-free inputs, classes], under the same context as the items.
        gold: [items] class indices.
    """
    label_log_probs = label_log_probs.round(4)
    prior = np.exp(content_free_log_probs)
    content_free = (prior / prior.sum(axis=1, keepdims=True)).mean(axis=0)
    by_gold = [label_log_probs[np.asarray(gold) == label] for label in range(len(CLASSES))]
    return Evaluation(
        plain=scores(label_log_probs, gold),
        calibrated=scores(calibrate(label_log_probs, content_free), gold),
        gold="".join(map(str, gold)),
        label_log_probs=label_log_probs.tolist(),
        mean_label_log_probs=[half.mean(axis=0).tolist() if len(half) else [] for half in by_gold],
        content_free=content_free.tolist(),
    )
