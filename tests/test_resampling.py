"""Resampling: draws have the spread that theory gives, and methods share them."""

import numpy as np
import pytest
from stored import stored

from lib.intervals import interval
from lib.resampling import Resampling, bounds, correct_items, ratio


def coin(seeds, items, share=0.5, seed=0):
    return (np.random.default_rng(seed).random((seeds, items)) < share).astype(float)


def classes(items):
    return np.arange(items) % 2


def test_the_first_draw_is_the_sample():
    correct = coin(3, 50, 0.7)
    assert Resampling(3, classes(50)).accuracies(correct)[0] == pytest.approx(correct.mean())


def test_items_alone_give_the_binomial_standard_error():
    correct = coin(1, 1000)
    drawn = Resampling(1, classes(1000)).accuracies(correct)
    assert drawn.std() == pytest.approx(np.sqrt(0.25 / 1000), rel=0.1)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_with_items_all_alike_the_interval_is_students_over_seeds(seeds, level):
    accuracies = np.random.default_rng(seeds).uniform(0.3, 0.9, seeds)
    correct = np.repeat(accuracies[:, None], 30, axis=1)
    drawn = Resampling(seeds, classes(30), draws=40_000).accuracies(correct)
    low, high = interval(accuracies, level)
    slack = 0.05 * (high - low)
    assert bounds(drawn, level) == (pytest.approx(low, abs=slack), pytest.approx(high, abs=slack))


def test_intervals_of_three_seeds_hold_the_truth_as_often_as_they_say():
    """Seeds differ by .05 and items are coins: of 300 studies about 285 must cover, 273 at the very least (3 sd)."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(300):
        shares = 0.6 + 0.05 * random.standard_normal(3)
        correct = (random.random((3, 200)) < shares[:, None]).astype(float)
        low, high = bounds(Resampling(3, classes(200), draws=500).accuracies(correct))
        covered += low <= 0.6 <= high
    assert covered >= 273


def test_a_class_is_drawn_as_often_as_it_is_there():
    """One answer for everything scores the share of its class in every draw."""
    gold = np.repeat([0, 1], [30, 70])
    drawn = Resampling(2, gold).accuracies(np.stack([gold == 1] * 2).astype(float))
    np.testing.assert_allclose(drawn, 0.7)


def test_methods_share_their_draws():
    correct = coin(3, 200)
    resampling = Resampling(3, classes(200))
    assert np.ptp(resampling.accuracies(correct) - resampling.accuracies(correct)) == 0
    flipped = resampling.accuracies(1 - correct)
    np.testing.assert_allclose(flipped, 1 - resampling.accuracies(correct))


def test_a_ratio_is_the_samples_and_moves_as_the_quotient_does_nearby():
    numerator, denominator = np.array([0.6, 0.603, 0.6, 0.597]), np.array([0.5, 0.5, 0.5025, 0.501])
    assert ratio(numerator, denominator) == pytest.approx(numerator / denominator, abs=1e-4)
    assert ratio(numerator, denominator)[0] == 0.6 / 0.5


def test_a_ratio_is_finite_where_a_far_draw_has_nothing_below():
    assert ratio(np.array([0.5, 0.5]), np.array([0.5, 0.0])).tolist() == [1.0, 2.0]


def test_bounds_hold_their_level():
    drawn = np.linspace(0, 1, 1001)
    assert bounds(drawn, 0.9) == pytest.approx((0.05, 0.95))


def test_each_size_has_the_seeds_that_all_methods_have_there():
    shapes = [("cd", 4, 0), ("cd", 4, 1), ("cd", 8, 1), ("cd", 12, 0), ("icl", 4, 1), ("icl", 4, 0), ("icl", 8, 1)]
    records = [stored(*one, [0, 0], [0, 1]) for one in [*shapes, ("icl", 4, 2), ("pbft", 4, 9), ("baseline", 0, 0)]]
    found = correct_items(records, "in_domain", ("cd", "icl", "baseline"))
    assert {size: correct.seeds for size, correct in found.items()} == {4: (0, 1), 8: (1,)}
    assert {name: items.shape for name, items in found[4].by_method.items()} == {
        "cd": (2, 2),
        "icl": (2, 2),
        "baseline": (2, 2),
    }


def test_items_are_right_where_the_answer_is_their_class():
    records = [
        stored("icl", 4, seed, answers, [0, 1, 0, 1]) for seed, answers in ((3, [0, 1, 0, 0]), (1, [1, 1, 1, 1]))
    ]
    (correct,) = correct_items(records, "in_domain", ("icl",)).values()
    assert correct.gold.tolist() == [0, 1, 0, 1]
    assert correct.of_seeds("icl", [3, 1]).tolist() == [[1, 1, 1, 0], [0, 1, 0, 1]]
    assert correct.resampling([1]).accuracies(correct.of_seeds("icl", [3]))[0] == 0.75
