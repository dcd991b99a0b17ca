"""Scores with a cached prefix against plain forward passes, one prompt at a time."""

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

from lib.models.scoring import last_logits, next_token_log_probs, packed_logits, pad_right
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
FAMILIES = {
    "opt": (OPTForCausalLM, OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32, init_std=0.3)),
    "llama": (
        LlamaForCausalLM,
        LlamaConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, initializer_range=0.3),
    ),
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config(**SIZES, intermediate_size=64, num_key_value_heads=2, initializer_range=0.3),
    ),
    "sliding window": (
        MistralForCausalLM,
        MistralConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, initializer_range=0.3, sliding_window=4),
    ),
    "gpt-neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES, intermediate_size=64, initializer_range=0.3)),
}
LENGTHS = [5, 1, 9, 2, 2, 7, 1]
PREFIX = [7, 3, 3, 41, 12, 0, 1, 2, 55, 8, 19]


def draw_ids(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 60, (length,), generator=generator).tolist() for length in lengths]


def in_full(model, ids):
    """The oracle: the whole prompt, alone, without a cache; the last position of all logits."""
    return model(torch.tensor([ids])).logits[0, -1]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    kind, config = FAMILIES[request.param]
    torch.manual_seed(0)
    return kind(config).eval()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
@pytest.mark.parametrize("prefix", [[], PREFIX[:1], PREFIX], ids=["no prefix", "one token", "long prefix"])
def test_cached_scores_equal_full_forward_scores(model, prefix, batch_size):
    suffixes = draw_ids(LENGTHS)
    found = next_token_log_probs(model, EncodedPrompts(prefix, suffixes), None, batch_size)
    with torch.no_grad():
        expected = torch.stack([in_full(model, prefix + suffix).log_softmax(-1) for suffix in suffixes])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_prompts_tell_the_scores_apart(model):
    scores = next_token_log_probs(model, EncodedPrompts(PREFIX, draw_ids(LENGTHS)), None, 3)
    assert torch.pdist(scores).min() > 0.1


def test_scores_keep_the_order_of_the_prompts(model):
    suffixes = draw_ids(LENGTHS)
    backwards = next_token_log_probs(model, EncodedPrompts(PREFIX, suffixes[::-1]), None, 3).flip(0)
    forwards = next_token_log_probs(model, EncodedPrompts(PREFIX, suffixes), None, 3)
    torch.testing.assert_close(backwards, forwards, rtol=0, atol=1e-5)


def test_where_a_prompt_is_split_does_not_matter(model):
    suffixes = draw_ids(LENGTHS)
    at_end = next_token_log_probs(model, EncodedPrompts(PREFIX, suffixes), None, 4)
    earlier = next_token_log_probs(model, EncodedPrompts(PREFIX[:4], [PREFIX[4:] + s for s in suffixes]), None, 4)
    torch.testing.assert_close(earlier, at_end, rtol=0, atol=1e-5)


def test_columns_are_kept_in_their_order_and_not_renormalised(model):
    prompts = EncodedPrompts(PREFIX, draw_ids(LENGTHS))
    whole = next_token_log_probs(model, prompts, None, 3)
    assert torch.equal(next_token_log_probs(model, prompts, [9, 2, 40], 3), whole[:, [9, 2, 40]])
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(len(LENGTHS)))


def test_scores_are_float32_without_gradient_even_from_a_bfloat16_model():
    kind, config = FAMILIES["opt"]
    torch.manual_seed(0)
    model = kind(config).bfloat16()
    scores = next_token_log_probs(model, EncodedPrompts(PREFIX, draw_ids(LENGTHS)), None, 3)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(len(LENGTHS)))


def test_scoring_switches_dropout_off():
    kind, config = FAMILIES["opt"]
    model = kind(config).train()
    assert model.config.dropout > 0
    prompts = EncodedPrompts(PREFIX, draw_ids(LENGTHS))
    assert torch.equal(next_token_log_probs(model, prompts, None, 3), next_token_log_probs(model, prompts, None, 3))


READINGS = pytest.mark.parametrize("read", [last_logits, packed_logits])


@READINGS
def test_last_logits_are_those_after_each_sequences_own_last_token(model, read):
    sequences = draw_ids(LENGTHS)
    with torch.no_grad():
        expected = torch.stack([in_full(model, ids) for ids in sequences])
        torch.testing.assert_close(read(model, sequences), expected, rtol=0, atol=1e-5)


@READINGS
def test_last_logits_have_the_gradient_of_plain_forward_passes(model, read):
    sequences = draw_ids([4, 1, 6])
    parameters = list(model.parameters())
    weights = torch.randn(3, 60, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((read(model, sequences) * weights).sum(), parameters)
    plain = torch.stack([in_full(model, ids) for ids in sequences])
    expected = torch.autograd.grad((plain * weights).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().clamp_min(1).item())


def test_pad_right_fills_up_to_the_longest_and_masks_the_rest():
    ids, mask = pad_right([[5, 6], [7], [8, 9, 10]], CPU)
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)] == [[5, 6], [7], [8, 9, 10]]


def test_pad_right_of_equal_lengths_pads_nothing():
    ids, mask = pad_right([[5, 6], [7, 8]], CPU)
    assert ids.tolist() == [[5, 6], [7, 8]]
    assert mask.all()
