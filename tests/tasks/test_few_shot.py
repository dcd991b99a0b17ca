"""Tasks to be learnt in context: which are tuned on and which evaluated, what is shown and what is scored."""

from typing import ClassVar

import pytest

from lib.errors import StudyError
from lib.tasks.few_shot import READERS, FewShotTask, draw_target, first_with_data, require_rows, task_set
from lib.tasks.task import Benchmark, MissingTaskError, Query

ROWS = [Query(f"row {i}", ("no", "yes"), i % 2) for i in range(30)]
ITEMS = [Query(f"item {i}", ("no", "yes"), i % 2) for i in range(20)]
SEEDS = [0, 1, 2, 17]


def benchmark(**changes):
    return Benchmark("crossfit", "somewhere", **changes)


def test_a_demonstration_is_the_query_with_its_right_answer():
    assert Query("A dog\nAnswer:", ("plant", "in the sea"), 1).answered == "A dog\nAnswer: in the sea"


def test_labels_are_the_options_of_all_examples_and_items_sorted():
    task = FewShotTask("t", (Query("a", ("c", "a"), 0), Query("b", ("c", "d"), 0)), (Query("e", ("a", "b"), 1),))
    assert task.labels == ["a", "b", "c", "d"]


@pytest.mark.parametrize("items", [2, 7, 20])
def test_items_are_the_same_for_every_seed_and_each_stands_once(items):
    (drawn,) = {draw_target("t", ROWS, ITEMS, benchmark(items=items), seed).items for seed in SEEDS}
    assert len(drawn) == len(set(drawn)) == items
    assert set(drawn) <= set(ITEMS)


def test_items_are_the_same_however_many_examples_there_are():
    assert len({draw_target("t", ROWS, ITEMS, benchmark(items=5, examples=n), 0).items for n in (2, 10, 30)}) == 1


@pytest.mark.parametrize("items", [None, 20, 21, 10_000])
def test_without_a_limit_below_their_number_all_items_are_evaluated(items):
    assert sorted(draw_target("t", ROWS, ITEMS, benchmark(items=items), 0).items) == sorted(ITEMS)


def test_examples_are_distinct_rows_drawn_by_the_seed():
    drawn = {seed: draw_target("t", ROWS, ITEMS, benchmark(examples=8), seed).examples for seed in range(10)}
    assert all(len(examples) == len(set(examples)) == 8 and set(examples) <= set(ROWS) for examples in drawn.values())
    assert len({frozenset(examples) for examples in drawn.values()}) == 10
    assert draw_target("t", ROWS, ITEMS, benchmark(examples=8), 3).examples == drawn[3]


def test_tasks_of_one_seed_are_drawn_apart():
    first, second = (draw_target(name, ROWS, ITEMS, benchmark(examples=8, items=8), 0) for name in ("a", "b"))
    assert first.examples != second.examples
    assert first.items != second.items


def test_fewer_rows_than_are_asked_for_are_all_examples():
    assert sorted(draw_target("t", ROWS[:5], ITEMS, benchmark(examples=64), 0).examples) == ROWS[:5]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_item_has_the_text_of_a_row_whether_that_row_was_drawn_or_not(seed):
    leaking = [row._replace(gold=1 - row.gold) for row in ROWS]
    task = draw_target("t", ROWS, [*leaking, *ITEMS], benchmark(examples=4), seed)
    assert sorted(task.items) == sorted(ITEMS)


def test_a_target_with_fewer_than_two_items_is_missing():
    few = [ITEMS[0], Query(ROWS[0].text, ("no", "yes"), 0)]
    with pytest.raises(MissingTaskError, match=r"^1 items to evaluate, of any length"):
        draw_target("t", ROWS, few, benchmark(), 0)
    with pytest.raises(MissingTaskError, match=r"^0 items to evaluate, of at most 40 characters"):
        draw_target("t", ROWS, [], benchmark(longest=40), 0)


