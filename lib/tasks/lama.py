"""LAMA's T-REx relations for causal models: a fact is a left-to-right template up to its object.

Relations whose template does not end in the object are left out, with the reason. The options of a relation are all
objects that its facts have; the paper (arXiv 2212.10670) had BERT fill a mask instead.
"""

import random
from functools import cache
from typing import Any

from datasets import load_dataset

from lib.errors import StudyError, first_line
from lib.tasks import smoke
from lib.tasks.few_shot import (
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

SUBJECT, OBJECT = "[X]", "[Y]"
Fact = tuple[str, str]  # subject and object


def tasks(benchmark: Benchmark, seed: int) -> TaskSet:
    """The relations: a fixed draw of `target_tasks` to evaluate, then of `training_tasks` to tune on.

    A subject and object that a target is evaluated on are not tuned on under another relation either.

    Raises:
        StudyError: as for `lib.tasks.benchmarks.task_set`.
    """
    templates = _templates(benchmark)
    usable = {name: before for name, text in templates.items() if (before := _before_object(text)) is not None}
    left_out = {name: f"{text!r} does not end in the object" for name, text in templates.items() if name not in usable}
    names = random.Random("relations").sample(sorted(usable), len(usable))

    def to_evaluate(name: str) -> FewShotTask:
        tuning, facts = (_queries(benchmark, name, usable[name], part) for part in _facts(benchmark, name))
        return target(name, tuning, facts, benchmark, seed)

    targets, lacking = first_with_data(names, benchmark.target_tasks, to_evaluate)
    taken = {task.name for task in targets} | set(lacking)
    evaluated = {fact for task in targets for fact in _facts(benchmark, task.name)[1]}

    def to_tune_on(name: str) -> FewShotTask:
        both = [fact for part in _facts(benchmark, name) for fact in part if fact not in evaluated]
        both = _queries(benchmark, name, usable[name], both)
        require_rows(both, benchmark)
        return FewShotTask(name, tuple(both))

    rest = [name for name in names if name not in taken]
    training, also_lacking = first_with_data(rest, benchmark.training_tasks, to_tune_on)
    return TaskSet(training, targets, left_out | lacking | also_lacking)


def _before_object(template: str) -> str | None:
    """The template up to its object, or None where more than a full stop comes after it, or no subject before."""
    before, found, after = template.partition(OBJECT)
    ends = found and not after.strip(" .")
    return before.strip() if ends and SUBJECT in before else None


def _templates(benchmark: Benchmark) -> dict[str, str]:
    if benchmark.source == "embedded":
        return dict(smoke.RELATIONS)
    if benchmark.source == "hub":
        return {name: template for name, (template, _) in _hub().items()}
    rows = [(where, row) for where, row in rows_of(benchmark.source, "relations.jsonl")]
    return {text_of(row, "relation", where): text_of(row, "template", where) for where, row in rows}


def _facts(benchmark: Benchmark, name: str) -> tuple[list[Fact], list[Fact]]:
    """Facts to tune on, and those to evaluate, which are not among them.

    Raises:
        MissingTaskError: no facts.
    """
    facts = _read(benchmark.source, name)
    if benchmark.tuning_source:
        evaluated = set(facts)
        return [fact for fact in _read(benchmark.tuning_source, name) if fact not in evaluated], facts
    order = random.Random(f"facts {name}").sample(facts, len(facts))
    half = len(facts) // 2
    return order[:half], order[half:]


def _read(source: str, name: str) -> list[Fact]:
    if source == "embedded":
        return list(smoke.FACTS.get(name, []))
    if source == "hub":
        if name not in _hub():
            raise MissingTaskError("no facts on the hub")
        return _hub()[name][1]
    rows = rows_of(source, f"{name}.jsonl")
    pairs = [(text_of(row, "sub_label", where), text_of(row, "obj_label", where)) for where, row in rows]
    return list(dict.fromkeys(pairs))


@cache
def _hub() -> dict[str, tuple[str, list[Fact]]]:
    """Template and facts of each relation, from the hub's T-REx part of LAMA."""
    try:
        table = load_dataset("facebook/lama", "trex", revision="refs/convert/parquet", split="train")
    except Exception as error:  # datasets raises many kinds for a hub that cannot be reached
        raise StudyError(
            f"in_context: LAMA could not be read from the hub ({first_line(error)}). Set lama.source to a folder."
        ) from error
    return by_relation(table)


def by_relation(table: Any) -> dict[str, tuple[str, list[Fact]]]:  # noqa: ANN401 - rows as mappings
    """Rows of the hub's table as one template and the distinct facts of each relation."""
    found: dict[str, tuple[str, dict[Fact, None]]] = {}
    for row in table:
        _, facts = found.setdefault(row["predicate_id"], (row["template"], {}))
        facts[row["sub_label"].strip(), row["obj_label"].strip()] = None
    return {name: (template, list(facts)) for name, (template, facts) in found.items()}


def _queries(benchmark: Benchmark, name: str, before: str, facts: list[Fact]) -> list[Query]:
    """The facts as queries over all objects of the relation in the source; facts of other objects are left out.

    Raises:
        MissingTaskError: the relation has no two objects.
    """
    objects = sorted({answer for _, answer in _read(benchmark.source, name)})
    if len(objects) < 2:
        raise MissingTaskError(f"{len(objects)} different objects")
    asked = [(before.replace(SUBJECT, subject), answer) for subject, answer in facts if answer in set(objects)]
    return [
        Query(text, *require_options(objects, answer, f"relation {name}"))
        for text, answer in asked
        if benchmark.longest is None or len(text) <= benchmark.longest
    ]
