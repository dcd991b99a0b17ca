"""Causal language models: from a hub name, a folder or a GGUF file; and what of them is trained.

A model is named by one string, its reference. Loading is always a fresh object, so no two roles share weights.
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from datasets.utils import disable_progress_bars
from huggingface_hub.utils import logging as hub_logging
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from lib import smoke
from lib.errors import RefusedMethod, StudyError, first_line
from lib.paths import locate

if TYPE_CHECKING:
    from peft import LoraConfig

Tuning = Literal["full", "lora", "bitfit"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def quiet() -> None:
    """Keep the libraries' own progress bars and hints out of notebooks and logs."""
    # peft asks transformers for a property under its old name
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    hub_logging.set_verbosity_error()  # each retry of each file would be a line


def load_tokenizer(reference: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model reference.

    Raises:
        StudyError: the model is not there, broken, or cannot be fetched.
    """
    if reference in smoke.WIDTHS:
        return smoke.tokenizer()
    return _from_pretrained(AutoTokenizer, reference)


def load_config(reference: str) -> PretrainedConfig:
    """The configuration of a model reference; errors as `load_tokenizer`."""
    return smoke.config(reference) if reference in smoke.WIDTHS else _from_pretrained(AutoConfig, reference)


def load_model(reference: str, dtype: str, device: str) -> PreTrainedModel:
    """A new model object in evaluation mode, all weights frozen; errors as `load_tokenizer`.

    Args:
        reference: hub name, folder, GGUF file, or a model of `lib.smoke`.
        dtype: a key of `DTYPES`.
        device: `cpu` or `cuda`.
    """
    if reference in smoke.WIDTHS:
        model = smoke.model(reference).to(DTYPES[dtype])
    else:
        model, loading = _from_pretrained(
            AutoModelForCausalLM, reference, dtype=DTYPES[dtype], output_loading_info=True
        )
        if loading["missing_keys"]:  # transformers would leave them random
            some = ", ".join(sorted(loading["missing_keys"])[:3])
            raise StudyError(f"model: {reference!r} lacks weights that its configuration asks for: {some}.")
    return model.to(device).eval().requires_grad_(False)


def check_device(device: str) -> None:
    """Raise `StudyError` where `device` is cuda and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise StudyError("device: 'cuda' asked for, but torch sees no CUDA device here. Allowed here: cpu.")


def _from_pretrained(loader: type, reference: str, **options: object) -> Any:  # noqa: ANN401 - what the loader loads
    folder = _folder(reference)
    try:
        return loader.from_pretrained(str(folder or reference), **options)
    except Exception as error:  # a hub, a file system and several parsers each raise their own kinds
        where = f"the folder {folder}" if folder else "the hub (no network, or no such model)"
        raise StudyError(
            f"model: {reference!r} could not be loaded from {where}: {first_line(error)} "
            "Allowed: a hub name, a folder made by save_pretrained, or a .gguf file."
        ) from error


def _folder(reference: str) -> Path | None:
    """The local folder that a reference means, or None for a hub name."""
    path = locate(reference)
    if reference.endswith(".gguf"):
        return _unpacked(path)
    if path.is_dir():
        return path
    if reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        raise StudyError(f"model: {reference!r} is not there: no folder {path}.")
    return None


def _unpacked(file: Path) -> Path:
    """The GGUF file as a folder of bfloat16 safetensors beside it, made once; later loads take seconds."""
    if not file.is_file():
        raise StudyError(f"model: no GGUF file {file}.")
    with file.open("rb") as content:
        if content.read(4) != b"GGUF":
            raise StudyError(f"model: {file} is not a GGUF file (its first four bytes are not 'GGUF').")
    folder = file.with_suffix(".unpacked")
    if folder.is_dir() and folder.stat().st_mtime >= file.stat().st_mtime:
        return folder
    scratch = Path(tempfile.mkdtemp(dir=file.parent, prefix=".unpacking-"))
    try:
        source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        AutoTokenizer.from_pretrained(**source).save_pretrained(scratch)
        model = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(scratch)
    except Exception as error:  # the parsers of a broken file raise whatever they stumble on
        shutil.rmtree(scratch)
        raise StudyError(f"model: {file} could not be read as GGUF: {error}") from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)
    return folder


def same_vocabulary(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> bool:
    """Whether a token id means the same to both, as a comparison over the whole vocabulary needs."""
    return first.get_vocab() == second.get_vocab()


def check_tuning(
    reference: str, tuning: Tuning, config: PretrainedConfig | None = None, biases: str = "existing"
) -> None:
    """Raise `RefusedMethod` where a way of tuning does not apply to a model of this configuration; loads no weights."""
    if tuning != "bitfit" or biases == "add":
        return
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config or load_config(reference))
    if not any(name.endswith("bias") for name, _ in model.named_parameters()):
        raise RefusedMethod(
            f"bitfit: {reference} has no bias terms to train. Set bitfit: add, which gives each linear layer one, or "
            "use full or LoRA tuning (pbft, cd, pbft_lora, cd_lora), or a model with biases, such as those of the OPT "
            "or GPT-NeoX families."
        )


def adapt(
    model: PreTrainedModel, tuning: Tuning, lora: "LoraConfig | None", biases: str = "existing"
) -> torch.nn.Module:
    """Make trainable what `tuning` trains: everything, a LoRA adapter (peft), or the bias terms and nothing else.

    Args:
        model: a frozen model; it is changed in place.
        tuning: BitFit is that of Zaken et al. 2022 (arXiv 2106.10199), without its classifier head.
        lora: the adapter's settings, for `lora` only.
        biases: what BitFit trains: the `existing` biases, or with `add` also new ones on linear layers without.
    """
    if tuning == "lora":
        from peft import get_peft_model  # here, so that redrawing does not wait for it

        return get_peft_model(model, lora)
    if tuning == "bitfit" and biases == "add":
        _add_biases(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(tuning == "full" or name.endswith("bias"))
    return model


def _add_biases(model: PreTrainedModel) -> None:
    """Give each linear layer but the vocabulary's a bias of zeros, which changes no output."""
    head = model.get_output_embeddings()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear) and layer.bias is None and layer is not head:
            layer.bias = torch.nn.Parameter(layer.weight.new_zeros(layer.out_features))


def merged(model: torch.nn.Module) -> PreTrainedModel:
    """A LoRA adapter merged into its model; any other model as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def trainable_parameters(model: torch.nn.Module) -> int:
    """The number of trainable scalars."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
