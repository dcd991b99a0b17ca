"""Scores of answers with a cached prefix against plain forward passes of each prompt with each answer."""

import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import lib.models.cached_prompts
from lib.models.cached_prompts import cached_log_probs, read_prefix
from lib.models.configuration import cache_reaches
from lib.models.forward import last_logits, packed_logits, pad_right
from lib.models.scoring import answer_log_probs, class_log_probs, score_answers
from lib.tasks.prompts import EncodedPrompts

CPU = torch.device("cpu")
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
# Wide initial weights: a token or a position read wrongly must show in the scores.
GATED = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2, "initializer_range": 0.3}
FAMILIES = {
    "opt": (OPTForCausalLM, OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32, init_std=0.3)),
    "gpt-neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES, intermediate_size=64, initializer_range=0.3)),
    "llama": (LlamaForCausalLM, LlamaConfig(**GATED)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**GATED)),
}
# Answers of several tokens are scored from a cache, which of a sliding window keeps the window alone.
SLIDING = {"sliding window": (MistralForCausalLM, MistralConfig(**GATED, sliding_window=4))}
PREFIX = [7, 3, 3, 41, 12, 0, 1, 2, 55, 8, 19]
PROMPTS = [[5, 9, 30, 2, 8], [17], [4, 4, 21, 6, 33, 12, 9, 0], [11, 3], [8, 19], [38]]
ANSWERS = [
    [[11], [12, 13], [14, 15, 16]],
    [[20, 21, 22], [20, 21, 23], [5], [5, 5]],
    [[1], [2]],
    [[33, 2, 0], [9, 38]],
    [[0, 1], [1, 0, 0], [39]],
    [[6, 6], [6]],
]
SEVERAL_AND_SAME = [own + own[:1] + [[1, 2], [1, 2, 3, 4]] for own in ANSWERS]
SHARED_FIRST = [[11, 12], [11, 13, 14], [20], [20, 5]]
OWN_FIRST = [[11, 12], [20, 13, 14], [5]]
EVERY_TOKEN = [[token] for token in range(SIZES["vocab_size"])]
DRAW = torch.Generator().manual_seed(0)
MANY_PROMPTS = [torch.randint(0, 60, (length,), generator=DRAW).tolist() for length in (5, 1, 9, 2, 2, 7, 1)]

prefixes = pytest.mark.parametrize("prefix", [[], PREFIX[:1], PREFIX], ids=["no prefix", "one token", "long prefix"])
batch_sizes = pytest.mark.parametrize("batch_size", [1, 2, 16])


def made(family):
    kind, config = {**FAMILIES, **SLIDING}[family]
    torch.manual_seed(0)
    return kind(config)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return made(request.param).eval()


@pytest.fixture(scope="module", params=[*FAMILIES, *SLIDING])
def any_model(request):
    return made(request.param).eval()


@pytest.fixture
def opt():
    return made("opt")


def in_full(model, prompt, answer):
    """The oracle: prompt and answer in one pass, alone, without a cache."""
    log_probs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(log_probs[len(prompt) - 1 + i, token] for i, token in enumerate(answer))


def all_in_full(model, prefix=(), answers=ANSWERS):
    return [
        torch.stack([in_full(model, [*prefix, *prompt], answer) for answer in own])
        for prompt, own in zip(PROMPTS, answers, strict=True)
    ]


def next_logits(model, sequences):
    """The oracle of a next token: each sequence in full, alone, without a cache."""
    return torch.stack([model(torch.tensor([ids])).logits[0, -1] for ids in sequences])


def assert_rows_close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def assert_gradients_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().clamp_min(1).item())


@batch_sizes
@prefixes
def test_scores_equal_those_of_full_forward_passes(model, prefix, batch_size):
    found = score_answers(model, EncodedPrompts(prefix, PROMPTS), ANSWERS, batch_size)
    with torch.no_grad():
        assert_rows_close(found, all_in_full(model, prefix))


@batch_sizes
@prefixes
def test_without_answers_the_whole_vocabulary_is_scored(any_model, prefix, batch_size):
    found = class_log_probs(any_model, EncodedPrompts(prefix, MANY_PROMPTS), None, batch_size)
    with torch.no_grad():
        expected = next_logits(any_model, [prefix + prompt for prompt in MANY_PROMPTS]).log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@batch_sizes
def test_answers_of_one_token_have_the_scores_that_they_have_in_the_vocabulary(any_model, batch_size):
    prompts, tokens = EncodedPrompts(PREFIX, PROMPTS), [4, 38, 0]
    found = class_log_probs(any_model, prompts, [[token] for token in tokens], batch_size)
    assert torch.equal(found, class_log_probs(any_model, prompts, None, batch_size)[:, tokens])


