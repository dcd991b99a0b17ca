"""Intervals over seeds and items at once: both are resampled, with one set of draws for all methods."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.methods import METHODS

Array = NDArray[np.float64]
DRAWS = 4000


@dataclass(frozen=True)
class Correct:
    """Which items each method gets right at one support size: by method an array [seeds, items] of 0 and 1.

    All arrays have the same seeds and the same items, in the same order; `gold` is the class of each item. A method
    that reads no support set has its one result for every seed.
    """

    by_method: Mapping[str, Array]
    seeds: tuple[int, ...]
    gold: Array

    def of_seeds(self, method: str, seeds: Sequence[int]) -> Array:
        """[seeds, items] of some of the seeds, in their order."""
        return self.by_method[method][[self.seeds.index(seed) for seed in seeds]]

    def resampling(self, seeds: Sequence[int]) -> "Resampling":
        """The draws for these items and so many seeds, the same for everyone who asks."""
        return _shared_draws(len(seeds), self.gold.tobytes())


def seeds_in_common(several: Iterable[Correct]) -> list[int]:
    """The seeds that all of them have, ascending."""
    seeds = [set(one.seeds) for one in several]
    return sorted(set.intersection(*seeds)) if seeds else []


def correct_items(records: Iterable[dict[str, Any]], domain: str, methods: Collection[str]) -> dict[int, Correct]:
    """By support size above 0, ascending: the items that these methods get right, for the seeds that all of them have.

    Sizes may have different seeds, as they do where a grid is not complete; a size at which no seed has a result of
    each method is left out.

    Args:
        records: stored results, with every item's label log-probabilities.
        domain: `in_domain` or `out_of_domain`.
        methods: those to be compared.
    """
    found: dict[tuple[str, int, int], Array] = {}
    gold = np.empty(0)
    for record in records:
        cell = record["cell"]
        if cell["method"] in methods:
            found[cell["method"], cell["support_size"], cell["seed"]] = right(record["outcome"][domain])
            gold = digits(record["outcome"][domain]["gold"])
    sizes = sorted({size for _, size, _ in found if size > 0})
    by_size = {size: _complete(found, methods, size) for size in sizes}
    return {
        size: Correct({name: np.stack(items) for name, items in at_size.items()}, seeds, gold)
        for size, (seeds, at_size) in by_size.items()
        if seeds
    }


def _complete(
    found: Mapping[tuple[str, int, int], Array], methods: Collection[str], size: int
) -> tuple[tuple[int, ...], dict[str, list[Array]]]:
    """The seeds that every method has at a size, and each method's items for them."""
    seeds = sorted({seed for _, n, seed in found if n == size})
    of_seed = {seed: {name: _one(found, name, size, seed) for name in methods} for seed in seeds}
    whole = {seed: items for seed, items in of_seed.items() if all(one is not None for one in items.values())}
    return tuple(whole), {name: [items[name] for items in whole.values()] for name in methods}


def _one(found: Mapping[tuple[str, int, int], Array], method: str, size: int, seed: int) -> Array | None:
    if METHODS[method].reads_support:
        return found.get((method, size, seed))
    return found.get((method, 0, seed), found.get((method, 0, 0)))


def right(evaluation: dict[str, Any]) -> Array:
    """Which items a stored evaluation gets right: [items] of 0 and 1."""
    scores = np.asarray(evaluation["label_log_probs"])
    return (scores.argmax(axis=1) == digits(evaluation["gold"])).astype(float)


def digits(text: str) -> Array:
    """The numbers that a string of digits holds, one each."""
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(float) - ord("0")


class Resampling:
    """Draws of seeds and of items that every accuracy shares, so that differences between methods are paired.

    Items are drawn with replacement, each class as often as the sample has it. Seeds drawn with replacement would give
    intervals far too narrow: three of them cannot show how much further ones would differ. So a draw's mean over seeds
    departs from the sample's by Gaussian weights that are divided by the root of a χ² of seeds − 1 degrees of freedom:
    with the items held fixed, the percentile interval is Student's t interval over seeds. The two departures, over
    items and over seeds, are added.
    """

    def __init__(self, seeds: int, gold: Array, draws: int = DRAWS, seed: int = 0) -> None:
        """Draw; the first draw is the sample as it is.

        Args:
            seeds: how many there are. With one, only items vary.
            gold: [items], the class of each.
            draws: how many.
            seed: of the draws.
        """
        random = np.random.default_rng(seed)
        self._items = np.zeros((draws, len(gold)))
        for name in np.unique(gold):
            (places,) = np.nonzero(gold == name)
            equal = np.full(len(places), 1 / len(places))
            self._items[:, places] = random.multinomial(len(places), equal, size=draws) / len(gold)
        self._seeds = _departures(random, seeds, draws)
        self._seeds[0], self._items[0] = 0, 1 / len(gold)

    def accuracies(self, correct: Array) -> Array:
        """The accuracy of each draw, [draws], from [seeds, items]; the first is that of the sample."""
        return self._items @ correct.mean(axis=0) + self._seeds @ correct.mean(axis=1)


@lru_cache(maxsize=4)  # a page asks for few of them, many times; each is a third of a GB for 10,000 items
def _shared_draws(seeds: int, gold: bytes) -> Resampling:
    return Resampling(seeds, np.frombuffer(gold))


def _departures(random: np.random.Generator, seeds: int, draws: int) -> Array:
    """[draws, seeds] weights, which sum to 0: a draw's mean over seeds less the sample's is t · s / √seeds."""
    if seeds == 1:
        return np.zeros((draws, 1))
    freedom = seeds - 1
    normal = random.standard_normal((draws, seeds))
    centred = normal - normal.mean(axis=1, keepdims=True)
    scale = np.sqrt(random.chisquare(freedom, size=(draws, 1)) / freedom)
    return centred / scale / np.sqrt(seeds * freedom)


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient of two quantities in each draw, to first order about the sample, which is the first draw.

    The denominator of a far draw may be near 0, where the quotient itself would say nothing (delta method).
    """
    middle = numerator[0] / denominator[0]
    return middle + (numerator - middle * denominator) / denominator[0]


def bounds(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of draws, which holds `level` of them."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
