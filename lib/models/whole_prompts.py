"""Scores of prompts that are each read with their answers from the first token on: nothing is padded.

So every architecture can be read. It takes longer than a row of prompts does.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

Key, Kept = TypeVar("Key", bound=Hashable), TypeVar("Kept")
Text = tuple[int, tuple[int, ...]]  # a prompt's place, and what is read after it


def whole_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]] | None,
    batch_size: int,
    prefix: Cache | None = None,
) -> list[Tensor]:
    """For each prompt [answers], the sum over each answer's tokens of its log-probability, float32. Differentiable.

    Args:
        model: a causal language model.
        prompts: token ids.
        answers: for each prompt, the token ids of its answers; None for the vocabulary, [vocabulary] for each prompt.
        batch_size: texts at a time; all of one batch have the same length.
        prefix: what all prompts see before them, of one row that is lent to each batch.
    """
    if answers is None:
        next_tokens = last_log_probs(model, dict(enumerate(prompts)), 1, batch_size, prefix)
        return [next_tokens[i][0] for i in range(len(prompts))]
    asked: dict[Text, list[Sequence[int]]] = defaultdict(list)  # by what their last token follows
    for i, own in enumerate(answers):
        for answer in own:
            asked[i, tuple(answer[:-1])].append(answer)
    scores: dict[Text, Tensor] = {}

    def keep(text: Text, log_probs: Tensor) -> None:
        places = torch.arange(len(log_probs))
        scores.update(((text[0], tuple(answer)), log_probs[places, list(answer)].sum()) for answer in asked[text])

    for positions in {len(head) + 1 for _, head in asked}:
        texts = {(i, head): [*prompts[i], *head] for i, head in asked if len(head) + 1 == positions}
        last_log_probs(model, texts, positions, batch_size, prefix, keep)
    return [torch.stack([scores[i, tuple(answer)] for answer in own]) for i, own in enumerate(answers)]


def last_log_probs(
    model: PreTrainedModel,
    texts: Mapping[Key, Sequence[int]],
    positions: int,
    batch_size: int,
    prefix: Cache | None = None,
    keep: Callable[[Key, Tensor], Kept] = lambda _, log_probs: log_probs,
) -> dict[Key, Kept]:
    """What is kept of each text's log-probabilities [positions, vocabulary] of what follows its last tokens."""
    found: dict[Key, Kept] = {}
    for batch in _of_one_length(texts, batch_size):
        ids = torch.tensor([texts[key] for key in batch], device=model.device)
        cached = {"past_key_values": prefix, "use_cache": prefix is not None}
        logits = model(input_ids=ids, logits_to_keep=positions, **cached).logits[:, -positions:]
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        found |= {key: keep(key, row) for key, row in zip(batch, log_probs, strict=True)}
    return found


def _of_one_length(texts: Mapping[Key, Sequence[int]], batch_size: int) -> Iterator[list[Key]]:
    by_length: dict[int, list[Key]] = defaultdict(list)
    for key, ids in texts.items():
        by_length[len(ids)].append(key)
    for keys in by_length.values():
        for start in range(0, len(keys), batch_size):
            yield keys[start : start + batch_size]
