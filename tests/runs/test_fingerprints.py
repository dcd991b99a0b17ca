"""Replaced data and models are noticed: results that came from others are refused, or computed anew where asked."""

import pytest

from lib.errors import StudyError
from lib.models import random_models
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.runs.provenance import changed, fingerprint
from tests.support.own_data import things


@pytest.fixture
def profile(figures_folder, tmp_path):
    """A task from a file and a student from a folder, with one result."""
    folder = tmp_path / "student"
    random_models.model("random-opt-student").save_pretrained(folder)
    random_models.tokenizer().save_pretrained(folder)
    changes = things(tmp_path, student=str(folder), seeds=[0], support_sizes=[3])
    made = read_profile("smoke", changes)
    assert len(fill(made, ["baseline"]).stored) == 1
    return made


def swap_labels(file):
    text = file.read_text()
    file.write_text(text.replace(",animal,", ",@,").replace(",plant,", ",animal,").replace(",@,", ",plant,"))


def test_a_result_names_the_data_and_the_model_that_it_came_from(profile):
    (result,) = fill(profile, ["baseline"]).stored
    assert sorted(result.sources) == ["data things", f"model {profile.student}"]


def test_swapped_labels_are_refused_naming_the_data_and_what_helps(profile, tmp_path):
    swap_labels(tmp_path / "things.csv")
    with pytest.raises(StudyError, match=r"data things: .*baseline.*--anew"):
        fill(profile, ["baseline"])


def test_results_of_replaced_data_are_computed_anew_where_asked(profile, tmp_path):
    (before,) = fill(profile, ["baseline"]).stored
    swap_labels(tmp_path / "things.csv")
    (after,) = fill(profile.changed({"anew": True}), ["baseline"]).stored
    assert after.sources != before.sources
    assert after.outcome.evaluations["in_domain"].gold != before.outcome.evaluations["in_domain"].gold
    assert fill(profile, ["baseline"]).stored == [after]


def test_data_put_back_are_what_the_result_came_from(profile, tmp_path):
    (before,) = fill(profile, ["baseline"]).stored
    swap_labels(tmp_path / "things.csv")
    swap_labels(tmp_path / "things.csv")
    assert fill(profile, ["baseline"]).stored == [before]


def test_a_replaced_model_folder_is_refused_naming_the_model(profile, tmp_path):
    random_models.model("random-opt-teacher").save_pretrained(tmp_path / "student")
    with pytest.raises(StudyError, match=r"model .*student: .*baseline.*--anew"):
        fill(profile, ["baseline"])


def test_what_is_not_there_now_is_not_compared(profile, tmp_path):
    (run,) = profile.runs(("baseline",))
    then = fingerprint(run)
    (tmp_path / "things.csv").unlink()
    assert changed(then, fingerprint(run)) == []
