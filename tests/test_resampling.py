"""Resampling: draws have the spread that theory gives, and methods share them."""

import numpy as np
import pytest

from lib.resampling import Resampling, bounds


def coin(seeds, items, share=0.5, seed=0):
    return (np.random.default_rng(seed).random((seeds, items)) < share).astype(float)


def test_the_first_draw_is_the_sample():
    correct = coin(3, 50, 0.7)
    assert Resampling(3, 50).accuracies(correct)[0] == pytest.approx(correct.mean())


def test_items_alone_give_the_binomial_standard_error():
    correct = coin(1, 1000)
    drawn = Resampling(1, 1000).accuracies(correct)
    assert drawn.std() == pytest.approx(np.sqrt(0.25 / 1000), rel=0.1)


def test_seeds_alone_give_the_standard_error_of_their_mean():
    accuracies = np.array([0.2, 0.5, 0.6, 0.9])
    correct = np.repeat(accuracies[:, None], 30, axis=1)
    drawn = Resampling(4, 30).accuracies(correct)
    assert drawn.std() == pytest.approx(accuracies.std() / 2, rel=0.05)


def test_methods_share_their_draws():
    correct = coin(3, 200)
    resampling = Resampling(3, 200)
    assert np.ptp(resampling.accuracies(correct) - resampling.accuracies(correct)) == 0
    flipped = resampling.accuracies(1 - correct)
    np.testing.assert_allclose(flipped, 1 - resampling.accuracies(correct))


def test_bounds_hold_their_level():
    drawn = np.linspace(0, 1, 1001)
    assert bounds(drawn, 0.9) == pytest.approx((0.05, 0.95))
