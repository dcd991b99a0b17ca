"""Claims: differences are paired by seed, verdicts follow the rule, and too little evidence is no verdict."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.claims import Claim, differences_figure, judge, paired_differences, recovered, verdict_table
from lib.errors import StudyError
from lib.profiles import read_profile
from lib.sweep import Sweep

BETTER = Claim("CD beats ICL", "cd", "icl", "in_domain_accuracy", "more", "much")
CHEAPER = Claim("CD is cheaper than PBFT", "cd", "pbft", "peak_gb", "less", "60%")
FROM_START = Claim("CD moves", "cd", "baseline", "in_domain_accuracy", "more", "yes")


def rows(method, values, quantity="in_domain_accuracy", size=4):
    return [{"method": method, "support_size": size, "seed": seed, quantity: v} for seed, v in enumerate(values)]


def sweep(*groups):
    return Sweep(read_profile("smoke"), pd.DataFrame([row for group in groups for row in group]))


NOISE = np.array([0.2, 0.5, 0.3, 0.6, 0.4])
GAIN = np.array([0.10, 0.12, 0.11, 0.09, 0.10])


def test_differences_are_paired_by_seed_whatever_the_order():
    shuffled = rows("icl", NOISE)[::-1]
    paired = paired_differences(sweep(rows("cd", NOISE + GAIN), shuffled).results, BETTER)
    np.testing.assert_allclose(paired[4].sort_index(), GAIN)


def test_the_interval_and_p_are_those_of_a_paired_t_test_times_the_comparisons():
    more = [row | {"support_size": 8} for row in [*rows("cd", NOISE + GAIN), *rows("icl", NOISE + GAIN[::-1])]]
    judged = judge(sweep(rows("cd", NOISE + GAIN), rows("icl", NOISE), more), (BETTER,))
    oracle = stats.ttest_rel(NOISE + GAIN, NOISE)
    low, high = oracle.confidence_interval(0.95)
    row = judged[judged.support_size == 4].iloc[0]
    assert (row.low, row.high, row.p) == pytest.approx((low, high, 2 * oracle.pvalue))


@pytest.mark.parametrize(
    ("gain", "verdict"), [(GAIN, "supported"), (-GAIN, "contradicted"), (GAIN - GAIN.mean(), "cannot be told")]
)
def test_the_verdict_follows_the_sign_where_it_is_beyond_chance(gain, verdict):
    assert judge(sweep(rows("cd", NOISE + gain), rows("icl", NOISE)), (BETTER,)).verdict.tolist() == [verdict]


def test_where_less_is_better_less_is_supported():
    costs = [rows("cd", NOISE, "peak_gb"), rows("pbft", NOISE + GAIN, "peak_gb")]
    assert judge(sweep(*costs), (CHEAPER,)).verdict.tolist() == ["supported"]
    assert judge(sweep(rows("cd", [1.0] * 3, "peak_gb"), rows("pbft", [2.0] * 3, "peak_gb")), (CHEAPER,)).p[0] == 0.0


def test_two_seeds_tell_nothing_even_where_they_agree():
    judged = judge(sweep(rows("cd", [0.9, 0.9]), rows("icl", [0.5, 0.5])), (BETTER,))
    assert judged.verdict.tolist() == ["cannot be told"]


def test_a_method_without_a_support_set_is_compared_at_every_size():
    one_baseline = rows("baseline", [0.4], size=0)
    at_eight = [row | {"support_size": 8} for row in rows("cd", NOISE)]
    paired = paired_differences(sweep(rows("cd", NOISE), at_eight, one_baseline).results, FROM_START)
    assert list(paired.columns) == [4, 8]
    np.testing.assert_allclose(paired[8], NOISE - 0.4)
    own = rows("baseline", NOISE - 0.1, size=0)
    np.testing.assert_allclose(paired_differences(sweep(rows("cd", NOISE), own).results, FROM_START)[4], 0.1)


def test_support_size_0_is_no_comparison():
    zero = [row | {"support_size": 0} for row in rows("cd", NOISE)]
    judged = judge(sweep(zero, rows("cd", NOISE), rows("baseline", NOISE - GAIN, size=0)), (FROM_START,))
    assert judged.support_size.tolist() == [4]


def test_claims_without_results_are_left_out_and_none_at_all_is_an_error():
    judged = judge(sweep(rows("cd", NOISE), rows("icl", NOISE)), (BETTER, FROM_START))
    assert set(judged.claim) == {"CD beats ICL"}
    with pytest.raises(StudyError, match="claims: none can be judged"):
        judge(sweep(rows("cd", NOISE)), (BETTER,))


def test_the_table_says_the_verdict_and_where_it_holds():
    more = [row | {"support_size": 8} for row in [*rows("cd", NOISE), *rows("icl", NOISE + GAIN - GAIN.mean())]]
    judged = judge(sweep(rows("cd", NOISE + GAIN), rows("icl", NOISE), more), (BETTER,))
    table = verdict_table(judged)
    assert table.loc["CD beats ICL", "here"] == "supported (n = 4); cannot be told (n = 8)"
    assert table.loc["CD beats ICL", "n = 4"].startswith("+0.10 [+0.0")
    assert len(differences_figure(judged).axes) == 1


def test_the_share_recovered_is_of_the_distance_from_the_untuned_student_to_the_teacher():
    def both(method, value, size=4):
        return [row | {"out_of_domain_accuracy": 0.5} for row in rows(method, [value], size=size)]

    table = recovered(sweep(both("teacher_icl", 0.9), both("cd", 0.7), both("baseline", 0.5, size=0)))
    assert table.loc[("in domain", "share"), 4] == "0.50"
    assert table.loc[("out of domain", "share"), 4] == ""
