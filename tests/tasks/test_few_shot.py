"""Tasks to be learnt in context: their options, what is shown and what is scored, and rows from a folder or the hub."""

import json

import pytest
from datasets.exceptions import DatasetNotFoundError

from lib.errors import StudyError
from lib.tasks import crossfit, few_shot
from lib.tasks.benchmarks import task_set
from lib.tasks.few_shot import (
    Benchmark,
    FewShotTask,
    MissingTaskError,
    TaskSet,
    first_with_data,
    require_options,
    require_rows,
    rows_of,
    target,
    text_of,
)
from lib.tasks.task import Query

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
    (drawn,) = {target("t", ROWS, ITEMS, benchmark(items=items), seed).items for seed in SEEDS}
    assert len(drawn) == len(set(drawn)) == items
    assert set(drawn) <= set(ITEMS)


def test_items_are_the_same_however_many_examples_there_are():
    assert len({target("t", ROWS, ITEMS, benchmark(items=5, examples=n), 0).items for n in (2, 10, 30)}) == 1


@pytest.mark.parametrize("items", [None, 20, 21, 10_000])
def test_without_a_limit_below_their_number_all_items_are_evaluated(items):
    assert sorted(target("t", ROWS, ITEMS, benchmark(items=items), 0).items) == sorted(ITEMS)


def test_examples_are_distinct_rows_drawn_by_the_seed():
    drawn = {seed: target("t", ROWS, ITEMS, benchmark(examples=8), seed).examples for seed in range(10)}
    assert all(len(examples) == len(set(examples)) == 8 and set(examples) <= set(ROWS) for examples in drawn.values())
    assert len({frozenset(examples) for examples in drawn.values()}) == 10
    assert target("t", ROWS, ITEMS, benchmark(examples=8), 3).examples == drawn[3]


def test_tasks_of_one_seed_are_drawn_apart():
    first, second = (target(name, ROWS, ITEMS, benchmark(examples=8, items=8), 0) for name in ("a", "b"))
    assert first.examples != second.examples
    assert first.items != second.items


def test_fewer_rows_than_are_asked_for_are_all_examples():
    assert sorted(target("t", ROWS[:5], ITEMS, benchmark(examples=64), 0).examples) == ROWS[:5]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_item_has_the_text_of_a_row_whether_that_row_was_drawn_or_not(seed):
    leaking = [row._replace(gold=1 - row.gold) for row in ROWS]
    task = target("t", ROWS, [*leaking, *ITEMS], benchmark(examples=4), seed)
    assert sorted(task.items) == sorted(ITEMS)


def test_a_target_with_fewer_than_two_items_is_missing():
    few = [ITEMS[0], Query(ROWS[0].text, ("no", "yes"), 0)]
    with pytest.raises(MissingTaskError, match=r"^1 items to evaluate, of any length"):
        target("t", ROWS, few, benchmark(), 0)
    with pytest.raises(MissingTaskError, match=r"^0 items to evaluate, of at most 40 characters"):
        target("t", ROWS, [], benchmark(longest=40), 0)


@pytest.mark.parametrize(("count", "fewest"), [(0, 2), (1, 2), (16, 17)])
def test_a_target_with_too_few_rows_is_missing(count, fewest):
    with pytest.raises(MissingTaskError, match=rf"^{count} examples, of any length, where {fewest} are needed"):
        target("t", ROWS[:count], ITEMS, benchmark(fewest=fewest), 0)


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


@pytest.fixture
def stands_in(monkeypatch):
    def stand_in(training, targets, left_out):
        found = TaskSet(*(tuple(FewShotTask(one, ()) for one in names) for names in (training, targets)), left_out)
        monkeypatch.setattr(crossfit, "tasks", lambda asked, seed: found)
        return found

    task_set.cache_clear()
    yield stand_in
    task_set.cache_clear()


def test_a_task_set_is_what_the_benchmarks_reader_finds(stands_in):
    found = stands_in("ab", "cd", {"e": "no rows"})
    assert task_set(benchmark(), 0) == found


def test_tasks_that_stand_on_both_sides_are_refused_by_name(stands_in):
    stands_in("abcd", "dxb", {})
    with pytest.raises(StudyError, match=r"^crossfit: b, d would be both tuned on and evaluated\.$"):
        task_set(benchmark(), 0)


@pytest.mark.parametrize(("training", "targets", "side"), [("", "a", "to tune on"), ("a", "", "to evaluate")])
def test_a_side_without_tasks_is_refused_with_the_reasons(stands_in, training, targets, side):
    stands_in(training, targets, {"x": "no file", "y": "0 rows"})
    with pytest.raises(StudyError, match=rf"^crossfit: no task {side} is left\. x: no file; y: 0 rows$"):
        task_set(benchmark(), 0)


@pytest.mark.parametrize("gold", ["a", "b", "c"])
def test_the_right_option_is_found_by_its_text(gold):
    options, place = require_options(["b", "c", "a"], gold, "here")
    assert (options, options[place]) == (("b", "c", "a"), gold)


def test_space_around_options_and_answers_does_not_count():
    assert require_options((" yes ", "no\n"), "no ", "here") == (("yes", "no"), 1)


