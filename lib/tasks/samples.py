"""Samples drawn from labelled examples: support sets, pools of queries, evaluation items."""

import random
from collections import Counter
from collections.abc import Sequence

from lib.errors import StudyError
from lib.tasks.task import CLASSES, Example


def _shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """A permutation of the examples with distinct texts; one seed gives one permutation on every machine."""
    distinct = list({example[:2]: example for example in examples}.values())
    random.Random(seed).shuffle(distinct)
    return distinct


def support_set(train: Sequence[Example], size: int, seed: int) -> list[Example]:
    """A balanced, shuffled support set of `size` examples; those of one seed are nested.

    Classes come in pairs whose inner order is random, so that every even prefix is balanced, no order of classes
    can be read off, and a curve over sizes only ever adds examples.

    Raises:
        StudyError: a class has too few rows.
    """
    draw = random.Random(seed)
    by_class = [
        [example for example in _shuffled(train, seed) if example.label == label] for label in range(len(CLASSES))
    ]
    rounds = -(-size // len(CLASSES))
    scarce = min(map(len, by_class))
    if rounds > scarce:
        raise StudyError(
            f"support_sizes: {size} examples need {rounds} of each class, but the train split has "
            f"only {scarce} of one; the largest possible is {scarce * len(CLASSES)}."
        )
    chosen: list[Example] = []
    for group in list(zip(*by_class, strict=False))[:rounds]:
        chosen += draw.sample(group, len(group))
    return chosen[:size]


def with_shuffled_labels(support: Sequence[Example]) -> list[Example]:
    """The same texts with labels that tell nothing of them: the i-th example of a class gets the i-th class after it.

    Each class's texts then carry every label about equally often, and each label is as frequent as before.
    """
    met: Counter[int] = Counter()
    shuffled = []
    for example in support:
        shuffled.append(example._replace(label=(example.label + met[example.label]) % len(CLASSES)))
        met[example.label] += 1
    return shuffled


def query_pool(
    train: Sequence[Example],
    support: Sequence[Example],
    size: int,
    seed: int,
    shares: Sequence[float] | None = None,
) -> list[Example]:
    """`size` queries from the end of the seed's permutation, never in the support set.

    Support sets come from the permutation's beginning, so the pool stays the same over support sizes
    (unless the train split is nearly used up).

    Args:
        train: rows to draw from.
        support: the support set.
        size: of the pool.
        seed: of the permutation.
        shares: of each class; None draws without looking at labels.

    Raises:
        StudyError: fewer rows than that are left, of the whole or of a class.
    """
    if shares is not None:
        of_class = [[row for row in train if row.label == label] for label in range(len(CLASSES))]
        counts = [round(size * share) for share in shares]
        return [
            row for rows, count in zip(of_class, counts, strict=True) for row in query_pool(rows, support, count, seed)
        ]
    taken = {example[:2] for example in support}
    left = [example for example in reversed(_shuffled(train, seed)) if example[:2] not in taken]
    if size > len(left):
        raise StudyError(
            f"pool_size: {size} queries asked for, but {len(left)} are left of the train split "
            f"after {len(support)} support examples."
        )
    return left[:size]


def evaluation_sample(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """Everything, or `limit` examples, as many of each class as of the other; the same for every method and seed.

    Raises:
        StudyError: a class has fewer than half of `limit` rows.
    """
    if limit is None:
        return list(examples)
    order = random.Random(seed).sample(range(len(examples)), len(examples))
    chosen: list[int] = []
    for label in range(len(CLASSES)):
        share = limit // len(CLASSES)
        of_class = [i for i in order if examples[i].label == label][:share]
        if len(of_class) < share:
            raise StudyError(
                f"eval_limit: {limit} needs {share} rows of {CLASSES[label]}, but there are {len(of_class)}."
            )
        chosen += of_class
    return [examples[i] for i in sorted(chosen)]


def held_out(examples: Sequence[Example], kind: str, seed: int) -> set[tuple[str, str]]:
    """The (subcase, template) pairs that a seed holds out: half of the `subcases`, or half of each one's `templates`.

    Of each class's subcases half are drawn (the smaller half where they are odd), so that what is left has both.
    A subcase of one template keeps it. `nothing` holds out nothing.

    Raises:
        StudyError: the data do not say of which subcase and template a row is.
    """
    if kind == "nothing":
        return set()
    if not all(row.subcase and row.template for row in examples):
        raise StudyError(f"held_out: {kind} need data that name each row's subcase and template, as HANS does.")
    draw = random.Random(f"held out {seed}")
    templates: dict[tuple[int, str], set[str]] = {}
    for row in examples:
        templates.setdefault((row.label, row.subcase), set()).add(row.template)
    if kind == "templates":
        return {
            (subcase, template)
            for (_, subcase), names in sorted(templates.items())
            for template in draw.sample(sorted(names), len(names) // 2)
        }
    chosen: list[tuple[int, str]] = []
    for label in range(len(CLASSES)):
        of_class = sorted(key for key in templates if key[0] == label)
        chosen += draw.sample(of_class, len(of_class) // 2)
    return {(subcase, template) for label, subcase in chosen for template in templates[label, subcase]}


def without_held_out(examples: Sequence[Example], kind: str, seed: int) -> list[Example]:
    """The rows whose subcase and template are not held out; errors as `held_out`."""
    away = held_out(examples, kind, seed)
    return [row for row in examples if (row.subcase, row.template) not in away]
