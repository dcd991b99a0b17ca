"""Scores of the same answers after many prompts, against plain forward passes of each prompt with each answer."""

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from lib.models.answers import class_log_probs
from lib.tasks.prompts import EncodedPrompts

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
# Wide initial weights: a token or a position read wrongly must show in the scores.
FAMILIES = {
    "opt": (OPTForCausalLM, OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32, init_std=0.3)),
    "gpt-neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES, intermediate_size=64, initializer_range=0.3)),
    "llama": (
        LlamaForCausalLM,
        LlamaConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, initializer_range=0.3),
    ),
}
PREFIX = [7, 3, 3, 31, 12, 0, 1, 2]
PROMPTS = [[5, 9, 30, 2, 8], [17], [4, 4, 21, 6, 33, 12, 9, 0], [11, 3], [8, 19]]
SHARED_FIRST = [[11, 12], [11, 13, 14], [20], [20, 5]]
OWN_FIRST = [[11, 12], [20, 13, 14], [5]]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    kind, config = FAMILIES[request.param]
    torch.manual_seed(0)
    return kind(config).eval()


@torch.no_grad()
def in_full(model, prompt, answer):
    """The oracle: prompt and answer in one pass, alone, without a cache."""
    log_probs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(log_probs[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))


def all_in_full(model, prefix, answers):
    return torch.tensor([[in_full(model, prefix + prompt, answer) for answer in answers] for prompt in PROMPTS])


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("prefix", [[], PREFIX], ids=["no prefix", "long prefix"])
def test_answers_that_share_a_first_token_score_as_whole_sequences(model, prefix, batch_size):
    found = class_log_probs(model, EncodedPrompts(prefix, PROMPTS), SHARED_FIRST, batch_size)
    torch.testing.assert_close(found, all_in_full(model, prefix, SHARED_FIRST), rtol=0, atol=2e-5)


@pytest.mark.parametrize("prefix", [[], PREFIX], ids=["no prefix", "long prefix"])
def test_answers_of_different_first_tokens_are_scored_there(model, prefix):
    found = class_log_probs(model, EncodedPrompts(prefix, PROMPTS), OWN_FIRST, 2)
    expected = all_in_full(model, prefix, [answer[:1] for answer in OWN_FIRST])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_without_answers_the_whole_vocabulary_is_scored(model):
    found = class_log_probs(model, EncodedPrompts(PREFIX, PROMPTS), None, 2)
    expected = all_in_full(model, PREFIX, [[token] for token in range(SIZES["vocab_size"])])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("answers", [SHARED_FIRST, OWN_FIRST, None])
def test_scores_are_float32_without_gradient_in_the_order_of_prompts_and_not_renormalised(model, answers):
    forwards = class_log_probs(model, EncodedPrompts(PREFIX, PROMPTS), answers, 2)
    backwards = class_log_probs(model, EncodedPrompts(PREFIX, PROMPTS[::-1]), answers, 2)
    torch.testing.assert_close(backwards.flip(0), forwards, rtol=0, atol=2e-5)
    assert forwards.dtype == torch.float32
    assert not forwards.requires_grad
    assert forwards.exp().sum(1).max() < 0.99 or answers is None
