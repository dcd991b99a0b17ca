"""Scores of prompts that share a prefix: it is read once, and each prompt once, whatever number of answers it has.

The prefix is in the key-value cache, of which there is one copy. Prompts and answers are laid end to end after it, or
padded where they share little. Not every architecture keeps a cache that stands for what was read, or the prompts of a
row apart: `cache_serves` compares, once a model, a few scores with those of whole prompts.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from lib.errors import StudyError, first_line
from lib.models.configuration import cache_reaches, other_switches, packs, text_part
from lib.models.forward import last_logits, packed_logits
from lib.models.whole_prompts import last_log_probs

# Tokens of a row, beside the prefix, since its mask grows with their square; a position that the vocabulary's head is
# applied to counts as so many tokens.
ROW, POSITION = 4096, 16
# A layer of width w multiplies a token's state by about 12 w^2 weights, and by 2 w numbers for each token of the row:
# beyond 6 w tokens, attention takes more than the weights do.
TOKENS_A_WIDTH = 6
# Of the spread of the vocabulary's log-probabilities, by which a cached score may be off: some times what rounding
# was seen to do to models of 135 million parameters (3e-6, .008 and .07).
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.2}
FEW = 8  # tokens of the shortest comparison

# By model and length, whether cached scores were right there.
_SERVES: WeakKeyDictionary[torch.nn.Module, dict[float, bool]] = WeakKeyDictionary()


class LentLayer(DynamicLayer):
    """A layer's keys and values of one row, which each batch sees before its own; it keeps nothing of these."""

    def __init__(self, layer: DynamicLayer) -> None:
        """Lend what a layer holds."""
        super().__init__()
        self.keys, self.values, self.is_initialized = layer.keys, layer.values, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keys and values [rows, heads, tokens, width] of all that the rows see."""
        pairs = (self.keys, key_states), (self.values, value_states)
        keys, values = (torch.cat([lent.expand(len(own), -1, -1, -1), own], dim=-2) for lent, own in pairs)
        return keys, values


@torch.no_grad()
def read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> DynamicCache | None:
    """The key-value cache of a prefix, of one row that can be lent; None where there is no prefix.

    Raises:
        ValueError: the model put something else into it.
    """
    if not prefix:
        return None
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prefix], device=model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    if cache.get_seq_length() != len(prefix):
        raise ValueError(f"{_name(model)} keeps {cache.get_seq_length()} of {len(prefix)} tokens in its cache")
    cache.layers = [LentLayer(layer) for layer in cache.layers]
    return cache


def cached_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]] | None,
    batch_size: int,
    prefix: DynamicCache | None = None,
) -> Iterator[Tensor]:
    """log P(answer | prompt), the sum over the answer's tokens, for each answer of each prompt. Differentiable.

    Args:
        model: a causal language model that keeps the prompts of a row apart.
        prompts: token ids of each prompt, without what all share.
        answers: for each prompt, the token ids of its answers; None for the vocabulary, [vocabulary] for each prompt.
        batch_size: prompts at a time, at most.
        prefix: what all prompts share.

    Returns:
        For each prompt a tensor [answers], float32.
    """
    seen = prefix.get_seq_length() if prefix is not None else 0
    if is_padded(model.config, seen, prompts, answers, batch_size):
        yield from _padded_log_probs(model, prompts, answers, batch_size, prefix)
        return
    for row in rows(sizes_in_row(prompts, answers), batch_size):
        of_row = None if answers is None else [answers[i] for i in row]
        yield from _of_row(model, [prompts[i] for i in row], of_row, prefix)


def is_padded(
    config: PretrainedConfig,
    prefix: int,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]] | None,
    batch_size: int,
) -> bool:
    """Whether prompts are padded: after a short prefix, and where attention in a row would take more than the weights.

    Answers of several tokens need a row.
    """
    if any(len(answer) > 1 for own in answers or [] for answer in own):
        return False
    lengths = [len(prompt) for prompt in prompts]
    tokens = min(ROW, sum(lengths) / len(lengths) * min(batch_size, len(lengths)))
    return prefix < max(lengths) or tokens > TOKENS_A_WIDTH * text_part(config).hidden_size


def _padded_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]] | None,
    batch_size: int,
    prefix: DynamicCache | None,
) -> list[Tensor]:
    scores: list[Tensor] = [torch.empty(0)] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # similar lengths need little padding
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        log_probs = torch.log_softmax(last_logits(model, [prompts[i] for i in batch], prefix=prefix).float(), dim=-1)
        for i, row in zip(batch, log_probs, strict=True):
            scores[i] = row if answers is None else row[[token for (token,) in answers[i]]]
    return scores


def rows(sizes: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Places of the prompts that are read together: `batch_size`, or as many as there is room for, but one at least."""
    row: list[int] = []
    for place, size in enumerate(sizes):
        if row and (len(row) == batch_size or size + sum(sizes[i] for i in row) > ROW):
            yield row
            row = []
        row.append(place)
    yield row


