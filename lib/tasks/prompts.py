"""From examples to token ids: patterns, label words, demonstrations, and the prefix that queries share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lib.errors import StudyError
from lib.tasks.task import CLASSES, Example

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Pattern:
    """A text template for one query and the words that answer it, entailment first."""

    template: str
    label_words: tuple[str, str]

    def query(self, example: Example) -> str:
        """The text that a model completes with a label word; it never ends in a space."""
        return self.template.format(premise=example.premise.strip(), hypothesis=example.hypothesis.strip())


# Patterns of Mosbach et al. 2023 (arXiv 2305.16938), with real newlines and one format for demonstration and query.
PATTERNS = {
    "minimal": Pattern("{premise} {hypothesis} ?", ("Yes", "No")),
    "gpt-3": Pattern("{premise}\nquestion: {hypothesis} Yes or No?\nanswer:", ("Yes", "No")),
    "eval-harness": Pattern("{premise}\nQuestion: {hypothesis} True or False?\nAnswer:", ("True", "False")),
}

# The content-free inputs of contextual calibration (Zhao et al. 2021, arXiv 2102.09690).
CONTENT_FREE = [Example(text, text, 0) for text in ("N/A", "[MASK]", "")]


def prompt(pattern: Pattern, words: Sequence[str], demonstrations: Sequence[Example], query: Example) -> str:
    """Demonstrations with their label words, then the query without one, a blank line between any two.

    The space between a pattern and its label word belongs to the word, as tokenizers have it.
    """
    shown = [f"{pattern.query(example)} {words[example.label]}" for example in demonstrations]
    return SEPARATOR.join([*shown, pattern.query(query)])


@dataclass(frozen=True)
class EncodedPrompts:
    """Token ids of many prompts: what all of them begin with, once, and the rest of each (never empty)."""

    prefix: list[int]
    suffixes: list[list[int]]

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass with a cached prefix reads, padding not counted."""
        return len(self.prefix) + sum(map(len, self.suffixes))


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_positions: int, room: int = 0
) -> EncodedPrompts:
    """Tokenise whole prompts and split off the longest prefix of ids that they share.

    The split is made on ids and not on text, because text cut at a blank line or a space tokenises differently
    from the whole; so prefix + suffix is the whole prompt by construction. Special tokens are added once.

    Raises:
        StudyError: a prompt has more tokens than `max_positions`, less the `room` that is kept for an answer.
    """
    whole: list[list[int]] = tokenizer(list(texts))["input_ids"]
    longest = max(range(len(whole)), key=lambda i: len(whole[i]))
    if len(whole[longest]) + room > max_positions:
        answer = f" and {room} of an answer" if room else ""
        raise StudyError(
            f"prompt: {len(whole[longest])} tokens{answer} do not fit the model's {max_positions} positions "
            f"(the prompt that ends in {texts[longest][-60:]!r}); use fewer demonstrations or shorter texts."
        )
    shared = len(os.path.commonprefix(whole))  # noqa: RUF071 - id by id is what is wanted
    cut = min(shared, min(map(len, whole)) - 1)
    return EncodedPrompts(whole[0][:cut], [ids[cut:] for ids in whole])


def label_token_ids(tokenizer: PreTrainedTokenizerBase, pattern: Pattern, words: Sequence[str]) -> list[int]:
    """The first token of each label word as it follows the pattern, one id a class.

    Raises:
        StudyError: the words share their first token, or joining a word changes the prompt's own tokens.
    """
    query = pattern.query(Example("A premise.", "A hypothesis.", 0))
    before: list[int] = tokenizer(query)["input_ids"]
    answers: list[list[int]] = []
    for word in words:
        after: list[int] = tokenizer(f"{query} {word}")["input_ids"]
        if after[: len(before)] != before or len(after) == len(before):
            raise StudyError(
                f"label_words: {word!r} merges with the text before it under this tokenizer, "
                "or the tokenizer ends every text with a token of its own; a causal model's does neither."
            )
        answers.append(after[len(before) :])
    if len({answer[0] for answer in answers}) < len(words):
        spelled = "; ".join(
            f"{word!r} = {tokenizer.convert_ids_to_tokens(answer)}" for word, answer in zip(words, answers, strict=True)
        )
        raise StudyError(f"label_words: each needs a first token of its own to be told apart, but {spelled}.")
    return [answer[0] for answer in answers]


def label_words(pattern: Pattern, chosen: Sequence[str] | None) -> tuple[str, ...]:
    """The profile's label words, or the pattern's own; one for each class, entailment first."""
    words = tuple(chosen) if chosen else pattern.label_words
    if len(words) != len(CLASSES):
        raise StudyError(
            f"label_words: {list(words)} has {len(words)} words, but {len(CLASSES)} classes need one each."
        )
    return words
