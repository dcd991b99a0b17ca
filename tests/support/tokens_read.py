"""The tokens that a model reads, counted from outside whatever calls it."""

from torch import nn
from torch.utils.hooks import RemovableHandle

from lib.models.cached_prompts import cache_serves


def count_tokens(model: nn.Module, seen: list[int]) -> RemovableHandle:
    """Append to `seen` what each forward pass reads by its mask: neither padding nor a prefix in the cache.

    The comparison by which a model's cache is tried is made before, and not counted.
    """
    cache_serves(model, [0])

    def count(_: nn.Module, __: tuple, named: dict) -> None:
        seen.append(int(named["attention_mask"][:, -named["input_ids"].shape[1] :].sum()))

    return model.register_forward_pre_hook(count, with_kwargs=True)
