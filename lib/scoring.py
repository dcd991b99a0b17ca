"""Next-token scores of many prompts that share a prefix: the prefix is read once, its key-value cache reused."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from lib.prompts import EncodedPrompts


def pad_right(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [batch, longest] and their mask; padding on the right is never attended to, so any id serves."""
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids.to(device), mask.to(device)


def last_logits(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], prefix: DynamicCache | None = None
) -> Tensor:
    """Logits [batch, vocabulary] after the last token of each sequence; the head is applied to no other position.

    Differentiable; `prefix` must hold one copy of the shared context for each sequence, and is extended.
    """
    ids, mask = pad_right(sequences, model.device)
    last = mask.sum(1, keepdim=True) - 1
    seen = prefix.get_seq_length() if prefix is not None else 0
    attention = torch.cat([mask.new_ones(len(sequences), seen), mask], dim=1)
    output = model(
        ids, attention_mask=attention, past_key_values=prefix, use_cache=prefix is not None, logits_to_keep=last
    )
    return output.logits[:, 0]


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
    cache = _read_prefix(model, prompts.prefix)
    rows: list[Tensor] = [torch.empty(0)] * len(prompts.suffixes)
    for batch in _similar_lengths(prompts.suffixes, batch_size):
        shared = copy.deepcopy(cache)
        if shared is not None:
            shared.batch_repeat_interleave(len(batch))
        logits = last_logits(model, [prompts.suffixes[i] for i in batch], shared)
        log_probs = torch.log_softmax(logits.float(), dim=-1).cpu()
        for i, row in zip(batch, log_probs, strict=True):
            rows[i] = row if columns is None else row[list(columns)]
    return torch.stack(rows)


def _read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> DynamicCache | None:
    if not prefix:
        return None
    cache = DynamicCache(config=model.config)
    last_logits(model, [prefix], cache)
    return cache


def _similar_lengths(suffixes: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, which keeps padding small."""
    order = sorted(range(len(suffixes)), key=lambda i: len(suffixes[i]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
