"""Predictions that are kept: made once, made again where what they depend on changes, absent where data are."""

import json

import pandas as pd
import pytest

from lib.errors import StudyError
from lib.memory import predictions
from lib.memory.allocations import PARTS
from lib.memory.predictions import frame, of_profile, setting
from lib.report import memory_figures
from lib.runs.profile import read_profile


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Counts the predictions that are made; they are kept in a file of the test's own."""
    made = []

    def spy(one, original=predictions.predict):
        made.append(one.run.method)
        return original(one)

    monkeypatch.setattr(predictions, "predict", spy)
    monkeypatch.setattr(predictions, "SHIPPED", tmp_path / "shipped.json")
    monkeypatch.setattr(predictions, "KEPT", tmp_path / "kept.json")
    return made


@pytest.fixture
def one():
    return setting(read_profile("smoke"), "pbft", 4)


def test_a_prediction_is_made_once_and_kept(counted, one):
    first = predictions.predictions([one, one])
    assert predictions.predictions([one])[0] == first[0] == first[1]
    assert counted == ["pbft"]


def test_other_code_or_another_setting_is_another_prediction(counted, one, monkeypatch):
    predictions.predictions([one])
    predictions.predictions([setting(read_profile("smoke", {"batch_size": 1}), "pbft", 4)])
    assert len(counted) == 2
    monkeypatch.setattr(predictions, "walked", lambda: ("other code",))
    predictions.predictions([one])
    assert len(counted) == 3
    assert len(json.loads(predictions.KEPT.read_text())["predictions"]) == 1  # nothing of the code before is left


@pytest.mark.slow
def test_the_predictions_that_come_with_the_study_are_those_of_its_code():
    """Where this fails, notebooks/building.md says how to make them anew."""
    shipped, asked = predictions._read(predictions.SHIPPED), read_profile("paper")
    settings = [setting(asked, method, size) for method in asked.methods for size in asked.support_sizes]
    assert {predictions._name_of(one) for one in settings} <= {*shipped}


def test_what_comes_with_the_study_is_not_made_again_and_not_changed(counted, one):
    predictions.predictions([one])
    predictions.ship()
    shipped = predictions.SHIPPED.read_bytes()
    predictions.predictions([one, setting(read_profile("smoke"), "icl", 4)])
    assert counted == ["pbft", "icl"]
    assert predictions.SHIPPED.read_bytes() == shipped
    assert len(json.loads(predictions.KEPT.read_text())["predictions"]) == 1


@pytest.mark.parametrize(
    "changes", [{"accumulate": 2}, {"optimizer_in_backward": True}, {"teacher_memory": "streamed"}], ids=str
)
def test_another_way_of_computing_is_another_prediction_and_another_row(counted, smoke_profile, changes):
    other = smoke_profile.changed(changes)
    for profile in (smoke_profile, other, smoke_profile, other):
        predictions.predictions([setting(profile, "cd", 4)])
    assert len(counted) == 2
    assert set(of_profile(smoke_profile, ["cd"]).run).isdisjoint(of_profile(other, ["cd"]).run)


def test_a_file_that_was_cut_short_is_made_again(counted, one, capsys):
    predictions.predictions([one])
    predictions.KEPT.write_text(predictions.KEPT.read_text()[:40])
    predictions.predictions([one])
    assert len(counted) == 2
    assert "cut short" in capsys.readouterr().err


@pytest.mark.parametrize("folder", predictions.WALKED)
def test_a_changed_or_a_further_source_file_is_other_code(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "ROOT", tmp_path)
    file = tmp_path / "lib" / folder / "some.py"
    file.parent.mkdir(parents=True)
    seen = set()
    for text in ("first = 1", "second = 22"):
        file.write_text(text)
        seen.add(predictions.walked.__wrapped__())
    file.with_name("further.py").write_text("third = 3")
    assert len({*seen, predictions.walked.__wrapped__()}) == 3


def test_the_folders_that_are_walked_are_there():
    assert all(list((predictions.ROOT / "lib" / folder).glob("*.py")) for folder in predictions.WALKED)


def test_a_frame_has_a_row_a_phase_and_marks_the_one_that_counts(counted):
    rows = frame([setting(read_profile("smoke"), method, 4) for method in ("cd", "icl")])
    assert rows.groupby("method").phase.apply(list).to_dict() == {
        "cd": ["teacher", "training", "evaluation"],
        "icl": ["evaluation"],
    }
    assert rows.groupby("method").highest_phase.sum().tolist() == [1, 1]
    assert rows[list(PARTS)].sum(axis=1).tolist() == pytest.approx(rows.peak_gb.tolist())


def test_a_method_or_size_that_the_profile_lacks_is_refused():
    with pytest.raises(StudyError, match="pbft is not in profile smoke, or not with 0"):
        setting(read_profile("smoke"), "pbft", 0)


def test_a_profiles_predictions_are_kept_beside_its_results_and_need_no_data_again(counted, smoke_profile, monkeypatch):
    first = of_profile(smoke_profile, ["baseline", "pbft"])
    assert (smoke_profile.folder / "predicted.csv").is_file()
    monkeypatch.setattr(predictions, "real_lengths", None)
    pd.testing.assert_frame_equal(of_profile(smoke_profile, ["baseline", "pbft"]), first, check_exact=False, rtol=1e-4)
    assert sorted(set(counted)) == ["baseline", "pbft"]


def test_further_methods_are_added(counted, smoke_profile):
    of_profile(smoke_profile, ["baseline"])
    assert set(of_profile(smoke_profile, ["icl"]).method) == {"icl"}
    assert set(of_profile(smoke_profile, ["baseline", "icl"]).method) == {"baseline", "icl"}
    assert counted == ["baseline", "icl", "icl"]


def test_where_the_data_are_not_there_there_are_no_rows(counted, smoke_profile, monkeypatch):
    def absent(run):
        raise StudyError("data: not there")

    monkeypatch.setattr(predictions, "real_lengths", absent)
    assert of_profile(smoke_profile, ["baseline"]).empty


def test_of_what_is_stored_nothing_is_predicted_and_tables_are_empty(counted, smoke_profile):
    none = of_profile(smoke_profile.model_copy(update={"stored_only": True}), ["baseline"])
    assert none.empty
    assert counted == []
    assert memory_figures.table(none).empty
    assert not (smoke_profile.folder / "predicted.csv").exists()


@pytest.mark.parametrize("content", ["", "\n", "run,method\na,b\n", "\0", "{"])
def test_predicted_peaks_that_cannot_be_read_are_predicted_again_with_a_warning(
    counted, smoke_profile, capsys, content
):
    file = smoke_profile.folder / "predicted.csv"
    before = of_profile(smoke_profile, ["baseline"])
    file.write_text(content)
    assert of_profile(smoke_profile.changed({"stored_only": True}), ["baseline"]).empty
    assert of_profile(smoke_profile, ["baseline"]).equals(before)
    assert capsys.readouterr().err.count(str(file)) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        *(f'{{"predictions": {kept}}}' for kept in ("3", '{"a": 3}', '{"a": {"evaluation": {"total": "high"}}}')),
    ],
)
def test_kept_predictions_that_cannot_be_read_are_made_again_with_a_warning(counted, one, capsys, content):
    (first,) = predictions.predictions([one])
    predictions.KEPT.write_text(content)
    assert predictions.predictions([one]) == [first]
    assert str(predictions.KEPT) in capsys.readouterr().err
    assert counted == ["pbft", "pbft"]
