"""The tokens that a model reads, counted from outside whatever calls it."""

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lib.models.cached_prompts import cache_serves


def count_tokens(model: nn.Module, seen: list[int]) -> RemovableHandle:
    """Append to `seen` what each forward pass reads: neither padding, by its mask, nor a prefix in the cache.

    The comparison by which a model's cache is tried is made before, and not counted.
    """
    cache_serves(model, [0])

    def count(_: nn.Module, __: tuple, named: dict) -> None:
        ids, mask = named["input_ids"], named.get("attention_mask")
        padded = isinstance(mask, torch.Tensor) and mask.ndim == 2
        seen.append(int(mask[:, -ids.shape[1] :].sum()) if padded else ids.numel())

    return model.register_forward_pre_hook(count, with_kwargs=True)
