"""Which examples a run is about: its support set, its pool, what it is evaluated on, resolved once into one value."""

from dataclasses import dataclass
from functools import lru_cache

from lib.errors import StudyError
from lib.methods.encoder import encoder_of
from lib.methods.records import PoolLabelling, Run
from lib.tasks.few_shot import task_set
from lib.tasks.samples import (
    evaluation_sample,
    held_out_kinds,
    query_pool,
    support_set,
    with_shuffled_labels,
    without,
)
from lib.tasks.sources import queries, read
from lib.tasks.task import IN_DOMAIN, OUT_OF_DOMAIN, Query, Split, Task


@dataclass(frozen=True)
class RunExamples:
    """The examples of one run.

    Attributes:
        support: the support set, with gold labels.
        demonstrations: the support set as it stands in a prompt, with true or with shuffled labels.
        pool: the queries that the teacher labels, domain by domain; empty where the run does not distil.
        evaluation: by domain, the items that every method and seed is scored on.
        unlabelled: by domain, queries on which the evaluated model's label prior is estimated.
    """

    support: list[Query]
    demonstrations: list[Query]
    pool: list[list[Query]]
    evaluation: dict[str, list[Query]]
    unlabelled: dict[str, list[Query]]


@lru_cache(maxsize=64)
def examples_of(run: Run) -> RunExamples:
    """All examples of a run.

    Raises:
        StudyError: the data cannot be read, or have too few rows for what is asked.
    """
    task = run.task
    return RunExamples(
        support=support_of(run),
        demonstrations=demonstrations_of(run),
        pool=pool_by_domain(run.distillation.labelling) if run.distillation else [],
        evaluation={domain: evaluation_items(task, domain) for domain in task.domains},
        unlabelled={domain: _unlabelled(run, domain) for domain in task.domains} if run.calibration_pool else {},
    )


def forget_examples() -> None:
    """Read data and tokenizers again where they are next asked for, as where a file was replaced."""
    for cached in (encoder_of, read, rows_by_length, evaluation_items, _train, examples_of, task_set):
        cached.cache_clear()


def support_of(record: Run | PoolLabelling) -> list[Query]:
    """The support set: the same for equal task, size and seed."""
    return support_set(_train(record.task), record.task.classes, record.support_size, record.seed)


def demonstrations_of(record: Run | PoolLabelling) -> list[Query]:
    """The support set as it stands in a prompt: its texts in order, with true or with shuffled labels."""
    support = support_of(record)
    return with_shuffled_labels(support) if record.demonstration_labels == "shuffled" else support


@lru_cache(maxsize=64)
def rows_by_length(task: Task, domain: str, split: Split) -> tuple[list[Query], list[Query]]:
    """The rows of a split that the task's readers can read, and those that are too long for one of them.

    Raises:
        StudyError: all are too long.
    """
    rows = queries(task, task.domains[domain], split)
    encoders = [encoder_of(model) for model in task.readers]
    long = {query for encoder in encoders for query in encoder.too_long_beside(task.beside, rows)}
    if len(long) == len({*rows}):
        raise StudyError(
            f"too_long: all {len(rows)} rows of the {split} split of {task.domains[domain].name} are too long for "
            f"{' or '.join(dict.fromkeys(task.readers))} beside {task.beside} rows as long, and would be left out. "
            "Allowed: fewer beside them, shorter texts, or models that read more."
        )
    return [query for query in rows if query not in long], [query for query in rows if query in long]


@lru_cache(maxsize=64)
def evaluation_items(task: Task, domain: str) -> list[Query]:
    """The items that every method and seed is scored on in a domain."""
    rows = without(rows_by_length(task, domain, "evaluation")[0], _reserved_items(task, domain))
    if not rows:
        raise StudyError(f"reserved: {list(task.reserved or ())} takes all rows of {task.domains[domain].name}.")
    return evaluation_sample(rows, task.classes, task.eval_limit, task.eval_seed)


def _reserved_items(task: Task, domain: str) -> list[Query]:
    """What a study reports, where settings are searched: neither evaluated nor learnt from."""
    if not task.reserved:
        return []
    rows, _ = rows_by_length(task, domain, "evaluation")
    return evaluation_sample(rows, task.classes, *task.reserved, setting="reserved")


@lru_cache(maxsize=64)
def _train(task: Task, domain: str = IN_DOMAIN) -> list[Query]:
    """Rows of a domain to draw from; a file that serves both splits lacks what is evaluated.

    Raises:
        StudyError: nothing is left.
    """
    rows, _ = rows_by_length(task, domain, "train")
    left = without(rows, [*evaluation_items(task, domain), *_reserved_items(task, domain)])
    if not left:
        raise StudyError(
            f"eval_limit: all {len(rows)} rows of {task.domains[domain].name} are evaluated, so none is left to learn "
            "from. Give the data a train split, or evaluate fewer."
        )
    return left


def pool_by_domain(labelling: PoolLabelling) -> list[list[Query]]:
    """The queries that the teacher labels: unlabelled rows of one or two domains, or the support set itself."""
    support = support_of(labelling)
    if labelling.pool == "support":
        return [support]
    pools = ("train", "target") if labelling.pool == "both" else (labelling.pool,)
    whole, over = divmod(labelling.pool_size, len(pools))
    sizes = [whole + (i < over) for i in range(len(pools))]
    return [
        query_pool(_pool_rows(labelling, pool), support, size, labelling.seed, labelling.pool_shares)
        for pool, size in zip(pools, sizes, strict=True)
    ]


def _pool_rows(labelling: PoolLabelling, pool: str) -> list[Query]:
    if pool == "train":
        return _train(labelling.task)
    rows = _like_the_target(labelling.task)
    away = held_out_kinds(rows, labelling.held_out, labelling.seed)
    return [query for query in rows if query.kind not in away]


def _like_the_target(task: Task) -> list[Query]:
    """Rows of the first out-of-domain set that are not evaluated."""
    if not task.out_of_domain:
        raise StudyError("pool: 'target' and 'both' draw from the out-of-domain data, and this task has none.")
    return _train(task, OUT_OF_DOMAIN)


def _unlabelled(run: Run, domain: str) -> list[Query]:
    """Queries drawn as a pool from that domain is; for a method that distils, as its own pool is."""
    rows, shares = _train(run.task, domain), None
    if run.distillation:
        labelling = run.distillation.labelling
        shares, first = labelling.pool_shares, {IN_DOMAIN: "train", OUT_OF_DOMAIN: "target"}.get(domain)
        rows = _pool_rows(labelling, first) if first else rows
    return query_pool(rows, support_of(run), run.calibration_pool, run.seed, shares, "calibration_pool")


def held_out_items(labelling: PoolLabelling) -> list[bool]:
    """Of each item that is evaluated out of domain, whether the pool was kept free of its kind."""
    away = held_out_kinds(_like_the_target(labelling.task), labelling.held_out, labelling.seed)
    return [item.kind in away for item in evaluation_items(labelling.task, OUT_OF_DOMAIN)]


def teacher_contexts(labelling: PoolLabelling) -> list[tuple[list[Query], list[Query]]]:
    """(demonstrations, queries) pairs: one for a pool apart; leave-one-out where the support set is the pool."""
    demonstrations = demonstrations_of(labelling)
    pool = [query for part in pool_by_domain(labelling) for query in part]
    if labelling.pool == "support":
        return [(without(demonstrations, [query]), [query]) for query in pool]
    return [(demonstrations, pool)]
