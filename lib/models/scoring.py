"""Log-probabilities of answers, of one or of several tokens, after prompts, whose shared prefix is read once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from lib.models.cached_prompts import cache_serves, cached_log_probs, read_prefix, select_rows
from lib.models.forward import last_logits
from lib.models.whole_prompts import whole_log_probs, whole_next_tokens
from lib.tasks.prompts import EncodedPrompts, first_tokens

Answers = Sequence[Sequence[int]]  # the token ids of each


@torch.no_grad()
def score_answers(
    model: PreTrainedModel,
    prompts: EncodedPrompts,
    answers: Sequence[Answers] | None,
    batch_size: int,
    length_normalized: bool = False,
) -> list[Tensor]:
    """Each prompt's `answer_log_probs`, on the CPU, in the order of the prompts; dropout is off.

    Args:
        model: a causal language model.
        prompts: what is asked; their shared prefix is read once, where the model's cache serves.
        answers: for each prompt, the token ids of its answers; None for the whole vocabulary at the next token.
        batch_size: prompts at a time.
        length_normalized: divide by the number of the answer's tokens.
    """
    model.eval()
    if _cache_serves(model, prompts, answers):
        scores = _after_prefix(model, prompts, answers, batch_size)
    elif answers is None:
        scores = whole_next_tokens(model, prompts.whole().suffixes, batch_size)
    else:
        scores = whole_log_probs(model, prompts.whole().suffixes, answers, batch_size)
    if length_normalized and answers is not None:
        scores = by_length(scores, answers)
    return [row.cpu() for row in scores]


def class_log_probs(
    model: PreTrainedModel, prompts: EncodedPrompts, answers: Answers | None, batch_size: int
) -> Tensor:
    """`score_answers` where all prompts have the same answers, [prompts, answers].

    Answers that differ in their first token are scored there alone; others by the sum over their tokens.
    """
    if answers is not None:
        columns = first_tokens(answers)
        answers = [answers if columns is None else [[token] for token in columns]] * len(prompts.suffixes)
    return torch.stack(score_answers(model, prompts, answers, batch_size))


def answer_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Answers],
    length_normalized: bool = False,
) -> list[Tensor]:
    """log P(answer | prompt), the sum over the answer's tokens, for each answer of each prompt. Differentiable.

    Args:
        model: a causal language model.
        prompts: token ids of each prompt.
        answers: for each prompt, the token ids of its answers.
        length_normalized: divide by the number of the answer's tokens.

    Returns:
        For each prompt a tensor [answers], float32. They are not renormalised over the answers: what these leave to
        the rest of the vocabulary stays visible.

    Raises:
        StudyError: the model keeps no cache, as in training with checkpointing, and an answer has several tokens.
    """
    if _cache_serves(model, EncodedPrompts([], prompts), answers):
        scores = cached_log_probs(model, prompts, answers)
    else:
        scores = whole_log_probs(model, prompts, answers, len(prompts))
    return by_length(scores, answers) if length_normalized else scores


def tokens_read(model: PreTrainedModel, prompts: EncodedPrompts) -> int:
    """Tokens of prompts that `score_answers` reads, padding not counted."""
    return (prompts if _cache_serves(model, prompts, None) else prompts.whole()).tokens


def by_length(scores: Sequence[Tensor], answers: Sequence[Answers]) -> list[Tensor]:
    """Scores of each prompt's answers over the answers' numbers of tokens."""
    return [
        row / torch.tensor([len(answer) for answer in own], device=row.device)
        for row, own in zip(scores, answers, strict=True)
    ]


def _cache_serves(model: PreTrainedModel, prompts: EncodedPrompts, answers: Sequence[Answers] | None) -> bool:
    answer = max((one for own in answers or [] for one in own), key=len, default=[])
    return cache_serves(model, [*prompts.prefix, *max(prompts.suffixes, key=len), *answer[:-1]])


def _after_prefix(
    model: PreTrainedModel, prompts: EncodedPrompts, answers: Sequence[Answers] | None, batch_size: int
) -> list[Tensor]:
    cache = read_prefix(model, prompts.prefix)
    scores: list[Tensor] = [torch.empty(0)] * len(prompts.suffixes)
    order = sorted(range(len(scores)), key=lambda i: len(prompts.suffixes[i]))  # similar lengths need little padding
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        of_batch = None if answers is None else [answers[i] for i in batch]
        found = _batch_scores(model, cache, [prompts.suffixes[i] for i in batch], of_batch)
        for i, row in zip(batch, found, strict=True):
            scores[i] = row
    return scores


def _batch_scores(
    model: PreTrainedModel,
    prefix: DynamicCache | None,
    suffixes: Sequence[Sequence[int]],
    answers: Sequence[Answers] | None,
) -> Sequence[Tensor]:
    """One batch, in a function of its own so that nothing of it is in memory beside the next one's."""
    shared = None if prefix is None else select_rows(prefix, [0] * len(suffixes), model.device)
    if answers is None:
        return torch.log_softmax(last_logits(model, suffixes, shared).float(), dim=-1).cpu().unbind()
    return [row.cpu() for row in cached_log_probs(model, suffixes, answers, shared)]
