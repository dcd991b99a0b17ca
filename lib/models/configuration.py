"""What a model's configuration says of how it reads: whether left to right, how far, and where it begins to differ."""

import math
import re
from collections.abc import Iterator
from typing import Any

from transformers import DynamicCache, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from lib.errors import StudyError

# Names under which families keep the number of their positions.
POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "max_seq_length",
    "seq_length",
    "n_ctx",
)
# Families that read on beyond the length that they name: by linear biases, by a recurrent state.
ENDLESS = {"bloom", "rwkv"}
# Rotary positions that do not depend on a text's length, as long as it is within the context.
ROTATED_ALIKE = {"default", "linear", "dynamic", "llama3", "yarn", "proportional"}
# Whole numbers that may be a length in tokens from which a model attends otherwise.
SWITCH = re.compile(r"window|chunk|topk|local_attention|block_size")


def text_part(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of the language model, which those of images and text hold as a part."""
    return config.get_text_config(decoder=True)


def context_length(config: PretrainedConfig) -> float:
    """Tokens that a model can read; infinite where nothing limits them: linear biases (ALiBi), recurrent states."""
    text = text_part(config)
    if _alibi(text) or text.model_type in ENDLESS:
        return math.inf
    return next((number for name in POSITIONS if (number := getattr(text, name, None))), math.inf)


def packs(config: PretrainedConfig) -> bool:
    """Whether a model may be told each token's position, so that several prompts can be laid end to end in one row."""
    return context_length(config) < math.inf


def _alibi(text: PretrainedConfig) -> bool:
    """Attention falls with distance and no position is embedded (Press et al. 2022, arXiv 2108.12409)."""
    attention = getattr(text, "attn_config", None)
    flags = [getattr(part, name, False) for part in (text, attention) for name in ("alibi", "use_alibi")]
    return any(flags) or getattr(text, "position_embedding_type", "") == "alibi"


def cache_reaches(config: PretrainedConfig) -> float:
    """Tokens up to which a cache stands for all that was read.

    Beyond, a sliding window's cache has dropped some, padding counted as tokens, and rotary positions that are scaled
    by the text's length (LongRoPE, arXiv 2402.13753) are others than those in the cache.
    """
    layers = DynamicCache(config=config).layers
    windows = [layer.sliding_window - 1 for layer in layers if getattr(layer, "is_sliding", False)]
    return min([position_switch(config), *windows])


def position_switch(config: PretrainedConfig) -> float:
    """Tokens from which on all positions of a text are encoded otherwise; infinite where none are."""
    text = text_part(config)
    rotary = getattr(text, "rope_parameters", None) or {}
    kinds = {part.get("rope_type", "default") for part in (rotary, *rotary.values()) if isinstance(part, dict)}
    if kinds <= ROTATED_ALIKE:
        return math.inf
    named = _numbers(text.to_dict())
    return min((value for name, value in named if name == "original_max_position_embeddings"), default=math.inf)


def other_switches(config: PretrainedConfig) -> list[int]:
    """Further lengths at which a model may begin to attend otherwise, ascending; some mean something else."""
    named = _numbers(text_part(config).to_dict())
    return sorted({value for name, value in named if SWITCH.search(name) and "layer" not in name})


def _numbers(content: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Names and values of whole numbers above 0, at any depth."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, int) and value > 0 and not isinstance(value, bool):
            yield str(name), value


def require_causal(reference: str, config: PretrainedConfig) -> None:
    """Raise `StudyError` unless a configuration is that of a model that reads text from left to right."""
    kind = type(config)
    decodes = getattr(config, "is_decoder", False) or kind not in MODEL_FOR_MASKED_LM_MAPPING
    if config.is_encoder_decoder:
        found = "an encoder and a decoder"
    elif kind not in MODEL_FOR_CAUSAL_LM_MAPPING or not decodes:
        found = "no causal language model"
    else:
        return
    raise StudyError(
        f"model: {reference!r} is {found} ({config.model_type}). Allowed: models that read text from left to right, "
        "such as those of the OPT, Llama or Qwen families."
    )
