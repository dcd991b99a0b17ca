"""Episodes: what is drawn for tuning and for evaluation."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lib.errors import StudyError
from lib.methods import episodes
from lib.methods.episodes import (
    Episode,
    batches,
    demonstrations_of,
    plain_texts,
    require_examples,
    tuned_on,
)
from lib.methods.records import Episodes
from lib.paths import ROOT
from lib.tasks.few_shot import Benchmark, FewShotTask, TaskSet, task_set
from lib.tasks.task import Query

EMBEDDED = Benchmark("crossfit", "embedded")
EPISODES = Episodes(EMBEDDED, "meta", seed=0, demonstrations=3, steps=20, options=None, length_normalized=False)
LETTERS = ("f", "b", "d", "a", "e", "c")


def task(name, count=8, options=LETTERS):
    return FewShotTask(name, tuple(Query(f"{name} {i}", options, i % len(options)) for i in range(count)))


@pytest.fixture
def found(monkeypatch):
    """Tasks of six options in place of a benchmark's: `one` and `two` to tune on, `three` and `four` to evaluate."""
    sides = [(task("one"), task("two")), (task("three"), task("four"))]
    monkeypatch.setattr(episodes, "task_set", lambda benchmark, seed: TaskSet(*sides, {}))
    return sides


def drawn(batch_size=4, **changes):
    return [episode for batch in batches(replace(EPISODES, **changes), batch_size) for episode in batch]


def test_a_prompt_is_its_answered_demonstrations_and_the_query_with_blank_lines_between():
    shown = (Query("A dog\nAnswer:", ("animal", "plant"), 0), Query("A rose\nAnswer:", ("animal", "plant"), 1))
    query = Query("An oak\nAnswer:", ("animal", "plant"), 1)
    assert Episode(shown, query).text == "A dog\nAnswer: animal\n\nA rose\nAnswer: plant\n\nAn oak\nAnswer:"
    assert Episode((), query).text == query.text


@pytest.mark.parametrize(("paradigm", "names"), [("meta", ["one", "two"]), ("multitask", ["three", "four"])])
def test_meta_tunes_on_the_tasks_that_are_not_evaluated_and_multitask_on_the_targets(found, paradigm, names):
    asked = replace(EPISODES, paradigm=paradigm)
    assert [task.name for task in tuned_on(asked)] == names
    assert {episode.query.text.split()[0] for episode in drawn(paradigm=paradigm)} == set(names)


def test_nothing_that_is_evaluated_is_drawn_for_tuning():
    targets = task_set(EMBEDDED, 0).targets
    evaluated = {item.text for task in targets for item in task.items}
    for paradigm in ("meta", "multitask"):
        read = {q.text for one in drawn(paradigm=paradigm) for q in (*one.demonstrations, one.query)}
        assert evaluated.isdisjoint(read)


def test_there_are_as_many_batches_as_steps_and_as_many_episodes_in_each_as_asked_for(found):
    assert [len(batch) for batch in batches(replace(EPISODES, steps=7), 5)] == [5] * 7


@pytest.mark.parametrize("count", [0, 1, 7])
def test_an_episode_is_different_examples_of_one_task(found, count):
    for episode in drawn(demonstrations=count):
        read = [*episode.demonstrations, episode.query]
        assert len(set(read)) == len(read) == count + 1
        assert any(set(read) <= set(task.examples) for task in found[0])


def test_every_task_and_example_is_asked_for(found):
    assert {one.query for one in drawn(steps=60)} == {query for task in found[0] for query in task.examples}


def test_each_seed_draws_episodes_of_its_own_and_the_same_again(found):
    assert drawn() == drawn()
    assert len({tuple(drawn(seed=seed, steps=2)) for seed in range(10)}) == 10


def test_a_longer_training_begins_as_a_shorter_one(found):
    assert drawn(steps=20)[: 4 * 6] == drawn(steps=6)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_more_options_some_are_compared_in_their_order_the_right_one_among_them(found, count):
    whole = {query.text: query for task in found[0] for query in task.examples}
    kept = []
    for episode in drawn(options=count, steps=80):
        query, full = episode.query, whole[episode.query.text]
        assert len(query.options) == count
        assert query.options[query.gold] == full.options[full.gold]
        assert [option for option in full.options if option in query.options] == list(query.options)
        kept.append(query.options)
    assert {option for options in kept for option in options} == set(LETTERS)
    assert len(set(kept)) > 5


@pytest.mark.parametrize("count", [6, 7])
def test_options_that_are_few_enough_are_all_compared_and_nothing_else_is_drawn_for_it(found, count):
    assert {episode.query.options for episode in drawn(options=count)} == {LETTERS}
    assert drawn(options=count) == drawn(options=None)


def test_demonstrations_keep_all_of_their_options(found):
    shown = {query for episode in drawn(options=2) for query in episode.demonstrations}
    assert {query.options for query in shown} == {LETTERS}


def test_a_task_with_too_few_examples_for_a_query_after_its_demonstrations_is_refused(found):
    assert drawn(demonstrations=7)
    with pytest.raises(StudyError, match=r"^demonstrations: task one has 8 examples, but 9 are needed \("):
        drawn(demonstrations=8)


def test_as_many_examples_as_are_needed_are_enough():
    require_examples(task("t", 5), 5)
    with pytest.raises(StudyError, match=r"^demonstrations: task t has 5 examples, but 6 are needed \("):
        require_examples(task("t", 5), 6)


