"""`run_all.sh plan`: counts, peaks and hours of what a profile would run, and what was measured where it is there."""

import pytest

from lib.errors import StudyError
from lib.memory import predictions
from lib.memory.fits import CONTEXT_GIB, GIB
from lib.methods.table import METHODS
from lib.report import plan
from lib.report.operations import UTILISATION, Operations
from lib.runs.execution import fill
from lib.runs.profile import read_profile

SMALL = {"support_sizes": [1, 4], "seeds": [0, 1], "methods": ["baseline", "pbft", "cd"], "in_context": None}


@pytest.fixture(autouse=True)
def scratch(monkeypatch, tmp_path):
    monkeypatch.setattr(predictions, "KEPT", tmp_path / "predictions.json")
    monkeypatch.setattr("lib.runs.profile.FIGURES", tmp_path)


def planned(profile, *students):
    profiles = [profile.changed({"student": student}) for student in students] or [profile]
    return plan.table(profiles, {}).set_index("kind")


@pytest.fixture
def small():
    return read_profile("smoke", SMALL)


def test_every_run_and_every_preparation_counts_once():
    profile = read_profile("smoke")
    runs = [*profile.runs(), *profile.in_context_runs("crossfit"), *profile.in_context_runs("lama")]
    jobs = {*runs, *(run.needs for run in runs if run.needs)}
    assert planned(profile).jobs.sum() == len(jobs)


def test_students_share_what_their_teacher_is_asked(small):
    alone, both = planned(small), planned(small, "random-opt-student", "random-opt-teacher")
    assert both.jobs["soft labels"] == alone.jobs["soft labels"] == 4
    assert both.jobs["CD"].tolist() == [4, 4]


@pytest.mark.slow
def test_the_papers_own_pair_needs_no_weights_and_has_the_peaks_that_fits_tells():
    profile = read_profile("paper", {"methods": ["pbft"], "support_sizes": [1, 4], "in_context": None})
    row = planned(profile).loc["PBFT"]
    (peaks,) = predictions.predictions([predictions.setting(profile, "pbft", 4)])
    assert row.GiB == pytest.approx(peaks["training"].total / GIB + CONTEXT_GIB)
    assert (row.phase, row.jobs, row.stored, row["seconds are"]) == ("training", 20, 0, "predicted")
    assert row.hours == row["hours left"] == pytest.approx(20 * row["seconds each"] / 3600)


def test_what_is_stored_is_told_as_it_was_measured_and_is_not_left_to_compute(small):
    sweep = fill(small)
    done = planned(small)
    assert (done["hours left"] == 0).all()
    assert (done.stored == done.jobs).all()
    spent = sum(cost.seconds for one in sweep.stored if one.run.method == "pbft" for cost in one.outcome.costs.values())
    assert done.hours["PBFT"] == pytest.approx(spent / 3600)
    assert done["seconds are"]["soft labels"].startswith("as on ")


def test_jobs_that_are_not_stored_take_as_many_times_what_is_predicted_as_those_that_are():
    kind = plan.Kind("CD", "m", {"a": Operations(float32=6), "b": Operations(float32=4)}, 1.0, "training")
    row = plan._row([kind], {"a": ("a card", 3600.0)}, {"float32": 1.0})
    assert (row["hours"], row["hours left"]) == pytest.approx((1 + 2 / 3, 2 / 3))
    assert row["seconds are"] == "as on a card"


def test_an_a100_is_assumed_where_no_gpu_is_needed_to_plan():
    assert plan.rates("cuda")["float32"] == UTILISATION * 19.5e12


def test_cards_that_are_too_small_and_costs_are_told(small):
    text = plan.report(small, (), 1e-6, 5.0)
    assert "1e-06 GiB: too small for Baseline (random-opt-student), PBFT" in text
    assert "Cost at 5 € an hour" in text
    assert "8 GiB: enough for all" in plan.report(small, (), None, None)


def test_what_cannot_be_had_is_left_out_with_the_reason(small):
    text = plan.report(read_profile("smoke", {"in_context.crossfit.source": "nowhere"}), (), None, None)
    assert "Left out: crossfit: " in text
    assert f"lama: {METHODS['ict'].label}" in text


@pytest.mark.parametrize(
    ("gpu", "price", "name"), [(0, None, "gpu"), (None, -1, "price"), (None, float("nan"), "price")]
)
def test_a_size_or_price_that_is_none_is_refused(small, gpu, price, name):
    with pytest.raises(StudyError, match=f"{name}: .* is not possible; allowed"):
        plan.report(small, (), gpu, price)
