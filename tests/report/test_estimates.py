"""Estimates: intervals are those of theory where one of two errors is alone, and of resampling where both are."""

import numpy as np
import pytest
from scipy import stats

from lib.report.estimates import Estimate, interval, mean


def coin(seeds, items, share=0.5, seed=0):
    return (np.random.default_rng(seed).random((seeds, items)) < share).astype(float)


def classes(items):
    return np.arange(items) % 2


def test_the_value_is_the_samples():
    correct = coin(3, 50, 0.7)
    assert mean(correct, classes(50)).value == pytest.approx(correct.mean())


@pytest.mark.parametrize("level", [0.8, 0.95, 0.9995])
def test_one_seed_has_the_binomial_interval_of_its_items(level):
    correct = np.repeat([0.0, 1.0], [400, 600])[None]
    low, high = mean(correct, np.zeros(1000)).bounds(level)
    assert (high - low) / 2 == pytest.approx(stats.norm.isf((1 - level) / 2) * np.sqrt(0.4 * 0.6 / 1000))
    assert (low + high) / 2 == pytest.approx(0.6)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.9995])
def test_with_items_all_alike_the_interval_is_students_over_seeds(seeds, level):
    accuracies = np.random.default_rng(seeds).uniform(0.3, 0.9, seeds)
    correct = np.repeat(accuracies[:, None], 30, axis=1)
    assert mean(correct, classes(30)).bounds(level) == pytest.approx(interval(accuracies, level), rel=1e-4)


def resampled(correct, gold, draws):
    """The oracle: items drawn with replacement within their class, and seeds that depart by Student's t."""
    random = np.random.default_rng(1)
    seeds, items = correct.shape
    weights = np.zeros((draws, items))
    for name in np.unique(gold):
        (own,) = np.nonzero(gold == name)
        weights[:, own] = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=draws) / items
    over_seeds = stats.sem(correct.mean(axis=1)) * random.standard_t(seeds - 1, draws)
    return weights @ correct.mean(axis=0) + over_seeds


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_with_both_errors_the_interval_is_that_of_resampling(seeds, level):
    shares = np.linspace(0.55, 0.65, seeds)
    correct = (np.random.default_rng(0).random((seeds, 200)) < shares[:, None]).astype(float)
    drawn = resampled(correct, classes(200), draws=60_000)
    tail = (1 - level) / 2
    low, high = mean(correct, classes(200)).bounds(level)
    slack = 0.05 * (high - low)
    assert (low, high) == (
        pytest.approx(np.quantile(drawn, tail), abs=slack),
        pytest.approx(np.quantile(drawn, 1 - tail), abs=slack),
    )


def test_intervals_of_three_seeds_hold_the_truth_as_often_as_they_say():
    """Seeds differ by .05 and items are coins: of 300 studies about 285 must cover, 273 at the very least (3 sd)."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(300):
        shares = 0.6 + 0.05 * random.standard_normal(3)
        correct = (random.random((3, 200)) < shares[:, None]).astype(float)
        low, high = mean(correct, classes(200)).bounds()
        covered += low <= 0.6 <= high
    assert covered >= 273


def test_a_class_is_drawn_as_often_as_it_is_there():
    """One answer for everything scores the share of its class, whichever items are drawn."""
    gold = np.repeat([0, 1], [30, 70])
    same = mean(np.stack([gold == 1] * 2).astype(float), gold)
    assert same.bounds() == pytest.approx((0.7, 0.7))


def test_what_both_owe_to_seeds_and_items_cancels_in_their_difference():
    correct, gold = coin(3, 200), classes(200)
    accuracy = mean(correct, gold)
    assert (accuracy - accuracy).bounds() == (0, 0)
    assert (accuracy + mean(1 - correct, gold)).bounds() == pytest.approx((1, 1))
    other = mean(coin(3, 200, seed=1), gold)
    assert (accuracy - other).bounds() == pytest.approx(mean(correct - coin(3, 200, seed=1), gold).bounds())


def test_a_quotient_moves_as_that_of_a_sample_nearby_does():
    """The delta method: seen by moving each seed and each item a little."""
    top, bottom = (Estimate(value, *parts) for value, parts in ((0.6, SMALL), (0.5, 3 * SMALL[::-1])))
    quotient = top / bottom
    assert quotient.value == pytest.approx(1.2)
    for part in ("by_seed", "by_item"):
        moved = (0.6 + getattr(top, part)) / (0.5 + getattr(bottom, part)) - 1.2
        np.testing.assert_allclose(getattr(quotient, part), moved, rtol=1e-3)


SMALL = 1e-6 * np.random.default_rng(0).standard_normal((2, 3))


def test_a_multiple_has_so_many_times_the_interval():
    low, high = mean(coin(3, 200), classes(200)).bounds()
    assert (mean(coin(3, 200), classes(200)) * 2).bounds() == pytest.approx((2 * low, 2 * high))
