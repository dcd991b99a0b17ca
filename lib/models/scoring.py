"""Next-token scores of many prompts that share a prefix: the prefix is read once, its key-value cache reused."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import DataCollatorWithFlattening, DynamicCache, PreTrainedModel
from transformers.masking_utils import create_masks_for_generate

from lib.tasks.prompts import EncodedPrompts


def pad_right(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [batch, longest] and their mask; padding on the right is never attended to, so any id serves."""
    ids = pad_sequence([torch.tensor(sequence, dtype=torch.long) for sequence in sequences], batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


def last_logits(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    prefix: DynamicCache | None = None,
    columns: Sequence[int] | None = None,
    every_position: bool = False,
) -> Tensor:
    """Logits [batch, vocabulary] after the last token of each sequence; the head is applied to no other position.

    Differentiable.

    Args:
        model: a causal language model.
        sequences: token ids, of any lengths.
        prefix: one copy of the shared context for each sequence; it is extended.
        columns: these alone, [batch, columns], from a head that has these rows of its weight and no others.
        every_position: apply the head to all positions and keep the last, as plain training code does: for measuring
            what that costs.
    """
    ids, mask = pad_right(sequences, model.device)
    last = mask.sum(1, keepdim=True) - 1
    seen = prefix.get_seq_length() if prefix is not None else 0
    attention = torch.cat([mask.new_ones(len(sequences), seen), mask], dim=1)
    read = {"input_ids": ids, "attention_mask": attention, "past_key_values": prefix, "use_cache": prefix is not None}
    kept = {} if every_position else {"logits_to_keep": last}
    logits = _logits(model, {**read, **kept}, columns)
    return logits[torch.arange(len(sequences)), last[:, 0]] if every_position else logits[:, 0]


def packed_logits(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    columns: Sequence[int] | None = None,
    every_position: bool = False,
) -> Tensor:
    """`last_logits` of sequences laid end to end in one row: nothing is padded.

    Positions begin again with each sequence, from which transformers makes the mask that keeps them apart. It is handed
    to the model, since not every architecture asks for it (OPT does not).
    """
    row = DataCollatorWithFlattening(return_tensors="pt")([{"input_ids": list(sequence)} for sequence in sequences])
    inputs = {name: row[name].to(model.device) for name in ("input_ids", "position_ids")}
    shaped = torch.empty(*inputs["input_ids"].shape, 0, dtype=model.dtype, device=model.device)
    inputs["attention_mask"] = create_masks_for_generate(model.config, shaped, None, None, inputs["position_ids"])
    last = torch.tensor([len(sequence) for sequence in sequences], device=model.device).cumsum(0) - 1
    kept = {} if every_position else {"logits_to_keep": last}
    logits = _logits(model, {**inputs, **kept, "use_cache": False}, columns)
    return logits[0, last] if every_position else logits[0]


def _logits(model: PreTrainedModel, inputs: dict[str, Any], columns: Sequence[int] | None) -> Tensor:
    head = {} if columns is None else _narrow_head(model, columns)
    return functional_call(model, head, (), inputs, tie_weights=False).logits


def _narrow_head(model: PreTrainedModel, columns: Sequence[int]) -> dict[str, Tensor]:
    head = model.get_output_embeddings()
    place = next(name for name, module in model.named_modules() if module is head)
    rows = torch.tensor(columns, device=head.weight.device)
    return {f"{place}.{name}": part.index_select(0, rows) for name, part in head.named_parameters(recurse=False)}


@torch.no_grad()
def next_token_log_probs(
    model: PreTrainedModel, prompts: EncodedPrompts, columns: Sequence[int] | None, batch_size: int
) -> Tensor:
    """Log-probabilities of the next token over the whole vocabulary, of which `columns` are kept (None: all).

    Returns:
        [prompts, columns] float32 on the CPU, in the order of the prompts. They are not renormalised over the
        columns: what the label words leave to the rest of the vocabulary stays visible.
    """
    model.eval()
    cache = read_prefix(model, prompts.prefix)
    rows: list[Tensor] = [torch.empty(0)] * len(prompts.suffixes)
    for batch in similar_lengths(prompts.suffixes, batch_size):
        log_probs = _batch_log_probs(model, cache, [prompts.suffixes[i] for i in batch], columns)
        for i, row in zip(batch, log_probs, strict=True):
            rows[i] = row
    return torch.stack(rows)


def _batch_log_probs(
    model: PreTrainedModel,
    prefix: DynamicCache | None,
    suffixes: Sequence[Sequence[int]],
    columns: Sequence[int] | None,
) -> Tensor:
    """One batch, in a function of its own so that nothing of it is in memory beside the next one's."""
    shared = one_each(prefix, len(suffixes)) if prefix is not None else None
    log_probs = torch.log_softmax(last_logits(model, suffixes, shared).float(), dim=-1).cpu()
    return log_probs if columns is None else log_probs[:, list(columns)]


def read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> DynamicCache | None:
    """The key-value cache of a prefix, of one row; None where there is no prefix."""
    if not prefix:
        return None
    cache = DynamicCache(config=model.config)
    last_logits(model, [prefix], cache)
    return cache


def one_each(cache: DynamicCache, count: int) -> DynamicCache:
    """A cache of `count` copies of the prefix; the one copy that is kept is not itself copied first."""
    shared = own_layers(cache)
    shared.batch_repeat_interleave(count)  # makes new tensors in these layers
    return shared


def own_layers(cache: DynamicCache) -> DynamicCache:
    """The cache with layers of its own that hold the same tensors: given others, the cache keeps what it had."""
    apart = copy.copy(cache)
    apart.layers = [copy.copy(layer) for layer in cache.layers]
    return apart


def similar_lengths(suffixes: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, which keeps padding small."""
    order = sorted(range(len(suffixes)), key=lambda i: len(suffixes[i]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
