"""A model whose weights stay on the disk: each module reads its own when it is called and drops them when it is done.

The hooks are those of accelerate, and any architecture that calls its modules will do. One pass reads every weight
once, however many prompts are in it, and needs the memory of one module and of the prompts' activations.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial

import psutil
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from lib.errors import StudyError, first_line
from lib.models import random_models
from lib.models.loading import DTYPES, Memory, check_device, files_of, load_config, load_model, random_model
from lib.models.scoring import class_log_probs
from lib.tasks.prompts import EncodedPrompts

GIB = 2**30

# `auto` keeps a model in memory where this many times its weights are free: activations need room as well.
ROOM = 1.5


def is_streamed(model: PreTrainedModel) -> bool:
    """Whether the model's weights are elsewhere between two passes."""
    return next(model.parameters()).is_meta


def load(reference: str, dtype: str, device: str, memory: Memory) -> PreTrainedModel:
    """A model as `load_model` gives it, `whole`, or `streamed`; `auto` streams what would not fit.

    Raises:
        StudyError: as `load_model`; or there is no room for one module, or for weights that must be written again.
    """
    if memory == "whole":
        return load_model(reference, dtype, device)
    check_device(device)
    largest, whole = _sizes(reference, dtype)
    if memory == "auto" and ROOM * whole <= _free(device):
        return load_model(reference, dtype, device)
    check_streams(reference, dtype)
    if largest > _free(device):
        raise StudyError(
            f"teacher_memory: 'streamed': the largest layer of {reference} takes {largest / GIB:.2f} GiB in {dtype}; "
            f"{_free(device) / GIB:.2f} GiB are free on {device}. teacher_dtype: bfloat16, a smaller teacher or "
            "another device would help."
        )
    if reference in random_models.WIDTHS:
        model = load_model(reference, dtype, "cpu")
        return _stream(model, dict(model.state_dict()), device)
    return _from_disk(reference, dtype, device, whole)


def unweighted(
    config: PretrainedConfig, dtype: str, made: Callable[[Tensor], object] = lambda _: None
) -> PreTrainedModel:
    """A streamed model without values, to be walked with fake tensors; `made` is told of each weight that is read."""
    from accelerate import init_empty_weights  # here, so that redrawing does not wait for it

    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype]).requires_grad_(False)

    def read(module: torch.nn.Module, *_: object) -> None:
        for name, shape in list(module.named_parameters(recurse=False)):
            weight = torch.nn.Parameter(torch.empty_like(shape, device="cpu"), requires_grad=False)
            made(weight)
            setattr(module, name, weight)

    def drop(shapes: dict[str, torch.nn.Parameter], module: torch.nn.Module, *_: object) -> None:
        for name, shape in shapes.items():
            setattr(module, name, shape)

    for module in model.modules():
        module.register_forward_pre_hook(read)
        module.register_forward_hook(partial(drop, dict(module.named_parameters(recurse=False))))
    return _computing_on(model, "cpu")


@cache
def check_streams(reference: str, dtype: str) -> None:
    """Raise `StudyError` where a model cannot be streamed; reads no weights.

    Some architectures read a module's weights without calling it, others keep a cache that cannot be lent.
    """
    model = unweighted(load_config(reference), dtype)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            class_log_probs(model, EncodedPrompts([0, 0], [[0, 0], [0]]), [[0], [1]], 2)
    except Exception as error:  # each architecture fails in a way of its own
        raise StudyError(
            f"teacher_memory: 'streamed': {reference} shares weights between its layers or keeps a cache of another "
            f"kind ({first_line(error)}). Allowed: whole."
        ) from error


def _stream(model: PreTrainedModel, weights: Mapping[str, Tensor], device: str) -> PreTrainedModel:
    """Have each module read its weights there when it is called; on `device` everything is computed."""
    from accelerate.hooks import attach_align_device_hook

    attach_align_device_hook(model, execution_device=device, offload=True, weights_map=weights)
    return _computing_on(model, device)


def _computing_on(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """The model, whose parameters do not say where it computes, says it."""
    of = type(model)
    model.__class__ = type(of.__name__, (of,), {"device": torch.device(device)})
    return model.eval()


def _from_disk(reference: str, dtype: str, device: str, size: int) -> PreTrainedModel:
    """Weights stay in safetensors files where they are; those in other files are written once more for the time."""
    from accelerate.hooks import remove_hook_from_submodules

    local = files_of(reference)
    scratch = tempfile.TemporaryDirectory(prefix="streamed-")  # goes with the model
    free = shutil.disk_usage(scratch.name).free
    if local and not any(file.suffix in (".safetensors", ".gguf") for file in local) and size > free:
        raise StudyError(
            f"teacher_memory: 'streamed': {reference} has no safetensors, and {scratch.name} lacks room for a copy: "
            f"{size / GIB:.2f} GiB are needed, {free / GIB:.2f} are free. Set TMPDIR to a disk with more, or save "
            "the model as safetensors."
        )
    model = load_model(reference, dtype, None, device_map={"": "disk"}, offload_folder=scratch.name)
    weights = model.get_input_embeddings()._hf_hook.weights_map.dataset  # all of them, by name
    remove_hook_from_submodules(model)  # those compute on the CPU, whatever the device
    model.weights_on_disk = scratch
    return _stream(model, weights, device)


def _sizes(reference: str, dtype: str) -> tuple[int, int]:
    """Bytes of the largest module and of all."""
    model = random_model(reference, load_config(reference), dtype)
    own = [sum(one.nbytes for one in module.parameters(recurse=False)) for module in model.modules()]
    return max(own), sum(one.nbytes for one in model.parameters())


def _free(device: str) -> int:
    return torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
