"""CrossFit's tasks from files of rows: which are tuned on, which evaluated, and what is said of those left out."""

import json
from dataclasses import replace

import pytest

from lib.errors import StudyError
from lib.tasks.few_shot import task_set
from lib.tasks.task import Benchmark, Query

OPTIONS = ["good", "so so", "bad"]
OTHER_LETTERS = str.maketrans("qrstuvQRSTUV", "ghijklGHIJKL")


def row(text, output="good", split="train", **more):
    return {"task": "any", "input": text, "output": output, "options": OPTIONS, "split": split, **more}


def rows_of_task(name, train=6, test=4):
    return [
        row(f"{name} {split} {i}", OPTIONS[i % 3], split)
        for split, count in (("train", train), ("test", test))
        for i in range(count)
    ]


def write(folder, name, rows):
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def source(tmp_path):
    """Four tasks with data, of which `split.json` names two on each side, and one more that has none."""
    for name in ("a", "b", "c", "d"):
        write(tmp_path, name, rows_of_task(name))
    set_split(tmp_path, ["a", "absent", "b"], ["c", "d"])
    return tmp_path


def set_split(folder, train, test):
    (folder / "split.json").write_text(json.dumps({"train": train, "test": test}), encoding="utf-8")


def benchmark(source, **changes):
    return Benchmark("crossfit", str(source), str(source / "split.json"), **changes)


def tasks(source, seed=0, **changes):
    task_set.cache_clear()
    return task_set(benchmark(source, **changes), seed)


def names(tasks):
    return [task.name for task in tasks]


def texts(queries):
    return sorted(query.text.removesuffix("\nAnswer:") for query in queries)


def test_the_split_says_what_is_tuned_on_and_what_is_evaluated(source):
    found = tasks(source)
    assert (names(found.training), names(found.targets)) == (["a", "b"], ["c", "d"])


def test_a_row_is_asked_as_its_input_and_answered_by_its_output(source):
    write(source, "a", [row(" Fine\nfilm! ", "bad"), row("Poor.", " so so ", options=["bad ", "so so", " good"])])
    assert tasks(source).training[0].examples == (
        Query("Fine\nfilm!\nAnswer:", ("good", "so so", "bad"), 2),
        Query("Poor.\nAnswer:", ("bad", "so so", "good"), 1),
    )


def test_a_task_to_tune_on_gives_all_of_its_rows_and_no_items(source):
    task = tasks(source, examples=2).training[0]
    assert texts(task.examples) == sorted(one["input"] for one in rows_of_task("a"))
    assert task.items == ()


def test_a_text_that_stands_in_both_parts_of_a_task_to_tune_on_is_there_once(source):
    write(source, "a", [*rows_of_task("a"), row("a train 1", split="test"), row("a test 2", split="train")])
    assert texts(tasks(source).training[0].examples) == sorted(one["input"] for one in rows_of_task("a"))


@pytest.mark.parametrize("paradigm", ["meta", "multitask"])
def test_what_a_target_is_scored_on_is_tuned_on_by_no_task_whatever_its_name(source, paradigm):
    sharing = "a" if paradigm == "meta" else "c"
    write(source, sharing, [*rows_of_task(sharing), *(row(f"d test {i}", "bad") for i in range(3))])
    found = tasks(source)
    tuned_on = found.training if paradigm == "meta" else found.targets
    evaluated = {item.text for task in found.targets for item in task.items}
    assert len(evaluated) == 8
    assert evaluated.isdisjoint(query.text for task in tuned_on for query in task.examples)
    assert len(tuned_on[0].examples) == len(rows_of_task("a", test=4 if paradigm == "meta" else 0))


def test_a_task_of_evaluated_rows_alone_is_left_out_with_the_reason(source):
    write(source, "a", [row(f"d test {i}", "bad") for i in range(4)])
    found = tasks(source)
    assert names(found.training) == ["b"]
    assert found.left_out["a"] == "0 examples that are not evaluated, 2 are needed"


def test_a_targets_items_are_its_test_rows_and_its_examples_the_others(source):
    write(source, "c", [*rows_of_task("c"), row("c dev", split="dev"), {**row("c none"), "split": None}])
    task = tasks(source).targets[0]
    assert texts(task.items) == [f"c test {i}" for i in range(4)]
    assert texts(task.examples) == ["c dev", "c none", *(f"c train {i}" for i in range(6))]


