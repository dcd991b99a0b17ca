"""The labelled rows of a dataset as queries: the study's own, of a file, of a folder, of the hub, or of GitHub."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lib.errors import StudyError, not_known, require_one_of, shown
from lib.paths import locate
from lib.tasks import smoke, world
from lib.tasks.catalogue import CLASSES, EMBEDDED
from lib.tasks.patterns import fill, placeholders
from lib.tasks.rows import (
    FORMATS,
    GITHUB,
    HUB,
    Located,
    Record,
    from_hub,
    numbered,
    require_file_name,
    rows_of,
    rows_of_file,
    text_of,
)
from lib.tasks.task import DROPPED, Dataset, Query, Split, Task

# Why rows are left out, or counted more than once.
UNWANTED = "do not have what `where` asks for"
UNLABELLED = "have a label that leaves them out (null)"
BLANK = "have an empty text and are left out"
CONFLICTING = "have a text that other labels stand beside as well, and are left out"
REPEATED = "repeat the text of another row"
EXPECTED = (UNWANTED, UNLABELLED)


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split that are read, and what is to be said of others.

    Attributes:
        queries: the rows under a pattern, in the order of the source.
        places: by text, where it first stands.
        notes: by what is said of them, where rows stand. All but those that are repeated are left out.
    """

    queries: list[Query]
    places: dict[str, str]
    notes: dict[str, list[str]]

    def said(self, without: tuple[str, ...] = ()) -> list[str]:
        """Each note with the number of its rows and the first places."""
        return [
            f"{len(where)} rows {note}: {listed(where)}" for note, where in self.notes.items() if note not in without
        ]


def queries(task: Task, dataset: Dataset, split: Split) -> list[Query]:
    """All rows of a split under the task's pattern, in the order of the source; errors as `read`, or no row is left."""
    rows = read(task, dataset, split)
    if not rows.queries:
        wanted = f" with {dict(dataset.where)}" if dataset.where else ""
        raise StudyError(
            f"data: {dataset.name} ({dataset.source}) has no row of the {split} split in {list(task.classes)}{wanted}. "
            f"{'; '.join(rows.said()) or 'The file has no rows'}."
        )
    return rows.queries


@cache
def read(task: Task, dataset: Dataset, split: Split) -> SplitRows:
    """The rows of a split, read once a process. A text with several labels is left out: which is right is not known.

    Args:
        task: its pattern names the text fields, its classes what a label may stand for.
        dataset: where the rows lie, and what of them is read.
        split: `train` for support sets and pools, `evaluation` for scores.

    Raises:
        StudyError: the source cannot be read; a row lacks a column, or has a label without a class.
    """
    columns = {name: dict(dataset.columns).get(name, name) for name in placeholders(task.pattern)}
    if dataset.label in columns.values():
        raise StudyError(f"pattern: {task.pattern!r} has {{{dataset.label}}}, the label itself, and gives it away.")
    notes: dict[str, list[str]] = {}
    kept: list[tuple[str, Query]] = []
    for where, record in _of_split(dataset, split):
        outcome = _query(task, dataset, columns, record, where)
        if isinstance(outcome, Query):
            kept.append((where, outcome))
        else:
            notes.setdefault(outcome, []).append(where)
    return _told_apart(kept, notes)


def _told_apart(located: list[tuple[str, Query]], notes: dict[str, list[str]]) -> SplitRows:
    """The rows without those whose text has several labels; what is repeated is noted."""
    labels: dict[str, set[int]] = {}
    for _, query in located:
        labels.setdefault(query.text, set()).add(query.gold)
    places: dict[str, str] = {}
    for where, query in located:
        if len(labels[query.text]) > 1:
            notes.setdefault(CONFLICTING, []).append(where)
        elif query.text in places:
            notes.setdefault(REPEATED, []).append(where)
        else:
            places[query.text] = where
    return SplitRows([query for _, query in located if query.text in places], places, notes)


def _query(task: Task, dataset: Dataset, columns: dict[str, str], record: Record, where: str) -> Query | str:
    """One row under the task's pattern, or why it is left out."""
    if any(text_of(record, column, where) != value for column, value in dataset.where):
        return UNWANTED
    fields = {name: text_of(record, column, where) for name, column in columns.items()}
    kind = tuple(text_of(record, column, where) for column in dataset.kind if record.get(column) is not None)
    classes = dict(dataset.labels) or {name: name for name in task.classes}
    hint = f" The column of labels is named in datasets.{dataset.name}.label."
    label = text_of(record, dataset.label, where, "a label", hint).strip()
    if label not in classes:
        unknown = not_known(f"{where}, {dataset.label}", label, classes)
        raise StudyError(f"{unknown} What other labels stand for is said in datasets.{dataset.name}.labels.")
    if classes[label] == DROPPED:
        return UNLABELLED
    if not any(text.strip() for text in fields.values()):
        return BLANK
    return Query(fill(task.pattern, fields), task.label_words, task.classes.index(classes[label]), kind)


