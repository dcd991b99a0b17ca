"""Labelled rows from where they lie: the study's own, a file (csv, tsv, json lines, parquet), a folder, or the hub."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from datasets import DatasetDict, load_dataset
from pyarrow.parquet import ParquetFile

from lib.errors import StudyError, first_line, require_one_of
from lib.paths import digest, locate
from lib.tasks import smoke, world
from lib.tasks.catalogue import CLASSES, EMBEDDED
from lib.tasks.json_lines import json_lines
from lib.tasks.patterns import fill, placeholders
from lib.tasks.task import DROPPED, Dataset, Query, Row, Split, Task

HUB = "hub:"
FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
Record = Mapping[str, Any]  # column to value, as a source has them


@cache
def queries(task: Task, dataset: Dataset, split: Split) -> list[Query]:
    """All rows of one split of a dataset under the task's pattern, in the order of the source; read once a process.

    Raises:
        StudyError: the source cannot be read; a row lacks a column, or has a label without a class; no row is left.
    """
    names = placeholders(task.pattern)
    return [
        Query(fill(task.pattern, row.fields), task.label_words, task.classes.index(row.label), row.kind)
        for row in rows(dataset, split, task.classes, names)
    ]


def rows(dataset: Dataset, split: Split, classes: tuple[str, ...], fields: list[str]) -> list[Row]:
    """The labelled rows of a split; errors as for `queries`.

    Args:
        dataset: where they lie, and what of them is read.
        split: `train` for support sets and pools, `evaluation` for scores.
        classes: those that a label may stand for.
        fields: the text fields that each row must have.
    """
    kept = [
        row
        for where, record in _of_split(dataset, split)
        if all(_text(record, column, where) == value for column, value in dataset.where)
        and (row := _row(dataset, record, where, classes, fields)).label != DROPPED
    ]
    if not kept:
        raise StudyError(f"data: {dataset.name} ({dataset.source}) has no row of the {split} split in {list(classes)}.")
    return kept


def _own(dataset: Dataset, split: Split) -> Iterator[tuple[str, Record]]:
    """The study's own pairs in the form of any other rows."""
    require_one_of("dataset", dataset.name, EMBEDDED[dataset.source])
    pairs = world.examples(dataset.name, split) if dataset.source == "world" else smoke.PAIRS[dataset.name][split]
    for number, pair in enumerate(pairs, start=1):
        yield f"{dataset.name}, {split}, row {number}", {**pair._asdict(), "label": CLASSES[pair.label]}


def _row(dataset: Dataset, record: Record, where: str, classes: tuple[str, ...], fields: list[str]) -> Row:
    """One row as the task reads it; errors name where it stands, the value, and what is allowed."""
    columns = dict(dataset.columns)
    texts = {name: _text(record, columns.get(name, name), where) for name in fields}
    kind = tuple(_text(record, column, where) for column in dataset.kind if record.get(column) is not None)
    label = _label(dataset, record, where, classes)
    return Row(texts, label, kind, where)


def _text(record: Record, column: str, where: str) -> str:
    value = record.get(column)
    if value is None or isinstance(value, (dict, list)):
        raise StudyError(f"{where}: no text in column {column!r}. Columns here: {', '.join(map(str, record))}.")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StudyError(f"{where}: column {column!r} holds half a character (a lone surrogate).") from None
    return text


def _label(dataset: Dataset, record: Record, where: str, classes: tuple[str, ...]) -> str:
    raw = _text(record, dataset.label, where).strip()
    if dataset.labels:
        require_one_of(f"{where}, {dataset.label}", raw, dict(dataset.labels))
        return dict(dataset.labels)[raw]
    require_one_of(f"{where}, {dataset.label}", raw, classes)
    return raw


