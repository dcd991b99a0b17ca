"""Accuracy over contexts: fresh balanced pairs, label words of each context's own, the same for the same seed."""

import pandas as pd
import pytest
import torch
from transformers import GPTNeoXForCausalLM

import lib.tiny.evaluation
from lib.tasks import world
from lib.tiny.evaluation import context_accuracies
from lib.tiny.models import config


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(config(16, 1, 2)).eval()


def test_one_row_for_each_size_context_and_dataset_and_the_same_again(model):
    found = context_accuracies(model, [0, 3], contexts=2, queries=4, seed=0)
    assert len(found) == 2 * 2 * len(world.DATASETS)
    assert found.accuracy.between(0, 1).all()
    pd.testing.assert_frame_equal(found, context_accuracies(model, [0, 3], contexts=2, queries=4, seed=0))


def test_pairs_are_balanced_from_the_evaluation_split_and_words_of_a_contexts_own(model, monkeypatch):
    seen = []
    original = lib.tiny.evaluation.prompt

    def spy(demonstrations, query):
        seen.append((tuple(demonstrations), query))
        return original(demonstrations, query)

    monkeypatch.setattr(lib.tiny.evaluation, "prompt", spy)
    context_accuracies(model, [4], contexts=3, queries=6, seed=1)
    assert len({query.options for _, query in seen}) == 3
    for demonstrations, query in seen:
        assert {shown.options for shown in demonstrations} == {query.options} and len(set(query.options)) == 2
        assert [shown.gold for shown in demonstrations].count(0) == 2
    assert sum(query.gold for _, query in seen) == len(seen) // 2


def test_a_model_that_answers_by_the_gold_label_scores_1_and_its_opposite_0(model, monkeypatch):
    original, asked = lib.tiny.evaluation.prompt, []

    def spy(demonstrations, query):
        asked.append(query.gold)
        return original(demonstrations, query)

    def oracle(sign):
        def answer(_, prompts, tokens, batch_size):
            gold = torch.tensor(asked[-len(prompts.suffixes) :])
            return sign * torch.nn.functional.one_hot(gold, 2).float()

        return answer

    monkeypatch.setattr(lib.tiny.evaluation, "prompt", spy)
    for sign, score in ((1, 1.0), (-1, 0.0)):
        monkeypatch.setattr(lib.tiny.evaluation, "class_log_probs", oracle(sign))
        assert set(context_accuracies(model, [0], 1, 4, seed=0).accuracy) == {score}
    assert set(asked) == {0, 1}
