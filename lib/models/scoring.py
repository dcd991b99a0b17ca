"""Log-probabilities of answers, of one or of several tokens, after prompts that share a prefix.

The prefix is read once and each prompt once, whatever number of answers it has: the rest is in the key-value cache.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import DataCollatorWithFlattening, DynamicCache, PreTrainedModel
from transformers.masking_utils import create_masks_for_generate

from lib.errors import StudyError
from lib.tasks.prompts import EncodedPrompts, first_tokens

# Answers at a time that have further tokens: each holds a copy of its prompt's cache.
ROWS = 32


@torch.no_grad()
def score_answers(
    model: PreTrainedModel,
    prompts: EncodedPrompts,
    answers: Sequence[Sequence[Sequence[int]]] | None,
    batch_size: int,
    length_normalized: bool = False,
) -> list[Tensor]:
    """Each prompt's `answer_log_probs`, on the CPU, in the order of the prompts; dropout is off.

    Args:
        model: a causal language model.
        prompts: what is asked; their shared prefix is read once.
        answers: for each prompt, the token ids of its answers; None for the whole vocabulary at the next token.
        batch_size: prompts at a time.
        length_normalized: divide by the number of the answer's tokens.
    """
    model.eval()
    cache = read_prefix(model, prompts.prefix)
    scores: list[Tensor] = [torch.empty(0)] * len(prompts.suffixes)
    order = sorted(range(len(scores)), key=lambda i: len(prompts.suffixes[i]))  # similar lengths need little padding
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        of_batch = None if answers is None else [answers[i] for i in batch]
        found = _batch_scores(model, cache, [prompts.suffixes[i] for i in batch], of_batch, length_normalized)
        for i, row in zip(batch, found, strict=True):
            scores[i] = row
    return scores


def class_log_probs(
    model: PreTrainedModel, prompts: EncodedPrompts, answers: Sequence[Sequence[int]] | None, batch_size: int
) -> Tensor:
    """`score_answers` where all prompts have the same answers, [prompts, answers].

    Answers that differ in their first token are scored there alone; others by the sum over their tokens.
    """
    if answers is not None:
        columns = first_tokens(answers)
        answers = [answers if columns is None else [[token] for token in columns]] * len(prompts.suffixes)
    return torch.stack(score_answers(model, prompts, answers, batch_size))


def _batch_scores(
    model: PreTrainedModel,
    prefix: DynamicCache | None,
    suffixes: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]] | None,
    length_normalized: bool,
) -> Sequence[Tensor]:
    """One batch, in a function of its own so that nothing of it is in memory beside the next one's."""
    shared = None if prefix is None else select_rows(prefix, [0] * len(suffixes), model.device)
    if answers is None:
        return torch.log_softmax(last_logits(model, suffixes, shared).float(), dim=-1).cpu().unbind()
    return [row.cpu() for row in answer_log_probs(model, suffixes, answers, shared, length_normalized)]


def answer_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    prefix: DynamicCache | None = None,
    length_normalized: bool = False,
) -> list[Tensor]:
    """log P(answer | prompt), the sum over the answer's tokens, for each answer of each prompt. Differentiable.

    Args:
        model: a causal language model.
        prompts: token ids of each prompt, without what all share.
        answers: for each prompt, the token ids of its answers.
        prefix: one copy of what the prompts share for each of them; it is extended.
        length_normalized: divide by the number of the answer's tokens.

    Returns:
        For each prompt a tensor [answers], float32. They are not renormalised over the answers: what these leave to
        the rest of the vocabulary stays visible.

    Raises:
        StudyError: the model keeps no cache, as in training with checkpointing, and an answer has several tokens.
    """
    flat = [answer for own in answers for answer in own]
    rows = [i for i, (_, own) in enumerate(zip(prompts, answers, strict=True)) for _ in own]
    longer = [k for k, answer in enumerate(flat) if len(answer) > 1]
    seen = prefix.get_seq_length() if prefix is not None else 0
    cache = DynamicCache(config=model.config) if longer and prefix is None else prefix
    next_token = torch.log_softmax(last_logits(model, prompts, cache).float(), dim=-1)
    scores = next_token[rows, [answer[0] for answer in flat]]
    for start in range(0, len(longer), ROWS):
        chosen = longer[start : start + ROWS]
        of_prompts = [rows[k] for k in chosen]
        read = [seen + len(prompts[i]) for i in of_prompts]
        further = _further_tokens(model, cache, of_prompts, read, [flat[k] for k in chosen])
        scores = scores.index_add(0, torch.tensor(chosen, device=scores.device), further)
    if length_normalized:
        scores = scores / torch.tensor([len(answer) for answer in flat], device=scores.device)
    return list(scores.split([len(own) for own in answers]))


