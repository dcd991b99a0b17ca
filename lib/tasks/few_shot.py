"""Tasks to be learnt in context (arXiv 2212.10670): which of a benchmark are tuned on, which evaluated, and on what."""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from lib.errors import StudyError
from lib.tasks.crossfit import CrossFit
from lib.tasks.lama import Lama
from lib.tasks.task import Benchmark, MissingTaskError, Query

# How each benchmark is read. Both have `names` of tasks to tune on and to evaluate, what is `left_out` and why,
# `queries` (examples and items of a task to evaluate), `tuning_queries` (those of a task to tune on), and `doubts`: by
# the name of a task that was read, what is to be said of its rows.
READERS = {"crossfit": CrossFit, "lama": Lama}


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
class TaskSet:
    """The tasks of a benchmark for one seed, and those that it names but cannot have, with reasons.

    `doubts` says of tasks which of their rows are repeated.
    """

    training: tuple[FewShotTask, ...]
    targets: tuple[FewShotTask, ...]
    left_out: Mapping[str, str]
    doubts: Mapping[str, str] = field(default_factory=dict)


@cache
def task_set(benchmark: Benchmark, seed: int) -> TaskSet:
    """The first `target_tasks` and `training_tasks` that have data; the seed draws examples, never tasks or items.

    Raises:
        StudyError: the source or its split cannot be read, a row is broken, or no task is left on one of the sides.
    """
    reader = READERS[benchmark.name](benchmark)
    to_tune_on, to_evaluate = reader.names

    def target(name: str) -> FewShotTask:
        return draw_target(name, *reader.queries(name), benchmark, seed)

    targets, lacking = first_with_data(to_evaluate, benchmark.target_tasks, target)
    taken = [task.name for task in targets]

    def tuned(name: str) -> FewShotTask:
        examples = reader.tuning_queries(name, taken)
        require_rows(examples, benchmark)
        return FewShotTask(name, tuple(examples))

    rest = [name for name in to_tune_on if name not in {*taken, *lacking}]
    training, also_lacking = first_with_data(rest, benchmark.training_tasks, tuned)
    selected = TaskSet(training, targets, reader.left_out | lacking | also_lacking, reader.doubts)
    return _require_both_sides(_without_evaluated(selected, benchmark), benchmark)


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


def draw_target(
    name: str, rows: Sequence[Query], items: Sequence[Query], benchmark: Benchmark, seed: int
) -> FewShotTask:
    """A task to be evaluated: the seed's examples, and the same items for every seed, none among the rows.

    Raises:
        MissingTaskError: there are no items, or too few rows.
    """
    require_rows(rows, benchmark)
    known = {row.text for row in rows}
    unseen = [item for item in items if item.text not in known]
    if len(unseen) < 2:
        raise MissingTaskError(f"{len(unseen)} items to evaluate, {_limits(benchmark)}")
    examples = random.Random(f"examples {name} {seed}").sample(rows, min(benchmark.examples, len(rows)))
    count = len(unseen) if benchmark.items is None else min(benchmark.items, len(unseen))
    return FewShotTask(name, tuple(examples), tuple(random.Random(f"items {name}").sample(unseen, count)))


def require_rows(rows: Collection[Query], benchmark: Benchmark) -> None:
    """Raise `MissingTaskError` where there are fewer rows than a task must have."""
    if len(rows) < benchmark.fewest:
        raise MissingTaskError(f"{len(rows)} examples, {_limits(benchmark)}, where {benchmark.fewest} are needed")


def _limits(benchmark: Benchmark) -> str:
    return "of any length" if benchmark.longest is None else f"of at most {benchmark.longest} characters"


def _without_evaluated(selected: TaskSet, benchmark: Benchmark) -> TaskSet:
    """The tasks without those examples whose text some target is scored on: tasks of other names may share rows.

    A task that has too few left is left out, with the reason.
    """
    evaluated = {item.text for task in selected.targets for item in task.items}
    left_out = dict(selected.left_out)

    def kept(tasks: Sequence[FewShotTask]) -> Iterator[FewShotTask]:
        for task in tasks:
            examples = tuple(row for row in task.examples if row.text not in evaluated)
            if len(examples) < benchmark.fewest and len(examples) < len(task.examples):
                left_out[task.name] = f"{len(examples)} examples that are not evaluated, {benchmark.fewest} are needed"
            else:
                yield replace(task, examples=examples)

    return TaskSet(tuple(kept(selected.training)), tuple(kept(selected.targets)), left_out, selected.doubts)


def _require_both_sides(selected: TaskSet, benchmark: Benchmark) -> TaskSet:
    for use, tasks in (("to tune on", selected.training), ("to evaluate", selected.targets)):
        if not tasks:
            reasons = [f"{name}: {reason}" for name, reason in selected.left_out.items()]
            more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
            raise StudyError(
                f"{benchmark.name}: no task {use} is left. {'; '.join(reasons[:5]) or 'None is named'}{more}"
            )
    return selected