@pytest.mark.parametrize(
    ("options", "gold", "message"),
    [
        (None, "a", r"options must be a list of texts, not None\."),
        ("ab", "a", r"options must be a list of texts, not 'ab'\."),
        (["a", 3], "a", r"options must be a list of texts, not \['a', 3\]\."),
        ([], "a", r"options need two texts or more, none of them empty, not \[\]\."),
        (["a"], "a", r"options need two texts or more, none of them empty, not \['a'\]\."),
        (["a", ""], "a", r"options need two texts or more, none of them empty, not \['a', ''\]\."),
        (["a", " \n"], "a", r"options need two texts or more, none of them empty, not \['a', ' \\n'\]\."),
        (["a", "b", "a"], "b", r"options repeat one another: \['a', 'b', 'a'\]\."),
        (["a", "b", " a"], "b", r"options repeat one another: \['a', 'b', ' a'\]\."),
        (["a", "b"], "c", r"the answer 'c' is not among the options \['a', 'b'\]\."),
        (["a", "b"], "A", r"the answer 'A' is not among the options \['a', 'b'\]\."),
        (["a", "b"], None, r"the answer None is not among the options \['a', 'b'\]\."),
        (["0", "1"], 1, r"the answer 1 is not among the options \['0', '1'\]\."),
    ],
)
def test_options_that_cannot_be_chosen_from_are_refused_with_their_place(options, gold, message):
    with pytest.raises(StudyError, match=r"^t\.jsonl, line 4: " + message):
        require_options(options, gold, "t.jsonl, line 4")


def test_a_text_is_read_without_the_space_around_it():
    assert text_of({"input": "  two words \n"}, "input", "here") == "two words"


@pytest.mark.parametrize("row", [{}, {"input": None}, {"input": 3}, {"input": ""}, {"input": " \n"}])
def test_a_field_that_holds_no_text_is_refused_with_its_place_and_value(row):
    with pytest.raises(StudyError) as caught:
        text_of(row, "input", "t.jsonl, line 4")
    assert str(caught.value) == f"t.jsonl, line 4: input must be a text, not {row.get('input')!r}."


LINES = [{"input": "one", "options": ["a", "b"]}, {"input": "two – 二", "options": ["c", "d"]}]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n\n".join(map(json.dumps, LINES)), encoding="utf-8")
    return tmp_path


def test_rows_of_a_folder_come_with_file_and_line(folder):
    file = folder / "t.jsonl"
    assert list(rows_of(str(folder), "t.jsonl")) == [(f"{file}, line 1", LINES[0]), (f"{file}, line 3", LINES[1])]


def test_a_relative_folder_is_one_of_the_studys(folder, monkeypatch):
    monkeypatch.setattr("lib.paths.ROOT", folder.parent)
    assert [row for _, row in rows_of(folder.name, "t.jsonl")] == LINES


def test_a_file_that_is_not_in_the_folder_is_a_missing_task(folder):
    with pytest.raises(MissingTaskError, match=rf"^no file u\.jsonl in {folder}$"):
        list(rows_of(str(folder), "u.jsonl"))


def test_a_folder_that_is_not_there_is_refused_and_is_no_missing_task(folder):
    absent = folder / "absent"
    with pytest.raises(StudyError, match=rf"'{absent}' is not a folder\. Allowed: .*hub:OWNER/NAME.*folder") as caught:
        list(rows_of(str(absent), "t.jsonl"))
    assert not isinstance(caught.value, MissingTaskError)


def test_a_broken_line_is_refused_and_is_no_missing_task(folder):
    (folder / "t.jsonl").write_text('{"input": "one"}\n{"input"\n', encoding="utf-8")
    with pytest.raises(StudyError, match=r"t\.jsonl, line 2: not JSON") as caught:
        list(rows_of(str(folder), "t.jsonl"))
    assert not isinstance(caught.value, MissingTaskError)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_rows_of_a_repository_are_those_of_its_file(folder, hub_cache):
    (folder / "u.jsonl").write_text('{"input": "another"}\n', encoding="utf-8")
    assert list(rows_of(f"hub:{folder}", "t.jsonl")) == [
        (f"{folder}/t.jsonl, line {number}", row) for number, row in enumerate(LINES, start=1)
    ]


def test_a_file_that_is_not_in_the_repository_is_a_missing_task(folder, hub_cache):
    with pytest.raises(MissingTaskError, match=r"^no file u\.jsonl in "):
        list(rows_of(f"hub:{folder}", "u.jsonl"))


def test_a_hub_that_cannot_be_reached_is_one_clear_error_and_no_missing_task(hub_cache):
    with pytest.raises(StudyError) as caught:
        list(rows_of("hub:nobody/nothing", "t.jsonl"))
    assert not isinstance(caught.value, MissingTaskError)
    assert "t.jsonl of 'nobody/nothing' could not be read from the hub (" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_for_this_file_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(few_shot, "load_dataset", lambda *names, **options: asked.append((names, options)) or [])
    assert list(rows_of("hub:owner/name", "t.jsonl")) == []
    assert asked == [(("owner/name",), {"data_files": "t.jsonl", "split": "train"})]


def test_a_repository_that_is_not_there_is_no_missing_task(monkeypatch):
    def load(*_, **__):
        raise DatasetNotFoundError("no such thing")

    monkeypatch.setattr("lib.tasks.few_shot.load_dataset", load)
    with pytest.raises(StudyError, match="no dataset 'owner/nope' on the hub") as caught:
        list(rows_of("hub:owner/nope", "a.jsonl"))
    assert not isinstance(caught.value, MissingTaskError)
