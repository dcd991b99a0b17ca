"""Changing one setting at a time of a nested record, to see that each has a part in its key."""

import dataclasses

from lib.models.training import EXECUTION


def leaves(record, path=()):
    """The paths of all settings but those that only say how the result is computed."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.metadata == EXECUTION:
            continue
        if dataclasses.is_dataclass(value):
            yield from leaves(value, (*path, field.name))
        else:
            yield (*path, field.name)


def with_leaf(record, path, value):
    """The record with another value at a path."""
    name, *inner = path
    return dataclasses.replace(record, **{name: with_leaf(getattr(record, name), inner, value) if inner else value})


def leaf(record, path):
    """The value at a path."""
    return leaf(getattr(record, path[0]), path[1:]) if path else record


def altered(value):
    """Another value of the same kind."""
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, value[0] if value else 5)
    return 1 if value is None else value + 1
