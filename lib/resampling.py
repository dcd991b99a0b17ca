"""Intervals over seeds and items at once: both are resampled, with one set of draws for all methods."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.methods import METHODS

Array = NDArray[np.float64]
DRAWS = 4000


@dataclass(frozen=True)
class Correct:
    """Which items each method gets right: by method and support size an array [seeds, items] of 0 and 1.

    All arrays have the same seeds and the same items, in the same order. A method that reads no support set has its one
    result at every size and for every seed.
    """

    by_method: Mapping[tuple[str, int], Array]
    seeds: tuple[int, ...]

    @property
    def sizes(self) -> list[int]:
        """The support sizes, ascending."""
        return sorted({size for _, size in self.by_method})

    def of(self, method: str, size: int) -> Array | None:
        """[seeds, items], or None where there is no result."""
        return self.by_method.get((method, size))


def correct_items(records: Iterable[dict[str, Any]], domain: str, methods: Iterable[str]) -> Correct:
    """The items that these methods get right, for the seeds that all of them have at all sizes above 0.

    Args:
        records: stored results, with every item's label log-probabilities.
        domain: `in_domain` or `out_of_domain`.
        methods: those to be compared; methods without any result are left out.
    """
    found: dict[tuple[str, int, int], Array] = {}
    for record in records:
        cell = record["cell"]
        if cell["method"] in set(methods):
            found[cell["method"], cell["support_size"], cell["seed"]] = right(record["outcome"][domain])
    present = sorted({name for name, _, _ in found}, key=list(METHODS).index)
    sizes = sorted({size for name, size, _ in found if size > 0})
    seeds = sorted({seed for name, size, seed in found if METHODS[name].reads_support and size > 0})
    complete = [
        seed for seed in seeds if all(_one(found, name, n, seed) is not None for name in present for n in sizes)
    ]
    by_method = {
        (name, size): np.stack([_one(found, name, size, seed) for seed in complete])
        for name in present
        for size in sizes
        if complete
    }
    return Correct(by_method, tuple(complete))


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
    """Draws of seeds and of items, with replacement, that every accuracy shares."""

    def __init__(self, seeds: int, items: int, draws: int = DRAWS, seed: int = 0) -> None:
        """Draw; the first draw is the sample as it is."""
        random = np.random.default_rng(seed)
        self._seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
        self._items = random.multinomial(items, np.full(items, 1 / items), size=draws) / items
        self._seeds[0], self._items[0] = 1 / seeds, 1 / items

    def accuracies(self, correct: Array) -> Array:
        """The accuracy of each draw, [draws], from [seeds, items]; the first is that of the sample."""
        return np.einsum("bi,bi->b", self._seeds @ correct, self._items)


def bounds(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of draws, which holds `level` of them."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
