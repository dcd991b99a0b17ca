"""Estimates: intervals are those of theory where one of two errors is alone, and of resampling where both are."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.evidence.estimates import (
    Estimate,
    correct_items,
    interval,
    mean,
    over_seeds,
    seeds_in_common,
    summarise,
    with_bounds,
)
from tests.support.stored import stored


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
    assert mean(correct, classes(30)).bounds(level) == pytest.approx(over_seeds(accuracies).bounds(level), rel=1e-4)


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


def test_interval_is_scipys_t_interval():
    values = [0.61, 0.58, 0.66, 0.49, 0.70]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high))


def test_two_seeds_use_the_tabled_t_of_one_degree_of_freedom():
    low, high = interval([0.4, 0.6])
    assert (high - low) / 2 == pytest.approx(12.706 * 0.1, rel=1e-4)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan]])
def test_fewer_than_two_values_have_no_interval(values):
    assert np.isnan(interval(values)).all()


def test_interval_covers_the_mean_in_about_95_of_100_samples():
    draw = np.random.default_rng(0)
    bounds = [interval(draw.normal(1.0, 3.0, size=4)) for _ in range(4000)]
    covered = np.mean([low <= 1.0 <= high for low, high in bounds])
    assert 0.94 < covered < 0.96


def test_summary_has_a_row_for_each_quantity_method_and_size():
    results = pd.DataFrame(
        {
            "method": ["cd", "cd", "icl", "icl"],
            "support_size": [4, 4, 4, 4],
            "seed": [0, 1, 0, 1],
            "accuracy": [0.5, 0.7, 0.4, 0.4],
            "seconds": [10.0, 20.0, np.nan, np.nan],
        }
    )
    summary = summarise(results, ["accuracy", "seconds"]).set_index(["quantity", "method"])
    assert summary.loc[("accuracy", "cd"), "mean"] == pytest.approx(0.6)
    assert summary.loc[("accuracy", "icl"), ["low", "high"]].tolist() == pytest.approx([0.4, 0.4])
    assert summary.loc[("seconds", "cd"), "seeds"] == 2
    assert ("seconds", "icl") not in summary.index


def test_a_summarys_intervals_end_where_the_values_must():
    results = pd.DataFrame({"method": "cd", "support_size": 4, "seed": [0, 1], "share": [0.2, 0.9], "cost": [1.0, 9.0]})
    summary = summarise(results, ["share", "cost"], highest={"share": 1.0}).set_index("quantity")
    assert summary.loc["share", ["low", "high"]].tolist() == [0, 1]
    assert summary.low["cost"] == 0
    assert summary.high["cost"] == pytest.approx(interval([1.0, 9.0])[1])


def test_a_summary_can_be_by_other_columns():
    results = pd.DataFrame({"paradigm": ["meta", "meta", "multitask"], "seed": [0, 1, 0], "score": [1.0, 3.0, 5.0]})
    summary = summarise(results, ["score"], by=["paradigm"]).set_index("paradigm")
    assert summary["mean"].to_dict() == {"meta": 2, "multitask": 5}
    assert np.isnan(summary.low["multitask"])


def test_over_seeds_alone_an_estimate_has_students_interval_and_one_seed_has_none():
    values = [0.61, 0.58, 0.66, 0.49, 0.70]
    assert over_seeds(values).value == pytest.approx(np.mean(values))
    for level in (0.8, 0.95, 0.9995):
        expected = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert over_seeds(values).bounds(level) == pytest.approx((expected.low, expected.high))
    assert np.isnan(over_seeds([0.5]).bounds()).all()


def test_an_interval_stands_behind_its_value_in_text_and_one_seed_has_none():
    assert with_bounds(53.02, 43.2, 62.8, "{:.1f}".format) == "53.0 [43.2, 62.8]"
    assert with_bounds(51.25, np.nan, np.nan) == "51.25"


def correct(method, *runs, answers=(0, 0), gold=(0, 1)):
    """What a method gets right in runs of these support sizes and seeds."""
    return correct_items([stored(method, *run, answers, gold) for run in runs], "in_domain", method)


def test_seeds_in_common_are_those_of_all_methods_at_each_size():
    several = [
        correct("cd", (4, 0), (4, 1), (8, 1), (12, 0)),
        correct("icl", (4, 1), (4, 0), (8, 1), (4, 2)),
        correct("baseline", (0, 0)),
    ]
    assert seeds_in_common(several) == {4: [0, 1], 8: [1]}
    assert several[0].of_seeds(4, [0, 1]).shape == several[2].of_seeds(4, [0, 1]).shape == (2, 2)
    assert seeds_in_common([several[0], correct("pbft")]) == {}


def test_a_baseline_of_each_seed_is_taken_seed_by_seed():
    several = [correct("cd", (4, 1), (4, 2)), correct("baseline", (0, 1))]
    assert seeds_in_common(several) == {4: [1]}


def test_items_are_right_where_the_answer_is_their_class():
    results = [
        stored("icl", 4, seed, answers, [0, 1, 0, 1]) for seed, answers in ((3, [0, 1, 0, 0]), (1, [1, 1, 1, 1]))
    ]
    items = correct_items(results, "in_domain", "icl")
    assert items.gold.tolist() == [0, 1, 0, 1]
    assert items.of_seeds(4, [3, 1]).tolist() == [[1, 1, 1, 0], [0, 1, 0, 1]]
    assert items.accuracy(4, [3]).value == 0.75
