"""`run_all.sh plan`: operations that can be counted by hand, jobs counted once, cards that are too small."""

import pandas as pd
import pytest

from lib.__main__ import main
from lib.errors import StudyError
from lib.memory import plan, predictions
from lib.memory.peaks import Setting
from lib.memory.plan import LABELS, cards, hours, kinds, report, variants, work_of
from lib.memory.prompt_lengths import Prefixed, PromptLengths
from lib.report.pages import planned
from lib.runs.profile import read_profile

OPT_125M = 12 * 12 * 768**2  # weights of its layers but for biases and norms, which are less than 3% of them
LENGTHS = PromptLengths(
    teacher=(Prefixed(10, (3, 4)),),
    support=(5, 6),
    pool=(7, 8, 9, 10),
    evaluation=(Prefixed(0, (2, 2, 2)), Prefixed(4, (1,))),
)


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path):
    monkeypatch.setattr(predictions, "KEPT", tmp_path / "predictions.json")


def smoke(**changes):
    return read_profile("smoke", {"seeds": [0, 1], "support_sizes": [4], **changes})


def settings_of(method, **changes):
    few = {"teacher": "facebook/opt-125m", "batch_size": 2, "epochs": 3, "eval_batch_size": 2, "pool_size": 4}
    (run,) = read_profile("paper", {**few, "seeds": [0], "support_sizes": [2], **changes}).runs((method,))
    return Setting(run, LENGTHS)


@pytest.mark.parametrize(
    ("method", "changes", "factor"), [("cd", {}, 6), ("cd_lora", {}, 4), ("cd", {"checkpointing": True}, 8)]
)
def test_operations_are_those_of_each_weight_and_token(method, changes, factor):
    work = work_of(settings_of(method, **changes))
    pool, support = 3 * (7 + 8 + 9 + 10), 3 * (5 + 6)  # three epochs in batches of two, each with one of the examples
    assert work["training"].operations == pytest.approx(factor * OPT_125M * (pool + support), rel=0.03)
    assert work["teacher"].operations == pytest.approx(2 * OPT_125M * (10 + 3 + 4), rel=0.03)
    assert work["evaluation"].operations == pytest.approx(2 * OPT_125M * (6 + 5), rel=0.03)
    assert {phase: done.steps for phase, done in work.items()} == {"teacher": 1, "training": 6, "evaluation": 3}


def test_a_step_in_parts_is_several():
    assert work_of(settings_of("cd", accumulate=2))["training"].steps == 12


def test_without_distillation_nothing_is_asked_of_a_teacher():
    assert set(work_of(settings_of("pbft"))) == {"training", "evaluation"}


def test_each_job_of_a_grid_is_counted_once():
    profile = smoke()
    assert kinds([profile]).jobs.drop(LABELS).sum() == len(profile.runs())
    assert kinds([profile]).jobs[LABELS] == len({run.needs for run in profile.runs() if run.needs})


def test_students_of_one_teacher_share_its_soft_labels():
    both = kinds([smoke(methods=["cd"]), smoke(methods=["cd"], student="random-opt-teacher")])
    assert both.jobs.to_dict() == {LABELS: 2, "CD on random-opt-student": 2, "CD on random-opt-teacher": 2}


def test_hours_are_those_of_operations_and_of_steps(monkeypatch):
    monkeypatch.setattr(plan, "OVER_LEAST", 2)
    monkeypatch.setattr(plan, "SECONDS_A_STEP", 0.5)
    work = pd.DataFrame({"operations": [9e15], "steps": [3600]}, index=["CD"])
    assert hours(work, teraflops=5).tolist() == [1.5]


def test_a_card_is_named_that_a_kind_does_not_fit_on():
    work = pd.DataFrame({"operations": [1e15, 1e15], "steps": [1, 1], "peak_gb": [15.0, 25.0]}, index=["PBFT", "CD"])
    too_small = cards(work, None)["too small for"]
    assert too_small[["T4", "L4", "A100"]].tolist() == ["CD", "CD", ""]


def test_what_pages_add_is_what_they_would_compute():
    profile = smoke()
    seen, expected = {*profile.runs()}, {}
    for page in planned(profile, None):
        if page.variants:
            changes, methods = page.variants
            runs = {run for change in changes.values() for run in profile.changed(dict(change)).runs(tuple(methods))}
            expected[page.name] = len(runs - seen)
            seen |= runs
    assert variants(profile) == expected


def test_the_report_names_kinds_cards_price_and_what_is_assumed():
    said = report([smoke()], price=2.5)
    assert all(word in said for word in (LABELS, "PBFT + LoRA", "A100", "at 2.5 an hour", "predicted", "assumed"))


@pytest.mark.parametrize("price", ["-1", "nan", "inf"])
def test_a_price_that_is_none_is_refused(price, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run_all.sh", "plan", "--profile", "smoke", "--price", price])
    assert main() == 2
    assert f"price: {price}" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StudyError, match="nowhere"):
        report([smoke(student=str(tmp_path / "nowhere"))])
