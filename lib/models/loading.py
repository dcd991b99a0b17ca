"""Causal language models: from a hub name, a folder or a GGUF file.

A model is named by one string, its reference. Loading is always a fresh object, so no two roles share weights.
"""

import os
import shutil
import tempfile
import warnings
from logging import getLogger
from pathlib import Path
from typing import Any, Literal

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

from lib.errors import StudyError, first_line
from lib.models import random_models
from lib.paths import digest, locate

MADE_FROM = ".made-from"  # in a folder of unpacked weights: the digest of the file that they came from
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Device = Literal["cpu", "cuda"]
Memory = Literal["whole", "streamed", "auto"]


def quiet() -> None:
    """Keep the libraries' own progress bars and hints out of notebooks and logs."""
    # peft asks transformers for a property under its old name
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    logging.set_verbosity_error()
    getLogger("accelerate").setLevel("ERROR")  # it warns of weights that stay on the disk, as they should
    logging.disable_progress_bar()
    disable_progress_bars()
    hub_logging.set_verbosity_error()  # each retry of each file would be a line


def load_tokenizer(reference: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model reference.

    Raises:
        StudyError: the model is not there, broken, or cannot be fetched.
    """
    if reference in random_models.WIDTHS:
        return random_models.tokenizer()
    return _from_pretrained(AutoTokenizer, reference)


def load_config(reference: str) -> PretrainedConfig:
    """The configuration of a model reference; errors as `load_tokenizer`."""
    if reference in random_models.WIDTHS:
        return random_models.config(reference)
    return _from_pretrained(AutoConfig, reference)


def load_model(reference: str, dtype: str, device: str | None, **options: object) -> PreTrainedModel:
    """A new model object in evaluation mode, all weights frozen; errors as `load_tokenizer`.

    Args:
        reference: hub name, folder, GGUF file, or a model of `lib.models.random_models`.
        dtype: a key of `DTYPES`.
        device: `cpu` or `cuda`; None leaves the weights where `options` put them.
        options: further ones of `from_pretrained`.
    """
    if reference in random_models.WIDTHS:
        model = random_models.model(reference).to(DTYPES[dtype])
    else:
        model, loading = _from_pretrained(
            AutoModelForCausalLM, reference, dtype=DTYPES[dtype], output_loading_info=True, **options
        )
        if loading["missing_keys"]:  # transformers would leave them random
            some = ", ".join(sorted(loading["missing_keys"])[:3])
            raise StudyError(f"model: {reference!r} lacks weights that its configuration asks for: {some}.")
    return (model.to(device) if device else model).eval().requires_grad_(False)


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


def files_of(reference: str) -> list[Path]:
    """The local files that a reference means: a GGUF file, or what lies in a folder; none for a hub name."""
    path = locate(reference)
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []


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
    folder = file.with_suffix(".unpacked")
    made_from = folder / MADE_FROM
    if made_from.is_file() and made_from.read_text(encoding="utf-8") == digest(file):
        return folder
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".unpacking-") as scratch:
        made = Path(scratch, "made")
        try:
            _unpack(file, made)
        except Exception as error:  # the parsers of a broken file raise whatever they stumble on
            raise StudyError(f"model: {file} could not be read as GGUF: {error}") from error
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    return folder


def _unpack(file: Path, folder: Path) -> None:
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    whole = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(**source, **whole).save_pretrained(folder)
    (folder / MADE_FROM).write_text(digest(file), encoding="utf-8")
