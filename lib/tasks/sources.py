"""The labelled rows of a dataset as queries: the study's own, of a file, of a folder, or of the hub."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from lib.errors import StudyError, require_one_of
from lib.paths import locate
from lib.tasks import smoke, world
from lib.tasks.catalogue import CLASSES, EMBEDDED
from lib.tasks.patterns import fill, placeholders
from lib.tasks.rows import FORMATS, HUB, Located, Record, from_hub, numbered, require_file_name, rows_of_file, text_of
from lib.tasks.task import DROPPED, Dataset, Query, Split, Task


@cache
def queries(task: Task, dataset: Dataset, split: Split) -> list[Query]:
    """All rows of a split under the task's pattern, in the order of the source; read once a process.

    Args:
        task: its pattern names the text fields, its classes what a label may stand for.
        dataset: where the rows lie, and what of them is read.
        split: `train` for support sets and pools, `evaluation` for scores.

    Raises:
        StudyError: the source cannot be read; a row lacks a column, or has a label without a class; no row is left.
    """
    columns = {name: dict(dataset.columns).get(name, name) for name in placeholders(task.pattern)}
    found = [
        query
        for where, record in _of_split(dataset, split)
        if all(text_of(record, column, where) == value for column, value in dataset.where)
        and (query := _query(task, dataset, columns, record, where))
    ]
    if not found:
        raise StudyError(
            f"data: {dataset.name} ({dataset.source}) has no row of the {split} split in {list(task.classes)}."
        )
    return found


def _query(task: Task, dataset: Dataset, columns: dict[str, str], record: Record, where: str) -> Query | None:
    """One row under the task's pattern; None where its label leaves it out."""
    text = fill(task.pattern, {name: text_of(record, column, where) for name, column in columns.items()})
    kind = tuple(text_of(record, column, where) for column in dataset.kind if record.get(column) is not None)
    classes = dict(dataset.labels) or {name: name for name in task.classes}
    label = text_of(record, dataset.label, where).strip()
    require_one_of(f"{where}, {dataset.label}", label, classes)
    if classes[label] == DROPPED:
        return None
    return Query(text, task.label_words, task.classes.index(classes[label]), kind)


def _of_split(dataset: Dataset, split: Split) -> Iterable[Located]:
    """The rows of one split; a file without a split column serves both."""
    if dataset.source in EMBEDDED:
        return _own(dataset, split)
    wanted = getattr(dataset, split)
    if dataset.source.startswith(HUB):
        name = dataset.source.removeprefix(HUB)
        splits = from_hub(name, dataset.config, revision=dataset.revision)
        chosen = _first(wanted, splits, f"{name}: no {split} split")
        return numbered(splits[chosen], f"{name}, {chosen}, row")
    file = file_of(dataset)
    located = rows_of_file(file)
    values = [record.get(dataset.split) for _, record in located]
    names = ["" if value is None else str(value) for value in values]
    if not any(names):
        return located
    if "" in names:
        where, _ = located[names.index("")]
        raise StudyError(f"{where}: no {dataset.split}, which other rows have ({names.count('')} lack it).")
    chosen = _first(wanted, set(names), f"{file}: no {split} split")
    return [one for one, name in zip(located, names, strict=True) if name == chosen]


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
    if path.is_file():
        require_one_of(f"{path}: its format", path.suffix, FORMATS)
        return path
    if not path.is_dir():
        raise StudyError(
            f"data: {dataset.source!r} is no file and no folder. Allowed: hub, world, embedded, a file "
            f"({', '.join(FORMATS)}), or a folder of such files."
        )
    for suffix in FORMATS:
        if (file := path / require_file_name(f"{dataset.name}{suffix}")).is_file():
            return file
    present = sorted(file.name for file in path.iterdir() if file.suffix in FORMATS)
    raise StudyError(f"dataset: {dataset.name!r} is not in {path}. Present: {', '.join(present) or 'no data file'}.")
