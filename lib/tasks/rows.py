"""Rows of files (csv, tsv, json lines, parquet), of the hub and of GitHub, each with the place that an error names.

`datasets` reads the hub. Its readers of files would make dates of texts and numbers of labels, fill up short rows, and
name no line. So files are read here: a value is what the file holds.
"""

import csv
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from datasets import load_dataset
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import constants
from pyarrow.parquet import ParquetFile

from lib.errors import StudyError, first_line, nearest, unwritable
from lib.paths import digest, locate
from lib.tasks.task import MissingTaskError

HUB, GITHUB = "hub:", "github:"
ON_GITHUB = re.compile(
    rf"{GITHUB}(?P<repository>\w[\w.-]*/\w[\w.-]*)@(?P<commit>[0-9a-f]{{40}})(?P<folder>(/\w[\w.-]*)*)"
)
FILES_OF_GITHUB = "https://raw.githubusercontent.com"
Record = Mapping[str, Any]  # column to value, as a source has them
Located = tuple[str, Record]  # where a row stands, and the row
IN_UTF_16 = "A file in UTF-16 must be saved as UTF-8."
NO_TEXT = {type(None): "null", dict: "a mapping", list: "a list", bytes: "bytes"}
PARQUET = b"PAR1"  # at the beginning and at the end of each such file
csv.field_size_limit(2**31 - 1)  # a text that is too long is one for a model, which says so with the line


def text_of(record: Record, column: str, where: str, wanted: str = "a text", hint: str = "") -> str:
    """A value as a text.

    Args:
        record: a row.
        column: of the value.
        where: the row's place.
        wanted: what the column is to hold, as errors say it.
        hint: what they say beside, where there is no such column.

    Raises:
        StudyError: there is no such column, no text in it, a number that is none, a NUL character, or half a character.
    """
    if column not in record:
        here = f"{nearest(column, record)} Columns here: {', '.join(map(str, record))}."
        raise StudyError(f"{where}: no column {column!r}.{here}{hint}")
    value = record[column]
    if type(value) in NO_TEXT or value in (math.inf, -math.inf) or value != value:
        held = NO_TEXT.get(type(value), f"{value}, which is no number")
        raise StudyError(f"{where}: column {column!r} holds {held}, where {wanted} is needed.")
    text = str(value)
    if wrong := unwritable(text):
        raise StudyError(f"{where}: column {column!r} holds {wrong}. {IN_UTF_16 if chr(0) in text else ''}".rstrip())
    return text


def words_of(record: Record, column: str, where: str) -> str:
    """A text without the white space around it; errors as `text_of`, and a number or a blank text is refused."""
    text = text_of(record, column, where).strip()
    if not text or not isinstance(record[column], str):
        raise StudyError(f"{where}: {column} must be a text, not {record[column]!r}.")
    return text


def require_file_name(file: str) -> str:
    """The name of a file in a folder, which leads out of no folder.

    Raises:
        StudyError: there is a folder in it, or a null character.
    """
    if Path(file).name != file or "\0" in file:
        raise StudyError(f"data: {file!r} is no name of a file. Allowed: a name without folders, as / or .. would be.")
    return file


def rows_of(source: str, file: str) -> Iterable[Located]:
    """The rows of a file in a folder, on the hub or on GitHub.

    Args:
        source: a folder, `hub:OWNER/NAME@COMMIT` (the commit may be left out), or `github:OWNER/NAME@COMMIT/FOLDER`.
        file: its name there.

    Raises:
        MissingTaskError: there is no such file.
        StudyError: the file's name leads elsewhere, the folder is not there, the source cannot be reached, or a row is
            broken.
    """
    require_file_name(file)
    if source.startswith(HUB):
        name, _, commit = source.removeprefix(HUB).partition("@")
        pinned = {"revision": commit} if commit else {}
        return numbered(from_hub(name, data_files=file, split="train", **pinned), f"{name}/{file}, line")
    if source.startswith(GITHUB):
        return rows_of_file(_from_github(source, file))
    folder = locate(source)
    if not folder.is_dir():
        raise StudyError(
            f"in_context: the source {source!r} is not a folder. Allowed: embedded, hub:OWNER/NAME, "
            "github:OWNER/NAME@COMMIT/FOLDER, hub (LAMA alone), or a folder."
        )
    if not os.path.isfile(folder / file):  # of a name that is too long, False
        raise MissingTaskError(f"no file {file} in {source}")
    return rows_of_file(folder / file)


def _from_github(source: str, file: str) -> Path:
    """A file of a commit, downloaded once; errors as `rows_of`."""
    from torch import hub  # here, since torch takes seconds and few data need it

    if not (place := ON_GITHUB.fullmatch(source)):
        raise StudyError(
            f"data: {source!r} names no commit. Allowed: github:OWNER/NAME@COMMIT/FOLDER, of 40 hex digits."
        )
    inside = f"{place['repository']}/{place['commit']}{place['folder']}/{file}"
    path = Path(hub.get_dir()) / "github" / inside
    try:
        if not path.exists():
            if constants.HF_HUB_OFFLINE:
                raise OSError("HF_HUB_OFFLINE is set")
            path.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(f"{FILES_OF_GITHUB}/{inside}", str(path), progress=False)
    except HTTPError as error:
        if error.code == 404:
            raise MissingTaskError(f"no file {file} in {source}") from error
        raise _unreachable(source, error) from error
    except OSError as error:
        raise _unreachable(source, error) from error
    return path


