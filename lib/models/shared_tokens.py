"""Where two tokenizers can be compared on plain text: after the same characters, over the tokens that both have.

With one tokenizer for both this is every position and the whole vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class SharedTokens:
    """Ids of the tokens that are spelled alike in two vocabularies, [shared] each, in the same order."""

    student: Tensor
    teacher: Tensor


def shared_tokens(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> SharedTokens:
    """The tokens that both tokenizers have, special tokens aside where their names differ."""
    first, second = student.get_vocab(), teacher.get_vocab()
    common = sorted(first.keys() & second.keys(), key=first.__getitem__)
    return SharedTokens(torch.tensor([first[one] for one in common]), torch.tensor([second[one] for one in common]))


@dataclass(frozen=True)
class AlignedText:
    """One text under both tokenizers: ids, and the positions of each after which the same characters were read."""

    student_ids: list[int]
    teacher_ids: list[int]
    student_positions: list[int]
    teacher_positions: list[int]


def align(text: str, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> AlignedText:
    """The text's tokens and where both tokenizers stand at the same character, the end of the text aside."""
    (first, first_ends), (second, second_ends) = (_ends(text, one) for one in (student, teacher))
    common = [end for end in first_ends if end in second_ends and 0 < end < len(text)]
    return AlignedText(first, second, [first_ends[end] for end in common], [second_ends[end] for end in common])


def _ends(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], dict[int, int]]:
    """Token ids, and for each character that a token ends before, the last token that does.

    A token of bytes may end inside a character: its offsets cover that character, and so do those of the next.
    """
    encoded = tokenizer(text, return_offsets_mapping=True)
    spans: Sequence[tuple[int, int]] = encoded["offset_mapping"]
    followed_by = [start for start, _ in [*spans[1:], (len(text), len(text))]][: len(spans)]
    whole = [(i, end) for i, ((_, end), start) in enumerate(zip(spans, followed_by, strict=True)) if start >= end]
    return encoded["input_ids"], {end: i for i, end in whole}
