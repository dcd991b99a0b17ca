"""The main table: which items a method is scored on, beside whom, and what the table says where nothing was run."""

import numpy as np
import pandas as pd
import pytest

from lib.report.held_out import NOT_RUN, ONE_ANSWER, controls_table, main_frame, main_table
from lib.runs.ablations import PLAIN, control_of
from lib.runs.execution import Sweep
from lib.runs.variants import Variants
from tests.support.stored import smoke, stored

SECOND = "second domain in the pool"
CONTROL = control_of(SECOND, "templates")
AWAY = "held-out templates"


def result(right, seed, held_out="", method="cd", size=4, gold=None):
    """A stored result whose items are right or wrong; all are of one class unless `gold` says otherwise."""
    gold = [0] * len(right) if gold is None else gold
    answers = [own if good else 1 - own for own, good in zip(gold, right, strict=True)]
    return stored(method, size, seed, answers, gold, held_out=held_out)


def sweep(results, **changes):
    table = pd.DataFrame({"method": [one.run.method for one in results]})
    return Sweep(smoke().changed(changes), table, results)


def frame(control=(), others=(), **ablations):
    """The main frame of an ablation with the second domain in its pool, its control, and other methods."""
    second = {name: sweep(results, pool="target") for name, results in ablations.items()}
    held_out = {CONTROL: sweep(list(control), pool="target", held_out="templates")} if control else {}
    return main_frame(Variants(second | held_out, {}), sweep(list(others)))


def plain(table, name, items=AWAY):
    chosen = table[(table.answers == "plain") & (table.name == name) & (table["items"] == items)]
    return chosen.set_index("support_size")


CONTROLLED = [result([1, 1, 0, 0] * 20, 0, "1100" * 20), result([1, 0, 1, 1] * 20, 1, "0011" * 20)]
ALL_KINDS = [result([1, 0, 1, 1] * 20, 0), result([0, 1, 1, 0] * 20, 1)]


def test_an_ablation_is_scored_by_its_control_on_the_items_held_out():
    table = frame(CONTROLLED, **{SECOND: ALL_KINDS})
    assert CONTROL not in set(table.name)
    row = plain(table, SECOND).loc[4]
    assert row.accuracy == pytest.approx(1.0)
    assert row.seeds == 2
    assert plain(table, SECOND, "out of domain").accuracy[4] == pytest.approx((0.75 + 0.5) / 2)


def test_an_ablation_without_a_control_has_no_row():
    table = frame(CONTROLLED, **{SECOND: ALL_KINDS, "another": ALL_KINDS})
    assert plain(table, "another").empty
    assert not plain(table, "another", "out of domain").empty


def test_a_method_whose_pool_lacks_the_second_domain_is_scored_on_the_same_items():
    icl = [result([1, 0, 0, 0] * 20, seed, method="icl") for seed in range(3)]
    row = plain(frame(CONTROLLED, icl, **{SECOND: ALL_KINDS}), "ICL").loc[4]
    assert row.accuracy == pytest.approx((0.5 + 0) / 2)
    assert row.seeds == 2  # those of the control


def test_a_method_of_one_result_stands_beside_every_seed_of_the_control():
    alone = [result([1, 0, 0, 0] * 20, 0, method=name, size=0) for name in ("baseline", "teacher_icl")]
    table = frame(CONTROLLED, alone, **{SECOND: ALL_KINDS})
    for name in ("Baseline", "Teacher ICL"):
        assert plain(table, name).seeds[0] == 2
        assert plain(table, name).accuracy[0] == pytest.approx(0.25)
        assert plain(table, name, "out of domain").seeds[0] == 1


def test_without_a_control_no_items_are_held_out():
    table = frame((), [result([1, 0], 0, method="icl")], **{SECOND: ALL_KINDS})
    assert set(table["items"]) == {"in domain", "out of domain"}
    text = main_table(table, 4, smoke())
    assert (text[AWAY].drop(ONE_ANSWER) == NOT_RUN).all(axis=None)
    assert (text.loc[ONE_ANSWER, AWAY] == "").all()


def test_one_answer_is_that_of_the_items_held_out_seed_by_seed():
    gold = [0, 0, 0, 1] * 20
    control = [result([1] * 80, seed, away * 20, gold=gold) for seed, away in enumerate(("1101", "0011"))]
    row = plain(frame(control, **{SECOND: control}), SECOND).loc[4]
    assert row.majority == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert row.auc == 1.0


def test_a_control_is_compared_with_its_ablation_on_the_same_items_and_seeds():
    table = frame(CONTROLLED, **{SECOND: ALL_KINDS})
    row = plain(table, SECOND).loc[4]
    assert row.all_kinds == pytest.approx(0.5)
    assert row.difference == pytest.approx(0.5)
    assert row.difference_low <= row.difference <= row.difference_high
    assert not row.differs  # two seeds tell nothing
    assert frame(CONTROLLED, **{SECOND: ALL_KINDS[:1]}).difference.isna().all()


def test_intervals_stay_within_what_can_be():
    table = frame(CONTROLLED, **{SECOND: [result([0, 0, 1, 1] * 20, 0), result([1, 1, 1, 1] * 20, 1)]})
    row = plain(table, SECOND).loc[4]
    assert (row.difference_low, row.difference_high) == (-1, 1)
    assert table.low.min() >= 0
    assert table.high.max() <= 1


def test_a_constant_over_seeds_has_the_interval_of_its_items():
    draw = np.random.default_rng(0)
    right = draw.integers(0, 2, 200).tolist()
    one, two = (
        plain(frame([result(right, seed, "10" * 100) for seed in seeds], **{SECOND: []}), SECOND).loc[4]
        for seeds in ([0], [0, 1])
    )
    assert one.accuracy == pytest.approx(two.accuracy)
    assert one.high - one.low == pytest.approx(two.high - two.low, rel=0.1)


def test_the_table_names_what_was_not_run_and_the_better_constant_answer():
    icl = [result([1, 0, 0, 0] * 20, seed, method="icl") for seed in range(3)]
    teacher = [result([1] * 80, 0, method="teacher_icl", size=0)]
    text = main_table(
        frame(CONTROLLED, icl + teacher, **{SECOND: ALL_KINDS, "another": ALL_KINDS, PLAIN: []}), 4, smoke()
    )
    assert text.index.tolist() == ["ICL", "Teacher ICL, no demonstrations", SECOND, "another", ONE_ANSWER]
    assert text.loc["another", AWAY].tolist() == [NOT_RUN, NOT_RUN]
    assert text.loc[SECOND, (AWAY, "plain")].startswith("1.00 [")
    assert text.loc["ICL", ("seeds", "")] == "3 / 2"
    assert text.loc[ONE_ANSWER, (AWAY, "plain")] == "1.00"  # all items are of one class


def test_controls_have_a_table_where_their_ablation_stands_beside_them():
    text = controls_table(frame(CONTROLLED, **{SECOND: ALL_KINDS})).loc[(SECOND, 4, AWAY)]
    assert text["all kinds in the pool"] == "0.50"
    assert text["difference"].startswith("+0.50 [")
    assert not text["difference"].endswith("*")
    assert controls_table(frame(CONTROLLED, [result([1, 0] * 40, 0, method="icl")])).empty
