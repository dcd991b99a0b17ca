"""Patterns and verbalizers: the text that puts a row to a model, and the words that answer it."""

from collections.abc import Mapping
from string import Formatter

from lib.errors import StudyError
from lib.tasks.task import Query, Task

# Of Mosbach et al. 2023 (arXiv 2305.16938), with real newlines and one format for demonstration and query.
PATTERNS = {
    "minimal": "{premise} {hypothesis} ?",
    "gpt-3": "{premise}\nquestion: {hypothesis} Yes or No?\nanswer:",
    "eval-harness": "{premise}\nQuestion: {hypothesis} True or False?\nAnswer:",
}
# The words of those patterns, entailment first.
LABEL_WORDS = {"minimal": ("Yes", "No"), "gpt-3": ("Yes", "No"), "eval-harness": ("True", "False")}

# What takes the place of every field in the content-free inputs of contextual calibration (Zhao et al. 2021,
# arXiv 2102.09690).
CONTENT_FREE_TEXTS = ("N/A", "[MASK]", "")


def placeholders(pattern: str) -> list[str]:
    """The fields that a pattern names.

    Raises:
        StudyError: it has none, an unnamed one, braces that do not match, or a space at its end.
    """
    try:
        parts = [part for part in Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise StudyError(f"pattern: {pattern!r}: {error}. A brace that is text is written twice.") from None
    names = [name for _, name, _, _ in parts]
    formatted = any(spec or conversion for _, _, spec, conversion in parts)
    if not names or formatted or not all(name.isidentifier() for name in names):
        raise StudyError(
            f"pattern: {pattern!r} needs the name of a column and no more in each pair of braces, and one pair at "
            f"least; the names in it: {names}."
        )
    if pattern != pattern.rstrip():
        raise StudyError(
            f"pattern: {pattern!r} ends in a space or a line break; the space before a label word is the word's own."
        )
    return list(dict.fromkeys(names))


def fill(pattern: str, fields: Mapping[str, object]) -> str:
    """The pattern with a row's fields in it, without the white space around them; it ends in no space."""
    return pattern.format_map({name: str(text).strip() for name, text in fields.items()}).rstrip()


def content_free(task: Task) -> list[Query]:
    """The task's queries without content; their gold class means nothing."""
    names = placeholders(task.pattern)
    return [Query(fill(task.pattern, dict.fromkeys(names, text)), task.label_words, 0) for text in CONTENT_FREE_TEXTS]
