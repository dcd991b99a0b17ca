"""One forward pass over prompts of any lengths: padded, or laid end to end; logits after the last token of each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import DataCollatorWithFlattening, DynamicCache, PreTrainedModel
from transformers.masking_utils import create_masks_for_generate

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
    prefix: DynamicCache | None = None,
    columns: Sequence[int] | None = None,
    every_position: bool = False,
) -> Tensor:
    """Logits [batch, vocabulary] after the last token of each sequence; the head is applied to no other position.

    Differentiable. Sequences on different sides of a switch of positions are read apart, since a batch has one side.

    Args:
        model: a causal language model.
        sequences: token ids, of any lengths.
        prefix: one copy of the shared context for each sequence; it is extended.
        columns: these alone, [batch, columns], from a head that has these rows of its weight and no others.
        every_position: apply the head to all positions and keep the last, as plain training code does: for measuring
            what that costs.
    """
    switch = position_switch(model.config)
    short = [i for i, ids in enumerate(sequences) if len(ids) <= switch]
    if prefix is None and 0 < len(short) < len(sequences):
        order = [*short, *(i for i, ids in enumerate(sequences) if len(ids) > switch)]
        sides = [order[: len(short)], order[len(short) :]]
        read = [last_logits(model, [sequences[i] for i in side], None, columns, every_position) for side in sides]
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
    if not every_position:
        read["logits_to_keep"] = last
    logits = _logits(model, read, columns)[0]
    return logits if len(logits) == len(last) else logits[last]


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