@pytest.mark.parametrize("seed", range(4))
def test_a_test_row_that_repeats_another_rows_text_is_not_evaluated(source, seed):
    write(source, "c", [*rows_of_task("c"), row("c train 3", "bad", "test"), row("c train 4 ", "bad", "test")])
    target = tasks(source, seed, examples=2).targets[0]
    assert texts(target.items) == [f"c test {i}" for i in range(4)]


def test_the_seed_draws_examples_and_changes_neither_items_nor_tasks(source):
    found = [tasks(source, seed, examples=3, items=2) for seed in range(6)]
    assert len({one.targets[0].items for one in found}) == 1
    assert len({one.targets[0].examples for one in found}) > 1
    assert len({one.training for one in found}) == 1


def test_numbers_of_examples_and_items_are_kept(source):
    for task in tasks(source, examples=3, items=2).targets:
        assert (len(task.examples), len(task.items)) == (3, 2)


@pytest.mark.parametrize(("count", "left_out"), [(1, []), (2, ["absent"])])
def test_the_first_tasks_of_each_side_are_taken_in_the_splits_order(source, count, left_out):
    found = tasks(source, training_tasks=count, target_tasks=1)
    assert (names(found.training), names(found.targets)) == (["a", "b"][:count], ["c"])
    assert list(found.left_out) == left_out


def test_a_task_without_data_is_listed_and_the_rest_goes_on(source):
    set_split(source, ["a", "gone", "b"], ["lost", "c"])
    found = tasks(source)
    assert (names(found.training), names(found.targets)) == (["a", "b"], ["c"])
    assert found.left_out == {name: f"no file {name}.jsonl in {source}" for name in ("lost", "gone")}


@pytest.mark.parametrize(("train", "test", "side"), [(["x", "y"], ["c"], "to tune on"), (["a"], ["x"], "to evaluate")])
def test_a_split_of_which_no_task_has_data_is_refused_with_the_reasons(source, train, test, side):
    set_split(source, train, test)
    with pytest.raises(StudyError, match=rf"^crossfit: no task {side} is left\. .*x: no file x\.jsonl in {source}"):
        tasks(source)


def test_a_task_on_both_sides_is_refused(source):
    set_split(source, ["a", "c"], ["c", "d"])
    with pytest.raises(StudyError, match=r"split\.json: c would be both tuned on and evaluated"):
        tasks(source)


@pytest.mark.parametrize("limit", [None, 9, 10])
def test_rows_with_more_characters_than_the_limit_are_left_out(source, limit):
    lengths = [8, 8, 9, 9, 10, 11]
    rows = [
        row(letter * n, split=split) for split in ("train", "test") for n, letter in zip(lengths, "qrstuv", strict=True)
    ]
    apart = [{**one, "input": one["input"].upper()} if one["split"] == "test" else one for one in rows]
    write(source, "c", apart)
    write(source, "a", [{**one, "input": one["input"].translate(OTHER_LETTERS)} for one in apart])
    found = tasks(source, longest=limit)
    kept = [n for n in lengths if limit is None or n <= limit]
    assert sorted(map(len, texts(found.targets[0].items))) == kept
    assert sorted(map(len, texts(found.targets[0].examples))) == kept
    assert sorted(map(len, texts(found.training[0].examples))) == sorted(kept * 2)


def test_a_task_of_which_only_too_few_rows_are_short_enough_is_left_out(source):
    for name in ("b", "d"):
        write(source, name, [row("x" * 50), *rows_of_task(f"a much longer {name}")])
    found = tasks(source, longest=12)
    assert (names(found.training), names(found.targets)) == (["a"], ["c"])
    for name in ("b", "d"):
        assert found.left_out[name] == "0 examples, of at most 12 characters, where 2 are needed"


def test_a_task_with_fewer_examples_than_are_needed_is_left_out(source):
    write(source, "b", rows_of_task("b", train=2, test=3))
    write(source, "d", rows_of_task("d", train=5, test=9))
    found = tasks(source, fewest=6)
    assert (names(found.training), names(found.targets)) == (["a"], ["c"])
    assert found.left_out["b"] == found.left_out["d"] == "5 examples, of any length, where 6 are needed"


def test_a_target_without_test_rows_is_left_out(source):
    write(source, "d", rows_of_task("d", test=1))
    found = tasks(source)
    assert names(found.targets) == ["c"]
    assert found.left_out["d"] == "1 items to evaluate, of any length"


