"""Scores and costs as estimates: how far they would move with other seeds and other items, and as text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from lib.methods.calibration import Calibration
from lib.methods.table import METHODS
from lib.runs.store import Result

Array = NDArray[np.float64]
LEVEL = 0.95
HOW: Mapping[str, Calibration] = {"plain": "none", "calibrated": "pool"}  # how tables and figures name answers
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
        by_item: [items], or [clusters] of items that are not independent of one another; empty for a quantity that has
            none, such as a cost.
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
        say nothing of an interval for a thousand comparisons, whose ends lie beyond the last of them. (nan, nan) for
        one seed of a quantity without items.
        """
        items, seeds, freedom = np.linalg.norm(self.by_item), np.linalg.norm(self.by_seed), len(self.by_seed) - 1
        if not len(self.by_item):
            half = stats.t.isf((1 - level) / 2, freedom) * seeds
        else:
            half = _half_width(items, seeds, freedom, level)
        return float(self.value - half), float(self.value + half)


def mean(values: Array, classes: Array, clusters: Sequence[int] = ()) -> Estimate:
    """The mean of values [seeds, items]; `classes` [items] are drawn each as often as the sample has them.

    Clusters [items] are the number of each item's kind, where items of one kind are drawn together: the error over
    items is then that of sums over clusters (Liang and Zeger 1986, doi 10.1093/biomet/73.1.13), with the factor
    G / (G − 1) for a sample of G clusters. Items without any are independent.
    """
    seeds, items = values.shape
    of_items, of_seeds = values.mean(axis=0), values.mean(axis=1)
    by_item = np.empty(items)
    for name in np.unique(classes):
        own = classes == name
        by_item[own] = (of_items[own] - of_items[own].mean()) / items
    by_seed = (of_seeds - of_seeds.mean()) / np.sqrt(max(1, seeds * (seeds - 1)))
    if len(clusters):
        sums = np.bincount(clusters, by_item)
        by_item = sums * np.sqrt(len(sums) / max(1, len(sums) - 1))
    return Estimate(float(values.mean()), by_seed, by_item)


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of independent seeds, one value each."""
    sample = np.asarray(values, dtype=float)
    by_seed = (sample - sample.mean()) / np.sqrt(max(1, len(sample) * (len(sample) - 1)))
    return Estimate(float(sample.mean()), by_seed, np.empty(0))


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


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t interval of 95% for the mean of independent seeds; (nan, nan) for fewer than two values.

    It is wide for two or three seeds, as it should be: its half-width is 9.0 or 2.5 standard deviations there.
    """
    sample = pd.Series(values, dtype=float).dropna()
    return over_seeds(sample).bounds() if len(sample) > 1 else (np.nan, np.nan)


def with_bounds(value: float, low: float, high: float, form: Callable[[float], str] = "{:.2f}".format) -> str:
    """A value with its interval as text, the value alone where there is none."""
    return form(value) if np.isnan(low) else f"{form(value)} [{form(low)}, {form(high)}]"


def summarise(
    results: pd.DataFrame,
    quantities: Sequence[str],
    by: Sequence[str] = ("method", "support_size"),
    highest: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Means over seeds with 95% intervals: a row a quantity and group that has a value, in the order they come in.

    Results have a row a run. Intervals end where the values must: no quantity is below 0, or above its `highest`.

    Returns:
        Columns quantity, those of `by`, mean, low, high, seeds.
    """
    keys = ["quantity", *by]
    long = results.melt(list(by), list(quantities), "quantity").dropna(subset="value")
    groups = long.groupby(keys, sort=False)["value"]
    table = groups.agg(["mean", "count"]).rename(columns={"count": "seeds"})
    bounds = pd.DataFrame(groups.apply(interval).tolist(), index=table.index, columns=["low", "high"])
    summary = table.join(bounds).reset_index()
    upper = summary.quantity.map(highest or {}).fillna(np.inf)
    summary = summary.assign(low=summary.low.clip(lower=0), high=summary.high.clip(upper=upper))
    return summary[[*keys, "mean", "low", "high", "seeds"]]


@dataclass(frozen=True)
class Correct:
    """Which items a method gets right in one domain.

    Attributes:
        method: which.
        items: by support size and seed an array [items] of 0 and 1, shares where classes are tied.
        gold: [items], the class of each.
        clusters: [items], the number of each item's kind; empty where items are independent.
    """

    method: str
    items: Mapping[tuple[int, int], Array]
    gold: Array
    clusters: Sequence[int] = ()

    @property
    def majority(self) -> float:
        """The accuracy of one answer for everything."""
        return max(np.bincount(self.gold)) / len(self.gold)

    def at(self, size: int, seed: int) -> Array | None:
        """[items], None without a result; a method that reads no support set has its one result at every size."""
        if METHODS[self.method].reads_support:
            return self.items.get((size, seed))
        return self.items.get((0, seed), self.items.get((0, 0)))

    def of_seeds(self, size: int, seeds: Sequence[int]) -> Array:
        """[seeds, items]."""
        return np.stack([self.at(size, seed) for seed in seeds])

    def accuracy(self, size: int, seeds: Sequence[int]) -> Estimate:
        """The share that is right."""
        return mean(self.of_seeds(size, seeds), self.gold, self.clusters)


def correct_items(results: Iterable[Result], domain: str, method: str, how: Calibration = "none") -> Correct:
    """What a method gets right in a domain, its answers calibrated; of other methods' results nothing is taken."""
    items: dict[tuple[int, int], Array] = {}
    gold: list[int] = []
    clusters: list[int] = []
    for result in results:
        run, evaluation = result.run, result.outcome.evaluations.get(domain)
        if run.method == method and evaluation:
            items[run.support_size, run.seed] = evaluation.correct(how)
            gold, clusters = evaluation.gold, evaluation.clusters
    return Correct(method, items, np.asarray(gold), clusters)


def recalls(right: Array, gold: Array, classes: Sequence[str]) -> dict[str, float]:
    """The share of [seeds, items] that is right on each class, as columns `on_<class>`."""
    return {f"on_{name}": right[:, gold == place].mean() for place, name in enumerate(classes)}


def seeds_in_common(several: Sequence[Correct]) -> dict[int, list[int]]:
    """By support size above 0, ascending, the seeds that all of them have; sizes without one are left out.

    Sizes may have different seeds, as they do where a grid is not complete.
    """
    places = sorted({place for correct in several for place in correct.items if place[0] > 0})
    common: dict[int, list[int]] = {}
    for size, seed in places:
        if all(correct.at(size, seed) is not None for correct in several):
            common.setdefault(size, []).append(seed)
    return common


def over_sizes(several: Sequence[Correct]) -> tuple[list[int], list[int], list[Array]] | None:
    """The support sizes that all have, the seeds that all have at each, and of each the mean over sizes [seeds, items].

    None without such a seed.
    """
    common = seeds_in_common(several)
    seeds = sorted(set.intersection(*map(set, common.values()))) if common else []
    if not seeds:
        return None
    means = [np.mean([correct.of_seeds(size, seeds) for size in common], axis=0) for correct in several]
    return [*common], seeds, means
