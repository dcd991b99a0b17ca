"""The tasks of a benchmark: those to be tuned on and those to be evaluated, with nothing shared between them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from lib.errors import StudyError
from lib.tasks import crossfit, lama
from lib.tasks.few_shot import Benchmark, FewShotTask, TaskSet


@cache
def task_set(benchmark: Benchmark, seed: int) -> TaskSet:
    """The tasks of a benchmark; the seed draws the examples, never the tasks or the evaluated items.

    Raises:
        StudyError: the source or its split cannot be read, a row is broken, a task stands on both sides, or no task is
            left on one of them.
    """
    reader = {"crossfit": crossfit.tasks, "lama": lama.tasks}[benchmark.name]
    found = _without_evaluated(reader(benchmark, seed), benchmark)
    both = {task.name for task in found.training} & {task.name for task in found.targets}
    if both:
        raise StudyError(f"{benchmark.name}: {', '.join(sorted(both))} would be both tuned on and evaluated.")
    for side, tasks in (("to tune on", found.training), ("to evaluate", found.targets)):
        if not tasks:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
            raise StudyError(f"{benchmark.name}: no task {side} is left. {reasons}")
    return found


def _without_evaluated(found: TaskSet, benchmark: Benchmark) -> TaskSet:
    """The tasks without those examples whose text some target is scored on: tasks of other names may share rows.

    A task that has too few left is left out, with the reason.
    """
    evaluated = {item.text for task in found.targets for item in task.items}
    left_out = dict(found.left_out)

    def kept(tasks: Sequence[FewShotTask]) -> Iterator[FewShotTask]:
        for task in tasks:
            examples = tuple(row for row in task.examples if row.text not in evaluated)
            if len(examples) < benchmark.fewest and len(examples) < len(task.examples):
                left_out[task.name] = f"{len(examples)} examples that are not evaluated, {benchmark.fewest} are needed"
            else:
                yield replace(task, examples=examples)

    return TaskSet(tuple(kept(found.training)), tuple(kept(found.targets)), left_out)
