"""Causal language models: from a hub name, a folder or a GGUF file.

A model is named by one string, its reference. Loading is always a fresh object, so no two roles share weights.
"""

import json
import os
import re
import shutil
import sys
import warnings
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from logging import getLogger
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from datasets.utils import disable_progress_bars
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.utils import logging as hub_logging
from torch.nn.functional import layer_norm, scaled_dot_product_attention
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
from lib.models.configuration import require_causal
from lib.paths import ROOT, digest, locate, same
from lib.scratch import scratch_folder

# Loads what fits and tells what does not, which `_require_whole` refuses.
WHOLE = {"output_loading_info": True, "ignore_mismatched_sizes": True}
TOKENIZER_FILE = re.compile(r"tokenizer|vocab|merges|.*\.(model|tiktoken|spm)$")
HUB_SECONDS = 10  # to wait for the hub's first answer
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
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
    folder = _folder(reference)
    files = [file for file in folder.iterdir() if TOKENIZER_FILE.match(file.name)] if folder else [reference]
    tokenizer = _from_pretrained(AutoTokenizer, reference) if files or not (folder / "config.json").is_file() else []
    if len(tokenizer) <= len(getattr(tokenizer, "all_special_ids", [])):  # transformers makes an empty one of nothing
        raise StudyError(f"model: {reference!r} has no tokenizer. Allowed: a folder with the tokenizer's files.")
    return tokenizer


def load_config(reference: str) -> PretrainedConfig:
    """The configuration of a model reference.

    Raises:
        StudyError: as for `load_tokenizer`, or the model does not read text from left to right.
    """
    if reference in random_models.WIDTHS:
        return random_models.config(reference)
    config = _from_pretrained(AutoConfig, reference)
    require_causal(reference, config)
    return config


def load_model(reference: str, dtype: str, device: str | None, **options: object) -> PreTrainedModel:
    """A new model object in evaluation mode, all weights frozen; errors as `load_tokenizer`.

    Args:
        reference: hub name, folder, GGUF file, or a model of `lib.models.random_models`.
        dtype: a key of `DTYPES`.
        device: `cpu`, `cuda`, or `meta`, which checks that all weights are there and takes no memory for them; None
            leaves the weights where `options` put them.
        options: further ones of `from_pretrained`.

    Raises:
        StudyError: also where weights are missing or of another shape; transformers would leave them random.
    """
    if reference in random_models.WIDTHS:
        model = random_models.model(reference).to(DTYPES[dtype])
    else:
        place = {"device_map": {"": "meta"}} if device == "meta" else options
        model = _read(reference, dtype, **place)
    return (model.to(device) if device else model).eval().requires_grad_(False)


def _read(reference: str, dtype: str, **options: object) -> PreTrainedModel:
    load_config(reference)  # raises where it is no causal model's
    model, found = _from_pretrained(AutoModelForCausalLM, reference, dtype=DTYPES[dtype], **WHOLE, **options)
    _require_whole(reference, found)
    if model.device.type == "meta":  # a check before anything is computed, which says it once
        _warn_of_unused(reference, found)
    return model


def random_model(
    reference: str, config: PretrainedConfig, dtype: str = "float32", device: str = "meta"
) -> PreTrainedModel:
    """A model of a configuration with random weights, frozen as `load_model` gives it; by default without any.

    Raises:
        StudyError: none can be built from it.
    """
    try:
        with torch.device(device):
            return AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype]).eval().requires_grad_(False)
    except Exception as error:  # each architecture fails in its own way on numbers that make no sense
        raise StudyError(
            f"model: no model follows from the configuration of {reference!r}: {first_line(error)}."
        ) from error


def _require_whole(reference: str, found: dict[str, Any]) -> None:
    """Raise unless every weight of a model came from its files, in its shape."""
    missing = sorted(found["missing_keys"])
    other = [f"{name} {[*there]}, not {[*asked]}" for name, there, asked in sorted(found["mismatched_keys"])]
    for what, names in (
        ("lacks weights that its configuration asks for", missing),
        ("has weights of other shapes", other),
    ):
        if names:
            raise StudyError(f"model: {reference!r} {what}, {len(names)} of them: {'; '.join(names[:3])}.")


def _warn_of_unused(reference: str, found: dict[str, Any]) -> None:
    """Say that files hold more than the model, as where its configuration has fewer layers than they have."""
    if unused := sorted(found["unexpected_keys"]):
        said = f"has weights that its configuration does not use, {len(unused)} of them: {'; '.join(unused[:3])}."
        print(f"warning: model: {reference!r} {said}", file=sys.stderr)


