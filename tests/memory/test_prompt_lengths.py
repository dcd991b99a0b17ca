"""Lengths of prompts: those of real data are what the tokenizer says; typical ones have the shape of the data."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import OPTConfig

from lib.errors import StudyError
from lib.memory.prompt_lengths import Prefixed, largest_batch, real_lengths, typical_lengths
from lib.methods.context_distillation import answers_of, teacher_prompts
from lib.methods.encoder import PromptEncoder
from lib.methods.examples import evaluation_items, pool_by_domain, support_of
from lib.runs.profile import read_profile
from tests.support.own_data import TWO_TOKEN_WORDS, WORDS, things


def run_of(profile, method, size=4, **changes):
    (run,) = read_profile(profile, {"support_sizes": [size], "seeds": [0], **changes}).runs((method,))
    return run


def test_real_lengths_are_those_of_the_prompts():
    run = run_of("smoke", "cd")
    encoder, labelling = PromptEncoder(run.model), run.distillation.labelling
    lengths = real_lengths(run)
    assert lengths.support == tuple(len(encoder.ids(query)) for query in support_of(run))
    assert lengths.pool == tuple(len(encoder.ids(query)) for part in pool_by_domain(labelling) for query in part)
    (asked,) = teacher_prompts(labelling, PromptEncoder(labelling.teacher))
    assert lengths.teacher == (Prefixed(len(asked.prefix), tuple(map(len, asked.suffixes))),)
    items = [evaluation_items(run.task, domain) for domain in run.task.domains]
    assert [len(asked.suffixes) for asked in lengths.evaluation] == [len(rows) + 3 for rows in items]


@pytest.mark.parametrize(("words", "tokens"), [(WORDS, [1, 1, 1]), (TWO_TOKEN_WORDS, [2, 2, 2])])
def test_real_lengths_hold_the_tokens_of_the_label_words(tmp_path, words, tokens):
    run = run_of("smoke", "icl", size=3, **things(tmp_path, words))
    lengths = real_lengths(run)
    assert lengths.answers == tuple(map(tuple, answers_of(PromptEncoder(run.model), run.task)))
    assert list(map(len, lengths.answers)) == tokens
    assert len(lengths.evaluation) == 1


def test_typical_label_words_are_told_apart_by_one_token_each():
    assert sorted(map(len, set(typical_lengths(run_of("paper", "icl")).answers))) == [1, 1]


@pytest.mark.parametrize("method", ["baseline", "icl"])
def test_what_a_method_does_not_read_has_no_length(method):
    lengths = real_lengths(run_of("smoke", method))
    assert lengths.teacher == lengths.support == lengths.pool == ()
    assert (lengths.evaluation[0].prefix > 20) == (method == "icl")


def test_typical_support_sets_are_nested_and_contexts_grow():
    small, large = (typical_lengths(run_of("paper", "cd", size)) for size in (4, 12))
    assert large.support[:4] == small.support
    assert large.pool == small.pool
    assert large.teacher[0].prefix == 1 + sum(length - 1 + 3 for length in large.support) > small.teacher[0].prefix


def test_typical_lengths_have_the_spread_of_the_data():
    lengths = typical_lengths(run_of("paper", "icl"))
    mnli, hans = (np.array(asked.suffixes) for asked in lengths.evaluation)
    assert (len(mnli), len(hans)) == (6692, 10000)
    assert mnli.mean() == pytest.approx(45.4, abs=0.7)
    assert (mnli.max(), hans.max()) == (224, 27)


def test_a_seed_draws_other_lengths():
    run = run_of("paper", "pbft", 12)
    assert typical_lengths(run) == typical_lengths(run) != typical_lengths(replace(run, seed=1))


def test_a_dataset_without_shipped_lengths_is_refused():
    with pytest.raises(StudyError, match=r"'pairs' is not known.*mnli"):
        typical_lengths(run_of("smoke", "cd"))


def row(prefix, suffixes, batch_size, answers=((0,), (1,)), width=768):
    return largest_batch(OPTConfig(hidden_size=width), Prefixed(prefix, suffixes), answers, batch_size)


def test_the_largest_batch_is_the_one_with_the_most_tokens():
    assert row(9, (3, 9, 4, 1), 2) == Prefixed(9, (3, 9))
    assert row(50, (3, 9, 4, 1, 11), 4) == Prefixed(50, (3, 9, 4, 1))


def test_where_little_is_shared_the_largest_batch_is_the_one_that_pads_to_most():
    assert row(5, (3, 9, 4, 1), 2) == Prefixed(5, (4, 9))
    assert row(0, (1, 1, 1, 40), 3, None) == Prefixed(0, (40,))
    assert row(0, (1, 1, 1, 40), 3, ((0, 1), (0, 2))) == Prefixed(0, (40,))


def test_prompts_of_a_narrow_model_are_padded_since_attention_is_most_of_its_work():
    suffixes = (9, 3, 4, 4)
    assert row(50, suffixes, 3, width=16) == Prefixed(50, (9, 3, 4))
    assert row(50, suffixes, 3, width=2) == Prefixed(50, (3, 4, 4))


def test_a_row_has_no_more_prompts_than_it_has_room_for():
    assert row(2000, (1500, 1400, 1300, 1900), 4) == Prefixed(2000, (1300, 1900))
    assert row(2000, (1500, 1400, 1300, 700), 4, ((0, 1, 2), (0, 1, 3)) * 2) == Prefixed(2000, (1500, 1400))
