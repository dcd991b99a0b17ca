"""Errors that a user of the study can act on: what was wrong, where, and what is allowed."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import takewhile
from reprlib import Repr


class StudyError(Exception):
    """A setting, file or machine that the study cannot work with; its message is all that a user needs."""


class StorageError(StudyError):
    """A file that cannot be written: what is computed could not be kept, so that the whole run ends."""


class RefusedMethod(StudyError):
    """A method that does not apply to a model (BitFit without biases); a sweep records it and goes on."""


class NonFiniteLossError(StudyError):
    """A training loss became nan or infinite."""


def first_line(error: Exception) -> str:
    """What a library's error says first, in one line; its kind where it says nothing."""
    if isinstance(error, KeyError):
        return f"nothing is known under {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = list(takewhile(_goes_on, lines))
    return " ".join(lines[: len(said) + 1]) or type(error).__name__


def _goes_on(line: str) -> bool:
    """Whether what a line says is in the next one."""
    return line.endswith((":", ","))


def unwritable(text: str) -> str:
    """What a text holds that no tokenizer and no file takes; empty where there is nothing."""
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half a character (a lone surrogate)"
    return ""


def require_one_of(key: str, value: object, allowed: Iterable[object]) -> None:
    """Raise `StudyError` unless `value` is among `allowed`, naming key, value, choices and the nearest choice."""
    choices = list(allowed)
    if value not in choices:
        raise StudyError(not_known(key, value, choices))


def not_known(key: str, value: object, choices: Iterable[object]) -> str:
    """That a value is none of the choices, with the nearest of them."""
    return f"{key}: {shown(value)} is not known.{nearest(value, choices)} Allowed: {', '.join(map(str, choices))}."


def shown(value: object) -> str:
    """A value as an error shows it: of a long one, its beginning and its end."""
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = 100
    return short.repr(value)


def nearest(value: object, choices: Iterable[object]) -> str:
    """A question after the nearest choice; empty where none is near."""
    texts, wanted = list(map(str, choices)), str(value)
    alike = [text for text in texts if text.strip().casefold() == wanted.strip().casefold()]
    near = alike or get_close_matches(wanted, texts, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
