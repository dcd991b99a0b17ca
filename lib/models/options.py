"""Log-probabilities of whole answer options, of any number of tokens, after prompts that share a prefix.

A prompt is read once, whatever number of options it has; what they share is in the key-value cache.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from lib.errors import StudyError
from lib.models.scoring import one_each, own_layers, pad_right, read_prefix, similar_lengths
from lib.tasks.prompts import EncodedPrompts

# Rows of (prompt, option) at a time whose options have further tokens: each holds a copy of its prompt's cache.
ROWS = 32


def option_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    options: Sequence[Sequence[Sequence[int]]],
    prefix: DynamicCache | None = None,
) -> list[Tensor]:
    """log P(option | prompt), the sum over the option's tokens, for each option of each prompt. Differentiable.

    Args:
        model: a causal language model.
        prompts: token ids of each prompt, without what all share.
        options: for each prompt, the token ids of its options.
        prefix: one copy of what the prompts share for each of them; it is extended.

    Returns:
        For each prompt a tensor [options], float32, not normalised over the options.

    Raises:
        StudyError: the model keeps no cache, as in training with checkpointing, and an option has several tokens.
    """
    ids, mask = pad_right(prompts, model.device)
    seen = prefix.get_seq_length() if prefix is not None else 0
    attention = torch.cat([mask.new_ones(len(prompts), seen), mask], dim=1)
    cache = prefix if prefix is not None else DynamicCache(config=model.config)
    last = mask.sum(1, keepdim=True) - 1
    output = model(input_ids=ids, attention_mask=attention, past_key_values=cache, use_cache=True, logits_to_keep=last)
    first = torch.log_softmax(output.logits[:, 0].float(), dim=-1)
    scores = [row[[option[0] for option in of_row]] for row, of_row in zip(first, options, strict=True)]
    longer = [(i, j) for i, of_row in enumerate(options) for j, option in enumerate(of_row) if len(option) > 1]
    if longer and cache.get_seq_length() == seen:
        raise StudyError("checkpointing: true keeps no cache, which answers of several tokens need. Allowed: false.")
    for start in range(0, len(longer), ROWS):
        pairs = longer[start : start + ROWS]
        further = _further_tokens(model, cache, attention, pairs, [options[i][j] for i, j in pairs])
        for (i, j), score in zip(pairs, further, strict=True):
            scores[i] = scores[i].index_add(0, torch.tensor([j], device=score.device), score[None])
    return scores


def _further_tokens(
    model: PreTrainedModel,
    cache: DynamicCache,
    attention: Tensor,
    pairs: Sequence[tuple[int, int]],
    options: Sequence[Sequence[int]],
) -> Tensor:
    """[pairs]: the log-probability of each option's tokens after its first."""
    rows = torch.tensor([i for i, _ in pairs], device=attention.device)
    ids, mask = pad_right([option[:-1] for option in options], attention.device)
    targets, _ = pad_right([option[1:] for option in options], attention.device)
    before = attention[rows]
    positions = before.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device)
    output = model(
        input_ids=ids,
        attention_mask=torch.cat([before, mask], dim=1),
        position_ids=positions,
        past_key_values=_chosen(cache, rows),
        use_cache=True,
    )
    log_probs = torch.log_softmax(output.logits.float(), dim=-1)
    return (log_probs.gather(-1, targets[..., None])[..., 0] * mask).sum(1)


def _chosen(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """A cache of these rows; the one that they come from stays as it is."""
    chosen = own_layers(cache)
    chosen.batch_select_indices(rows)
    return chosen


@torch.no_grad()
def score_options(
    model: PreTrainedModel,
    prompts: EncodedPrompts,
    options: Sequence[Sequence[Sequence[int]]],
    batch_size: int,
    normalised: bool = False,
) -> list[Tensor]:
    """Log-probabilities of each prompt's options, on the CPU, in the order of the prompts.

    Args:
        model: a causal language model.
        prompts: what is asked; their shared prefix is read once.
        options: for each prompt, the token ids of its options.
        batch_size: prompts at a time.
        normalised: divide by the number of the option's tokens.
    """
    model.eval()
    cache = read_prefix(model, prompts.prefix)
    scores: list[Tensor] = [torch.empty(0)] * len(prompts.suffixes)
    for batch in similar_lengths(prompts.suffixes, batch_size):
        found = _batch_log_probs(model, cache, [prompts.suffixes[i] for i in batch], [options[i] for i in batch])
        for i, row in zip(batch, found, strict=True):
            scores[i] = by_length(row, options[i]) if normalised else row
    return scores


def _batch_log_probs(
    model: PreTrainedModel,
    prefix: DynamicCache | None,
    suffixes: Sequence[Sequence[int]],
    options: Sequence[Sequence[Sequence[int]]],
) -> list[Tensor]:
    """One batch, in a function of its own so that nothing of it is in memory beside the next one's."""
    shared = one_each(prefix, len(suffixes)) if prefix is not None else None
    return [row.cpu() for row in option_log_probs(model, suffixes, options, shared)]


def by_length(log_probs: Tensor, options: Sequence[Sequence[int]]) -> Tensor:
    """[options] log-probabilities, each divided by its option's number of tokens."""
    return log_probs / torch.tensor([len(option) for option in options], device=log_probs.device)
