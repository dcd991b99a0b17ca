"""Scores of prompts that share a prefix: it is read once, and each prompt once, whatever number of answers it has.

The rest is in the key-value cache. Not every architecture keeps one that stands for what was read: `cache_serves`
compares, once a model, a few cached scores with those of whole prompts.
"""

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from transformers import DynamicCache, PreTrainedModel

from lib.errors import StudyError, first_line
from lib.models.configuration import cache_reaches, other_switches
from lib.models.forward import last_logits, pad_right

# Answers at a time that have further tokens: each holds a copy of its prompt's cache.
ROWS = 32
# Of the spread of the vocabulary's log-probabilities, by which a cached score may be off: some times what rounding
# was seen to do to models of 135 million parameters (3e-6, .008 and .07).
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.2}
FEW = 8  # tokens of the shortest comparison

# By model and length, whether cached scores were right there.
_SERVES: WeakKeyDictionary[torch.nn.Module, dict[float, bool]] = WeakKeyDictionary()


def cached_log_probs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    prefix: DynamicCache | None = None,
) -> list[Tensor]:
    """log P(answer | prompt), the sum over the answer's tokens, for each answer of each prompt. Differentiable.

    Args:
        model: a causal language model.
        prompts: token ids of each prompt, without what all share.
        answers: for each prompt, the token ids of its answers.
        prefix: one copy of what the prompts share for each of them; it is extended.

    Returns:
        For each prompt a tensor [answers], float32.

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
    if not cache.get_seq_length():
        raise StudyError("checkpointing: true keeps no cache, which answers of several tokens need. Allowed: false.")
    ids, mask = pad_right([answer[:-1] for answer in answers], model.device)
    targets, _ = pad_right([answer[1:] for answer in answers], model.device)
    log_probs = torch.log_softmax(_read_on(model, cache, rows, read, ids, mask).float(), dim=-1)
    return (log_probs.gather(-1, targets[..., None])[..., 0] * mask).sum(1)


def _read_on(
    model: PreTrainedModel, cache: DynamicCache, rows: Sequence[int], read: Sequence[int], ids: Tensor, mask: Tensor
) -> Tensor:
    """Logits [rows, tokens, vocabulary] of further tokens, [rows, tokens], after rows of a cache; these as above."""
    first = torch.tensor(read, device=model.device)[:, None]
    before = (torch.arange(cache.get_seq_length(), device=model.device) < first).long()
    return model(
        input_ids=ids,
        attention_mask=torch.cat([before, mask], dim=1),
        position_ids=first + torch.arange(ids.shape[1], device=model.device),
        past_key_values=select_rows(cache, rows, model.device),
        use_cache=True,
    ).logits


def read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> DynamicCache | None:
    """The key-value cache of a prefix, of one row; None where there is no prefix.

    Raises:
        ValueError: the model put something else into it.
    """
    if not prefix:
        return None
    cache = DynamicCache(config=model.config)
    last_logits(model, [prefix], cache)
    if cache.get_seq_length() != len(prefix):
        raise ValueError(f"{_name(model)} keeps {cache.get_seq_length()} of {len(prefix)} tokens in its cache")
    return cache


def select_rows(cache: DynamicCache, rows: Sequence[int], device: torch.device) -> DynamicCache:
    """A cache of these rows, any of them several times; the one that they come from stays as it is."""
    selected = copy.copy(cache)
    selected.layers = [copy.copy(layer) for layer in cache.layers]
    selected.batch_select_indices(torch.tensor(rows, device=device))
    return selected


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
        if not difference > TOLERANCE[model.dtype]:
            return True
        if _difference(last_logits(model, [ids[:end] for end in ends]), expected[:, 0]) > TOLERANCE[model.dtype]:
            raise StudyError(f"model: {_name(model)} lets what stands behind a prompt change what it says after it.")
    _warn(model, reason)
    return False


@contextmanager
def _evaluated(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout, checkpointing and autocast; afterwards as it was."""
    training = model.training
    model.eval()
    try:
        with torch.autocast(model.device.type, enabled=False):
            yield
    finally:
        model.train(training)


def _from_cache(model: PreTrainedModel, ids: list[int], ends: tuple[int, int]) -> Tensor:
    """Logits [2, 3, vocabulary] after two beginnings of a text, and after each of the two tokens that follow them.

    Read as scores are: what both share once, the rest in one padded batch, which is then read on.
    """
    shared = ends[0] - 2
    cache = select_rows(read_prefix(model, ids[:shared]), [0, 0], model.device)
    first = last_logits(model, [ids[shared:end] for end in ends], cache)
    further = torch.tensor([ids[end : end + 2] for end in ends], device=model.device)
    then = _read_on(model, cache, [0, 1], ends, further, torch.ones_like(further))
    return torch.cat([first[:, None], then], dim=1)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest distance of log-probabilities over their spread; of what is not finite it is nan."""
    pairs = zip(found.flatten(0, -2), expected.flatten(0, -2), strict=True)  # one at a time takes little memory
    return torch.stack([_distance(*pair) for pair in pairs]).max().item()


def _distance(found: Tensor, expected: Tensor) -> Tensor:
    found, expected = (logits.float().log_softmax(-1) for logits in (found, expected))
    return (found - expected).norm() / (expected - expected.mean()).norm()


def _warn(model: PreTrainedModel, reason: str) -> None:
    warnings.warn(f"{_name(model)}: whole prompts are read, which takes longer: {reason}.", stacklevel=2)


def _name(model: PreTrainedModel) -> str:
    return model.config.name_or_path or model.config.model_type
