"""How one model reads prompts: queries after demonstrations, and their answers, as its token ids."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from lib.errors import StudyError
from lib.models.configuration import context_length, text_part
from lib.models.loading import load_config, load_tokenizer
from lib.tasks.prompts import SEPARATOR, EncodedPrompts, answer_tokens, encode, prompt
from lib.tasks.task import Query


@lru_cache(maxsize=8)
def encoder_of(reference: str) -> "PromptEncoder":
    """A model's encoder, loaded once a process; errors as for `PromptEncoder`."""
    return PromptEncoder(reference)


class PromptEncoder:
    """A model's tokenizer, and how many tokens the model can read."""

    def __init__(self, reference: str) -> None:
        """Load the model's tokenizer; errors as for `lib.models.loading.load_tokenizer`."""
        self.reference = reference
        self.tokenizer = load_tokenizer(reference)
        config = load_config(reference)
        self._max_positions = context_length(config)
        self._vocabulary: int | None = getattr(text_part(config), "vocab_size", None)
        self._answers = lru_cache(maxsize=None)(self._answer_tokens)
        self._bare = lru_cache(maxsize=8)(self._encoded)  # many runs are evaluated on the same queries

    def encode(self, demonstrations: Sequence[Query], queries: Sequence[Query]) -> EncodedPrompts:
        """Prompts of all queries after the same demonstrations; errors as `lib.tasks.prompts.encode`."""
        if demonstrations:
            return self.prompts([(demonstrations, query) for query in queries])
        return self._bare(tuple(prompt([], query) for query in queries), self._room(queries))

    def prompts(self, episodes: Sequence[tuple[Sequence[Query], Query]]) -> EncodedPrompts:
        """Prompts of queries, each after its own demonstrations.

        There is room left for the longest answer but its last token, which is not read.

        Raises:
            StudyError: as for `lib.tasks.prompts.encode`.
        """
        room = self._room([query for _, query in episodes])
        return self._encoded([prompt(before, query) for before, query in episodes], room)

    def _encoded(self, texts: Sequence[str], room: int) -> EncodedPrompts:
        prompts = encode(self.tokenizer, texts, self._max_positions, room)
        highest = max(chain(prompts.prefix, *prompts.suffixes), default=0)
        if self._vocabulary is not None and highest >= self._vocabulary:
            raise StudyError(
                f"model: {self.reference}: its tokenizer gives token {highest}, and the model has {self._vocabulary} "
                "tokens. They do not belong together."
            )
        return prompts

    def _room(self, queries: Sequence[Query]) -> int:
        return max(len(answer) for query in queries for answer in self.answers(query)) - 1

    def too_long(self, demonstrations: Sequence[Query], queries: Sequence[Query]) -> list[Query]:
        """The queries whose prompt does not fit the model."""
        ends = self._max_positions - self._room(queries)
        return self._longer([prompt(demonstrations, query) for query in queries], queries, ends)

    def too_long_beside(self, count: int, queries: Sequence[Query]) -> list[Query]:
        """The queries that, answered, do not fit the model together with `count` others of as many tokens."""
        texts = [f"{query.text} {max(query.options, key=len)}{SEPARATOR}" for query in queries]
        return self._longer(texts, queries, self._max_positions / (count + 1))

    def _longer(self, texts: list[str], queries: Sequence[Query], tokens: float) -> list[Query]:
        read = self.tokenizer(texts)["input_ids"]
        return [query for query, ids in zip(queries, read, strict=True) if len(ids) > tokens]

    def ids(self, query: Query) -> list[int]:
        """The query alone, as a student reads it."""
        return self.tokenizer(query.text)["input_ids"]

    def answers(self, query: Query) -> list[list[int]]:
        """Token ids of each answer as it follows the query; errors as `lib.tasks.prompts.answer_tokens`."""
        return self._answers(query.text.split()[-1] if query.text.split() else "", query.options)

    def _answer_tokens(self, last_word: str, options: tuple[str, ...]) -> list[list[int]]:
        return answer_tokens(self.tokenizer, last_word, options)

    def require_room(self, texts: Sequence[str]) -> None:
        """Raise `StudyError` where a plain text has more tokens than the model has positions."""
        encode(self.tokenizer, texts, self._max_positions)
