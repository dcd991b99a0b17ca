"""From queries to token ids: demonstrations, the prefix that prompts share, and the tokens of each answer."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lib.errors import StudyError
from lib.tasks.task import Query

SEPARATOR = "\n\n"


class TooLongError(StudyError):
    """A prompt has more tokens than the model has positions."""


def prompt(demonstrations: Sequence[Query], query: Query) -> str:
    """Demonstrations with their answers, then the query without one, a blank line between any two."""
    return SEPARATOR.join([*(example.answered for example in demonstrations), query.text])


@dataclass(frozen=True)
class EncodedPrompts:
    """Token ids of many prompts: what all of them begin with, once, and the rest of each (never empty)."""

    prefix: list[int]
    suffixes: list[list[int]]

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass with a cached prefix reads, padding not counted."""
        return len(self.prefix) + sum(map(len, self.suffixes))

    def whole(self) -> "EncodedPrompts":
        """The same prompts, of which nothing is shared."""
        return EncodedPrompts([], [self.prefix + suffix for suffix in self.suffixes])


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_positions: int, room: int = 0
) -> EncodedPrompts:
    """Tokenise whole prompts and split off the longest prefix of ids that they share.

    The split is made on ids and not on text, because text cut at a blank line or a space tokenises differently
    from the whole; so prefix + suffix is the whole prompt by construction. Special tokens are added once.

    Raises:
        StudyError: a prompt has no token.
        TooLongError: one has more than `max_positions`, less the `room` that is kept for an answer.
    """
    whole: list[list[int]] = tokenizer(list(texts))["input_ids"]
    if not all(whole):
        raise StudyError("prompt: an empty text has no token; give the pattern text of its own beside its columns.")
    longest = max(range(len(whole)), key=lambda i: len(whole[i]))
    if len(whole[longest]) + room > max_positions:
        answer = f" and {room} of an answer" if room else ""
        raise TooLongError(
            f"prompt: {len(whole[longest])} tokens{answer} do not fit the model's {max_positions} positions "
            f"(the prompt that ends in {texts[longest][-60:]!r}); use fewer demonstrations or shorter texts."
        )
    shared = len(os.path.commonprefix(whole))  # noqa: RUF071 - id by id is what is wanted
    cut = min(shared, min(map(len, whole)) - 1)
    return EncodedPrompts(whole[0][:cut], [ids[cut:] for ids in whole])


def answer_tokens(tokenizer: PreTrainedTokenizerBase, before: str, answers: Sequence[str]) -> list[list[int]]:
    """The tokens of each answer as it follows a text.

    Raises:
        StudyError: joining an answer changes the text's own tokens, or two answers are the same tokens.
    """
    text: list[int] = tokenizer(before)["input_ids"]
    tokens: list[list[int]] = []
    for answer in answers:
        whole: list[int] = tokenizer(f"{before} {answer}")["input_ids"]
        if whole[: len(text)] != text or len(whole) == len(text):
            raise StudyError(
                f"label_words: {answer!r} merges with the text before it ({before[-30:]!r}) under this tokenizer, "
                "or the tokenizer ends every text with a token of its own; a causal model's does neither."
            )
        tokens.append(whole[len(text) :])
    if len(set(map(tuple, tokens))) < len(tokens):
        spelled = "; ".join(
            f"{answer!r} = {tokenizer.convert_ids_to_tokens(ids)}" for answer, ids in zip(answers, tokens, strict=True)
        )
        raise StudyError(f"label_words: each needs tokens of its own to be told apart, but {spelled}.")
    return tokens


def first_tokens(answers: Sequence[Sequence[int]]) -> list[int] | None:
    """The first token of each answer where these tell them apart; None where further tokens are needed."""
    first = [answer[0] for answer in answers]
    return first if len(set(first)) == len(first) else None