@batch_sizes
@prefixes
def test_classes_that_share_a_first_token_are_scored_as_whole_answers(model, prefix, batch_size):
    found = class_log_probs(model, EncodedPrompts(prefix, PROMPTS), SHARED_FIRST, batch_size)
    with torch.no_grad():
        assert_rows_close(found, all_in_full(model, prefix, [SHARED_FIRST] * len(PROMPTS)))


@prefixes
def test_classes_of_different_first_tokens_are_scored_there(model, prefix):
    found = class_log_probs(model, EncodedPrompts(prefix, PROMPTS), OWN_FIRST, 2)
    with torch.no_grad():
        assert_rows_close(found, all_in_full(model, prefix, [[answer[:1] for answer in OWN_FIRST]] * len(PROMPTS)))


@pytest.mark.parametrize("answers", [SHARED_FIRST, OWN_FIRST, None])
def test_scores_of_classes_are_float32_without_gradient_and_not_renormalised(model, answers):
    scores = class_log_probs(model, EncodedPrompts(PREFIX, PROMPTS), answers, 2)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    assert scores.exp().sum(1).max() < 0.99 or answers is None


def test_prompts_and_answers_tell_the_scores_apart(model):
    scores = torch.cat(score_answers(model, EncodedPrompts(PREFIX, PROMPTS), ANSWERS, 3))
    assert torch.pdist(scores[:, None]).min() > 1e-3


def test_prompts_tell_next_tokens_apart(any_model):
    assert torch.pdist(class_log_probs(any_model, EncodedPrompts(PREFIX, MANY_PROMPTS), None, 3)).min() > 0.1


ROOM = pytest.mark.parametrize("room", [1, 40, 150])


@ROOM
@pytest.mark.parametrize("answers", [ANSWERS, SEVERAL_AND_SAME])
def test_how_much_a_row_holds_does_not_matter(model, room, answers, monkeypatch):
    whole = score_answers(model, EncodedPrompts(PREFIX, PROMPTS), answers, 16)
    monkeypatch.setattr(lib.models.cached_prompts, "ROW", room)
    assert_rows_close(score_answers(model, EncodedPrompts(PREFIX, PROMPTS), answers, 16), whole)


def test_an_answer_is_as_likely_as_all_of_its_continuations_together(model):
    answers = [[[first], *([first, *token] for token in EVERY_TOKEN)] for first in (3, 17)]
    for row in score_answers(model, EncodedPrompts(PREFIX, PROMPTS[:2]), answers, 2):
        torch.testing.assert_close(row[1:].logsumexp(0), row[0], rtol=0, atol=2e-5)


def test_scores_keep_the_order_of_prompts_and_of_answers(model):
    forwards = score_answers(model, EncodedPrompts(PREFIX, PROMPTS), ANSWERS, 2)
    turned = [own[::-1] for own in ANSWERS[::-1]]
    backwards = score_answers(model, EncodedPrompts(PREFIX, PROMPTS[::-1]), turned, 2)
    assert_rows_close([row.flip(0) for row in backwards[::-1]], forwards)


@pytest.mark.parametrize("answers", [ANSWERS, None])
def test_where_a_prompt_is_split_does_not_matter(model, answers):
    at_end = score_answers(model, EncodedPrompts(PREFIX, PROMPTS), answers, 3)
    earlier = EncodedPrompts(PREFIX[:3], [PREFIX[3:] + prompt for prompt in PROMPTS])
    assert_rows_close(score_answers(model, earlier, answers, 3), at_end)


def test_normalised_scores_are_means_over_an_answers_tokens(model):
    prompts = EncodedPrompts(PREFIX, PROMPTS)
    plain, normalised = (score_answers(model, prompts, ANSWERS, 2, by_length) for by_length in (False, True))
    lengths = [torch.tensor([float(len(answer)) for answer in own]) for own in ANSWERS]
    assert_rows_close(normalised, [row / length for row, length in zip(plain, lengths, strict=True)])
    assert not torch.allclose(torch.cat(normalised), torch.cat(plain))


def test_a_prefix_is_lent_and_stays_as_it_was(model):
    with torch.no_grad():
        prefix = read_prefix(model, PREFIX)
        before = [layer.keys.clone() for layer in prefix.layers]
        for _ in range(2):
            assert_rows_close(list(cached_log_probs(model, PROMPTS, ANSWERS, 4, prefix)), all_in_full(model, PREFIX))
    assert all(torch.equal(layer.keys, kept) for layer, kept in zip(prefix.layers, before, strict=True))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_no_copy_of_a_prefix_is_made_for_each_prompt(opt, batch_size, monkeypatch):
    seen, update = [], lib.models.cached_prompts.LentLayer.update
    score_answers(opt, EncodedPrompts(PREFIX, PROMPTS), ANSWERS, batch_size)  # tries the model

    def watch(layer, keys, values, *rest, **named):
        joined = update(layer, keys, values, *rest, **named)
        seen.append(len(joined[0]))
        return joined

    monkeypatch.setattr(lib.models.cached_prompts.LentLayer, "update", watch)
    score_answers(opt, EncodedPrompts(PREFIX, PROMPTS), ANSWERS, batch_size)
    assert {*seen} == {1}


