"""Log-probabilities of the same few answers after many prompts, of one or of several tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lib.models.options import score_options
from lib.models.scoring import next_token_log_probs
from lib.tasks.prompts import EncodedPrompts, first_tokens


def class_log_probs(
    model: PreTrainedModel, prompts: EncodedPrompts, answers: Sequence[Sequence[int]] | None, batch_size: int
) -> Tensor:
    """[prompts, answers] float32 on the CPU, in the order of the prompts, not renormalised over the answers.

    Answers that differ in their first token are scored there; others by the sum over their tokens. Either way the
    prefix that the prompts share is read once.

    Args:
        model: a causal language model.
        prompts: what is asked.
        answers: token ids of each answer; None for the whole vocabulary at the next token.
        batch_size: prompts at a time.
    """
    columns = None if answers is None else first_tokens(answers)
    if answers is None or columns is not None:
        return next_token_log_probs(model, prompts, columns, batch_size)
    return torch.stack(score_options(model, prompts, [answers] * len(prompts.suffixes), batch_size))
