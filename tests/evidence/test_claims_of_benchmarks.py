"""Claims of in-context learning distillation: effects paired by seed, verdicts by the rule, too little is none."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.evidence.claims import IN_CONTEXT_CLAIMS, benchmark_effects, details, judge, verdict_table
from lib.methods.table import METHODS

ARMS = {claim.statement: claim for claim in IN_CONTEXT_CLAIMS}
BETTER = "ICL-D against ICT, Meta-ICT"
COMPLEMENTARY = "LM terms, Multitask-ICT"
NO_HELP = "LM terms, Meta-ICT"


def rows(method, paradigm, scores, k=2, metric="macro_f1", **costs):
    costs = {"evaluation_tokens": 10.0, "evaluation_seconds": 1.0} | costs
    return [
        {"method": method, "paradigm": paradigm, "k": k, "seed": seed, metric: score, **costs}
        for seed, score in enumerate(scores)
    ]


def judged_of(*groups, benchmark="crossfit"):
    return judge(benchmark_effects(pd.DataFrame([row for group in groups for row in group]), benchmark))


def one(judged, statement, k=2):
    (row,) = judged[(judged.claim == statement) & (judged.support_size == k)].to_dict("records")
    return row


NOISE = np.array([0.0, 1.0, -1.0, 0.5, -0.5])


def test_every_claim_compares_two_arms_that_there_are():
    for claim in IN_CONTEXT_CLAIMS:
        for method, paradigm in (claim.arm, claim.against):
            assert METHODS[method].episodes
            assert paradigm in ("meta", "multitask")
        assert claim.arm != claim.against
    assert len(ARMS) == len(IN_CONTEXT_CLAIMS)


def test_methods_are_compared_under_one_paradigm_and_paradigms_with_one_method():
    for claim in IN_CONTEXT_CLAIMS:
        (method, paradigm), (other, another) = claim.arm, claim.against
        assert (method == other) != (paradigm == another)


def test_an_effect_is_the_mean_of_the_seeds_relative_differences():
    row = one(judged_of(rows("icl_d", "meta", [60, 33, 45]), rows("ict", "meta", [50, 30, 50])), BETTER)
    effects = [0.2, 0.1, -0.1]
    low, high = stats.t.interval(0.95, 2, np.mean(effects), stats.sem(effects))
    assert (row["effect"], row["low"], row["high"]) == pytest.approx((np.mean(effects), low, high))
    assert (row["seeds"], row["verdict"]) == (3, "cannot be told")


def test_seeds_that_differ_together_leave_no_doubt():
    scores = np.array([20.0, 50.0, 80.0])
    row = one(judged_of(rows("icl_d", "meta", 1.1 * scores), rows("ict", "meta", scores)), BETTER)
    assert (row["low"], row["effect"], row["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert row["verdict"] == "supported"


def test_only_seeds_that_both_arms_have_are_compared():
    row = one(judged_of(rows("icl_d", "meta", [55, 55, 55, 5]), rows("ict", "meta", [50, 50, 50])), BETTER)
    assert (row["seeds"], row["effect"]) == (3, pytest.approx(0.1))


def test_seeds_are_paired_by_name_and_not_by_place():
    groups = rows("icl_d", "meta", [22, 55, 88]), rows("ict", "meta", [20, 50, 80])[::-1]
    assert one(judged_of(*groups), BETTER)["high"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("scores", "said"),
    [(60 + NOISE, "supported"), (40 + NOISE, "contradicted"), (50.1 + 4 * NOISE, "cannot be told")],
)
def test_verdicts_follow_the_sign_of_the_whole_interval(scores, said):
    for statement in (BETTER, COMPLEMENTARY):
        arm, against = ARMS[statement].arm, ARMS[statement].against
        assert one(judged_of(rows(*arm, scores), rows(*against, 50 + NOISE)), statement)["verdict"] == said


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (40 + NOISE, "supported"),
        (50 + NOISE, "supported"),
        (50.1 + 1.02 * NOISE, "supported"),
        (60 + NOISE, "contradicted"),
        (50 + 10 * NOISE, "cannot be told"),
    ],
    ids=["harm", "no difference", "next to none", "gain", "either"],
)
def test_a_claim_of_no_help_is_supported_by_anything_but_a_gain(scores, said):
    judged = judged_of(rows("icl_d_lm", "meta", scores), rows("icl_d", "meta", 50 + NOISE))
    assert one(judged, NO_HELP)["verdict"] == said


def test_two_seeds_tell_nothing_even_where_they_agree():
    scores = np.array([50.0, 51.0])
    row = one(judged_of(rows("icl_d", "meta", 1.5 * scores), rows("ict", "meta", scores)), BETTER)
    assert (row["seeds"], row["verdict"]) == (2, "cannot be told")
    row = one(judged_of(rows("icl_d", "meta", [90]), rows("ict", "meta", [50])), BETTER)
    assert (row["seeds"], row["verdict"]) == (1, "cannot be told")
    assert np.isnan(row["low"])


def test_verdicts_need_an_interval_that_is_wider_by_the_number_of_claims():
    effects = np.array([0.1, 0.1, 0.1, 0.1, 0.1]) + 0.06 * NOISE
    low = {
        level: stats.t.interval(level, 4, effects.mean(), stats.sem(effects))[0]
        for level in (0.95, 1 - 0.05 / len(IN_CONTEXT_CLAIMS))
    }
    assert low[0.95] > 0 > min(low.values())
    row = one(judged_of(rows("icl_d", "meta", 50 * (1 + effects)), rows("ict", "meta", [50] * 5)), BETTER)
    assert row["low"] == pytest.approx(low[0.95])
    assert row["verdict"] == "cannot be told"


def test_each_k_is_judged_by_itself():
    groups = [rows("ict", "meta", 50 + NOISE, k) for k in (2, 4)]
    groups += [rows("icl_d", "meta", 60 + NOISE, 2), rows("icl_d", "meta", 40 + NOISE, 4)]
    judged = judged_of(*groups)
    assert [one(judged, BETTER, k)["verdict"] for k in (2, 4)] == ["supported", "contradicted"]


def test_paradigms_are_never_mixed():
    groups = [rows("ict", "meta", [50] * 3), rows("icl_d", "meta", [60] * 3)]
    groups += [rows("ict", "multitask", [70] * 3), rows("icl_d", "multitask", [63] * 3)]
    judged = judged_of(*groups)
    effects = {row["claim"]: row["effect"] for row in judged[judged.quantity == "score"].to_dict("records")}
    assert effects == pytest.approx(
        {BETTER: 0.2, "ICL-D against ICT, Multitask-ICT": -0.1, "Multitask- against Meta": 0.05}
    )


def test_a_benchmark_is_judged_by_its_own_first_metric():
    def scored(method, score, other):
        return [row | {"precision_10": other} for row in rows(method, "meta", [score] * 3, metric="precision_1")]

    judged = judged_of(scored("icl_d", 30, 50), scored("ict", 20, 100), benchmark="lama")
    assert one(judged, BETTER)["effect"] == pytest.approx(0.5)


@pytest.mark.parametrize("quantity", ["tokens", "seconds"])
def test_costs_are_those_of_teacher_training_and_evaluation_together(quantity):
    def costing(paradigm, *values):
        phases = zip(("teacher", "training", "evaluation"), values, strict=True)
        return rows("icl_d", paradigm, [50] * 3, **{f"{phase}_{quantity}": value for phase, value in phases})

    judged = judged_of(costing("multitask", 5.0, 5.0, 20.0), costing("meta", 8.0, 8.0, 4.0))
    row = one(judged, f"Multitask- against Meta, {quantity}")
    assert (row["effect"], row["verdict"]) == (pytest.approx(0.5), "supported")


def test_claims_without_results_are_left_out_and_without_any_the_tables_are_empty():
    judged = judged_of(rows("icl_d", "meta", [60] * 3), rows("ict", "meta", [50] * 3), rows("untuned", None, [40] * 3))
    assert set(judged.claim) == {BETTER}
    none = judged_of(rows("icl_d", "meta", [60] * 3), rows("ict", "multitask", [50] * 3))
    assert len(none) == len(verdict_table(none, size=2)) == 0
    assert details(none, size=2) == ""


def test_the_table_and_the_details_of_claims_can_show_them_at_one_k():
    groups = [rows(method, "meta", 50 + 5 * i + NOISE, k) for i, method in enumerate(("ict", "icl_d")) for k in (2, 4)]
    judged = judged_of(*groups)
    assert verdict_table(judged, size=4).loc[BETTER].here.startswith("+10% [+")
    assert details(judged, size=4).count("<details>") == 1


def test_scores_of_zero_on_both_sides_are_no_difference_and_on_one_side_tell_nothing():
    nothing, something = [0.0, 0.0, 0.0], [5.0, 5.0, 5.0]
    same = one(judged_of(rows("icl_d", "meta", nothing), rows("ict", "meta", nothing)), BETTER)
    assert (same["effect"], same["verdict"]) == (0, "not supported")
    assert judged_of(rows("icl_d", "meta", something), rows("ict", "meta", nothing)).empty


def test_a_claim_without_results_at_the_tables_k_still_opens_to_the_others():
    judged = judged_of(rows("icl_d", "meta", [60] * 3, k=4), rows("ict", "meta", [50] * 3, k=4))
    assert len(verdict_table(judged, size=2)) == 0
    assert f"<b>{BETTER}</b></summary>" in details(judged, size=2)


def test_one_seed_has_an_effect_and_no_interval():
    judged = judged_of(rows("icl_d", "meta", [60]), rows("ict", "meta", [50]))
    assert verdict_table(judged, size=2).loc[BETTER].here == "+20%"