@pytest.mark.parametrize(("count", "fewest"), [(0, 2), (1, 2), (16, 17)])
def test_a_target_with_too_few_rows_is_missing(count, fewest):
    with pytest.raises(MissingTaskError, match=rf"^{count} examples, of any length, where {fewest} are needed"):
        draw_target("t", ROWS[:count], ITEMS, benchmark(fewest=fewest), 0)


@pytest.mark.parametrize("fewest", [2, 17])
def test_as_many_rows_as_are_needed_are_enough(fewest):
    require_rows(ROWS[:fewest], benchmark(fewest=fewest))
    with pytest.raises(MissingTaskError, match=rf"{fewest - 1} examples, of at most 9 characters"):
        require_rows(ROWS[: fewest - 1], benchmark(fewest=fewest, longest=9))


def load_all_but(*missing):
    def load(name):
        if name in missing:
            raise MissingTaskError(f"nothing of {name}")
        return FewShotTask(name, ())

    return load


@pytest.mark.parametrize(
    ("count", "names", "left_out"),
    [(None, "acd", "be"), (3, "acd", "b"), (2, "ac", "b"), (1, "a", ""), (9, "acd", "be")],
)
def test_the_first_tasks_with_data_are_had_and_those_passed_over_are_listed(count, names, left_out):
    tasks, lacking = first_with_data("abcde", count, load_all_but("b", "e"))
    assert [task.name for task in tasks] == list(names)
    assert lacking == {name: f"nothing of {name}" for name in left_out}


def test_any_other_fault_of_a_task_is_not_passed_over():
    def broken(name):
        raise StudyError(f"{name} is broken")

    with pytest.raises(StudyError, match="a is broken"):
        first_with_data("ab", None, broken)


class StandIn:
    """A benchmark's reader: each task has rows of its own; the source names those to tune on and those to evaluate."""

    left_out: ClassVar = {"e": "no rows"}
    doubts: ClassVar = {}

    def __init__(self, benchmark):
        self.names = benchmark.source.split("|")

    def queries(self, name):
        return ([query._replace(text=f"{name} {query.text}") for query in part] for part in (ROWS, ITEMS))

    def tuning_queries(self, name, targets):
        return [query._replace(text=f"{name} {query.text}, not of {targets}") for query in ROWS]


@pytest.fixture
def stand_in(monkeypatch):
    task_set.cache_clear()
    monkeypatch.setitem(READERS, "crossfit", StandIn)
    yield
    task_set.cache_clear()


def test_the_tasks_to_evaluate_are_not_tuned_on(stand_in):
    found = task_set(Benchmark("crossfit", "abcd|cd"), 0)
    assert [task.name for task in found.targets] == ["c", "d"]
    assert [task.name for task in found.training] == ["a", "b"]
    assert found.left_out == {"e": "no rows"}


def test_the_rows_of_a_task_to_tune_on_are_read_knowing_the_targets(stand_in):
    (task,) = task_set(Benchmark("crossfit", "a|cd"), 0).training
    assert [query.text for query in task.examples] == [f"a {row.text}, not of ['c', 'd']" for row in ROWS]


def test_a_task_that_lacks_items_is_not_tuned_on_in_their_place(stand_in, monkeypatch):
    monkeypatch.setattr(StandIn, "queries", lambda self, name: (ROWS, ITEMS if name == "d" else []))
    found = task_set(Benchmark("crossfit", "abc|cd"), 0)
    assert [task.name for task in found.training] == ["a", "b"]
    assert found.left_out.keys() == {"c", "e"}


@pytest.mark.parametrize(("source", "side"), [("|a", "to tune on"), ("a|a", "to tune on"), ("a|", "to evaluate")])
def test_a_side_without_tasks_is_refused_with_the_reasons(stand_in, source, side):
    with pytest.raises(StudyError, match=rf"^crossfit: no task {side} .*e: no rows"):
        task_set(Benchmark("crossfit", source), 0)