def check_device(device: str) -> None:
    """Raise `StudyError` where `device` is cuda and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise StudyError("device: 'cuda' asked for, but torch sees no CUDA device here. Allowed here: cpu.")


@cache
def check_dtype(device: str, dtype: str) -> None:
    """Raise `StudyError` where a device cannot multiply, normalise and attend in a precision; asks the device."""
    one = torch.ones(1, 1, 8, 8, dtype=DTYPES[dtype], device=device)
    try:
        layer_norm(scaled_dot_product_attention(one @ one, one, one, is_causal=True), (8,)).softmax(-1)
    except RuntimeError as error:
        raise StudyError(
            f"dtype: {dtype!r} cannot be computed on this {device} ({first_line(error)}). Allowed: auto, float32."
        ) from error


def fastest_dtype(device: str) -> str:
    """bfloat16 where the device has units for it (a CPU: AMX or AVX-512 BF16), else float32."""
    if device == "cuda":
        has_units = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_units = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if has_units else "float32"


def _from_pretrained(loader: type, reference: str, **options: object) -> Any:  # noqa: ANN401 - what the loader loads
    folder = _folder(reference)
    where = f"the folder {folder}" if folder else "the hub (no network, or no such model)"
    try:
        if not folder:
            _require_reachable(reference)
        return loader.from_pretrained(str(folder or reference), **options)
    except UnpicklingError as error:
        raise StudyError(
            f"model: {reference!r} has pickled weights that hold other things than weights, which can run code when "
            "they are loaded. Allowed: safetensors, GGUF, or pickles of weights alone."
        ) from error
    except Exception as error:  # a hub, a file system and several parsers each raise their own kinds
        raise StudyError(
            f"model: {reference!r} could not be loaded from {where}: {first_line(error)} "
            "Allowed: a hub name, a folder made by save_pretrained, or a .gguf file."
        ) from error


def _require_reachable(name: str) -> None:
    """Ask the hub once for a model that is in no cache: its libraries would ask for a minute."""
    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        HfApi().model_info(name, timeout=HUB_SECONDS)


def files_of(reference: str) -> list[Path]:
    """The local files that a reference means, none for a hub name.

    They are a GGUF file, or what lies in a folder and the weights that an index there names.
    """
    path = locate(reference)
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    named = {path / name for index in path.glob("*.index.json") for name in _named_in(index)}
    return sorted({file for file in {*path.iterdir(), *named} if file.is_file()})


def _named_in(index: Path) -> set[str]:
    """The files of weights that an index names; none where it cannot be read, which loading says."""
    with suppress(ValueError, OSError, AttributeError):
        return {name for name in json.loads(index.read_bytes()).get("weight_map", {}).values() if isinstance(name, str)}
    return set()


def _require_inside(folder: Path, reference: str) -> None:
    """Raise `StudyError` where an index names weights that are not in the folder."""
    for index in folder.glob("*.index.json"):
        for name in _named_in(index):
            if os.path.isabs(name) or os.path.normpath(name).startswith(".."):
                raise StudyError(f"model: {reference!r}: {index.name} names {name!r}. Allowed: files in that folder.")


def _folder(reference: str) -> Path | None:
    """The local folder that a reference means, or None for a hub name.

    Raises:
        StudyError: it can be neither, or the folder holds an adapter.
    """
    path = locate(reference)
    if reference.endswith(".gguf"):
        return _unpacked(path)
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            raise StudyError(f"model: {reference!r} is an adapter. Allowed: the model that it was merged into.")
        _require_inside(path, reference)
        return path
    local = path.exists() or (path.parent != ROOT and path.parent.is_dir())
    if local or not HUB_NAME.fullmatch(reference):
        near = get_close_matches(path.name, os.listdir(path.parent) if path.parent.is_dir() else [], 1)
        hint = f" Did you mean {str(path.parent / near[0])!r}?" if near else ""
        raise StudyError(f"model: {reference!r} is not there: no folder {path}.{hint}")
    return None


def _unpacked(file: Path) -> Path:
    """The GGUF file as a folder of bfloat16 safetensors beside it, made once; later loads take seconds."""
    if not file.is_file():
        raise StudyError(f"model: no GGUF file {file}.")
    if part := PART.search(file.name):
        raise StudyError(
            f"model: {file} is part {int(part[1])} of {int(part[2])}. Allowed: one file, as `llama-gguf-split --merge` "
            "makes of all parts."
        )
    folder = file.with_suffix(".unpacked")
    if _is_unpacked(file, folder):
        return folder
    if not os.access(file.parent, os.W_OK):
        raise StudyError(
            f"model: {file} is unpacked beside itself, and its folder cannot be written. Allowed: a copy elsewhere."
        )
    with scratch_folder(file.parent) as scratch:
        made = scratch / "made"
        try:
            _unpack(file, made)
        except StudyError:
            raise
        except Exception as error:  # the parsers of a broken file raise whatever they stumble on
            raise StudyError(f"model: {file} could not be read as GGUF: {error}") from error
        _put_in_place(made, file, folder)
    return folder


def _is_unpacked(file: Path, folder: Path) -> bool:
    made_from = folder / MADE_FROM
    return made_from.is_file() and same(made_from.read_text(encoding="utf-8"), digest(file))


def _put_in_place(made: Path, file: Path, folder: Path) -> None:
    """Of two processes that unpack a file at once the first wins: the second may not take away what is being read."""
    try:
        os.rename(made, folder)
    except OSError:  # there is a folder already
        if not _is_unpacked(file, folder):
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(made, folder)


def _unpack(file: Path, folder: Path) -> None:
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    whole = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    model, found = AutoModelForCausalLM.from_pretrained(**source, **whole, **WHOLE)
    _require_whole(str(file), found)
    model.save_pretrained(folder)
    let_others_read(folder)
    (folder / MADE_FROM).write_text(digest(file), encoding="utf-8")


def let_others_read(folder: Path, like: Path | None = None) -> None:
    """Give a folder's files the rights to read that it, or another, has; safetensors lets their owner alone read."""
    rights = (like or folder).stat().st_mode & 0o044
    for file in folder.iterdir():
        file.chmod(file.stat().st_mode | rights)
