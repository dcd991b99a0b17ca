"""The label prior of a model's answers, taken out of them: one formula for evaluation and for distillation."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from torch import Tensor

Array = NDArray[np.float64]
Calibration = Literal["none", "content_free", "pool"]


def log_prior(answers: Array) -> Array:
    """The log of the mean probability that answers [inputs, classes], log-probabilities, give to each class.

    Of content-free inputs it is that of contextual calibration (Zhao et al. 2021, arXiv 2102.09690, section 4); of
    unlabelled queries that of batch calibration (Zhou et al. 2023, arXiv 2309.17249), which supposes that the classes
    are about as frequent among the queries. A constant may be added to each row.
    """
    return np.log(softmax(np.asarray(answers, dtype=float), axis=1).mean(axis=0))


def without_prior(log_probs: Array, prior: Array) -> Array:
    """Log-probabilities [items, classes], up to a constant a row, less a log prior [classes]."""
    return np.asarray(log_probs) - prior


def calibrated_soft_labels(log_probs: Tensor, content_free: Tensor, how: Calibration) -> Tensor:
    """A teacher's answers without its label prior; unchanged for `none`.

    A teacher that says one label to nearly everything may still rank the queries rightly; its student would learn the
    bias with the ranking.

    Args:
        log_probs: [pool, classes], as they came from the teacher.
        content_free: [inputs, classes], of the content-free inputs under the same demonstrations.
        how: whose prior is taken out: that of the content-free inputs, or of the pool.
    """
    if how == "none":
        return log_probs
    answers = content_free if how == "content_free" else log_probs
    return log_probs - torch.from_numpy(log_prior(answers.numpy())).to(log_probs.dtype)


def split_calibrated(log_probs: Array, seed: int = 0) -> Array:
    """Log-probabilities [items, classes] without the prior that the other half of the items, drawn by a seed, shows.

    For results whose answers to unlabelled queries were not kept. No item's own answer is in the prior taken from it.
    """
    order = np.random.default_rng(seed).permutation(len(log_probs))
    halves = np.array_split(order, 2)
    calibrated = np.array(log_probs, dtype=float)
    for own, other in (halves, halves[::-1]):
        if len(other):
            calibrated[own] = without_prior(calibrated[own], log_prior(np.asarray(log_probs)[other]))
    return calibrated - logsumexp(calibrated, axis=1, keepdims=True)