def _unreachable(source: str, error: Exception) -> StudyError:
    return StudyError(
        f"data: {source!r} could not be read ({first_line(error)}). Check the network, or name a folder of files."
    )


def from_hub(name: str, config: str | None = None, **options: str | None) -> Any:  # noqa: ANN401 - one split, or all
    """What `datasets.load_dataset` gives.

    Raises:
        MissingTaskError: the repository is there, and the file that the options name is not.
        StudyError: the hub cannot be reached, or the repository cannot be read.
    """
    try:
        return load_dataset(name, config, **options)
    except Exception as error:  # datasets raises many kinds for a hub that cannot be reached
        lacks_file = isinstance(error, FileNotFoundError) and not isinstance(error, DatasetNotFoundError)
        if lacks_file and "data_files" in options:
            raise MissingTaskError(f"no such file in {name} ({first_line(error)})") from error
        raise _unreachable(f"{HUB}{name}", error) from error


def rows_of_file(file: Path) -> list[Located]:
    """All rows of a file, read anew where its content is another.

    Raises:
        StudyError: the file is not what its name says, or a row is broken.
    """
    try:
        return _rows_of_content(file, digest(file))
    except UnicodeDecodeError as error:
        raise StudyError(f"{file}: could not be read as {file.suffix[1:]} in UTF-8 ({first_line(error)}).") from error
    except (ValueError, OSError) as error:
        raise StudyError(f"{file}: could not be read as {file.suffix[1:]} ({first_line(error)}).") from error


@lru_cache(maxsize=16)
def _rows_of_content(file: Path, _digest: str) -> list[Located]:
    return list(FORMATS[file.suffix](file))


def numbered(records: Iterable[Record], place: str) -> Iterator[Located]:
    """The records with their numbers after the name of the place."""
    for number, record in enumerate(records, start=1):
        yield f"{place} {number}", record


def _parquet(file: Path) -> Iterator[Located]:
    try:
        _require_whole_parquet(file)
        table = ParquetFile(file).read()
        rows = table.to_pylist() if len({*table.column_names}) == len(table.column_names) else []
    except Exception as error:  # pyarrow has a kind for each fault, and they derive from many
        raise ValueError(
            f"{first_line(error)}: it is cut short, altered, encrypted, or of a kind that pyarrow does not read"
        ) from error
    _require_distinct(table.column_names, str(file))
    return numbered(rows, f"{file}, row")


def _require_whole_parquet(file: Path) -> None:
    with file.open("rb") as content:
        begins = content.read(len(PARQUET))
        content.seek(max(0, file.stat().st_size - len(PARQUET)))
        ends = content.read()
    if (begins, ends) != (PARQUET, PARQUET):
        raise ValueError(f"it begins with {begins!r} and ends with {ends!r}, and not with {PARQUET!r}")


def _require_distinct(names: Iterable[str], where: str) -> None:
    """Raise `StudyError` where two columns have one name: the last of them would win."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise StudyError(f"{where}: the column {twice[0]!r} is there twice.")


def _json_lines(file: Path) -> Iterator[Located]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}, line {number}"
            try:
                text = line.rstrip().decode("utf-8-sig")
                record = json.loads(text, object_pairs_hook=partial(_object, where)) if text else {}
            except json.JSONDecodeError as error:
                raise StudyError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from error
            except (ValueError, RecursionError) as error:  # not UTF-8, nested too deep, or a number too long
                raise StudyError(f"{where}: not JSON in UTF-8 that can be read ({first_line(error)}).") from error
            if not isinstance(record, dict):
                raise StudyError(f"{where}: not an object.")
            if text:
                yield where, record


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    "".join(record).encode()  # raises where a name has half a character
    if len(record) < len(pairs):
        _require_distinct([name for name, _ in pairs], where)
    return record


def _separated(file: Path, separator: str) -> Iterator[Located]:
    """Rows with the line on which each begins: a quoted field may hold line breaks."""
    begins = 1
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            header = next(reader, [])
            _require_distinct(header, str(file))
            if any("\0" in name for name in header):
                raise StudyError(f"{file}: the header has NUL characters. {IN_UTF_16}")
            begins = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    raise csv.Error(f"{len(fields)} fields, but the header has {len(header)}")
                if fields:
                    yield f"{file}, line {begins}", dict(zip(header, fields, strict=True))
                begins = reader.line_num + 1
        except csv.Error as error:
            raise StudyError(
                f"{file}, line {begins}: {error}. A field that holds the separator, a quote or a line break stands in "
                "quotes, and a quote in it is written twice."
            ) from error


FORMATS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".jsonl": _json_lines,
    ".csv": partial(_separated, separator=","),
    ".tsv": partial(_separated, separator="\t"),
    ".parquet": _parquet,
}
