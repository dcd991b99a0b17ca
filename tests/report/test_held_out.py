"""Controls whose pool lacks half of the kinds of items: what they are scored on, and beside what."""

import numpy as np
import pytest

from lib.report.held_out import apart, apart_table
from lib.runs.ablations import controls
from lib.runs.execution import Sweep
from lib.runs.profile import read_profile
from lib.runs.variants import Variants
from tests.support.stored import smoke, stored

CONTROL = "an idea, half the templates held out"
AWAY, REST = "held out of the pool", "of kinds in the pool"


def result(right, held_out, seed):
    """A stored result whose items, all of one class, are right or wrong."""
    return stored("cd", 4, seed, [1 - one for one in right], [0] * len(right), held_out=held_out)


CONTROLLED = [result([1, 1, 0, 0] * 20, "1100" * 20, 0), result([1, 0, 1, 1] * 20, "0011" * 20, 1)]


def table(**sweeps):
    return apart(Variants({name: Sweep(smoke(), None, results) for name, results in sweeps.items()}, {}))


def test_an_idea_has_a_control_for_each_kind_and_nothing_else_changes():
    found = controls("an idea", {"pool": "target"})
    assert found[CONTROL] == {"pool": "target", "held_out": "templates"}
    assert [change["held_out"] for change in found.values()] == ["subcases", "templates"]
    for change in found.values():
        read_profile("smoke", change)


def test_items_of_kinds_that_the_pool_lacks_are_scored_apart():
    found = table(**{CONTROL: CONTROLLED, "plain": [result([1, 1, 1, 1], "", 0)]}).set_index("items")
    assert set(found.name) == {CONTROL}
    assert found.accuracy.to_dict() == pytest.approx({AWAY: 1.0, REST: 0.25})
    assert (found.low <= found.accuracy).all()
    assert (found.accuracy <= found.high).all()
    assert found.majority.tolist() == [1.0, 1.0]  # all items are of one class
    assert "difference" not in found  # there is no idea to compare with


def test_the_majority_is_that_of_the_items_apart_seed_by_seed():
    gold = [0, 0, 0, 1] * 20
    found = table(**{CONTROL: [stored("cd", 4, seed, gold, gold, held_out="1110" * 20) for seed in (0, 1)]})
    assert found.set_index("items").majority.to_dict() == {AWAY: 1.0, REST: 1.0}
    other = [stored("cd", 4, seed, gold, gold, held_out=away * 20) for seed, away in enumerate(("1101", "0011"))]
    assert np.isnan(found.auc).all()  # one class alone has no order
    assert table(**{CONTROL: other}).auc.iloc[0] == 1.0
    assert table(**{CONTROL: other}).majority.tolist() == pytest.approx([(2 / 3 + 1 / 2) / 2, 1.0])


def test_the_idea_itself_stands_beside_its_control_on_the_same_items():
    with_all = [result([1, 0, 1, 1] * 20, "", 0), result([0, 1, 1, 0] * 20, "", 1)]
    found = table(**{"an idea": with_all, CONTROL: CONTROLLED}).set_index("items")
    assert found.all_kinds.to_dict() == pytest.approx({AWAY: 0.5, REST: 0.75})
    assert found.difference.to_dict() == pytest.approx({AWAY: 0.5, REST: -0.5})
    assert (found.difference_low <= found.difference).all()
    assert (found.difference <= found.difference_high).all()


def test_two_seeds_that_differ_leave_an_interval_within_what_can_be():
    with_all = [result([0, 0, 1, 1] * 20, "", 0), result([1, 1, 1, 1] * 20, "", 1)]
    found = table(**{"an idea": with_all, CONTROL: CONTROLLED}).set_index("items")
    assert (found.low[REST], found.high[REST]) == (0, 1)
    assert (found.difference_low[AWAY], found.difference_high[AWAY]) == (-1, 1)


def test_only_seeds_that_both_have_are_compared():
    found = table(**{"an idea": [result([1, 1, 1, 1] * 20, "", 1)], CONTROL: CONTROLLED}).set_index("items")
    assert set(found.seeds) == {1}
    assert found.accuracy.to_dict() == pytest.approx({AWAY: 1.0, REST: 0.5})
    alone = table(**{"an idea": [result([1, 1, 1, 1] * 20, "", 7)], CONTROL: CONTROLLED})
    assert set(alone.seeds) == {2}
    assert "difference" not in alone


def test_seeds_that_agree_leave_an_interval_over_items_alone():
    draw = np.random.default_rng(0)
    right = draw.integers(0, 2, 200).tolist()
    one, two = (table(**{CONTROL: [result(right, "10" * 100, seed) for seed in seeds]}) for seeds in ([0], [0, 1]))
    assert one.accuracy.tolist() == pytest.approx(two.accuracy.tolist())
    assert (one.high - one.low).tolist() == pytest.approx((two.high - two.low).tolist(), rel=0.1)


def test_as_text_a_mean_stands_with_its_interval_and_what_is_not_known_is_blank():
    with_all = [result([1, 0, 1, 1] * 20, "", 0), result([0, 1, 1, 0] * 20, "", 1)]
    text = apart_table(table(**{"an idea": with_all, CONTROL: CONTROLLED})).loc[(CONTROL, 4)]
    assert text.loc[AWAY, "difference"].startswith("+0.50 [")
    assert text.loc[REST, "accuracy"].startswith("0.25 [")
    assert text.loc[REST, "all kinds"] == "0.75"
    assert (text.seeds == "2").all()
    alone = apart_table(table(**{CONTROL: CONTROLLED}))
    assert (alone[["all kinds", "difference", "area"]] == "").all().all()  # no idea; items of one class have no order
    assert apart_table(table(other=with_all)).empty
