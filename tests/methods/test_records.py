"""Runs: a key that is the same everywhere, and that every setting has a part in."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from lib.methods.records import Distillation, PoolLabelling, Run
from lib.models.training import Training
from lib.paths import ROOT
from lib.runs.provenance import key
from lib.tasks.task import Dataset, Task
from tests.support.settings_one_by_one import altered, leaf, leaves, with_leaf

ELSEWHERE = Dataset("letters", "folder", where=(("length", "short"),), kind=("subcase",), config="all", revision="v1")
TASK = Task(
    pattern="{text} ?",
    classes=("good", "bad"),
    label_words=("Yes", "No"),
    in_domain=Dataset("reviews", "reviews.csv", labels=(("1", "good"), ("0", "bad")), columns=(("text", "review"),)),
    out_of_domain=(ELSEWHERE,),
    eval_limit=4,
)
TRAINING = Training("lora", 1e-3, 2, 4, "linear", 0.1, 0.0, "float32", 8, 16, 0.0)
LABELLING = PoolLabelling("teacher", "float32", TASK, 4, 0, "train", 2, "labels", 16, "cpu")
DISTILLATION = Distillation(LABELLING, 0.5, 1.0, "support")
RUN = Run("cd_lora", 4, 0, "student", "float32", TASK, 16, "cpu", TRAINING, DISTILLATION)


PATHS = list(leaves(RUN))


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_setting_changes_the_key(path):
    assert key(with_leaf(RUN, path, altered(leaf(RUN, path)))) != key(RUN)


def test_no_two_changes_of_one_setting_give_the_same_key():
    changed = {key(with_leaf(RUN, path, altered(leaf(RUN, path)))) for path in PATHS}
    assert len(changed) == len(PATHS)


@pytest.mark.parametrize("path", [(name,) for name in ("training", "distillation")] + [("task", "eval_limit")], ids=str)
def test_a_setting_that_becomes_none_changes_the_key(path):
    assert key(with_leaf(RUN, path, None)) != key(RUN)


def test_an_option_that_is_none_does_not_change_the_key():
    wider = dataclasses.make_dataclass("Wider", [("option", "int | None", None)], bases=(PoolLabelling,), frozen=True)
    values = {field.name: getattr(LABELLING, field.name) for field in dataclasses.fields(LABELLING)}
    assert key(wider(**values)) == key(LABELLING) != key(wider(**values, option=1))


@pytest.mark.parametrize("memory", ["streamed", "auto"])
def test_where_a_teachers_weights_are_does_not_change_the_key(memory):
    for record in (RUN, LABELLING):
        assert key(dataclasses.replace(record, teacher_memory=memory, queries_a_pass=3)) == key(record)


@pytest.mark.parametrize("name", ["padding_free", "fused", "accumulate", "optimizer_in_backward"])
def test_how_a_step_is_computed_does_not_change_the_key(name):
    assert key(with_leaf(RUN, ("training", name), True)) == key(RUN)


@pytest.mark.parametrize("path", [(field.name,) for field in dataclasses.fields(Dataset)], ids=".".join)
def test_every_setting_of_a_set_out_of_domain_changes_the_key(path):
    other = with_leaf(ELSEWHERE, path, altered(leaf(ELSEWHERE, path)))
    assert key(with_leaf(RUN, ("task", "out_of_domain"), (other,))) != key(RUN)


def test_the_order_of_the_sets_out_of_domain_changes_the_key():
    both = (ELSEWHERE, dataclasses.replace(ELSEWHERE, name="tweets"))
    keys = {key(with_leaf(RUN, ("task", "out_of_domain"), sets)) for sets in (both, both[::-1], both[:1], ())}
    assert len(keys) == 4


def test_queries_that_are_asked_beside_do_not_change_the_key():
    assert key(dataclasses.replace(RUN, calibration_pool=8)) == key(RUN)


def test_the_labelling_is_what_has_to_be_done_first():
    assert RUN.needs is LABELLING
    assert dataclasses.replace(RUN, distillation=None).needs is None
    assert LABELLING.needs is None


def test_runs_and_labellings_are_kept_apart_and_can_be_members_of_a_set():
    assert RUN.kept_in != LABELLING.kept_in
    assert len({RUN, dataclasses.replace(RUN), LABELLING, dataclasses.replace(LABELLING)}) == 2


def test_the_key_is_a_file_name_of_sixteen_hex_digits():
    assert re.fullmatch("[0-9a-f]{16}", key(RUN))


def test_the_key_is_the_same_in_another_process():
    script = "import sys; sys.path.insert(0, 'tests/methods'); import test_records as t; print(t.key(t.RUN))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [key(RUN)]