def sizes_in_row(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]] | None) -> list[int]:
    """How much room each prompt takes, with its answers."""
    pairs = zip(prompts, answers or [[]] * len(prompts), strict=True)
    return [len(prompt) + POSITION + (1 + POSITION) * sum(len(answer) - 1 for answer in own) for prompt, own in pairs]


def _of_row(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]] | None,
    prefix: DynamicCache | None,
) -> Sequence[Tensor]:
    """The scores of one row, in a function of its own so that nothing of it is in memory beside the next one's.

    The answers of a single prompt that are too many for a row are read in several.
    """
    if answers and len(prompts) == 1 and len(answers[0]) > 1 and sizes_in_row(prompts, answers)[0] > ROW:
        half = len(answers[0]) // 2
        parts = [_of_row(model, prompts, [part], prefix) for part in (answers[0][:half], answers[0][half:])]
        return [torch.cat([scores for (scores,) in parts])]
    if answers is None:
        return torch.log_softmax(packed_logits(model, prompts, prefix=prefix).float(), dim=-1).unbind()
    longer = [[answer[:-1] for answer in own if len(answer) > 1] for own in answers]
    log_probs = torch.log_softmax(packed_logits(model, prompts, branches=longer, prefix=prefix).float(), dim=-1)
    steps = torch.tensor(list(_steps(answers)), device=log_probs.device)
    counts = [len(own) for own in answers]
    summed = log_probs.new_zeros(sum(counts)).index_add(0, steps[:, 2], log_probs[steps[:, 0], steps[:, 1]])
    return summed.split(counts)


def _steps(answers: Sequence[Sequence[Sequence[int]]]) -> Iterator[tuple[int, int, int]]:
    """Each token of each answer: the position of the row's logits that it follows, its id, the answer's number."""
    position = number = 0
    for own in answers:
        first = position
        for answer in own:
            yield first, answer[0], number
            for token in answer[1:]:
                position += 1
                yield position, token, number
            number += 1
        position += 1


def keeps_apart(model: PreTrainedModel, longest: Sequence[int]) -> bool:
    """Whether prompts can be laid end to end in a row: of one that is padded or read by itself the scores are the same.

    Arguments, errors and the warning are those of `cache_serves`.
    """
    return packs(model.config) and cache_serves(model, longest)


