"""One forward pass over prompts of any lengths: padded, or laid end to end; logits after the last token of each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from lib.models.configuration import position_switch


def pad_right(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [batch, longest] and their mask; padding on the right is never attended to, so any id serves."""
    ids = pad_sequence([torch.tensor(sequence, dtype=torch.long) for sequence in sequences], batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


def last_logits(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    columns: Sequence[int] | None = None,
    every_position: bool = False,
    prefix: Cache | None = None,
) -> Tensor:
    """Logits [batch, vocabulary] after the last token of each sequence; the head is applied to no other position.

    Differentiable. Sequences on different sides of a switch of positions are read apart, since a batch has one side.

    Args:
        model: a causal language model.
        sequences: token ids, of any lengths.
        columns: these alone, [batch, columns], from a head that has these rows of its weight and no others.
        every_position: apply the head to all positions and keep the last, as plain training code does: for measuring
            what that costs.
        prefix: what all sequences see before them, of one row that is lent to each.
    """
    switch = position_switch(model.config)
    short = [i for i, ids in enumerate(sequences) if len(ids) <= switch]
    if prefix is None and 0 < len(short) < len(sequences):
        order = [*short, *(i for i, ids in enumerate(sequences) if len(ids) > switch)]
        sides = [order[: len(short)], order[len(short) :]]
        read = [last_logits(model, [sequences[i] for i in side], columns, every_position) for side in sides]
        return torch.cat(read)[torch.tensor(order).argsort()]
    ids, mask = pad_right(sequences, model.device)
    last = mask.sum(1, keepdim=True) - 1
    seen = prefix.get_seq_length() if prefix is not None else 0
    attention = torch.cat([mask.new_ones(len(sequences), seen), mask], dim=1)
    read = {"input_ids": ids, "attention_mask": attention, "past_key_values": prefix, "use_cache": prefix is not None}
    if not every_position:
        read["logits_to_keep"] = last
    logits = _logits(model, read, columns)
    # some architectures ignore what is to be kept
    return logits[:, 0] if logits.shape[1] == 1 else logits[torch.arange(len(sequences)), last[:, 0]]


def packed_logits(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    columns: Sequence[int] | None = None,
    every_position: bool = False,
    branches: Sequence[Sequence[Sequence[int]]] | None = None,
    prefix: Cache | None = None,
) -> Tensor:
    """`last_logits` of sequences laid end to end in one row: nothing is padded, and nothing is read twice.

    Positions begin again with each sequence. The mask that keeps them apart is handed to the model, since not every
    architecture makes it of the positions (OPT does not). It knows no sliding window.

    Args:
        model, sequences, columns, every_position: as for `last_logits`; none reaches beyond a window.
        branches: of each sequence, token ids of texts that go on from its end; each sees its sequence and itself.
        prefix: what all sequences see before them, of one row; it stays as it is.

    Returns:
        Logits [positions, columns]: after each sequence, and then after each token of its branches.
    """
    seen = prefix.get_seq_length() if prefix is not None else 0
    tokens = list(_row(sequences, branches or [[]] * len(sequences), seen))
    kept = torch.tensor([place for place, token in enumerate(tokens) if token.kept], device=model.device)
    ids, positions, part, after, _ = torch.tensor(tokens, device=model.device).T
    part = torch.cat([part.new_zeros(seen), part])  # the prefix is part 0
    after = torch.cat([after.new_zeros(seen), after])

    def is_seen(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = (part[key] == 0) | (part[key] == part[query]) | (part[key] == after[query])
        return same & (key <= query)

    mask = _mask(model, len(tokens), seen, is_seen)
    read = {"input_ids": ids[None], "position_ids": positions[None], "attention_mask": mask}
    read |= {"past_key_values": prefix, "use_cache": prefix is not None}
    if not every_position:
        read["logits_to_keep"] = kept
    logits = _logits(model, read, columns)[0]
    return logits if len(logits) == len(kept) else logits[kept]


def _mask(model: PreTrainedModel, tokens: int, seen: int, is_seen: Callable[..., Tensor]) -> Tensor:
    """[1, 1, tokens, seen + tokens], in the form that the model's attention takes."""
    implementation = model.config.get_text_config()._attn_implementation
    return ALL_MASK_ATTENTION_FUNCTIONS[implementation](
        batch_size=1,
        q_length=tokens,
        kv_length=seen + tokens,
        q_offset=seen,
        kv_offset=0,
        mask_function=is_seen,
        allow_is_causal_skip=False,
        dtype=model.dtype,
        config=model.config,
        device=model.device,
    )


class _Token(NamedTuple):
    """Of a row: which part of it the token is in, after which other part, and whether what follows it is asked for."""

    id: int
    position: int
    part: int
    after: int
    kept: bool


def _row(
    sequences: Sequence[Sequence[int]], branches: Sequence[Sequence[Sequence[int]]], seen: int
) -> Iterator[_Token]:
    part = 0
    for sequence, own in zip(sequences, branches, strict=True):
        part = trunk = part + 1
        for i, token in enumerate(sequence, 1):
            yield _Token(token, seen + i - 1, part, 0, i == len(sequence))
        for branch in own:
            part += 1
            for i, token in enumerate(branch, len(sequence)):
                yield _Token(token, seen + i, part, trunk, True)


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
