"""Samples drawn from a task's queries by a seed: support sets, pools of queries, evaluation items."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, groupby, pairwise

from lib.errors import StudyError
from lib.tasks.task import Query


def _shuffled(queries: Sequence[Query], seed: int) -> list[Query]:
    """A permutation of the queries with distinct texts; one seed gives one permutation on every machine."""
    distinct = list({query.text: query for query in queries}.values())
    random.Random(seed).shuffle(distinct)
    return distinct


def without(queries: Iterable[Query], taken: Iterable[Query]) -> list[Query]:
    """The queries whose text, as a model sees it, is none of those taken."""
    texts = {query.text for query in taken}
    return [query for query in queries if query.text not in texts]


def _by_class(queries: Sequence[Query], classes: int) -> list[list[Query]]:
    return [[query for query in queries if query.gold == place] for place in range(classes)]


def support_set(train: Sequence[Query], classes: Sequence[str], size: int, seed: int) -> list[Query]:
    """A balanced, shuffled support set of `size` examples; those of one seed are nested.

    Each round has one example of every class, in random order. So every prefix of whole rounds is balanced, no order
    of classes can be read off, and a curve over sizes only ever adds examples.

    Raises:
        StudyError: a class has too few rows.
    """
    by_class = _by_class(_shuffled(train, seed), len(classes))
    rounds = -(-size // len(classes))
    fewest, name = min(zip(map(len, by_class), classes, strict=True))
    if rounds > fewest:
        raise StudyError(
            f"support_sizes: {size} examples need {rounds} of each class, but the train split has {fewest} of {name}; "
            f"the largest possible is {fewest * len(classes)}."
        )
    draw = random.Random(seed)
    drawn = [draw.sample(group, len(group)) for group in list(zip(*by_class, strict=False))[:rounds]]
    return list(chain.from_iterable(drawn))[:size]


def with_shuffled_labels(support: Sequence[Query]) -> list[Query]:
    """The same texts with labels that tell nothing of them: the i-th example of a class gets the i-th class after it.

    Each class's texts then carry every label about equally often, and each label is as frequent as before.
    """
    met: Counter[int] = Counter()
    shuffled = []
    for query in support:
        shuffled.append(query._replace(gold=(query.gold + met[query.gold]) % len(query.options)))
        met[query.gold] += 1
    return shuffled


def query_pool(
    train: Sequence[Query],
    support: Sequence[Query],
    size: int,
    seed: int,
    shares: Sequence[float] | None = None,
    setting: str = "pool_size",
) -> list[Query]:
    """`size` queries, asked for by a setting, from the end of the seed's permutation, never in the support set.

    Support sets come from the permutation's beginning, so the pool stays the same over support sizes
    (unless the train split is nearly used up). `shares` are those of the classes; None draws without looking at labels.

    Raises:
        StudyError: fewer rows than that are left, of the whole or of a class.
    """
    if shares is not None:
        ends = [round(size * share) for share in accumulate(shares)]
        counts = [end - begin for begin, end in pairwise([0, *ends])]  # rounded apart they might not sum to the size
        pairs = zip(_by_class(train, len(shares)), counts, strict=True)
        return [query for own, count in pairs for query in query_pool(own, support, count, seed, setting=setting)]
    left = without(reversed(_shuffled(train, seed)), support)
    if size > len(left):
        raise StudyError(
            f"{setting}: {size} queries asked for, but {len(left)} are left of the train split "
            f"after {len(support)} support examples."
        )
    return left[:size]


def evaluation_sample(
    queries: Sequence[Query], classes: Sequence[str], limit: int | None, seed: int, setting: str = "eval_limit"
) -> list[Query]:
    """Everything, or `limit` queries by a setting, as many of each class; the same for every method and seed.

    Raises:
        StudyError: `limit` is no multiple of the number of classes, or a class has too few rows.
    """
    if limit is None:
        return list(queries)
    share, over = divmod(limit, len(classes))
    if over:
        raise StudyError(f"{setting}: {limit} is no multiple of the {len(classes)} classes, which get as many each.")
    order = random.Random(seed).sample(range(len(queries)), len(queries))
    drawn: list[int] = []
    for place, name in enumerate(classes):
        of_class = [i for i in order if queries[i].gold == place][:share]
        if len(of_class) < share:
            raise StudyError(f"{setting}: {limit} needs {share} rows of {name}, but there are {len(of_class)}.")
        drawn += of_class
    return [queries[i] for i in sorted(drawn)]


def held_out_kinds(queries: Sequence[Query], level: str, seed: int) -> set[tuple[str, ...]]:
    """The kinds that a seed holds out: half of each class's `subcases`, or half of each subcase's `templates`.

    A kind is (subcase, template). Where their number is odd the smaller half is held out, so that what is left has
    every class; a subcase of one template keeps it. A level of `nothing` holds out nothing.

    Raises:
        StudyError: the data do not say of which subcase and template a row is.
    """
    if level == "nothing":
        return set()
    if not all(len(query.kind) == 2 and all(query.kind) for query in queries):
        raise StudyError(f"held_out: {level} need data that name each row's subcase and template, as HANS does.")
    draw = random.Random(f"held out {seed}")
    depth = {"subcases": 1, "templates": 2}[level]

    def unit(query: Query) -> tuple[int | str, ...]:
        """What is held out or kept as a whole: a class's subcase, or a subcase's template."""
        return (query.gold, *query.kind)[: depth + 1]

    groups = [list(group) for _, group in groupby(sorted({*map(unit, queries)}), key=lambda part: part[:depth])]
    away = {part for group in groups for part in draw.sample(group, len(group) // 2)}
    return {query.kind for query in queries if unit(query) in away}