@pytest.mark.parametrize("vote", range(3))
@pytest.mark.parametrize("seed", range(3))
def test_fewer_demonstrations_are_the_first_of_more(vote, seed):
    most = demonstrations_of(task("t"), 8, vote, seed)
    assert sorted(most) == sorted(task("t").examples)
    assert all(demonstrations_of(task("t"), count, vote, seed) == most[:count] for count in range(8))


def test_each_vote_and_seed_has_demonstrations_of_its_own():
    assert len({demonstrations_of(task("t", 30), 6, vote, seed) for vote in range(5) for seed in range(5)}) == 25
    numbers = [[q.text.split()[1] for q in demonstrations_of(task(name, 30), 6, 0, 0)] for name in ("t", "u")]
    assert numbers[0] != numbers[1]


def test_more_demonstrations_than_a_task_has_examples_are_refused():
    with pytest.raises(StudyError, match=r"^demonstrations: task t has 8 examples, but 9 are needed"):
        demonstrations_of(task("t"), 9, 0, 0)


def test_draws_are_the_same_in_every_process():
    code = "import sys; sys.path.insert(0, 'tests/methods'); import test_episodes as t; print(t.everything_drawn())"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == everything_drawn()


def everything_drawn():
    lama = task_set(Benchmark("lama", "embedded", target_tasks=2, examples=3, items=2), 3)
    crossfit = task_set(replace(EMBEDDED, examples=3, items=2), 3)
    asked = drawn(options=2, paradigm="multitask", steps=2)
    return repr([lama, crossfit, asked, demonstrations_of(task("t"), 4, 1, 3)])


def test_inputs_are_the_texts_of_the_tasks_tuned_on(found):
    for paradigm, side in (("meta", 0), ("multitask", 1)):
        texts = plain_texts("inputs", replace(EPISODES, paradigm=paradigm), 100)
        assert texts == [query.text for task in found[side] for query in task.examples]


def test_inputs_have_no_text_that_is_evaluated():
    evaluated = {item.text for task in task_set(EMBEDDED, 0).targets for item in task.items}
    for paradigm in ("meta", "multitask"):
        assert evaluated.isdisjoint(plain_texts("inputs", replace(EPISODES, paradigm=paradigm), 100))


@pytest.fixture
def text_file(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("  One line – ça va.  \n\n \t\nAnother line\nOne more\n", encoding="utf-8")
    return file


def test_each_line_of_a_text_file_that_is_not_blank_is_a_text(text_file):
    assert plain_texts(str(text_file), EPISODES, 100) == ["One line – ça va.", "Another line", "One more"]


def test_texts_are_cut_and_those_that_are_then_the_same_stand_once(text_file):
    assert plain_texts(str(text_file), EPISODES, 8) == ["One line", "Another", "One more"]
    assert plain_texts(str(text_file), EPISODES, 4) == ["One", "Anot"]


def test_a_relative_text_file_is_one_of_the_studys(text_file, monkeypatch):
    monkeypatch.setattr("lib.paths.ROOT", text_file.parent)
    assert len(plain_texts(text_file.name, EPISODES, 100)) == 3


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_a_text_file_that_is_not_there_is_refused(tmp_path, name):
    source = f"{tmp_path}/{name}"
    with pytest.raises(StudyError, match=rf"^lm_text: '{source}' is not there\. Allowed: inputs, a text file, or hub:"):
        plain_texts(source, EPISODES, 100)


def test_a_text_file_without_text_is_refused(tmp_path):
    file = tmp_path / "blank.txt"
    file.write_text("\n  \n\t\n", encoding="utf-8")
    with pytest.raises(StudyError, match=rf"^lm_text: '{file}' holds no text\.$"):
        plain_texts(str(file), EPISODES, 100)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_texts_of_a_dataset_are_its_column_of_that_name(tmp_path, hub_cache):
    (tmp_path / "data").mkdir()
    lines = '{"text": " One ", "title": "x"}\n{"text": "", "title": "y"}\n{"text": "Two lines\\nthere", "title": "z"}\n'
    (tmp_path / "data" / "train.jsonl").write_text(lines, encoding="utf-8")
    assert plain_texts(f"hub:{tmp_path / 'data'}", EPISODES, 100) == ["One", "Two lines\nthere"]


def test_a_dataset_without_such_a_column_is_refused(tmp_path, hub_cache):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"title": "x"}\n', encoding="utf-8")
    with pytest.raises(StudyError, match=rf"^lm_text: '{tmp_path}/data' could not be read .*text"):
        plain_texts(f"hub:{tmp_path / 'data'}", EPISODES, 100)


def test_a_hub_that_cannot_be_reached_is_one_clear_error(hub_cache):
    with pytest.raises(StudyError) as caught:
        plain_texts("hub:nobody/nothing", EPISODES, 100)
    assert str(caught.value).startswith("lm_text: 'nobody/nothing' could not be read from the hub (")
    assert "\n" not in str(caught.value)


def test_a_text_file_that_is_not_utf_8_is_refused(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(StudyError, match=r"^lm_text: '.*latin\.txt' is not UTF-8 \(.* at byte 3\)"):
        plain_texts(str(file), EPISODES, 20)


def test_texts_of_tasks_are_without_the_cue_for_an_answer():
    assert not [text for text in plain_texts("inputs", EPISODES, 200) if "Answer" in text]
