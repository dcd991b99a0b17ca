"""Files that are whole or absent, whatever ends the process that writes them; what cannot be read is absent."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError

from lib.errors import StorageError
from lib.scratch import ALL, prefix, remove_abandoned

Record = dict[str, Any]
PROBE = bytes(2**16)  # a disk without room for as much is full


def replace_file(file: Path, write: Callable[[str], object]) -> None:
    """Write beside the file, then rename, so that a kill leaves the old file or the new one and no third.

    Raises:
        StorageError: the disk is full, or nothing can be written there.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=prefix())
        os.close(handle)
        try:
            write(scratch)
            os.chmod(scratch, 0o644)
            os.replace(scratch, file)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{file} cannot be written: {_hindrance(file, error)}.") from error


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; errors as `replace_file`."""
    replace_file(file, lambda scratch: Path(scratch).write_text(text, encoding="utf-8"))


def write_json(file: Path, record: Record) -> None:
    """Write a JSON file, whole or not at all; errors as `replace_file`."""
    write_text(file, json.dumps(record, allow_nan=False))


def write_csv(file: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all; errors as `replace_file`."""
    replace_file(file, lambda scratch: table.to_csv(scratch, index=False, float_format="%.6g"))


def require_writable(folder: Path) -> None:
    """Raise `StorageError` where nothing can be written to a folder, or it is not there and could not be made."""
    probe = next(place for place in (folder, *folder.parents) if os.path.lexists(place)) / ".writable"
    replace_file(probe, lambda scratch: Path(scratch).write_bytes(PROBE))
    remove(probe)


def remove(file: Path) -> None:
    """Remove a file that may be there; errors as `replace_file`."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{file} cannot be removed: {error}.") from error


def remove_scratch(folder: Path) -> None:
    """Remove what processes of this machine that were killed while they wrote have left anywhere in a folder."""
    remove_abandoned(folder.rglob(ALL))


def _hindrance(file: Path, error: Exception) -> str:
    """The first part of a file's path that is there and is no folder, if any; else what the system says."""
    for part in reversed(file.parents):
        if os.path.lexists(part) and not part.is_dir():
            return f"{part} is {'a link to what is not there' if part.is_symlink() else 'no folder'}"
    return getattr(error, "strerror", None) or str(error)


def warn_altered(file: Path) -> None:
    """Say that a file counts as absent."""
    print(f"warning: {file} is cut short or altered, and counts as absent.", file=sys.stderr)


def read_json(file: Path, warn: Callable[[Path], None] = warn_altered) -> Record | None:
    """The object in a JSON file; None where it is absent, or cannot be read (with a warning)."""
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        record = json.loads(file.read_text(encoding="utf-8"), parse_constant=_not_a_number)
        if isinstance(record, dict):
            return record
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):  # not UTF-8, not JSON, or no number where one should be
        pass
    warn(file)
    return None


def _not_a_number(name: str) -> None:
    raise ValueError(f"{name} is no number that a record holds")


def read_table(file: Path, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame | None:
    """The rows of a CSV file with these columns; None where it is absent, or cannot be read (with a warning)."""
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys(texts, str))
        if {*texts} <= {*table} and not table[list(numbers)].apply(pd.to_numeric).isna().any(axis=None):
            return table
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError):  # not UTF-8, no rows, a row too long, no such column, no number
        pass
    warn_altered(file)
    return None
