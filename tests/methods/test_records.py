"""Runs: a key that is the same everywhere, and that every setting has a part in."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from lib.methods.records import Distillation, Run, Targets, Task
from lib.models.training import Training
from lib.paths import ROOT
from lib.runs.keys import key
from tests.support.settings_one_by_one import altered, leaf, leaves, with_leaf

TASK = Task("embedded", "pairs", "swaps", "gpt-3", ("Yes", "No"), 4, 0)
TRAINING = Training("lora", 1e-3, 2, 4, "linear", 0.1, 0.0, "float32", 8, 16, 0.0)
TARGETS = Targets("teacher", "float32", TASK, 4, 0, "train", 2, "labels", 16, "cpu")
CELL = Run("cd_lora", 4, 0, "student", "float32", TASK, 16, "cpu", TRAINING, Distillation(TARGETS, 0.5, 1.0, "support"))


PATHS = list(leaves(CELL))


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_setting_changes_the_key(path):
    assert key(with_leaf(CELL, path, altered(leaf(CELL, path)))) != key(CELL)


def test_no_two_changes_of_one_setting_give_the_same_key():
    changed = {key(with_leaf(CELL, path, altered(leaf(CELL, path)))) for path in PATHS}
    assert len(changed) == len(PATHS)


@pytest.mark.parametrize("path", [(name,) for name in ("training", "distillation")] + [("task", "eval_limit")], ids=str)
def test_a_setting_that_becomes_none_changes_the_key(path):
    assert key(with_leaf(CELL, path, None)) != key(CELL)


def test_an_option_that_is_none_does_not_change_the_key():
    wider = dataclasses.make_dataclass("Wider", [("option", "int | None", None)], bases=(Targets,), frozen=True)
    values = {field.name: getattr(TARGETS, field.name) for field in dataclasses.fields(TARGETS)}
    assert key(wider(**values)) == key(TARGETS) != key(wider(**values, option=1))


@pytest.mark.parametrize("name", ["padding_free", "fused"])
def test_how_a_step_is_computed_does_not_change_the_key(name):
    assert key(with_leaf(CELL, ("training", name), True)) == key(CELL)


def test_the_key_is_a_file_name_of_sixteen_hex_digits():
    assert re.fullmatch("[0-9a-f]{16}", key(CELL))


def test_the_key_is_the_same_in_another_process():
    script = "import sys; sys.path.insert(0, 'tests'); import test_runs as t; print(t.key(t.CELL))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [key(CELL)]
