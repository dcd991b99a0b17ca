"""Curricula: what a batch holds, what each token may attend to, and that stages only ever add difficulty."""

import random
from dataclasses import replace
from itertools import pairwise

import torch
from transformers import GPTNeoXForCausalLM

from lib.tasks import world
from lib.tasks.patterns import PATTERNS, fill
from lib.tasks.prompts import prompt
from lib.tasks.task import Query
from lib.tiny.curriculum import Stage, draw_batch, growing_world, lengthening, lowering_walls, walled_attention
from lib.tiny.models import VERDICTS, config, tokenizer

CONTEXTS = Stage("contexts", 2, pairs=(5,), drawn_words=1.0, tokens=600)


def batch(stage=CONTEXTS, seed=0):
    return draw_batch(random.Random(seed), stage)


def words(ids):
    return tokenizer().convert_ids_to_tokens(ids)


def test_a_context_reads_as_the_studys_prompt_with_its_last_label_word():
    drawn = batch(replace(CONTEXTS, pairs=(2,)), seed=3)
    first, second = drawn.words[0, 0].tolist()
    label_words = tuple(words([first, second]))
    starts = [0, drawn.answers[0, 0].item() + 3]
    queries = []
    for start, end in zip(starts, drawn.answers[0].tolist(), strict=True):
        premise, hypothesis = " ".join(words(drawn.ids[0, start:end].tolist())).rstrip(" .").split(" . ")
        text = fill(PATTERNS["minimal"], {"premise": f"{premise}.", "hypothesis": f"{hypothesis}."})
        queries.append(Query(text, label_words, drawn.labels[0, len(queries)].item()))
    text = prompt(queries[:1], queries[1])
    assert tokenizer()(text)["input_ids"] == drawn.ids[0, : drawn.answers[0, 1] + 1].tolist()


def test_the_word_after_each_answer_position_is_the_gold_label_word():
    drawn = batch()
    gold = drawn.words.gather(2, drawn.labels[:, :, None])[:, :, 0]
    assert torch.equal(drawn.ids.gather(1, drawn.answers + 1), gold)


def test_label_words_are_drawn_for_each_context_and_verdicts_answer_where_they_are_not():
    drawn = batch(replace(CONTEXTS, tokens=4000))
    assert len({tuple(pair) for pair in drawn.words[:, 0].tolist()}) > 10
    fixed = batch(replace(CONTEXTS, drawn_words=0.0))
    assert {tuple(words(pair)) for pair in fixed.words[:, 0].tolist()} == {VERDICTS}


def test_no_chance_but_the_given():
    one, same, other = batch(seed=1), batch(seed=1), batch(seed=2)
    assert torch.equal(one.ids, same.ids)
    assert one.ids.shape != other.ids.shape or not torch.equal(one.ids, other.ids)


def test_half_of_the_pairs_are_hard_and_a_hard_hypothesis_has_no_word_that_its_premise_lacks():
    drawn = batch(replace(CONTEXTS, pairs=(1,), tokens=4000, drawn_words=0.0))
    assert 0.3 < drawn.hard.float().mean() < 0.7
    for ids, is_hard, end in zip(
        drawn.ids.tolist(), drawn.hard[:, 0].tolist(), drawn.answers[:, 0].tolist(), strict=True
    ):
        premise, hypothesis = " ".join(words(ids[:end])).rstrip(" .").split(" . ")
        assert not is_hard or set(hypothesis.split()) <= set(premise.split())


def test_told_pairs_are_their_verdict_and_nothing_else():
    drawn = batch(replace(CONTEXTS, told=1.0, tokens=4000))
    said = [words(row.tolist()) for row in drawn.ids]
    told = [tokens for tokens in said if tokens[0] in VERDICTS]
    assert 0.2 < len(told) / len(said) < 0.8
    for tokens, labels in zip(said, drawn.labels.tolist(), strict=True):
        if tokens[0] in VERDICTS:
            assert [token for token in tokens if token in VERDICTS] == [VERDICTS[label] for label in labels]


def test_a_wall_stands_between_pairs_but_not_before_label_words():
    pair_of, labels = torch.tensor([[0, 0, 0, 1, 1, 1]]), torch.tensor([[1, 4]])
    low = torch.finfo(torch.float32).min
    expected = [
        [0, low, low, low, low, low],
        [0, 0, low, low, low, low],
        [0, 0, 0, low, low, low],
        [-7, 0, -7, 0, low, low],
        [-7, 0, -7, 0, 0, low],
        [-7, 0, -7, 0, 0, 0],
    ]
    assert walled_attention(pair_of, labels, 7.0)[0, 0].tolist() == expected


def test_no_wall_is_the_plain_causal_mask_of_the_model():
    model = GPTNeoXForCausalLM(config(16, 2, 2)).eval()
    drawn = batch()
    walled = model(drawn.ids, attention_mask=drawn.attention).logits
    torch.testing.assert_close(walled, model(drawn.ids).logits)


def test_behind_a_high_wall_a_pair_is_read_as_if_it_were_alone_where_positions_allow():
    model = GPTNeoXForCausalLM(config(16, 1, 2)).eval()  # one layer: label words pass nothing on
    drawn = batch(replace(CONTEXTS, wall=1e4, pairs=(2,)))
    whole = model.base_model(drawn.ids, attention_mask=drawn.attention).last_hidden_state
    start, end = drawn.answers[0, 0].item() + 3, drawn.answers[0, 1].item() + 1
    changed = drawn.ids.clone()
    changed[0, 0] = tokenizer().convert_tokens_to_ids("writer")
    other = model.base_model(changed, attention_mask=drawn.attention).last_hidden_state
    torch.testing.assert_close(other[0, start:end], whole[0, start:end])
    assert not torch.allclose(other[0, : start - 3], whole[0, : start - 3])


def test_curricula_only_ever_add_difficulty():
    stages = [*growing_world(2), *lowering_walls(3), *lengthening(3, 10)]
    scopes = [(stage.scope.people, stage.scope.decoration, stage.scope.contrasts) for stage in stages]
    assert all(all(a <= b for a, b in zip(one, two, strict=True)) for one, two in pairwise(scopes))
    assert scopes[-1] == (len(world.PEOPLE), 1.0, len(world.OVERLAP))
    walls = [stage.wall for stage in stages if stage.drawn_words]
    assert walls == sorted(walls, reverse=True) and walls[-1] == 0.0
    assert [max(stage.pairs) for stage in stages] == sorted(max(stage.pairs) for stage in stages)
