"""The smoke profile's tokenizer and random models."""

from itertools import product

import pytest
import torch

from lib.models import random_models
from lib.tasks import smoke
from lib.tasks.patterns import CONTENT_FREE_TEXTS, LABEL_WORDS, PATTERNS, fill
from lib.tasks.prompts import prompt
from lib.tasks.task import Query
from lib.tasks.world import SentencePair

ALL_PAIRS = [example for splits in smoke.PAIRS.values() for rows in splits.values() for example in rows]


@pytest.mark.parametrize("name", random_models.WIDTHS)
def test_a_random_model_is_the_same_each_time(name):
    first, second = (random_models.model(name).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_making_a_model_leaves_the_random_state_alone():
    torch.manual_seed(99)
    before = torch.get_rng_state()
    random_models.model("random-opt-student")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_state_before_does_not_change_a_model():
    first = random_models.model("random-opt-student").state_dict()
    torch.manual_seed(99)
    assert torch.equal(
        first["lm_head.weight"], random_models.model("random-opt-student").state_dict()["lm_head.weight"]
    )


def test_the_teacher_is_larger_than_the_student():
    teacher, student = (
        random_models.model(name).num_parameters() for name in ("random-opt-teacher", "random-opt-student")
    )
    assert teacher > student


def test_both_models_read_every_token_of_the_tokenizer():
    assert all(random_models.config(name).vocab_size == len(random_models.tokenizer()) for name in random_models.WIDTHS)


def query_of(pair, pattern):
    return Query(fill(PATTERNS[pattern], pair._asdict()), LABEL_WORDS[pattern], pair.label)


ASKED = [*ALL_PAIRS, *(SentencePair(text, text, 0) for text in CONTENT_FREE_TEXTS)]


@pytest.mark.parametrize(("pattern", "pair"), list(product(PATTERNS, ASKED)))
def test_tokenizer_keeps_every_prompt_whole(pattern, pair):
    query = query_of(pair, pattern)
    text = prompt([query_of(shown, pattern) for shown in ALL_PAIRS], query) + f" {query.options[query.gold]}"
    tokens = random_models.tokenizer().convert_ids_to_tokens(random_models.tokenizer()(text)["input_ids"])
    assert "".join(tokens) == text
    assert "<unk>" not in tokens
