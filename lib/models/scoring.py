"""Log-probabilities of answers, of one or of several tokens, after prompts, whose shared prefix is read once."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lib.models.cached_prompts import cache_serves, cached_log_probs, keeps_apart, read_prefix
from lib.models.whole_prompts import whole_log_probs
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
    if not cache_serves(model, _longest(prompts, answers)):
        prompts = prompts.whole()
    prefix = read_prefix(model, prompts.prefix)
    scores = [
        row.cpu() for row in _reads(model, prompts, answers)(model, prompts.suffixes, answers, batch_size, prefix)
    ]
    return by_length(scores, answers) if length_normalized and answers is not None else scores


def class_log_probs(
    model: PreTrainedModel, prompts: EncodedPrompts, answers: Answers | None, batch_size: int
) -> Tensor:
    """`score_answers` where all prompts have the same answers, [prompts, answers].

    Answers that differ in their first token are scored there alone; others by the sum over their tokens.
    """
    compared = None if answers is None else [compared_tokens(answers)] * len(prompts.suffixes)
    return torch.stack(score_answers(model, prompts, compared, batch_size))


def compared_tokens(answers: Answers) -> Answers:
    """Of each answer what tells it from the others: its first token, or all."""
    columns = first_tokens(answers)
    return answers if columns is None else [[token] for token in columns]


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
    """
    scores = list(_reads(model, EncodedPrompts([], prompts), answers)(model, prompts, answers, len(prompts)))
    return by_length(scores, answers) if length_normalized else scores


def tokens_read(model: PreTrainedModel, prompts: EncodedPrompts) -> int:
    """Tokens of prompts that `score_answers` reads, padding not counted."""
    return (prompts if cache_serves(model, _longest(prompts, None)) else prompts.whole()).tokens


def by_length(scores: Sequence[Tensor], answers: Sequence[Answers]) -> list[Tensor]:
    """Scores of each prompt's answers over the answers' numbers of tokens."""
    return [
        row / torch.tensor([len(answer) for answer in own], device=row.device)
        for row, own in zip(scores, answers, strict=True)
    ]


def _longest(prompts: EncodedPrompts, answers: Sequence[Answers] | None) -> list[int]:
    """The longest prompt with the longest answer."""
    answer = max((one for own in answers or [] for one in own), key=len, default=[])
    return [*prompts.prefix, *max(prompts.suffixes, key=len), *answer[:-1]]


def _reads(
    model: PreTrainedModel, prompts: EncodedPrompts, answers: Sequence[Answers] | None
) -> Callable[..., Iterable[Tensor]]:
    """How prompts are read: laid end to end in rows, or each by itself."""
    return cached_log_probs if keeps_apart(model, _longest(prompts, answers)) else whole_log_probs
