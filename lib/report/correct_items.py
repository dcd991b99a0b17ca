"""Which items each method gets right, seed by seed and side by side, so that differences between methods are paired."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.methods.context_distillation import METHODS
from lib.report.estimates import Array, Estimate, mean
from lib.runs.store import Result


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

    def accuracy(self, correct: Array) -> Estimate:
        """The share that is right of [seeds, items], values between 0 and 1; the items are those of `gold`."""
        return mean(correct, self.gold)


def seeds_in_common(several: Iterable[Correct]) -> list[int]:
    """The seeds that all of them have, ascending."""
    seeds = [set(one.seeds) for one in several]
    return sorted(set.intersection(*seeds)) if seeds else []


def correct_items(results: Iterable[Result], domain: str, methods: Collection[str]) -> dict[int, Correct]:
    """By support size above 0, ascending: the items that these methods get right, for the seeds that all of them have.

    Sizes may have different seeds, as they do where a grid is not complete; a size at which no seed has a result of
    each method is left out.

    Args:
        results: stored ones, with every item's label log-probabilities.
        domain: `in_domain` or one of those out of domain.
        methods: those to be compared.
    """
    found: dict[tuple[str, int, int], Array] = {}
    gold = np.empty(0)
    for result in results:
        run = result.run
        if run.method in methods and domain in result.outcome.evaluations:
            evaluation = result.outcome.evaluations[domain]
            found[run.method, run.support_size, run.seed] = evaluation.correct()
            gold = np.asarray(evaluation.gold)
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
