"""Runs of in-context tuning: every setting has a part in their keys, and what has to be there first is named."""

import dataclasses
import re

import pytest

from lib.methods.records import EpisodeObjective, Episodes, InContextLearning, Run, TunedTeacher
from lib.models.training import Training
from lib.runs.provenance import key
from lib.tasks.task import Benchmark
from tests.support.in_context import changed
from tests.support.settings_one_by_one import altered, leaf, leaves, with_leaf

BENCHMARK = Benchmark("crossfit", "embedded", "split.json", "more", 3, 2, 8, 4, 100, fewest=5)
EPISODES = Episodes(BENCHMARK, "meta", 1, 2, 4, 3, False)
TRAINING = Training("lora", 1e-3, 1, 4, "linear", 0.1, 0.0, "float32", 8, 16, 0.0)
TEACHER = TunedTeacher("teacher", "float32", "cpu", EPISODES, TRAINING)
OBJECTIVE = EpisodeObjective("linear", 0.2, 2.0, "texts.txt", 3, 50)
RUN = Run(
    method="icl_d_lm",
    support_size=0,
    seed=1,
    model="student",
    dtype="float32",
    task=BENCHMARK,
    eval_batch_size=4,
    device="cpu",
    training=TRAINING,
    in_context=InContextLearning((0, 2), 3, False, "meta", EPISODES, OBJECTIVE, TEACHER),
)


@pytest.mark.parametrize("record", [RUN, TEACHER], ids=lambda record: type(record).__name__)
def test_every_setting_changes_the_key_and_no_two_changes_give_the_same(record):
    paths = list(leaves(record))
    keys = {key(with_leaf(record, path, altered(leaf(record, path)))) for path in paths}
    assert len(keys) == len(paths) > 20
    assert key(record) not in keys


@pytest.mark.parametrize("name", ["paradigm", "episodes", "objective", "teacher"])
def test_a_part_that_becomes_none_changes_the_key(name):
    assert key(changed(RUN, **{name: None})) != key(RUN)


def test_settings_as_by_default_do_not_count():
    assert key(changed(RUN, objective=EpisodeObjective("linear", 0.2))) == key(
        changed(RUN, objective=EpisodeObjective("linear", 0.2, 1.0, "inputs", 4, 200))
    )


def test_a_teacher_and_what_it_is_tuned_on_have_keys_of_their_own():
    assert len({key(record) for record in (RUN, TEACHER, EPISODES, BENCHMARK, TRAINING, OBJECTIVE)}) == 6


def test_the_key_is_a_file_name():
    assert re.fullmatch("[0-9a-f]{16}", key(RUN))
    assert re.fullmatch("[0-9a-f]{16}", key(TEACHER))


def test_a_run_needs_its_tuned_teacher_and_a_teacher_nothing():
    assert RUN.needs is TEACHER
    assert changed(RUN, teacher=None).needs is None
    assert TEACHER.needs is None


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (RUN, "crossfit meta icl_d_lm seed=1"),
        (changed(RUN, paradigm=None, method="untuned", seed=0), "crossfit untuned seed=0"),
        (TEACHER, "crossfit meta tuned teacher seed=1"),
    ],
)
def test_names_say_benchmark_paradigm_method_and_seed(record, name):
    assert record.name == name


def test_runs_and_teachers_are_kept_apart_and_can_be_members_of_a_set():
    assert (RUN.kept_in, TEACHER.kept_in) == ("runs", "teachers")
    assert len({RUN, dataclasses.replace(RUN), TEACHER, dataclasses.replace(TEACHER)}) == 2


def test_by_default_the_objective_is_gold_labels_alone():
    assert (EpisodeObjective().hard, EpisodeObjective().lm_weight) == ("constant", 0.0)
