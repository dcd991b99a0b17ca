"""CrossFit's classification tasks in the form of MetaICL: rows of input, output and options, a file a task.

Rows of the split `test` are evaluated where a task is a target; its other rows are what it may be tuned on. A task to
tune on under Meta-ICT gives all its rows.
"""

import json
from collections.abc import Mapping
from typing import Any

from lib.errors import StudyError
from lib.paths import locate
from lib.tasks import smoke
from lib.tasks.few_shot import (
    ANSWER,
    Benchmark,
    FewShotTask,
    MissingTaskError,
    TaskSet,
    first_with_data,
    require_options,
    require_rows,
    rows_of,
    target,
    text_of,
)
from lib.tasks.task import Query


def tasks(benchmark: Benchmark, seed: int) -> TaskSet:
    """The tasks of a CrossFit split that have data; the first `training_tasks` and `target_tasks` of them, in order.

    Raises:
        StudyError: as for `lib.tasks.benchmarks.task_set`.
    """
    names = {side: list(dict.fromkeys(listed)) for side, listed in _split(benchmark).items()}

    def to_tune_on(name: str) -> FewShotTask:
        queries = {query.text: query for rows in _rows(benchmark, name).values() for query in rows}
        require_rows(queries, benchmark)
        return FewShotTask(name, tuple(queries.values()))

    def to_evaluate(name: str) -> FewShotTask:
        rows = _rows(benchmark, name)
        return target(name, rows["examples"], rows["test"], benchmark, seed)

    targets, lacking = first_with_data(names["test"], benchmark.target_tasks, to_evaluate)
    training, also_lacking = first_with_data(names["train"], benchmark.training_tasks, to_tune_on)
    return TaskSet(training, targets, lacking | also_lacking)


def _split(benchmark: Benchmark) -> dict[str, list[str]]:
    """Names of the tasks to tune on (`train`) and to evaluate (`test`)."""
    if benchmark.source == "embedded":
        return smoke.TASK_SPLIT
    file = locate(benchmark.split)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(
            f"crossfit.split: {benchmark.split!r} is not a JSON file of train and test task names ({error})."
        ) from None
    if not isinstance(content, dict):
        raise StudyError(f"crossfit.split: {file} must hold an object with train and test.")
    for side in ("train", "test"):
        names = content.get(side)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise StudyError(f"{file}: {side} must be a list of task names, not {names!r}.")
    if both := {*content["train"]} & {*content["test"]}:
        raise StudyError(f"{file}: {', '.join(sorted(both))} would be both tuned on and evaluated.")
    return content


def _rows(benchmark: Benchmark, name: str) -> dict[str, list[Query]]:
    """The rows of a task, `test` and the other `examples`; what is too long, or said before, is left out."""
    found: dict[str, dict[str, Query]] = {"examples": {}, "test": {}}
    for where, row in _source(benchmark, name):
        if benchmark.longest is None or len(str(row.get("input"))) <= benchmark.longest:
            query = _query(row, where)
            found["test" if row.get("split") == "test" else "examples"].setdefault(query.text, query)
    return {part: list(queries.values()) for part, queries in found.items()}


def _source(benchmark: Benchmark, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    if benchmark.source == "embedded":
        if name not in smoke.TASKS:
            raise MissingTaskError("not among the embedded tasks")
        return [(f"{name}, row {i}", row) for i, row in enumerate(smoke.TASKS[name], start=1)]
    return list(rows_of(benchmark.source, f"{name}.jsonl"))


def _query(row: Mapping[str, Any], where: str) -> Query:
    options, gold = require_options(row.get("options"), row.get("output"), where)
    return Query(text_of(row, "input", where) + ANSWER, options, gold)
