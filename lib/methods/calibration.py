"""What is done to a teacher's answers before they are distilled: its label prior removed, its confidence a weight."""

import torch
from torch import Tensor


def calibrated(log_probs: Tensor, content_free: Tensor, how: str) -> Tensor:
    """Log-probabilities over the label words, up to a constant a row, less those that the teacher gives to any query.

    A teacher that says one label to nearly everything may still rank the queries rightly; its student would learn the
    bias with the ranking.

    Args:
        log_probs: [pool, classes], as they came from the teacher.
        content_free: [inputs, classes], of the content-free inputs under the same demonstrations.
        how: `none`; `content_free`, contextual calibration (Zhao et al. 2021, arXiv 2102.09690); `pool`, the mean
            probability over the pool takes the prior's place (batch calibration, Zhou et al. 2023, arXiv 2309.17249),
            which needs no labels and supposes that the pool's classes are about as frequent.

    Returns:
        [pool, classes] float32; unchanged for `none`.
    """
    if how == "none":
        return log_probs
    prior = content_free if how == "content_free" else log_probs
    return log_probs - prior.softmax(-1).mean(0).log()


def confidence(log_probs: Tensor) -> Tensor:
    """How far the likelier label is above chance, 0 to 1, scaled to a mean of 1 over the pool: [pool] weights."""
    likeliest = log_probs.softmax(-1).amax(-1)
    chance = 1 / log_probs.shape[-1]
    above = (likeliest - chance) / (1 - chance)
    return above / above.mean().clamp_min(torch.finfo(above.dtype).eps)