def listed(places: list[str]) -> str:
    """The first few places, what they share being said once: `reviews.csv, line 3, 7, 9, 10, 11 and 12 more`."""
    shared = places[0].rpartition(" ")[0] + " "
    first = ", ".join([places[0], *(place.removeprefix(shared) for place in places[1:5])])
    return f"{first} and {len(places) - 5} more" if len(places) > 5 else first


def _of_split(dataset: Dataset, split: Split) -> Iterable[Located]:
    """The rows of one split; a file without a split column serves both."""
    if dataset.source in EMBEDDED:
        return _own(dataset, split)
    wanted = getattr(dataset, split)
    if dataset.source.startswith(HUB):
        name = dataset.source.removeprefix(HUB)
        splits = from_hub(name, dataset.config, revision=dataset.revision)
        present = _first(wanted, splits, f"{name}: no {split} split")
        return numbered(splits[present], f"{name}, {present}, row")
    if dataset.source.startswith(GITHUB):
        return rows_of(dataset.source, wanted[0])
    file = file_of(dataset)
    located = rows_of_file(file)
    names = [
        "" if record.get(dataset.split) is None else text_of(record, dataset.split, where).strip()
        for where, record in located
    ]
    if not any(names):
        _require_no_other_spelling(dataset, located)
        if dataset.split != Dataset.split:
            raise StudyError(f"datasets.{dataset.name}.split: no row of {file} has a column {dataset.split!r}.")
        return located
    if "" in names:
        where, _ = located[names.index("")]
        raise StudyError(f"{where}: no {dataset.split}, which other rows have ({names.count('')} lack it).")
    present = _first(wanted, set(names), f"{file}: no {split} split")
    return [row for row, name in zip(located, names, strict=True) if name == present]


def _require_no_other_spelling(dataset: Dataset, located: list[Located]) -> None:
    """Raise `StudyError` where rows have a column `Split` for `split`: they would be drawn from as one set."""
    columns = dict.fromkeys(column for _, record in located for column in record)
    alike = [one for one in columns if one.strip().lower() == dataset.split.lower() and one != dataset.split]
    if alike:
        raise StudyError(
            f"datasets.{dataset.name}.split: there is no column {dataset.split!r}, and a column {alike[0]!r}. Name the "
            "one that says which split a row belongs to, or call it otherwise."
        )


def unread_splits(dataset: Dataset) -> dict[str, int]:
    """How many rows of a file have a split that the dataset names neither for training nor for evaluation."""
    if dataset.source in EMBEDDED or dataset.source.startswith((HUB, GITHUB)):
        return {}
    named = {"", *dataset.train, *dataset.evaluation}
    splits = (str(record.get(dataset.split) or "").strip() for _, record in rows_of_file(file_of(dataset)))
    return {name: count for name, count in Counter(splits).items() if name not in named}


def _own(dataset: Dataset, split: Split) -> Iterator[Located]:
    """The study's own pairs in the form of any other rows."""
    require_one_of("dataset", dataset.name, EMBEDDED[dataset.source])
    pairs = world.examples(dataset.name, split) if dataset.source == "world" else smoke.PAIRS[dataset.name][split]
    records = ({**pair._asdict(), "label": CLASSES[pair.label]} for pair in pairs)
    return numbered(records, f"{dataset.name}, {split}, row")


def _first(names: tuple[str, ...], there: Iterable[str], problem: str) -> str:
    for name in names:
        if name in there:
            return name
    raise StudyError(f"{problem}. Present: {sorted(there)}; read: {list(names)}.")


def file_of(dataset: Dataset) -> Path:
    """The file that a dataset's source means; in a folder, the one that bears its name."""
    path = locate(dataset.source)
    if os.path.isfile(path):  # of a name that is too long, False
        require_one_of(f"{path}: its format", path.suffix, FORMATS)
        return path
    if not os.path.isdir(path):
        beside = f" In {path.parent}: {_data_files(path.parent)}." if os.path.isdir(path.parent) else ""
        raise StudyError(
            f"data: {shown(dataset.source)} is no file and no folder.{beside} Allowed: hub, world, embedded, a file "
            f"({', '.join(FORMATS)}), or a folder of such files."
        )
    require_file_name(dataset.name)
    files = [file for file in path.iterdir() if file.is_file() and file.stem == dataset.name and file.suffix in FORMATS]
    if len(files) > 1:
        names = " or ".join(sorted(file.name for file in files))
        raise StudyError(f"dataset: {dataset.name!r} in {path} may be {names}; name one of them as its source.")
    if not files:
        raise StudyError(f"dataset: {dataset.name!r} is not in {path}. Present: {_data_files(path)}.")
    return files[0]


def _data_files(folder: Path) -> str:
    return ", ".join(sorted(file.name for file in folder.iterdir() if file.suffix in FORMATS)) or "no data file"
