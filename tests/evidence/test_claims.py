"""Claims: effects are those of the sample, verdicts follow the rule, and too little evidence is no verdict."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.errors import StudyError
from lib.evidence.claims import (
    CLAIMS,
    LESS,
    MORE,
    NO_GAIN,
    Arm,
    Claim,
    about_summary,
    at_floor,
    details,
    judge,
    of_difference,
    recovered,
    shown_differences,
    study_effects,
    summary_size,
    verdict,
    verdict_table,
)
from lib.evidence.estimates import over_seeds
from lib.runs.execution import Sweep
from tests.support.stored import answering, run_of, smoke, stored
from tests.support.stored import result as stored_result

ITEMS = 400
CHEAPER = Claim("CD is cheaper than PBFT", Arm("cd"), Arm("pbft"), "memory_gb", -0.6, "60% less")
BETTER = Claim("CD beats ICL by half", Arm("cd"), Arm("icl"), "out_of_domain_accuracy", 0.5, "50%")


def result(method, size, seed, accuracy):
    """A stored result that gets this share of the items right, the same ones for the same share."""
    gold = np.arange(ITEMS) % 2
    return stored(method, size, seed, answering(gold, np.arange(ITEMS) < round(accuracy * ITEMS)), gold)


def sweep(*results, costs=()):
    found = [result(*one) for one in results]
    rows = [{name: getattr(one.run, name) for name in ("method", "support_size", "seed")} for one in found]
    return Sweep(smoke(), pd.DataFrame(rows or list(costs)), found)


def seeds(method, accuracies, size=4):
    return [(method, size, seed, accuracy) for seed, accuracy in enumerate(accuracies)]


def costs(method, values, quantity="memory_gb", size=4):
    return [{"method": method, "support_size": size, "seed": i, quantity: v} for i, v in enumerate(values)]


def judged_of(results, claims=CLAIMS, how="none"):
    return judge(study_effects(results, how, claims))


NOISE = np.array([0.0, 0.02, -0.02, 0.01, -0.01])


@pytest.mark.parametrize(
    ("low", "high", "claimed", "said"),
    [
        (0.2, 0.6, 0.5, "supported"),
        (0.2, 0.4, 0.5, "not supported"),
        (-0.1, 0.4, 0.5, "not supported"),
        (-0.1, 0.6, 0.5, "cannot be told"),
        (-0.3, -0.1, 0.5, "contradicted"),
        (-0.7, -0.5, -0.6, "supported"),
        (-0.3, 0.1, -0.6, "not supported"),
        (0.1, 0.3, -0.6, "contradicted"),
        (-0.7, 0.1, -0.6, "cannot be told"),
        (0.1, 0.2, MORE, "supported"),
        (-0.1, 0.2, MORE, "cannot be told"),
        (-0.2, -0.1, LESS, "supported"),
        (-0.1, 0.01, NO_GAIN, "supported"),
        (0.005, 0.01, NO_GAIN, "supported"),
        (-0.1, 0.1, NO_GAIN, "cannot be told"),
        (0.01, 0.1, NO_GAIN, "contradicted"),
        (float("nan"), float("nan"), 0.5, "cannot be told"),
    ],
)
def test_the_rule(low, high, claimed, said):
    assert verdict(low, high, claimed) == said


def test_an_effect_is_the_relative_difference_of_the_means():
    judged = judged_of(sweep(*seeds("cd", 0.8 + NOISE), *seeds("icl", 0.5 + NOISE)), (BETTER,))
    assert judged.effect.tolist() == pytest.approx([0.6, 0.6])
    assert (judged.low < 0.6).all()
    assert (judged.high > 0.6).all()
    assert judged.verdict.tolist() == ["supported", "supported"]


def test_intervals_hold_items_and_seeds():
    """With equal seeds only items vary; seeds that differ widen the interval."""
    same = judged_of(sweep(*seeds("cd", [0.8] * 5), *seeds("icl", [0.5] * 5)), (BETTER,)).iloc[0]
    apart = judged_of(sweep(*seeds("cd", 0.8 + 8 * NOISE), *seeds("icl", [0.5] * 5)), (BETTER,)).iloc[0]
    assert 0.1 < same.high - same.low < apart.high - apart.low


def test_paired_items_make_a_smaller_interval_than_their_own_noise():
    close = judged_of(sweep(*seeds("cd", [0.52] * 5), *seeds("icl", [0.5] * 5)), (BETTER,)).iloc[0]
    assert close.effect == pytest.approx(0.04)
    assert close.high - close.low < 0.1  # the items of the one are nearly those of the other


def test_the_row_over_all_sizes_is_of_the_means_over_sizes():
    groups = [*seeds("cd", [0.9] * 3, 4), *seeds("cd", [0.7] * 3, 8)]
    groups += [*seeds("icl", [0.5] * 3, 4), *seeds("icl", [0.5] * 3, 8)]
    judged = judged_of(sweep(*groups), (BETTER,)).set_index("support_size")
    assert judged.effect.to_dict() == pytest.approx({4: 0.8, 8: 0.4, "all": 0.6})


def test_two_seeds_tell_nothing_even_where_they_agree():
    judged = judged_of(sweep(*seeds("cd", [0.9] * 2), *seeds("icl", [0.5] * 2)), (BETTER,))
    assert set(judged.verdict) == {"cannot be told"}


def test_times_are_compared_on_one_device():
    quick = Claim("CD is sooner", Arm("cd"), Arm("cd_lora"), "training_seconds", MORE, "not said")
    devices = {"cd": ["old", "old", "old", "new"], "cd_lora": ["old", "new", "new", "new"]}
    seconds = {"cd": [20.0, 20.0, 20.0, 60.0], "cd_lora": [10.0, 30.0, 30.0, 30.0]}
    rows = [
        one | {"steps": "plain", "device": device}
        for method in devices
        for one, device in zip(costs(method, seconds[method], "training_seconds"), devices[method], strict=True)
    ]
    judged = judged_of(sweep(costs=rows), (quick,))
    assert judged.effect.tolist() == pytest.approx([1.0, 1.0])
    assert judged.seeds.tolist() == [2, 2]


def test_a_seeds_training_times_are_compared_where_steps_are_alike_and_meet_over_the_sizes():
    sooner = Claim("LoRA trains sooner", Arm("cd_lora"), Arm("cd"), "training_seconds", LESS, "faster")
    places = {4: ["plain", "plain", "fused"], 8: ["fused", "fused", "plain"]}
    seconds = {("cd", "plain"): 100.0, ("cd", "fused"): 40.0, ("cd_lora", "plain"): 50.0, ("cd_lora", "fused"): 10.0}
    rows = [
        {"method": method, "support_size": size, "seed": seed, "device": "a device", "steps": steps}
        | {"training_seconds": seconds[method, steps]}
        for method in ("cd", "cd_lora")
        for size, kinds in places.items()
        for seed, steps in enumerate(kinds)
    ]
    rows[-1]["steps"] = "fused"  # of the last seed one was trained otherwise at n = 8
    judged = judged_of(sweep(costs=rows), (sooner,)).set_index("support_size")
    assert judged.seeds.to_dict() == {4: 3, 8: 2, "all": 2}
    assert judged.effect.to_dict() == pytest.approx({4: (-0.5 - 0.5 - 0.75) / 3, 8: -0.75, "all": -0.625})


def test_no_interval_says_that_less_than_nothing_is_left():
    shown = sweep(costs=[*costs("cd", [1.0, 9.0]), *costs("pbft", [1.0, 1.0])])
    assert judged_of(shown, (CHEAPER,)).low.tolist() == [-1, -1]  # Student's t for two seeds: 4 ± 50


def test_times_that_are_nowhere_alike_make_no_row():
    sooner = Claim("LoRA trains sooner", Arm("cd_lora"), Arm("cd"), "training_seconds", LESS, "faster")
    rows = [
        one | {"device": "a device", "steps": steps}
        for method, kinds in (("cd", ["plain", "fused", "fused"]), ("cd_lora", ["fused", "plain", "plain"]))
        for one, steps in zip(costs(method, [1.0, 2.0, 3.0], "training_seconds"), kinds, strict=True)
    ]
    quick = [one | {"memory_gb": 1.0} for one in rows] + costs("pbft", [2.0, 2.0, 2.0])
    assert set(judged_of(sweep(costs=quick), (sooner, CHEAPER)).claim) == {CHEAPER.statement}


def test_only_seeds_that_both_methods_have_are_compared():
    judged = judged_of(sweep(*seeds("cd", [0.9, 0.9, 0.9, 0.1]), *seeds("icl", [0.5] * 3)), (BETTER,))
    assert judged.seeds.tolist() == [3, 3]
    assert judged.effect.iloc[0] == pytest.approx(0.8)


def test_sizes_may_have_different_seeds_and_the_fullest_is_the_headline():
    groups = [*seeds("cd", [0.8] * 3, 4), *seeds("cd", [0.7], 8), *seeds("icl", [0.5] * 3, 4), *seeds("icl", [0.5], 8)]
    judged = judged_of(sweep(*groups), (BETTER,))
    by_size = judged.set_index("support_size")
    assert by_size.seeds.to_dict() == {4: 3, 8: 1, "all": 1}
    assert by_size.effect.to_dict() == pytest.approx({4: 0.6, 8: 0.4, "all": 0.5})
    assert by_size.verdict.to_dict() == {4: "supported", 8: "cannot be told", "all": "cannot be told"}
    assert summary_size(judged) == 4
    assert about_summary(judged, 4) == "at n = 4, which has more seeds than the others of n = 4, 8"
    whole = judged_of(sweep(*groups[:3], *groups[4:7]), (BETTER,))
    assert summary_size(whole) == "all"
    assert about_summary(whole, "all") == "over n = 4"


def test_three_seeds_at_every_size_say_more_than_four_at_one():
    groups = [*seeds("cd", [0.8] * 4, 4), *seeds("cd", [0.7] * 3, 8)]
    groups += [*seeds("icl", [0.5] * 4, 4), *seeds("icl", [0.5] * 3, 8)]
    judged = judged_of(sweep(*groups), (BETTER,))
    assert judged.set_index("support_size").seeds.to_dict() == {4: 4, 8: 3, "all": 3}
    assert summary_size(judged) == "all"


def test_sizes_without_a_seed_in_common_have_no_row_over_all():
    groups = [("cd", 4, 0, 0.8), ("icl", 4, 0, 0.5), ("cd", 8, 1, 0.8), ("icl", 8, 1, 0.5)]
    assert judged_of(sweep(*groups), (BETTER,)).support_size.tolist() == [4, 8]
    cost = [{"method": name, "support_size": n, "seed": n, "memory_gb": 1.0} for name in ("cd", "pbft") for n in (4, 8)]
    assert judged_of(sweep(costs=cost), (CHEAPER,)).support_size.tolist() == [4, 8]


def test_a_method_without_a_support_set_is_compared_at_every_size():
    claim = Claim("CD moves", Arm("cd"), Arm("baseline"), "in_domain_accuracy", MORE, "yes")
    judged = judged_of(sweep(*seeds("cd", [0.8] * 3), *seeds("cd", [0.9] * 3, 8), ("baseline", 0, 0, 0.5)), (claim,))
    assert judged.set_index("support_size").effect.to_dict() == pytest.approx({4: 0.6, 8: 0.8, "all": 0.7})


def test_costs_are_compared_seed_by_seed():
    shown = sweep(costs=[*costs("cd", [1.0, 2.0, 3.0]), *costs("pbft", [2.0, 4.0, 6.0])])
    judged = judged_of(shown, (CHEAPER,))
    assert judged.effect.tolist() == pytest.approx([-0.5, -0.5])
    assert set(judged.verdict) == {"not supported"}  # half, and not sixty percent
    more = sweep(costs=[*costs("cd", [3.0] * 3), *costs("pbft", [2.0] * 3)])
    assert set(judged_of(more, (CHEAPER,)).verdict) == {"contradicted"}


def biased(method, seed, share_right):
    """A stored result that ranks its items as it should and says the first class to nearly all of them."""
    gold = np.arange(ITEMS) % 2
    right = np.arange(ITEMS) // 2 < share_right * ITEMS / 2
    log_odds = np.where(answering(gold, right) == 0, 3.0, 1.0)
    log_probs = np.stack([-np.log1p(np.exp(-log_odds)), -np.log1p(np.exp(log_odds))], axis=1)
    return stored_result(run_of(method, 4, seed), log_probs.tolist(), gold)


def test_calibrated_a_bias_that_both_methods_share_hides_no_difference():
    rows = [biased(method, seed, share) for method, share in (("cd", 0.9), ("icl", 0.6)) for seed in range(3)]
    results = Sweep(
        smoke(), pd.DataFrame([{"method": one.run.method, "support_size": 4, "seed": 0} for one in rows]), rows
    )
    assert judged_of(results, (BETTER,)).effect.tolist() == [0, 0]
    assert judged_of(results, (BETTER,), "pool").effect.tolist() == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.parametrize(("own", "rival", "floor"), [(0.5, 0.5, True), (0.8, 0.5, False), (0.5, 0.8, False)])
def test_a_claim_is_not_testable_where_both_methods_are_at_the_floor(own, rival, floor):
    results = sweep(*seeds("cd", own + NOISE), *seeds("icl", rival + NOISE))
    claims = at_floor(results, (BETTER, CHEAPER))
    assert claims == ({BETTER} if floor else set())
    judged = judge(study_effects(results, claims=(BETTER,)), claims)
    assert (set(judged.verdict) == {"not testable here"}) == floor


def test_items_of_one_kind_make_wider_intervals_than_independent_ones():
    groups = [*seeds("cd", 0.8 + NOISE), *seeds("icl", 0.5 + NOISE)]
    alone = sweep(*groups)
    kinds = (np.arange(ITEMS) // 40).tolist()
    together = [
        replace(
            one,
            outcome=replace(
                one.outcome,
                evaluations={
                    domain: replace(evaluation, clusters=kinds)
                    for domain, evaluation in one.outcome.evaluations.items()
                },
            ),
        )
        for one in alone.stored
    ]
    narrow, wide = (judged_of(results, (BETTER,)).iloc[0] for results in (alone, replace(alone, stored=together)))
    assert wide.effect == narrow.effect
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_claims_without_results_are_left_out_and_none_at_all_is_an_error():
    judged = judged_of(sweep(*seeds("cd", [0.8] * 3), *seeds("icl", [0.5] * 3)), CLAIMS)
    assert set(judged.claim) == {"CD against ICL, out of domain", "CD against ICL, in domain"}
    none = judged_of(sweep(*seeds("cd", [0.8] * 3)), (BETTER,))
    assert none.empty
    with pytest.raises(StudyError, match="claims: none can be judged"):
        summary_size(none)


def test_the_table_comes_first_and_each_row_opens():
    judged = judged_of(sweep(*seeds("cd", 0.8 + NOISE), *seeds("icl", 0.5 + NOISE)), (BETTER,))
    row = verdict_table(judged, "all").loc[BETTER.statement]
    assert row.here.startswith("+60% [+")
    assert row.verdict == "supported"
    page = details(judged, "all")
    assert page.count("<details>") == 1
    assert "supported" in page


def test_twice_as_much_and_more_is_told_as_a_multiple():
    shown = sweep(costs=[*costs("cd", [3.0, 4.0, 5.0]), *costs("pbft", [1.0, 1.0, 1.0])])
    row = verdict_table(judged_of(shown, (CHEAPER,)), 4).loc[CHEAPER.statement]
    assert row.here == "4× [1.5×, 6.5×]"  # 4 ± 4.303 · 1 / √3
    one = sweep(costs=[*costs("cd", [12.0]), *costs("pbft", [1.0])])
    assert verdict_table(judged_of(one, (CHEAPER,)), 4).loc[CHEAPER.statement].here == "12×"


def test_the_share_recovered_is_of_the_distance_from_the_untuned_student_to_the_teacher():
    groups = [*seeds("teacher_icl", [0.9] * 3), *seeds("cd", [0.7] * 3), ("baseline", 0, 0, 0.5)]
    table = recovered(sweep(*groups))
    assert table.loc[("in domain", "share"), 4].startswith("50% [")
    near = recovered(sweep(*seeds("teacher_icl", [0.55] * 3), *seeds("cd", [0.7] * 3), ("baseline", 0, 0, 0.5)))
    assert near.loc[("in domain", "share"), 4] == ""


def test_a_difference_has_a_star_where_the_wider_interval_excludes_nothing_and_is_blank_where_there_is_none():
    clear, few = over_seeds([0.2, 0.21, 0.19]), over_seeds([0.2, 0.2])
    rows = pd.DataFrame([of_difference(one, 0.99) for one in (clear, few, None)])
    assert rows.differs.tolist() == [True, False, False]
    assert rows.difference_low[0] < 0.2 < rows.difference_high[0]
    assert shown_differences(rows)[1:] == ["+0.20 [+0.20, +0.20]", ""]
    assert shown_differences(rows)[0].endswith("] *")


def test_a_difference_of_accuracies_is_at_most_one():
    wide = of_difference(over_seeds([0.9, -0.9]), 0.95)
    assert (wide["difference_low"], wide["difference_high"]) == (-1, 1)
