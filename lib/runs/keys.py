"""The key of a record: what determines a result, as sixteen hex digits that name its file."""

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

from lib.models.training import EXECUTION

# Raised when the code changes what a run's result would be, so that no stored result is mistaken for a new one.
REVISION = 1


def key(record: object, *further: object) -> str:
    """Sixteen hex digits that name a record's result; settings that are None or as by default do not count.

    Leaving them out lets a later option be added, with what was done before as its default, without renaming the
    results that exist. Fields of `EXECUTION` do not count either. `further` are records and values that the result
    depends on too.
    """
    content = json.dumps([REVISION, _said(record), *map(_said, further)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _said(value: Any) -> Any:  # noqa: ANN401 - a record, or what a field holds
    if isinstance(value, tuple):
        return [_said(inner) for inner in value]
    if not is_dataclass(value):
        return value
    told = [one for one in fields(value) if one.metadata != EXECUTION]
    held = {one.name: getattr(value, one.name) for one in told}
    unsaid = {one.name: one.default for one in told}
    return {name: _said(inner) for name, inner in held.items() if inner is not None and inner != unsaid[name]}
