"""What of a model is trained: everything, a LoRA adapter, or the bias terms."""

from typing import TYPE_CHECKING, Literal

import torch
from transformers import Conv1D, PretrainedConfig, PreTrainedModel

from lib.errors import RefusedMethod, first_line
from lib.models.loading import load_config, random_model

if TYPE_CHECKING:
    from peft import LoraConfig

LINEAR = (torch.nn.Linear, Conv1D)  # GPT's and GPT-2's linear layers are of the second kind
Tuning = Literal["full", "lora", "bitfit"]


def check_tuning(
    reference: str, tuning: Tuning, config: PretrainedConfig | None = None, biases: str = "existing"
) -> None:
    """Raise `RefusedMethod` where a way of tuning does not apply to a model of this configuration; loads no weights."""
    if tuning == "full" or (tuning == "bitfit" and biases == "add"):
        return
    model = random_model(reference, config or load_config(reference))
    if tuning == "lora":
        _check_lora(reference, model)
    elif not any(name.endswith("bias") for name, _ in model.named_parameters()):
        raise RefusedMethod(
            f"bitfit: {reference} has no bias terms to train. Set bitfit: add, which gives each linear layer one, or "
            "use full or LoRA tuning (pbft, cd, pbft_lora, cd_lora), or a model with biases, such as those of the OPT "
            "or GPT-NeoX families."
        )


def _check_lora(reference: str, model: PreTrainedModel) -> None:
    from peft import LoraConfig  # here, so that redrawing does not wait for it

    try:
        adapt(model, "lora", LoraConfig(r=1, task_type="CAUSAL_LM"))
    except Exception as error:  # peft has a reason of its own for each architecture
        raise RefusedMethod(
            f"lora: {reference} takes no LoRA adapter: {first_line(error)} Use full or BitFit tuning (pbft, cd, "
            "pbft_bitfit, cd_bitfit), or a model of another family."
        ) from error


def adapt(
    model: PreTrainedModel, tuning: Tuning, lora: "LoraConfig | None", biases: str = "existing"
) -> torch.nn.Module:
    """Make trainable, in place, what `tuning` trains: everything, a LoRA adapter (peft), or the bias terms alone.

    Args:
        model: a frozen model.
        tuning: BitFit is that of Zaken et al. 2022 (arXiv 2106.10199), without its classifier head.
        lora: the adapter's settings, for `lora` only. Where neither they nor peft name modules of the architecture,
            every linear layer but the vocabulary's has an adapter.
        biases: what BitFit trains: the `existing` biases, or with `add` also new ones on linear layers without.
    """
    if tuning == "lora":
        from peft import get_peft_model  # here, so that redrawing does not wait for it
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

        if lora.target_modules is None:
            every = [name for name, _ in _linear_layers(model)]
            lora.target_modules = KNOWN.get(model.config.model_type, every)
        return get_peft_model(model, lora)
    if tuning == "bitfit" and biases == "add":
        _add_biases(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(tuning == "full" or name.endswith("bias"))
    return model


def _add_biases(model: PreTrainedModel) -> None:
    """Give each linear layer but the vocabulary's a bias of zeros, which changes no output."""
    for _, layer in _linear_layers(model):
        if layer.bias is None:
            layer.bias = torch.nn.Parameter(layer.weight.new_zeros(layer.out_features))


def _linear_layers(model: PreTrainedModel) -> list[tuple[str, torch.nn.Linear]]:
    """Names and layers, without the vocabulary's and without kinds of their own, such as the routers of experts."""
    head = model.get_output_embeddings()
    return [(name, one) for name, one in model.named_modules() if type(one) in LINEAR and one is not head]


def merged(model: torch.nn.Module) -> PreTrainedModel:
    """A LoRA adapter merged into its model; any other model as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