@torch.no_grad()
def cache_serves(model: PreTrainedModel, longest: Sequence[int]) -> bool:
    """Whether scores from a cache are those of whole prompts; where they are not, a warning says so once.

    A few are compared, once a model: of a few tokens and, of a model whose configuration has lengths from which it may
    attend otherwise, of prompts on both sides of these. Fake tensors have no values to compare: of their models the
    cache is taken to serve.

    Args:
        model: a causal language model.
        longest: token ids of the longest prompt with its longest answer.

    Raises:
        StudyError: what the model says after a prompt depends on what stands behind it.
    """
    if detect_fake_mode(next(model.parameters())):
        return len(longest) <= cache_reaches(model.config)
    seen = _SERVES.setdefault(model, {})
    for length in [FEW, *(one for one in other_switches(model.config) if FEW < one < len(longest))]:
        if length not in seen:
            ids = (list(longest) * (2 * FEW))[: max(2 * FEW, len(longest))]
            seen[length] = _agrees(model, ids, min(length, len(ids) - FEW))
        if not seen[length]:
            return False
    reach = cache_reaches(model.config)
    if len(longest) <= reach:
        return True
    if reach not in seen:
        seen[reach] = False
        _warn(model, f"its cache stands for {reach} tokens, and the longest prompt has {len(longest)}")
    return False


def _agrees(model: PreTrainedModel, ids: Sequence[int], length: int) -> bool:
    """Whether scores agree after texts a little shorter than `length` and a little longer."""
    ids, ends = list(ids[: length + 5]), (length - 1, length + 3)
    with _evaluated(model):
        kept = torch.tensor([end + step for end in ends for step in (-1, 0, 1)], device=model.device)
        read = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=kept).logits[0]
        # some architectures ignore what is to be kept
        expected = (read if len(read) == len(kept) else read[kept]).unflatten(0, (len(ends), 3))
        try:
            difference = _difference(_from_cache(model, ids, ends), expected)
            reason = f"scores from its cache differ from theirs by {difference:.2g} of the vocabulary's spread"
        except Exception as error:  # caches of other kinds fail in ways of their own
            if isinstance(error, torch.OutOfMemoryError):
                raise
            difference, reason = math.inf, f"its cache cannot be shared ({first_line(error)})"
        tolerance = TOLERANCE[_precision(model)]
        if not difference > tolerance:
            return True
        if _difference(last_logits(model, [ids[:end] for end in ends]), expected[:, 0]) > tolerance:
            raise StudyError(f"model: {_name(model)} lets what stands behind a prompt change what it says after it.")
    _warn(model, reason)
    return False


@contextmanager
def _evaluated(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout and checkpointing; afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _precision(model: PreTrainedModel) -> torch.dtype:
    """In which products are computed."""
    device = model.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


def _from_cache(model: PreTrainedModel, ids: list[int], ends: tuple[int, int]) -> Tensor:
    """Logits [2, 3, vocabulary] after two beginnings of a text, and after each of the two tokens that follow them.

    Read as scores are: what both share once, the rest padded, in one row, or each by itself after what is lent.
    """
    shared = ends[0] - 2
    prefix = read_prefix(model, ids[:shared])
    if not packs(model.config):
        texts = {end: ids[shared : end + 2] for end in ends}
        return torch.stack([*last_log_probs(model, texts, 3, 2, prefix).values()])
    prompts, further = [ids[shared:end] for end in ends], [[ids[end : end + 2]] for end in ends]
    row = packed_logits(model, prompts, branches=further, prefix=prefix).unflatten(0, (2, 3))
    return torch.cat([last_logits(model, prompts, prefix=prefix)[:, None], row[:, 1:]], dim=1)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest distance of log-probabilities over their spread; of what is not finite it is nan."""
    pairs = zip(found.flatten(0, -2), expected.flatten(0, -2), strict=True)  # one at a time takes little memory
    return torch.stack([_distance(*pair) for pair in pairs]).max().item()


def _distance(found: Tensor, expected: Tensor) -> Tensor:
    found, expected = (logits.float().log_softmax(-1) for logits in (found, expected))
    return (found - expected).norm() / (expected - expected.mean()).norm()


def _warn(model: PreTrainedModel, reason: str) -> None:
    warnings.warn(
        f"{_name(model)}: whole prompts are read, and padded in training, which takes longer: {reason}.", stacklevel=2
    )


def _name(model: PreTrainedModel) -> str:
    return model.config.name_or_path or model.config.model_type
