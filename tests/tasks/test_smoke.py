"""The smoke profile's pairs, tasks and relations: what the readers need, in words that its tokenizer knows."""

from collections import Counter
from itertools import product

import pytest

from lib.models import random_models
from lib.tasks.few_shot import task_set
from lib.tasks.smoke import FACTS, PAIRS, RELATIONS, TASK_SPLIT, TASKS, TEXTS
from lib.tasks.task import Benchmark

BENCHMARKS = [Benchmark("crossfit", "embedded"), Benchmark("lama", "embedded", target_tasks=2)]


def all_queries(benchmark):
    found = task_set(benchmark, 0)
    return [query for task in (*found.training, *found.targets) for query in (*task.examples, *task.items)]


def test_each_task_stands_on_one_side_of_the_split():
    assert sorted(TASK_SPLIT["train"] + TASK_SPLIT["test"]) == sorted(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_each_answer_is_an_option_and_all_options_are_asked_for_equally_often_in_each_split(name):
    for split, count in (("train", 4), ("test", 2)):
        answers = Counter(row["output"] for row in TASKS[name] if row["split"] == split)
        assert answers == dict.fromkeys(TASKS[name][0]["options"], count)
    assert all(row["options"] == TASKS[name][0]["options"] for row in TASKS[name])


def test_no_word_is_asked_for_twice():
    words = [row["input"] for rows in TASKS.values() for row in rows]
    assert len(words) == len(set(words)) > 0


@pytest.mark.parametrize("name", RELATIONS)
def test_each_relation_has_distinct_facts_of_two_objects_or_more(name):
    assert FACTS.keys() == RELATIONS.keys()
    assert len(FACTS[name]) == len(set(FACTS[name]))
    assert all(len(fact) == 2 for fact in FACTS[name])
    assert len({answer for _, answer in FACTS[name]}) > 1


def test_one_relation_cannot_be_asked_from_left_to_right():
    assert [name for name, template in RELATIONS.items() if template.index("[Y]") < template.index("[X]")] == ["maker"]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_the_tokenizer_knows_every_word_of_every_answered_query(benchmark):
    for query in all_queries(benchmark):
        tokens = random_models.tokenizer().convert_ids_to_tokens(random_models.tokenizer()(query.answered)["input_ids"])
        assert "".join(tokens) == query.answered
        assert "<unk>" not in tokens


def test_the_tokenizer_is_made_of_texts_that_hold_every_row_and_fact():
    whole = "\n".join(TEXTS)
    assert all(f"{row['input']}\nAnswer: {row['output']}" in whole for rows in TASKS.values() for row in rows)
    assert all(word in TEXTS for facts in FACTS.values() for fact in facts for word in fact)


def test_there_are_options_of_one_token_and_of_more_and_tasks_of_more_than_two_options():
    queries = all_queries(BENCHMARKS[0])
    lengths = {
        len(random_models.tokenizer()(f" {option}")["input_ids"]) for query in queries for option in query.options
    }
    assert lengths == {1, 3}
    assert {len(query.options) for query in queries} == {2, 3}


@pytest.mark.parametrize(("dataset", "split"), list(product(PAIRS, ["train", "evaluation"])))
def test_pairs_are_balanced(dataset, split):
    labels = [example.label for example in PAIRS[dataset][split]]
    assert [labels.count(label) for label in range(2)] == [len(labels) / 2] * 2


def test_evaluation_pairs_share_no_sentence_with_the_training_pairs():
    train, evaluation = (
        {text for row in PAIRS["pairs"][split] for text in row[:2]} for split in ("train", "evaluation")
    )
    assert train.isdisjoint(evaluation)


def test_out_of_domain_pairs_share_no_sentence_with_those_in_domain():
    inside, outside = (
        {text for rows in PAIRS[name].values() for row in rows for text in row[:2]} for name in ("pairs", "swaps")
    )
    assert inside.isdisjoint(outside)
