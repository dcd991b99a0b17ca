"""A check by simulation: how often the study's 95% interval holds a truth that is known."""

import numpy as np
from scipy import stats

from lib.evidence.estimates import Array, mean

TEMPLATES, OF_TEMPLATE = 35, 28  # as many as the study evaluates of HANS, and about as many items of each
ACCURACY = 0.75  # the truth
BETWEEN_SEEDS, BETWEEN_TEMPLATES = 0.03, 0.25  # standard deviations
STUDIES = 1_000


def coverage(seeds: int, clustered: bool, studies: int = STUDIES) -> dict[str, object]:
    """The share of simulated studies whose interval holds the truth, and its width over the ideal.

    The interval knows which items are of one template where they are `clustered`.

    Returns:
        seeds; items, in words; covered; `width over ideal`, the median width over that of an interval from known
        standard errors.
    """
    draw = np.random.default_rng(seeds)
    kinds = np.repeat(np.arange(TEMPLATES), OF_TEMPLATE)
    classes = np.zeros(len(kinds))  # one class: balance is not what is tested
    bounds = [mean(_study(draw, seeds, kinds), classes, kinds if clustered else ()).bounds() for _ in range(studies)]
    low, high = np.array(bounds).T
    ideal = 2 * stats.norm.isf(0.025) * _standard_error(seeds)
    return {
        "seeds": seeds,
        "items": "clustered by template" if clustered else "taken as independent",
        "covered": float(np.mean((low <= ACCURACY) & (high >= ACCURACY))),
        "width over ideal": float(np.median(high - low) / ideal),
    }


def _study(draw: np.random.Generator, seeds: int, kinds: Array) -> Array:
    """[seeds, items] of 0 and 1: templates differ in difficulty (beta distribution), seeds in ability."""
    known = ACCURACY * (1 - ACCURACY) / BETWEEN_TEMPLATES**2 - 1
    easy = draw.beta(ACCURACY * known, (1 - ACCURACY) * known, TEMPLATES)[kinds]
    moved = BETWEEN_SEEDS / (ACCURACY * (1 - ACCURACY) - BETWEEN_TEMPLATES**2)  # in the mean over templates
    ability = draw.uniform(-1, 1, (seeds, 1)) * np.sqrt(3) * moved
    chances = easy + ability * easy * (1 - easy)  # stays between 0 and 1
    return (draw.uniform(size=chances.shape) < chances).astype(float)


def _standard_error(seeds: int) -> float:
    """Of the mean of such a study, from its variances."""
    by_chance = ACCURACY * (1 - ACCURACY) - BETWEEN_SEEDS**2 - BETWEEN_TEMPLATES**2
    items = TEMPLATES * OF_TEMPLATE
    return float(np.sqrt(BETWEEN_SEEDS**2 / seeds + BETWEEN_TEMPLATES**2 / TEMPLATES + by_chance / (items * seeds)))