@pytest.mark.parametrize("name", ["a", "c"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"input": "x",', r"not JSON"),
        ("[1]", r"not an object\."),
        (row(None), r".*'input'"),
        (row(" "), r"input .*text.* ' '"),
        (row("x", options=None), r"options .*texts.* None"),
        (row("x", options=["good"]), r"options .*two.* \['good'\]"),
        (row("x", options=["good", ""]), r"options .*blank.* \['good', ''\]"),
        (row("x", options=["good", "bad", "good"]), r"options .*different.* \['good', 'bad', 'good'\]"),
        (row("x", options="ab", output="a"), r"options .*texts.* 'ab'"),
        (row("x", options=["a", 3]), r"options .*texts.* \['a', 3\]"),
        (row("x", options=["good", " \n"]), r"options .*blank"),
        (row("x", options=["good", "bad", " good"]), r"options .*different"),
        (row("x", "fine"), r"the answer 'fine' .*options \['good', 'so so', 'bad'\]"),
        (row("x", "Good"), r"the answer 'Good' "),
        (row("x", None), r"the answer None "),
        (row("x", 1, options=["0", "1"]), r"the answer 1 "),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(source, name, line, message):
    write(source, name, [*rows_of_task(name)[:2], "", line, row("y")])
    with pytest.raises(StudyError, match=rf"^{source}/{name}\.jsonl, line 4: {message}"):
        tasks(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{oops", "JSON"),
        ('["a"]', "object"),
        ('{"train": ["a"]}', "test: .*required"),
        ('{"train": "a", "test": ["c"]}', "train: "),
        ('{"train": ["a"], "test": ["c", 3]}', "test: 1: "),
    ],
)
def test_a_split_that_is_none_is_refused(source, content, message):
    (source / "split.json").write_text(content, encoding="utf-8")
    with pytest.raises(StudyError, match=rf"^crossfit\.split: '.*split\.json' .*{message}"):
        tasks(source)


@pytest.mark.parametrize("split", ["", "nowhere/split.json"])
def test_a_split_that_is_not_there_is_refused(source, split):
    with pytest.raises(StudyError, match=rf"^crossfit\.split: '{split}' is not a JSON file of train and test task"):
        task_set(replace(benchmark(source), split=split), 0)


def test_a_source_that_is_not_there_is_refused_and_not_a_task_left_out(source):
    with pytest.raises(StudyError, match=rf"'{source / 'absent'}' is not a folder\. Allowed: .*embedded"):
        task_set(replace(benchmark(source), source=str(source / "absent")), 0)


def test_tasks_of_a_repository_are_those_of_a_folder(source, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    set_split(source, ["a", "absent"], ["c"])
    from_folder = tasks(source, examples=3, items=2)
    on_hub = task_set(replace(benchmark(source, examples=3, items=2), source=f"hub:{source}"), 0)
    assert (on_hub.training, on_hub.targets) == (from_folder.training, from_folder.targets)
    assert list(on_hub.left_out) == ["absent"]


def test_the_embedded_tasks_need_no_file():
    found = task_set(Benchmark("crossfit", "embedded", examples=4, items=2), 0)
    assert (names(found.training), names(found.targets)) == (["kinds", "places"], ["times", "sizes"])
    assert found.left_out == {}
    assert all(len(task.examples) == 4 and len(task.items) == 2 for task in found.targets)


def test_a_row_or_a_name_that_comes_twice_counts_once(source):
    for name in ("a", "c"):
        write(source, name, rows_of_task(name) * 2)
    set_split(source, ["a", "a"], ["c", "c"])
    found = tasks(source)
    assert [task.name for task in found.training + found.targets] == ["a", "c"]
    assert len({query.text for query in found.training[0].examples}) == len(found.training[0].examples) == 10
    assert len(found.targets[0].items) == 4


def test_of_a_text_with_two_answers_the_first_counts_and_both_kinds_of_repetition_are_said_with_their_lines(source):
    rows = [row("same", "good"), row("same", "bad"), row("same ", "good"), row("asked", "bad", "test"), row("other")]
    write(source, "a", [*rows_of_task("a"), *rows])
    found = tasks(source)
    (query,) = [query for query in found.training[0].examples if query.text == "same\nAnswer:"]
    assert query.options[query.gold] == "good"
    assert found.doubts == {
        "a": f"1 rows have a text that stood before with another answer, which counts: {source}/a.jsonl, line 12; "
        f"1 rows repeat the text of another row: {source}/a.jsonl, line 13"
    }
    assert names(found.training) == ["a", "b"]
