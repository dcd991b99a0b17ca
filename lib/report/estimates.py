"""Accuracies as estimates over seeds and items at once: how far they would move with other seeds and other items."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

Array = NDArray[np.float64]
LEVEL = 0.95
ANYWHERE = (-np.inf, np.inf)
QUANTILES = 2_000  # of χ², dense where it is small, which is where the tails of t come from


@dataclass(frozen=True)
class Estimate:
    """A quantity, and what it owes to each seed and to each item of the sample.

    The root of the sum of squares of `by_seed` is its standard error over seeds, that of `by_item` its standard error
    over items, as drawing them anew would give. Estimates of the same seeds and items are paired: what both owe to a
    seed or an item cancels in their difference. Quotients are to first order about the sample (delta method).

    Attributes:
        value: that of the sample.
        by_seed: [seeds], all 0 where there is one.
        by_item: [items].
    """

    value: float
    by_seed: Array
    by_item: Array

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value + other.value, self.by_seed + other.by_seed, self.by_item + other.by_item)

    def __mul__(self, factor: float) -> "Estimate":
        return Estimate(self.value * factor, self.by_seed * factor, self.by_item * factor)

    def __sub__(self, other: "Estimate") -> "Estimate":
        return self + other * -1

    def __truediv__(self, other: "Estimate") -> "Estimate":
        quotient = self.value / other.value
        moved = (self - other * quotient) * (1 / other.value)
        return Estimate(quotient, moved.by_seed, moved.by_item)

    def bounds(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval that holds `level` of value + items' error · normal + seeds' error · Student's t.

        Drawing three seeds with replacement cannot show how much further ones would differ, and gives intervals far too
        narrow. So the error over seeds is Student's, of seeds − 1 degrees of freedom: with the items held fixed, the
        interval is Student's t interval over seeds, and with one seed that of items alone. In closed form, since draws
        say nothing of an interval for a thousand comparisons, whose ends lie beyond the last of them.
        """
        half = _half_width(np.linalg.norm(self.by_item), np.linalg.norm(self.by_seed), len(self.by_seed) - 1, level)
        return self.value - half, self.value + half


def mean(values: Array, classes: Array) -> Estimate:
    """The mean of [seeds, items]; `classes` [items] are drawn each as often as the sample has them."""
    seeds, items = values.shape
    over_seeds, over_items = values.mean(axis=0), values.mean(axis=1)
    by_item = np.empty(items)
    for name in np.unique(classes):
        own = classes == name
        by_item[own] = (over_seeds[own] - over_seeds[own].mean()) / items
    by_seed = (over_items - over_items.mean()) / np.sqrt(max(1, seeds * (seeds - 1)))
    return Estimate(float(values.mean()), by_seed, by_item)


def _half_width(items: float, seeds: float, freedom: int, level: float) -> float:
    """Of the interval about 0 that holds `level` of items · normal + seeds · t.

    Student's t is a normal whose variance is freedom / χ², so the sum is normal too, given χ².
    """
    tail = (1 - level) / 2
    normal = stats.norm.isf(tail) * items
    if seeds == 0:
        return float(normal)
    chi_squared, weights = _chi_squared(freedom)
    spread = np.sqrt(items**2 + seeds**2 * freedom / chi_squared)
    farthest = 2 * (normal + stats.t.isf(tail, freedom) * seeds)
    return optimize.brentq(lambda half: weights @ stats.norm.sf(half / spread) - tail, 0, farthest)


@lru_cache
def _chi_squared(freedom: int) -> tuple[Array, Array]:
    """Quantiles of χ² and their weights, which sum to 1."""
    places = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return stats.chi2.ppf(places**4, freedom), 4 * places**3 / QUANTILES


def interval(
    values: Sequence[float], level: float = LEVEL, within: tuple[float, float] = ANYWHERE
) -> tuple[float, float]:
    """Student's t interval for the mean of independent seeds; (nan, nan) for fewer than two values.

    It is wide for two or three seeds, as it should be: its half-width is 9.0 or 2.5 standard deviations there. It ends
    where the values must: `within` is the lowest and the highest that there can be.
    """
    sample = np.asarray(values, dtype=float)
    sample = sample[~np.isnan(sample)]
    if len(sample) < 2:
        return (np.nan, np.nan)
    error = stats.sem(sample)
    bounds = stats.t.interval(level, len(sample) - 1, sample.mean(), error) if error > 0 else [sample.mean()] * 2
    low, high = np.clip(bounds, *within)
    return (float(low), float(high))


def with_interval(values: pd.Series, digits: int, within: tuple[float, float] = ANYWHERE) -> str:
    """The mean with its 95% interval (Student's t) as text, the mean alone where there is one value."""
    low, high = interval(values, within=within)
    mean = f"{values.mean():.{digits}f}"
    return mean if np.isnan(low) else f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def summarise(results: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Long table of method, support_size, quantity, mean, low, high, seeds, in the order that they come in."""
    long = results.melt(["method", "support_size", "seed"], list(quantities), "quantity").dropna(subset="value")
    groups = long.groupby(["quantity", "method", "support_size"], sort=False)["value"]
    table = groups.agg(["mean", "count"]).rename(columns={"count": "seeds"})
    bounds = pd.DataFrame(groups.apply(interval).tolist(), index=table.index, columns=["low", "high"])
    return table.join(bounds).reset_index()[["quantity", "method", "support_size", "mean", "low", "high", "seeds"]]
