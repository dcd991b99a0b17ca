"""Reading JSON lines, with errors that name file, line and fault."""

import codecs
import json
from pathlib import Path
from typing import Any

from lib.errors import StudyError, first_line


def json_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, object) for each line of a JSON-lines file that is not blank.

    Raises:
        StudyError: a line is not UTF-8, not JSON, or not an object.
    """
    with file.open("rb") as lines:
        numbered = [(number, line.removeprefix(codecs.BOM_UTF8).rstrip()) for number, line in enumerate(lines, start=1)]
    return [(number, _object(file, number, line)) for number, line in numbered if line]


def _object(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise StudyError(f"{file}, line {number}: not UTF-8 ({error.reason} at byte {error.start}).") from error
    except json.JSONDecodeError as error:
        raise StudyError(f"{file}, line {number}: not JSON ({error.msg} at column {error.colno}).") from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise StudyError(f"{file}, line {number}: not JSON that can be read ({first_line(error)}).") from error
    if not isinstance(row, dict):
        raise StudyError(f"{file}, line {number}: not an object.")
    return row
