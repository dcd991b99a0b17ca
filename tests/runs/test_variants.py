"""Variants: several settings of one study, what is left out of them and what fails."""

import pytest

from lib.errors import StudyError
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.runs.provenance import key
from lib.runs.variants import fill_variants, first_seeds


def test_each_variant_has_its_own_results_and_what_cannot_work_is_left_out(smoke_profile):
    changes = {"own": {}, "hot": {"temperature": 3.0}, "too large": {"pool_size": 999}, "wrong": {"temperature": -1}}
    found = fill_variants(smoke_profile, changes, ["cd"])
    assert list(found.sweeps) == ["own", "hot"]
    assert "pool_size: 999 queries asked for" in found.left_out["too large"]
    assert "temperature" in found.left_out["wrong"]
    assert [len(sweep.results) for sweep in found.sweeps.values()] == [4, 4]
    assert found.failed == {}
    losses = [sweep.stored[0].outcome.losses for sweep in found.sweeps.values()]
    assert losses[0] != losses[1]


def test_a_variant_that_says_nothing_new_is_the_profile_itself(smoke_profile):
    first = fill(smoke_profile, ["cd"]).stored
    same = fill_variants(smoke_profile, {"same": {"temperature": smoke_profile.temperature}}, ["cd"]).sweeps["same"]
    assert [key(one.run) for one in same.stored] == [key(one.run) for one in first]


def test_what_is_stored_can_be_compared_alone(smoke_profile):
    changes = {"own": {}, "hot": {"temperature": 3.0}, "cold": {"temperature": 0.5}, "too large": {"pool_size": 999}}
    stored = smoke_profile.changed({"stored_only": True})
    fill(smoke_profile.changed({"seeds": [0]}), ["cd"])
    with pytest.raises(StudyError, match="stored_only: there are no results of two variants"):
        fill_variants(stored, changes, ["cd"])
    fill(smoke_profile.changed({"temperature": 3.0}), ["cd"])
    found = fill_variants(stored, changes, ["cd"])
    assert {name: len(sweep.results) for name, sweep in found.sweeps.items()} == {"own": 2, "hot": 4}
    assert found.left_out == {"cold": "No result is stored.", "too large": "No result is stored."}
    assert "Left out: cold, too large. No result is stored." in found._repr_html_()
    assert "2 of their results are not computed yet" in found._repr_html_()


def test_where_no_variant_can_work_the_reasons_are_the_error(smoke_profile):
    with pytest.raises(StudyError, match="pool_size: 999"):
        fill_variants(smoke_profile, {"too large": {"pool_size": 999}}, ["cd"])


def test_few_are_the_first_seeds_and_the_sizes_that_there_are():
    assert first_seeds(read_profile("smoke"), (4, 12)) == {"support_sizes": [4], "seeds": [0, 1]}
    assert first_seeds(read_profile("smoke", {"seeds": list(range(9))}), (12,)) == {
        "support_sizes": [1, 4],
        "seeds": [0, 1, 2, 3, 4],
    }
