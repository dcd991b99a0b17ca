"""The shipped models do what is stated of them, and context distillation moves the student: the method as a whole.

The last test breaks the method in three places, once each, and shows that the test before it then fails.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lib.methods.context_distillation
import lib.models.training
from lib.evidence.estimates import interval
from lib.methods.examples import pool_by_domain
from lib.paths import FIGURES, ROOT
from lib.runs.profile import read_profile
from lib.tasks import world
from lib.tiny.evaluation import context_accuracies

MODELS = ROOT / "lib" / "tiny"
STATED = pd.read_csv(FIGURES / "pretrain_tiny" / "in_context_accuracy.csv")
SEEDS = [0, 1, 2, 3, 4]
CHECKED = 6  # contexts of the stated measurement that are measured again
SETTING = {"seeds": SEEDS, "eval_limit": 200, "kl_weight": 1.0, "support_sizes": [12]}


@pytest.fixture(autouse=True)
def one_thread():
    """As the study's workers have, and the pretraining had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(name):
    return AutoModelForCausalLM.from_pretrained(MODELS / name).eval()


def stated(model, dataset, size):
    rows = STATED[(STATED.model == model) & (STATED.dataset == dataset) & (STATED.support_size == size)]
    return rows.accuracy


@pytest.mark.parametrize("name", ["teacher", "student"])
@pytest.mark.parametrize("size", [0, 12])
def test_the_shipped_weights_reproduce_the_stated_accuracies(name, size):
    again = context_accuracies(load(name), [size], CHECKED, queries=50, seed=0)
    for dataset in world.DATASETS:
        found = again[again.dataset == dataset].accuracy.to_numpy()
        np.testing.assert_allclose(found, stated(name, dataset, size)[:CHECKED], atol=0.021)  # one near-tie of 50


def test_the_teacher_reads_demonstrations_and_the_student_hardly_does():
    for dataset, least in (("annotated", 0.85), ("overlap", 0.75)):
        assert stated("teacher", dataset, 12).mean() >= least
        assert abs(stated("teacher", dataset, 0).mean() - 0.5) < 0.05
    assert stated("teacher", "annotated", 1).mean() < stated("teacher", "annotated", 12).mean()
    assert stated("student", "annotated", 12).mean() <= 0.65


def test_the_models_are_small_and_the_teacher_is_five_times_the_student():
    teacher, student = load("teacher").num_parameters(), load("student").num_parameters()
    assert teacher >= 5 * student
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) < 12e6


def test_both_tokenizers_are_the_worlds():
    text = "The tall baker praised the pilot. ? apple\n\n"
    ids = [AutoTokenizer.from_pretrained(MODELS / name)(text)["input_ids"] for name in ("teacher", "student")]
    assert ids[0] == ids[1] and len(ids[0]) == 10


def one_result():
    (run,) = read_profile("tiny", SETTING | {"seeds": [0]}).runs(("cd",))
    soft_labels = lib.methods.context_distillation.ask_teacher(run.distillation.labelling, isolated=False)
    return lib.methods.context_distillation.run_method(run, soft_labels, isolated=False)


@pytest.mark.slow
def test_the_same_run_gives_the_same_numbers_again_and_nearly_the_same_with_other_arithmetic():
    first, again = one_result(), one_result()
    assert first.evaluations == again.evaluations
    torch.set_num_threads(2)  # sums in another order, as another machine would
    elsewhere = one_result()
    assert list(first.evaluations) == ["in_domain", "out_of_domain"]
    for domain, evaluation in first.evaluations.items():
        assert elsewhere.evaluations[domain].scores().accuracy == pytest.approx(evaluation.scores().accuracy, abs=0.03)


def gains():
    """What distillation adds to the untuned student out of domain, seed by seed."""
    profile = read_profile("tiny", SETTING)
    accuracy = {"baseline": [], "cd": []}
    for run in profile.runs(("baseline", "cd")):
        labelling = run.distillation.labelling if run.distillation else None
        soft_labels = lib.methods.context_distillation.ask_teacher(labelling, isolated=False) if labelling else None
        outcome = lib.methods.context_distillation.run_method(run, soft_labels, isolated=False)
        accuracy[run.method].append(outcome.evaluations["out_of_domain"].scores().accuracy)
    return np.subtract(accuracy["cd"], accuracy["baseline"])


def moves_the_student():
    """The gain is beyond its interval over seeds."""
    low, _ = interval(gains())
    return low > 0


@pytest.mark.slow
def test_context_distillation_moves_the_student_out_of_domain():
    assert moves_the_student()


def no_kl(monkeypatch):
    monkeypatch.setattr(lib.models.training, "kl_divergence", lambda teacher, student, *rest: 0 * student.sum())


def no_demonstrations(monkeypatch):
    def alone(labelling):
        return [([], [query for part in pool_by_domain(labelling) for query in part])]

    monkeypatch.setattr(lib.methods.context_distillation, "teacher_contexts", alone)


def targets_of_other_rows(monkeypatch):
    right = lib.models.training.kl_divergence

    def wrong(teacher, student, *rest):
        return right(teacher.roll(1, dims=0), student, *rest)

    monkeypatch.setattr(lib.models.training, "kl_divergence", wrong)


@pytest.mark.slow
@pytest.mark.parametrize("break_it", [no_kl, no_demonstrations, targets_of_other_rows])
def test_the_test_above_fails_where_the_method_is_broken(monkeypatch, break_it):
    break_it(monkeypatch)
    assert not moves_the_student()
