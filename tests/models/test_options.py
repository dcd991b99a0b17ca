"""Log-probabilities of whole options against plain forward passes of each prompt with each option."""

import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import lib.models.options
from lib.models.options import by_length, option_log_probs, score_options
from lib.models.scoring import next_token_log_probs, one_each, read_prefix
from lib.tasks.prompts import EncodedPrompts

SIZES = {
    "vocab_size": 40,
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
PREFIX = [7, 3, 3, 31, 12, 0, 1, 2]
PROMPTS = [[5, 9, 30, 2, 8], [17], [4, 4, 21, 6, 33, 12, 9, 0], [11, 3], [8, 19]]
OPTIONS = [
    [[11], [12, 13], [14, 15, 16]],
    [[20, 21, 22], [20, 21, 23], [5], [5, 5]],
    [[1], [2]],
    [[33, 2, 0], [9, 38]],
    [[0, 1], [1, 0, 0], [39]],
]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    kind, config = FAMILIES[request.param]
    torch.manual_seed(0)
    return kind(config).eval()


@pytest.fixture
def opt():
    kind, config = FAMILIES["opt"]
    torch.manual_seed(0)
    return kind(config)


def in_full(model, prompt, option):
    """The oracle: prompt and option in one pass, alone, without a cache."""
    log_probs = model(torch.tensor([prompt + option])).logits[0].log_softmax(-1)
    return sum(log_probs[len(prompt) - 1 + i, token] for i, token in enumerate(option))


def all_in_full(model, prefix=()):
    return [
        torch.stack([in_full(model, [*prefix, *prompt], option) for option in options])
        for prompt, options in zip(PROMPTS, OPTIONS, strict=True)
    ]


def assert_rows_close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("prefix", [[], PREFIX[:1], PREFIX], ids=["no prefix", "one token", "long prefix"])
def test_scores_equal_those_of_full_forward_passes(model, prefix, batch_size):
    found = score_options(model, EncodedPrompts(prefix, PROMPTS), OPTIONS, batch_size)
    with torch.no_grad():
        assert_rows_close(found, all_in_full(model, prefix))


def test_prompts_and_options_tell_the_scores_apart(model):
    scores = torch.cat(score_options(model, EncodedPrompts(PREFIX, PROMPTS), OPTIONS, 3))
    assert torch.pdist(scores[:, None]).min() > 1e-3


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_how_many_options_are_read_on_at_a_time_does_not_matter(model, rows, monkeypatch):
    whole = score_options(model, EncodedPrompts(PREFIX, PROMPTS), OPTIONS, 16)
    monkeypatch.setattr(lib.models.options, "ROWS", rows)
    assert_rows_close(score_options(model, EncodedPrompts(PREFIX, PROMPTS), OPTIONS, 16), whole)


def test_an_option_is_as_likely_as_all_of_its_continuations_together(model):
    firsts, vocabulary = [3, 17], range(SIZES["vocab_size"])
    options = [[[first], *([first, token] for token in vocabulary)] for first in firsts]
    for row in score_options(model, EncodedPrompts(PREFIX, [PROMPTS[0], PROMPTS[1]]), options, 2):
        torch.testing.assert_close(row[1:].logsumexp(0), row[0], rtol=0, atol=2e-5)


def test_options_of_one_token_score_as_next_tokens(model):
    prompts, tokens = EncodedPrompts(PREFIX, PROMPTS), [4, 38, 0]
    found = score_options(model, prompts, [[[token] for token in tokens]] * len(PROMPTS), 3)
    torch.testing.assert_close(torch.stack(found), next_token_log_probs(model, prompts, tokens, 3), rtol=0, atol=2e-5)


def test_scores_keep_the_order_of_prompts_and_of_options(model):
    forwards = score_options(model, EncodedPrompts(PREFIX, PROMPTS), OPTIONS, 2)
    turned = [options[::-1] for options in OPTIONS[::-1]]
    backwards = score_options(model, EncodedPrompts(PREFIX, PROMPTS[::-1]), turned, 2)
    assert_rows_close([row.flip(0) for row in backwards[::-1]], forwards)


def test_where_a_prompt_is_split_does_not_matter(model):
    at_end = score_options(model, EncodedPrompts(PREFIX, PROMPTS), OPTIONS, 3)
    earlier = EncodedPrompts(PREFIX[:3], [PREFIX[3:] + prompt for prompt in PROMPTS])
    assert_rows_close(score_options(model, earlier, OPTIONS, 3), at_end)


def test_normalised_scores_are_means_over_an_options_tokens(model):
    prompts = EncodedPrompts(PREFIX, PROMPTS)
    plain, length_normalized = (
        score_options(model, prompts, OPTIONS, 2, length_normalized) for length_normalized in (False, True)
    )
    lengths = [torch.tensor([float(len(option)) for option in options]) for options in OPTIONS]
    assert_rows_close(length_normalized, [row / length for row, length in zip(plain, lengths, strict=True)])
    assert not torch.allclose(torch.cat(length_normalized), torch.cat(plain))


def test_by_length_divides_each_score_by_its_own_options_length():
    assert by_length(torch.tensor([-3.0, -4.0, -9.0]), [[7], [7, 7], [7, 8, 9]]).tolist() == [-3.0, -2.0, -3.0]


def test_log_probabilities_extend_a_prefix_of_the_callers(model):
    with torch.no_grad():
        shared = one_each(read_prefix(model, PREFIX), len(PROMPTS))
        assert_rows_close(option_log_probs(model, PROMPTS, OPTIONS, shared), all_in_full(model, PREFIX))


def test_the_gradient_is_that_of_plain_forward_passes(model):
    parameters = list(model.parameters())
    weights = torch.randn(sum(map(len, OPTIONS)), generator=torch.Generator().manual_seed(0))
    found, expected = (
        torch.autograd.grad((torch.cat(rows) * weights).sum(), parameters)
        for rows in (option_log_probs(model, PROMPTS, OPTIONS), all_in_full(model))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().clamp_min(1).item())


def test_the_gradient_is_the_same_however_many_options_are_read_on_at_a_time(opt, monkeypatch):
    gradients = []
    for rows in (256, 2):
        monkeypatch.setattr(lib.models.options, "ROWS", rows)
        loss = torch.cat(option_log_probs(opt.eval(), PROMPTS, OPTIONS)).logsumexp(0)
        gradients.append(torch.autograd.grad(loss, list(opt.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_scoring_keeps_no_gradient_and_switches_dropout_off(opt):
    opt.train()
    assert opt.config.dropout > 0
    prompts = EncodedPrompts(PREFIX, PROMPTS)
    first, second = (torch.cat(score_options(opt, prompts, OPTIONS, 2)) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_a_bfloat16_models_scores_are_normalised_in_float32(opt):
    options = [[[token] for token in range(SIZES["vocab_size"])]]
    (row,) = score_options(opt.bfloat16(), EncodedPrompts(PREFIX, PROMPTS[:1]), options, 1)
    assert row.dtype == torch.float32
    torch.testing.assert_close(row.exp().sum(), torch.tensor(1.0))


def test_a_bfloat16_models_further_tokens_are_normalised_in_float32(opt):
    options = [[[3], *([3, token] for token in range(SIZES["vocab_size"]))]]
    (row,) = score_options(opt.bfloat16(), EncodedPrompts(PREFIX, PROMPTS[:1]), options, 1)
    torch.testing.assert_close(row[1:].logsumexp(0), row[0], rtol=0, atol=2e-5)


def test_prompts_without_options_of_their_own_are_refused(opt):
    with pytest.raises(ValueError, match="zip"):
        option_log_probs(opt, PROMPTS, OPTIONS[:-1])
