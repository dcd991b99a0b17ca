"""Scores of whole prompts, each read with its answer from the first token on: nothing is cached and nothing padded.

So every architecture can be read. It takes longer than a shared prefix does.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

Key = TypeVar("Key", bound=Hashable)


def whole_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    batch_size: int,
) -> list[Tensor]:
    """For each prompt [answers], the sum over each answer's tokens of its log-probability, float32. Differentiable.

    Args:
        model: a causal language model.
        prompts: token ids.
        answers: for each prompt, the token ids of its answers.
        batch_size: texts at a time; all of one batch have the same length.
    """
    heads = [{tuple(answer[:-1]) for answer in own} for own in answers]  # what an answer's last token follows
    texts = {(i, head): [*prompts[i], *head] for i, own in enumerate(heads) for head in own}
    read: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    for size in {len(head) for _, head in texts}:
        of_size = {key: ids for key, ids in texts.items() if len(key[1]) == size}
        read |= _last_log_probs(model, of_size, size + 1, batch_size)
    return [
        torch.stack([_of_answer(read[i, tuple(answer[:-1])], answer) for answer in own])
        for i, own in enumerate(answers)
    ]


def whole_next_tokens(model: PreTrainedModel, prompts: Sequence[Sequence[int]], batch_size: int) -> list[Tensor]:
    """For each prompt the log-probabilities [vocabulary] of its next token, float32; arguments as above."""
    read = _last_log_probs(model, dict(enumerate(prompts)), 1, batch_size)
    return [read[i][0] for i in range(len(prompts))]


def _of_answer(log_probs: Tensor, answer: Sequence[int]) -> Tensor:
    """The sum over an answer's tokens; log_probs: [tokens, vocabulary]."""
    return log_probs[torch.arange(len(answer)), list(answer)].sum()


def _last_log_probs(
    model: PreTrainedModel, texts: Mapping[Key, Sequence[int]], positions: int, batch_size: int
) -> dict[Key, Tensor]:
    """Of each text [positions, vocabulary], the log-probabilities of what follows its last tokens."""
    found: dict[Key, Tensor] = {}
    for batch in _of_one_length(texts, batch_size):
        ids = torch.tensor([texts[key] for key in batch], device=model.device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=positions).logits[:, -positions:]
        found |= zip(batch, torch.log_softmax(logits.float(), dim=-1), strict=True)
    return found


def _of_one_length(texts: Mapping[Key, Sequence[int]], batch_size: int) -> Iterator[list[Key]]:
    by_length: dict[int, list[Key]] = defaultdict(list)
    for key, ids in texts.items():
        by_length[len(ids)].append(key)
    for keys in by_length.values():
        for start in range(0, len(keys), batch_size):
            yield keys[start : start + batch_size]