def _of_split(dataset: Dataset, split: Split) -> Iterable[tuple[str, Record]]:
    """(where, record) pairs of one split; a file without a split column serves both."""
    if dataset.source in EMBEDDED:
        return _own(dataset, split)
    if dataset.source.startswith(HUB):
        return _on_the_hub(dataset, split)
    file = file_of(dataset)
    records = _records(file, digest(file))
    values = [record.get(dataset.split) for _, record in records]
    names = ["" if value is None else str(value) for value in values]
    if not any(names):
        return records
    if "" in names:
        where, _ = records[names.index("")]
        raise StudyError(f"{where}: no {dataset.split}, which other rows have ({names.count('')} lack it).")
    wanted = _first(getattr(dataset, split), set(names), f"{file}: no {split} split")
    return [one for one, name in zip(records, names, strict=True) if name == wanted]


def _first(names: tuple[str, ...], there: Iterable[str], problem: str) -> str:
    for name in names:
        if name in there:
            return name
    raise StudyError(f"{problem}. Present: {sorted(there)}; read: {list(names)}.")


def file_of(dataset: Dataset) -> Path:
    """The file that a dataset's source means; in a folder, the one that bears its name."""
    path = locate(dataset.source)
    if path.is_file():
        require_one_of(f"{path}: its format", path.suffix, FORMATS)
        return path
    if not path.is_dir():
        raise StudyError(
            f"data: {dataset.source!r} is no file and no folder. Allowed: hub, world, embedded, a file "
            f"({', '.join(FORMATS)}), or a folder of such files."
        )
    for suffix in FORMATS:
        if (file := path / f"{dataset.name}{suffix}").is_file():
            return file
    present = sorted(file.name for file in path.iterdir() if file.suffix in FORMATS)
    raise StudyError(f"dataset: {dataset.name!r} is not in {path}. Present: {', '.join(present) or 'no data file'}.")


@lru_cache(maxsize=16)
def _records(file: Path, content: str) -> list[tuple[str, Record]]:
    """(file and line, record) of every row of a file; `content` is its digest, so that another one is read anew."""
    if file.suffix == ".jsonl":
        return [(f"{file}, line {number}", row) for number, row in json_lines(file)]
    try:
        if file.suffix == ".parquet":
            table = ParquetFile(file).read().to_pylist()
            return [(f"{file}, row {number}", row) for number, row in enumerate(table, start=1)]
        return list(_separated(file, "\t" if file.suffix == ".tsv" else ","))
    except (ValueError, OSError) as error:  # pyarrow derives its own from these
        raise StudyError(f"{file}: could not be read as {file.suffix[1:]} ({first_line(error)}).") from error


def _separated(file: Path, separator: str) -> Iterator[tuple[str, Record]]:
    """Rows with the line on which each begins: a quoted field may hold line breaks."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        begins = 1
        try:
            header = next(reader, [])
            begins = reader.line_num + 1
            for fields in reader:
                if fields:
                    where = f"{file}, line {begins}"
                    yield where, _by_column(header, fields, where)
                begins = reader.line_num + 1
        except csv.Error as error:
            raise StudyError(f"{file}, line {begins}: {error}; a quote within quotes is written twice.") from error


def _by_column(header: list[str], fields: list[str], where: str) -> Record:
    if len(fields) != len(header):
        raise StudyError(
            f"{where}: {len(fields)} fields, but the header has {len(header)}; a field that holds the separator or a "
            "line break stands in quotes."
        )
    return dict(zip(header, fields, strict=True))


def _on_the_hub(dataset: Dataset, split: Split) -> Iterator[tuple[str, Record]]:
    name = dataset.source.removeprefix(HUB)
    try:
        table: DatasetDict = load_dataset(name, dataset.config, revision=dataset.revision)
    except Exception as error:  # datasets raises many kinds for a hub that cannot be reached
        raise StudyError(
            f"data: {name!r} could not be read from the hub ({first_line(error)}). Check the network, "
            "or set data to a folder of files."
        ) from error
    chosen = _first(getattr(dataset, split), table, f"{name}: no {split} split")
    for number, record in enumerate(table[chosen], start=1):
        yield f"{name}, {chosen}, row {number}", record
