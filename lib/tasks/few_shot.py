"""Tasks to be learnt in context: labelled examples, options to choose from, and items to be scored on.

A benchmark is a list of such tasks, some to be tuned on and some to be evaluated (arXiv 2212.10670). CrossFit's are
read by `lib.tasks.crossfit`, LAMA's relations by `lib.tasks.lama`.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import load_dataset
from datasets.exceptions import DatasetNotFoundError

from lib.errors import StudyError, first_line
from lib.paths import locate
from lib.tasks.json_lines import json_lines
from lib.tasks.task import Query

ANSWER = "\nAnswer:"  # what stands between a text and its answer, where the text itself does not ask for it


@dataclass(frozen=True)
class FewShotTask:
    """A task with `examples`, to tune on and to demonstrate from, and `items` to be scored on (none if only tuned)."""

    name: str
    examples: tuple[Query, ...]
    items: tuple[Query, ...] = ()

    @property
    def labels(self) -> list[str]:
        """All options of the task, sorted."""
        return sorted({option for query in (*self.examples, *self.items) for option in query.options})


@dataclass(frozen=True)
class Benchmark:
    """Which tasks are tuned on and which are evaluated, and how much of each.

    Attributes:
        name: `crossfit` or `lama`.
        source: a folder, `hub:OWNER/NAME`, `hub` (LAMA) or `embedded`.
        split: CrossFit: a JSON file of `train` and `test` task names. Empty for LAMA.
        tuning_source: LAMA: a folder of other facts of the relations, to tune on and to demonstrate. Empty: facts of
            the source itself, which are then not evaluated.
        training_tasks: how many to tune on under Meta-ICT; None for all.
        target_tasks: how many to evaluate; None for all.
        examples: labelled examples of each target (the paper: 32 for training and 32 for validation).
        items: evaluated of each target; None for all.
        longest: characters; longer rows are left out. None for no limit.
        fewest: examples that a task must have, or be left out: the demonstrations and a query to tune on.
    """

    name: Literal["crossfit", "lama"]
    source: str
    split: str = ""
    tuning_source: str = ""
    training_tasks: int | None = None
    target_tasks: int | None = None
    examples: int = 64
    items: int | None = None
    longest: int | None = None
    fewest: int = 2


@dataclass(frozen=True)
class TaskSet:
    """The tasks of a benchmark for one seed, and those that it names but cannot have, with reasons."""

    training: tuple[FewShotTask, ...]
    targets: tuple[FewShotTask, ...]
    left_out: Mapping[str, str]


def first_with_data(
    names: Iterable[str], count: int | None, load: Callable[[str], FewShotTask]
) -> tuple[tuple[FewShotTask, ...], dict[str, str]]:
    """The first `count` tasks that `load` has, in order, and why others before them are left out."""
    tasks: list[FewShotTask] = []
    left_out: dict[str, str] = {}
    for name in names:
        if len(tasks) == count:
            break
        try:
            tasks.append(load(name))
        except MissingTaskError as missing:
            left_out[name] = str(missing)
    return tuple(tasks), left_out


class MissingTaskError(StudyError):
    """A task that a benchmark names but has no rows for; it is listed and the rest goes on."""


def target(name: str, rows: Sequence[Query], items: Sequence[Query], benchmark: Benchmark, seed: int) -> FewShotTask:
    """A task to be evaluated: the seed's examples, and the same items for every seed, none among the rows.

    Raises:
        MissingTaskError: there are no items, or too few rows.
    """
    require_rows(rows, benchmark)
    known = {row.text for row in rows}
    apart = [item for item in items if item.text not in known]
    if len(apart) < 2:
        raise MissingTaskError(f"{len(apart)} items to evaluate, {_limits(benchmark)}")
    examples = random.Random(f"examples {name} {seed}").sample(list(rows), min(benchmark.examples, len(rows)))
    count = len(apart) if benchmark.items is None else min(benchmark.items, len(apart))
    chosen = random.Random(f"items {name}").sample(apart, count)
    return FewShotTask(name, tuple(examples), tuple(chosen))


def require_rows(rows: Sized, benchmark: Benchmark) -> None:
    """Raise `MissingTaskError` where there are fewer rows than a task must have."""
    if len(rows) < benchmark.fewest:
        raise MissingTaskError(f"{len(rows)} examples, {_limits(benchmark)}, where {benchmark.fewest} are needed")


def _limits(benchmark: Benchmark) -> str:
    return "of any length" if benchmark.longest is None else f"of at most {benchmark.longest} characters"


def require_options(options: object, gold: object, where: str) -> tuple[tuple[str, ...], int]:
    """Options as a tuple and the place of the right one among them.

    Raises:
        StudyError: they are no list of texts, empty, blank or repeated, or the answer is not among them.
    """
    if not isinstance(options, (list, tuple)) or not all(isinstance(one, str) for one in options):
        raise StudyError(f"{where}: options must be a list of texts, not {options!r}.")
    stripped = tuple(option.strip() for option in options)
    if len(stripped) < 2 or "" in stripped:
        raise StudyError(f"{where}: options need two texts or more, none of them empty, not {list(options)!r}.")
    if len(set(stripped)) < len(stripped):
        raise StudyError(f"{where}: options repeat one another: {list(options)!r}.")
    if not isinstance(gold, str) or gold.strip() not in stripped:
        raise StudyError(f"{where}: the answer {gold!r} is not among the options {list(options)!r}.")
    return stripped, stripped.index(gold.strip())


def rows_of(source: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, row) pairs of a JSON-lines file in a folder, or in a dataset repository on the hub.

    Raises:
        MissingTaskError: there is no such file.
        StudyError: the folder is not there, the hub cannot be reached, or a line is broken.
    """
    if source.startswith("hub:"):
        yield from _rows_on_hub(source.removeprefix("hub:"), file)
        return
    folder = locate(source)
    if not folder.is_dir():
        raise StudyError(
            f"in_context: the source {source!r} is not a folder. Allowed: embedded, hub:OWNER/NAME, hub (LAMA alone), "
            "or a folder."
        )
    path: Path = folder / file
    if not path.is_file():
        raise MissingTaskError(f"no file {file} in {source}")
    for number, row in json_lines(path):
        yield f"{path}, line {number}", row


def _rows_on_hub(name: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        table = load_dataset(name, data_files=file, split="train")
    except DatasetNotFoundError as error:  # a kind of FileNotFoundError, but none of one task's file
        raise StudyError(f"in_context: no dataset {name!r} on the hub, or no right to read it.") from error
    except FileNotFoundError as error:
        raise MissingTaskError(f"no file {file} in {name}") from error
    except Exception as error:  # datasets raises many kinds for a hub that cannot be reached
        raise StudyError(
            f"in_context: {file} of {name!r} could not be read from the hub ({first_line(error)})."
        ) from error
    for number, row in enumerate(table, start=1):
        yield f"{name}/{file}, line {number}", row


def text_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """A field that must hold a text that is not blank; errors name where."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise StudyError(f"{where}: {key} must be a text, not {value!r}.")
    return value.strip()