@pytest.mark.parametrize("answers", [ANSWERS, [[answer[:1] for answer in own] for own in ANSWERS]])
def test_the_gradient_is_that_of_plain_forward_passes(model, answers):
    parameters = list(model.parameters())
    weights = torch.randn(sum(map(len, answers)), generator=torch.Generator().manual_seed(0))
    found, expected = (
        torch.autograd.grad((torch.cat(rows) * weights).sum(), parameters)
        for rows in (answer_log_probs(model, PROMPTS, answers), all_in_full(model, answers=answers))
    )
    assert_gradients_close(found, expected)


def test_the_gradient_is_the_same_however_much_a_row_holds(opt, monkeypatch):
    gradients = []
    for room in (4096, 40):
        monkeypatch.setattr(lib.models.cached_prompts, "ROW", room)
        loss = torch.cat(answer_log_probs(opt.eval(), PROMPTS, ANSWERS)).logsumexp(0)
        gradients.append(torch.autograd.grad(loss, list(opt.parameters())))
    assert_gradients_close(*gradients)


@pytest.mark.parametrize("answers", [ANSWERS, None])
def test_scoring_keeps_no_gradient_and_switches_dropout_off(opt, answers):
    opt.train()
    assert opt.config.dropout > 0
    prompts = EncodedPrompts(PREFIX, PROMPTS)
    first, second = (torch.cat(score_answers(opt, prompts, answers, 2)) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad


@pytest.mark.parametrize("answers", [[EVERY_TOKEN], None])
def test_a_bfloat16_models_scores_are_normalised_in_float32(opt, answers):
    (row,) = score_answers(opt.bfloat16(), EncodedPrompts(PREFIX, PROMPTS[:1]), answers, 1)
    assert row.dtype == torch.float32
    torch.testing.assert_close(row.exp().sum(), torch.tensor(1.0))


def test_a_bfloat16_models_further_tokens_are_normalised_in_float32(opt):
    answers = [[[3], *([3, *token] for token in EVERY_TOKEN)]]
    (row,) = score_answers(opt.bfloat16(), EncodedPrompts(PREFIX, PROMPTS[:1]), answers, 1)
    torch.testing.assert_close(row[1:].logsumexp(0), row[0], rtol=0, atol=2e-5)


def test_prompts_without_answers_of_their_own_are_refused(opt):
    with pytest.raises(ValueError, match="zip"):
        answer_log_probs(opt, PROMPTS, ANSWERS[:-1])


READINGS = pytest.mark.parametrize("read", [last_logits, packed_logits])


def within_window(model, read):
    """A row's mask knows no window, so what lies in a row is no longer."""
    reach = min(cache_reaches(model.config), 100) if read is packed_logits else 100
    return [prompt[:reach] for prompt in MANY_PROMPTS]


@READINGS
@pytest.mark.parametrize("columns", [None, [9, 2, 30]])
@pytest.mark.parametrize("every_position", [False, True])
def test_last_logits_are_those_after_each_sequences_own_last_token(any_model, read, columns, every_position):
    prompts = within_window(any_model, read)
    with torch.no_grad():
        expected = next_logits(any_model, prompts)
        found = read(any_model, prompts, columns=columns, every_position=every_position)
    torch.testing.assert_close(found, expected if columns is None else expected[:, columns], rtol=0, atol=1e-5)


@READINGS
def test_last_logits_have_the_gradient_of_plain_forward_passes(any_model, read):
    parameters = list(any_model.parameters())
    weights = torch.randn(3, SIZES["vocab_size"], generator=torch.Generator().manual_seed(0))
    sequences = within_window(any_model, read)[:3]
    found, expected = (
        torch.autograd.grad((logits * weights).sum(), parameters)
        for logits in (read(any_model, sequences), next_logits(any_model, sequences))
    )
    assert_gradients_close(found, expected)


def test_pad_right_fills_up_to_the_longest_and_masks_the_rest():
    ids, mask = pad_right([[5, 6], [7], [8, 9, 10]], CPU)
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)] == [[5, 6], [7], [8, 9, 10]]


def test_pad_right_of_equal_lengths_pads_nothing():
    ids, mask = pad_right([[5, 6], [7, 8]], CPU)
    assert ids.tolist() == [[5, 6], [7, 8]]
    assert mask.all()
