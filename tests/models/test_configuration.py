"""What configurations say of how far a model reads, and from where on it reads otherwise."""

import math

import pytest
from transformers import (
    BartConfig,
    BertConfig,
    DbrxConfig,
    FalconConfig,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OpenAIGPTConfig,
    T5Config,
    XLMConfig,
)

from lib.errors import StudyError
from lib.models.configuration import cache_reaches, context_length, other_switches, position_switch, require_causal
from tests.support.architectures import ARCHITECTURES, POSITIONS, configuration

UNLIMITED = {"bloom", "falcon, alibi", "falcon mamba", "mamba", "mamba2", "mpt", "recurrent gemma", "rwkv"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_context_is_as_long_as_the_positions_and_endless_without_any(name):
    assert context_length(configuration(name)) == (math.inf if name in UNLIMITED else POSITIONS)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (GPT2Config(n_positions=33), 33),
        (OpenAIGPTConfig(n_positions=33), 33),
        (DbrxConfig(max_seq_len=33), 33),
        (Gemma3Config(text_config={"max_position_embeddings": 33}), 33),
        (MambaConfig(seq_length=33), 33),
        (MambaConfig(n_ctx=33), 33),
        (FalconConfig(max_position_embeddings=33), 33),
        (FalconConfig(max_position_embeddings=33, alibi=True), math.inf),
        (MistralConfig(max_position_embeddings=77, sliding_window=20), 77),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_a_context_is_read_off_whatever_its_name(config, length):
    assert context_length(config) == length


@pytest.mark.parametrize(
    ("config", "reach"),
    [
        (LlamaConfig(), math.inf),
        (MistralConfig(sliding_window=None), math.inf),
        (MistralConfig(sliding_window=20), 19),
        (Gemma3Config(text_config={"sliding_window": 20}), 19),
        (configuration("llama, yarn"), math.inf),
        (configuration("phi3, longrope"), 24),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_a_cache_reaches_to_the_end_of_a_window_or_to_a_switch_of_positions(config, reach):
    assert cache_reaches(config) == reach


def test_positions_that_do_not_depend_on_the_length_have_no_switch():
    assert position_switch(configuration("llama, yarn")) == position_switch(configuration("llama")) == math.inf
    assert position_switch(configuration("phi3, longrope")) == 24


def test_other_lengths_from_which_a_model_may_attend_otherwise_are_found_by_their_names():
    assert other_switches(configuration("gpt neo")) == [8]
    assert other_switches(configuration("llama")) == []
    assert other_switches(configuration("qwen2")) == []


@pytest.mark.parametrize(
    "config", [BertConfig(), XLMConfig(), BartConfig(), T5Config()], ids=lambda one: one.model_type
)
def test_a_model_that_does_not_read_from_left_to_right_is_refused(config):
    with pytest.raises(StudyError, match=rf"^model: 'some/model' is .*\({config.model_type}\)\. Allowed: "):
        require_causal("some/model", config)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_causal_models_pass(name):
    require_causal(name, configuration(name))


def test_an_encoder_that_is_configured_to_decode_passes():
    require_causal("some/model", BertConfig(is_decoder=True))