def _further_tokens(
    model: PreTrainedModel,
    cache: DynamicCache,
    rows: Sequence[int],
    read: Sequence[int],
    answers: Sequence[Sequence[int]],
) -> Tensor:
    """[answers]: the log-probability of each answer's tokens after its first.

    `rows` are those of the answers' prompts in the cache; `read` is how many tokens of each row are not padding.
    """
    cached = cache.get_seq_length()
    if not cached:
        raise StudyError("checkpointing: true keeps no cache, which answers of several tokens need. Allowed: false.")
    ids, mask = pad_right([answer[:-1] for answer in answers], model.device)
    targets, _ = pad_right([answer[1:] for answer in answers], model.device)
    first = torch.tensor(read, device=model.device)[:, None]
    before = (torch.arange(cached, device=model.device) < first).long()
    output = model(
        input_ids=ids,
        attention_mask=torch.cat([before, mask], dim=1),
        position_ids=first + torch.arange(ids.shape[1], device=model.device),
        past_key_values=select_rows(cache, rows, model.device),
        use_cache=True,
    )
    log_probs = torch.log_softmax(output.logits.float(), dim=-1)
    return (log_probs.gather(-1, targets[..., None])[..., 0] * mask).sum(1)


def read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> DynamicCache | None:
    """The key-value cache of a prefix, of one row; None where there is no prefix."""
    if not prefix:
        return None
    cache = DynamicCache(config=model.config)
    last_logits(model, [prefix], cache)
    return cache


def select_rows(cache: DynamicCache, rows: Sequence[int], device: torch.device) -> DynamicCache:
    """A cache of these rows, any of them several times; the one that they come from stays as it is."""
    selected = copy.copy(cache)
    selected.layers = [copy.copy(layer) for layer in cache.layers]
    selected.batch_select_indices(torch.tensor(rows, device=device))
    return selected


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
    if every_position:
        return _logits(model, read, columns)[torch.arange(len(sequences)), last[:, 0]]
    return _logits(model, {**read, "logits_to_keep": last}, columns)[:, 0]


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
    read = {name: row[name].to(model.device) for name in ("input_ids", "position_ids")}
    shaped = torch.empty(*read["input_ids"].shape, 0, dtype=model.dtype, device=model.device)
    read["attention_mask"] = create_masks_for_generate(model.config, shaped, None, None, read["position_ids"])
    read["use_cache"] = False
    last = torch.tensor([len(sequence) for sequence in sequences], device=model.device).cumsum(0) - 1
    if every_position:
        return _logits(model, read, columns)[0, last]
    return _logits(model, {**read, "logits_to_keep": last}, columns)[0]


def _logits(model: PreTrainedModel, inputs: dict[str, Any], columns: Sequence[int] | None) -> Tensor:
    """Logits [rows, positions, columns]; a head of these columns alone takes the place of the model's own."""
    narrow = {}
    if columns is not None:
        head = model.get_output_embeddings()
        place = next(name for name, module in model.named_modules() if module is head)
        rows = torch.tensor(columns, device=head.weight.device)
        parts = head.named_parameters(recurse=False)
        narrow = {f"{place}.{name}": part.index_select(0, rows) for name, part in parts}
    return functional_call(model, narrow, (), inputs, tie_weights=False).logits
