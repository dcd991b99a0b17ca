"""What each model reads: which examples a run's phases are about, and their prompts under the model's tokenizer."""

import random
from collections.abc import Sequence
from functools import cache

from lib.methods.records import Run, Targets, Task
from lib.models.loading import load_config, load_tokenizer
from lib.tasks.prompts import CONTENT_FREE, PATTERNS, EncodedPrompts, encode, label_token_ids, label_words, prompt
from lib.tasks.samples import (
    evaluation_sample,
    held_out,
    query_pool,
    support_set,
    with_shuffled_labels,
    without_held_out,
)
from lib.tasks.sources import load_examples
from lib.tasks.task import Example, Split

FURTHER_SETS = 10_000  # from one further set of demonstrations of a seed to the next, beyond the seeds of a study


class Reader:
    """How one model reads the task: its tokenizer, the pattern, and the columns of its label words."""

    def __init__(self, reference: str, task: Task) -> None:
        self.pattern = PATTERNS[task.pattern]
        self.words = label_words(self.pattern, task.label_words)
        self.tokenizer = load_tokenizer(reference)
        self.label_columns = label_token_ids(self.tokenizer, self.pattern, self.words)
        self._max_positions: int = load_config(reference).max_position_embeddings

    def encode(self, demonstrations: Sequence[Example], queries: Sequence[Example]) -> EncodedPrompts:
        """Prompts of all queries after the same demonstrations; errors as `lib.tasks.prompts.encode`."""
        texts = [prompt(self.pattern, self.words, demonstrations, query) for query in queries]
        return encode(self.tokenizer, texts, self._max_positions)

    def ids(self, query: Example) -> list[int]:
        """The query alone, as a student reads it."""
        return self.tokenizer(prompt(self.pattern, self.words, [], query))["input_ids"]


@cache
def examples(source: str, dataset: str, split: Split) -> list[Example]:
    """`load_examples`, read once a process."""
    return load_examples(source, dataset, split)


def support_of(record: Run | Targets) -> list[Example]:
    """The support set of a run, or of a teacher's targets: the same for equal task, size and seed."""
    return support_set(_train_rows(record.task), record.support_size, record.seed)


@cache
def _train_rows(task: Task) -> list[Example]:
    """In-domain rows to train on and to demonstrate; a file that serves both splits lacks what is evaluated."""
    evaluated = {item[:2] for item in evaluation_items(task, task.in_domain)}
    return [row for row in examples(task.source, task.in_domain, "train") if row[:2] not in evaluated]


def demonstrations_of(record: Run | Targets) -> list[Example]:
    """The support set as it stands in a prompt: its texts in order, with true or with shuffled labels."""
    support = support_of(record)
    return with_shuffled_labels(support) if record.demonstration_labels == "shuffled" else support


def pool_of(request: Targets) -> list[Example]:
    """The queries that the teacher labels."""
    return [query for part in pool_parts(request) for query in part]


def pool_parts(request: Targets) -> list[list[Example]]:
    """The queries that the teacher labels, domain by domain: unlabelled rows, or the support set itself."""
    support = support_of(request)
    if request.pool == "support":
        return [support]
    domains = ("train", "target") if request.pool == "both" else (request.pool,)
    whole, over = divmod(request.pool_size, len(domains))
    sizes = [whole + (i < over) for i in range(len(domains))]
    return [
        query_pool(_pool_rows(request, domain), support, size, request.seed, request.pool_shares)
        for domain, size in zip(domains, sizes, strict=True)
    ]


def calibration_queries(run: Run, dataset: str) -> list[Example]:
    """Unlabelled queries like those of a domain, on which the evaluated model's label prior is estimated.

    They are drawn as a pool from that domain is, for a method that distils as its own pool is.
    """
    domain = "train" if dataset == run.task.in_domain else "target"
    if run.distillation:
        request = run.distillation.targets
        rows, shares = _pool_rows(request, domain), request.pool_shares
    else:
        rows, shares = (_like_the_target if domain == "target" else _train_rows)(run.task), None
    return query_pool(rows, support_of(run), run.calibration_pool, run.seed, shares)


def _pool_rows(request: Targets, domain: str) -> list[Example]:
    if domain == "target":
        return without_held_out(_like_the_target(request.task), request.held_out, request.seed)
    return _train_rows(request.task)


def held_out_items(request: Targets) -> list[bool]:
    """Of each item that is evaluated out of domain, whether the pool was kept free of its subcase and template."""
    task = request.task
    away = held_out(_like_the_target(task), request.held_out, request.seed)
    return [(item.subcase, item.template) in away for item in evaluation_items(task, task.out_of_domain)]


def _like_the_target(task: Task) -> list[Example]:
    """Rows of the out-of-domain data that are not evaluated."""
    evaluated = {item[:2] for item in evaluation_items(task, task.out_of_domain)}
    return [row for row in examples(task.source, task.out_of_domain, "train") if row[:2] not in evaluated]


def evaluation_items(task: Task, dataset: str) -> list[Example]:
    """The items that every method and seed is scored on, in or out of domain."""
    return evaluation_sample(examples(task.source, dataset, "evaluation"), task.eval_limit, task.eval_seed)


def teacher_contexts(request: Targets) -> list[tuple[list[Example], list[Example]]]:
    """(demonstrations, queries) pairs: one for a pool apart; leave-one-out where the support set is the pool.

    All of them come once for each set of demonstrations and each of its orders; the support set's own comes first.
    """
    support, pool = demonstrations_of(request), pool_of(request)
    sets = [support] + [_further_set(request, support, pool, i) for i in range(1, request.demonstration_sets)]
    orders = [order for one in sets for order in _orders(one, request)]
    if request.pool == "support":
        return [([one for one in order if one != query], [query]) for order in orders for query in support]
    return [(order, pool) for order in orders]


def _orders(demonstrations: list[Example], request: Targets) -> list[list[Example]]:
    shuffled = (random.Random(f"order {request.seed} {i}") for i in range(1, request.orders))
    return [demonstrations, *(draw.sample(demonstrations, len(demonstrations)) for draw in shuffled)]


def _further_set(request: Targets, support: list[Example], pool: list[Example], i: int) -> list[Example]:
    """Another support set as large, of which nothing is in the first one or in the pool."""
    taken = {row[:2] for row in (*support, *pool)}
    left = [row for row in _train_rows(request.task) if row[:2] not in taken]
    return support_set(left, request.support_size, request.seed + i * FURTHER_SETS)


def teacher_prompts(request: Targets, reader: Reader) -> list[EncodedPrompts]:
    """What the teacher reads, by context: the pool's queries, then the content-free inputs."""
    return [reader.encode(before, [*queries, *CONTENT_FREE]) for before, queries in teacher_contexts(request)]


def evaluation_prompts(run: Run, reader: Reader, dataset: str, demonstrations: bool) -> EncodedPrompts:
    """What the evaluated model reads: the items, after demonstrations or without, then the content-free inputs."""
    before = demonstrations_of(run) if demonstrations else []
    return reader.encode(before, [*evaluation_items(run.task, dataset), *CONTENT_FREE])


def calibration_prompts(run: Run, reader: Reader, dataset: str, demonstrations: bool) -> EncodedPrompts:
    """What the evaluated model reads to know its label prior in a domain, after demonstrations or without."""
    return reader.encode(demonstrations_of(run) if demonstrations else [], calibration_queries(run, dataset))
