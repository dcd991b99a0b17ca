"""Errors that a user of the study can act on: what was wrong, where, and what is allowed."""

from collections.abc import Iterable
from difflib import get_close_matches
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
    """What a library's error says, in one line; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


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
