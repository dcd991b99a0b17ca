"""Intervals over seeds: Student's t, against scipy's own and a table."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.report.estimates import interval, summarise, with_interval


def test_interval_is_scipys_t_interval():
    values = [0.61, 0.58, 0.66, 0.49, 0.70]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high))


def test_two_seeds_use_the_tabled_t_of_one_degree_of_freedom():
    low, high = interval([0.4, 0.6])
    assert (high - low) / 2 == pytest.approx(12.706 * 0.1, rel=1e-4)


def test_an_interval_ends_where_the_values_must():
    low, high = interval([0.4, 0.9])
    assert low < 0 < 1 < high
    assert interval([0.4, 0.9], within=(0, 1)) == (0, 1)
    assert interval([0.4, 0.9], within=(-9, 1)) == (pytest.approx(low), 1)
    assert with_interval(pd.Series([40.0, 90.0]), digits=1, within=(0, 100)) == "65.0 [0.0, 100.0]"
    assert np.isnan(interval([0.5], within=(0, 1))).all()


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


def test_an_interval_as_text_is_students_over_seeds_and_one_seed_has_none():
    values = [50.0, 52.0, 57.0]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert with_interval(pd.Series(values), digits=1) == f"53.0 [{low:.1f}, {high:.1f}]"
    assert with_interval(pd.Series([51.25]), digits=1) == "51.2"
