"""The shapes of the OPT models, as published, so that their memory is known without the hub."""

from transformers import OPTConfig, PretrainedConfig, PreTrainedModel

from lib.errors import StudyError
from lib.models import loading

# Zhang et al. 2022 (arXiv 2205.01068), table 1, and the configurations published with the weights: hidden width,
# layers, attention heads. The inner width is four times the hidden one; the rest is as `OPTConfig` has it by default.
OPT = {
    "facebook/opt-125m": (768, 12, 12),
    "facebook/opt-350m": (1024, 24, 16),
    "facebook/opt-1.3b": (2048, 24, 32),
    "facebook/opt-2.7b": (2560, 32, 32),
    "facebook/opt-6.7b": (4096, 32, 32),
    "facebook/opt-13b": (5120, 40, 40),
}


def architecture(reference: str) -> PretrainedConfig:
    """The configuration of a model, without its weights: a published OPT, or any model whose configuration is there.

    Raises:
        StudyError: the configuration is neither shipped with the study nor found in a folder, in a cache or on the hub.
    """
    if reference in OPT:
        return _opt(reference)
    try:
        return loading.load_config(reference)
    except StudyError as error:
        raise StudyError(f"{error} Known without any file: {', '.join(OPT)}.") from error


def _opt(reference: str) -> OPTConfig:
    width, layers, heads = OPT[reference]
    # the 350M model alone normalises after its sublayers and has embeddings narrower than its layers
    odd = {"word_embed_proj_dim": 512, "do_layer_norm_before": False} if reference == "facebook/opt-350m" else {}
    return OPTConfig(
        **{"word_embed_proj_dim": width, **odd},
        hidden_size=width,
        ffn_dim=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )


def random_model(reference: str, dtype: str, device: str = "cpu") -> PreTrainedModel:
    """A model of that architecture with random weights, frozen as `load_model` of `lib.models` gives it."""
    return loading.random_model(reference, architecture(reference), dtype, device)
