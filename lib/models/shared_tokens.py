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


def shared_positions(
    text: str, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """Positions of the student's tokens, and of the teacher's, after which both have read the same characters.

    The end of the text is none of them.
    """
    first, second = _ends(text, student), _ends(text, teacher)
    common = [end for end in first if end in second and 0 < end < len(text)]
    return [first[end] for end in common], [second[end] for end in common]


def _ends(text: str, tokenizer: PreTrainedTokenizerBase) -> dict[int, int]:
    """For each character that a token ends before, the last token that does.

    A token of bytes may end inside a character: its offsets cover that character, and so do those of the next.
    """
    spans: Sequence[tuple[int, int]] = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    followed_by = [start for start, _ in [*spans[1:], (len(text), len(text))]][: len(spans)]
    return {end: i for i, ((_, end), start) in enumerate(zip(spans, followed_by, strict=True)) if start >= end}
