"""The seeded samples that are drawn from a task's queries."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from lib.errors import StudyError
from lib.paths import ROOT
from lib.tasks.samples import (
    evaluation_sample,
    held_out_kinds,
    query_pool,
    support_set,
    with_shuffled_labels,
    without,
)
from lib.tasks.task import Query

CLASSES = ("entailment", "non-entailment")
TRAIN = [Query(f"Text {i} ?", ("Yes", "No"), int(i % 3 == 0)) for i in range(120)]
OF_THREE = ("good", "so so", "bad")
# 50 of the first class, 40 of the second, 30 of the third
THREE = [Query(f"Text {i} :", OF_THREE, 0 if i % 12 < 5 else 1 if i % 12 < 9 else 2) for i in range(120)]
BOTH = [pytest.param(TRAIN, CLASSES, id="two classes"), pytest.param(THREE, OF_THREE, id="three classes")]
every_number_of_classes = pytest.mark.parametrize(("rows", "classes"), BOTH)
SEEDS = [0, 1, 2, 17]


def texts(queries):
    return [query.text for query in queries]


def counts(queries, classes):
    return [sum(query.gold == place for query in queries) for place in range(len(classes))]


@every_number_of_classes
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rounds", [1, 2, 8, 16, 30])
def test_support_sets_of_whole_rounds_are_balanced(rows, classes, rounds, seed):
    support = support_set(rows, classes, rounds * len(classes), seed)
    assert counts(support, classes) == [rounds] * len(classes)


@every_number_of_classes
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1, 5, 31, 47])
def test_support_sets_of_other_sizes_differ_by_at_most_one(rows, classes, size, seed):
    found = counts(support_set(rows, classes, size, seed), classes)
    assert sum(found) == size
    assert max(found) - min(found) == (size % len(classes) > 0)


@every_number_of_classes
@pytest.mark.parametrize("seed", SEEDS)
def test_support_sets_of_one_seed_are_nested(rows, classes, seed):
    largest = support_set(rows, classes, 64, seed)
    assert all(support_set(rows, classes, size, seed) == largest[:size] for size in range(1, 64))


def test_support_sets_hold_distinct_rows_of_the_train_split():
    support = support_set(TRAIN + TRAIN, CLASSES, 80, 0)
    assert len(set(support)) == 80
    assert set(support) <= set(TRAIN)


def test_support_sets_differ_over_seeds():
    assert len({tuple(support_set(TRAIN, CLASSES, 16, seed)) for seed in range(20)}) == 20


@every_number_of_classes
def test_the_class_shown_first_varies_over_seeds_and_rounds(rows, classes):
    first = [
        query.gold
        for seed in range(10)
        for query in support_set(rows, classes, 10 * len(classes), seed)[:: len(classes)]
    ]
    for place in range(len(classes)):
        assert 0.6 < first.count(place) / len(first) * len(classes) < 1.4


@every_number_of_classes
def test_a_one_example_support_set_may_be_of_any_class(rows, classes):
    assert {support_set(rows, classes, 1, seed)[0].gold for seed in range(20)} == set(range(len(classes)))


def test_samples_are_the_same_in_every_process():
    code = (
        "from lib.tasks.samples import *;"
        "t = [Query(f'Text {i} ?', ('Yes', 'No'), int(i % 3 == 0)) for i in range(120)];"
        "c = ('entailment', 'non-entailment'); s = support_set(t, c, 16, 3);"
        "print([s, query_pool(t, s, 16, 3), evaluation_sample(t, c, 16, 3)])"
    )
    support = support_set(TRAIN, CLASSES, 16, 3)
    here = [support, query_pool(TRAIN, support, 16, 3), evaluation_sample(TRAIN, CLASSES, 16, 3)]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == str(here)


@pytest.mark.parametrize(
    ("rows", "classes", "largest", "named"),
    [(TRAIN, CLASSES, 80, "41.*40 of non-entailment"), (THREE, OF_THREE, 90, "31.*30 of bad")],
)
def test_a_support_set_that_a_class_cannot_fill_is_refused(rows, classes, largest, named):
    assert len(support_set(rows, classes, largest, 0)) == largest
    size = largest + len(classes)
    with pytest.raises(StudyError, match=rf"support_sizes: {size} .*{named}.* {largest}\."):
        support_set(rows, classes, size, 0)


def test_a_class_without_a_row_is_refused():
    with pytest.raises(StudyError, match=r"support_sizes: 2 .* 0 of non-entailment"):
        support_set([query for query in TRAIN if query.gold == 0], CLASSES, 2, 0)


@every_number_of_classes
@pytest.mark.parametrize("size", [1, 2, 5, 12, 31, 60])
def test_shuffled_labels_tell_nothing_of_the_texts(rows, classes, size):
    support = support_set(rows, classes, size, 0)
    shuffled = with_shuffled_labels(support)
    assert [query._replace(gold=0) for query in shuffled] == [query._replace(gold=0) for query in support]
    met = Counter((query.gold, other.gold) for query, other in zip(support, shuffled, strict=True))
    for place in range(len(classes)):
        of_class = [met[place, label] for label in range(len(classes))]
        assert max(of_class) - min(of_class) <= 1


@every_number_of_classes
def test_shuffled_labels_are_as_frequent_as_the_true_ones_in_whole_rounds_of_all_labels(rows, classes):
    support = support_set(rows, classes, 2 * len(classes) ** 2, 5)
    shuffled = with_shuffled_labels(support)
    assert counts(shuffled, classes) == counts(support, classes)
    right = sum(query.gold == other.gold for query, other in zip(support, shuffled, strict=True))
    assert right == len(support) / len(classes)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1, 16, 60])
def test_pool_never_meets_the_support_set(size, seed):
    support = support_set(TRAIN, CLASSES, size, seed)
    pool = query_pool(TRAIN, support, len(TRAIN) - size, seed)
    assert set(texts(pool)).isdisjoint(texts(support))
    assert sorted(pool + support) == sorted(TRAIN)


@pytest.mark.parametrize("seed", SEEDS)
def test_pool_never_repeats_a_support_text_under_another_label(seed):
    twice_labelled = TRAIN + [query._replace(gold=1 - query.gold) for query in TRAIN]
    support = support_set(twice_labelled, CLASSES, 40, seed)
    pool = texts(query_pool(twice_labelled, support, len(TRAIN) - len(support), seed))
    assert len(set(pool) | set(texts(support))) == len(TRAIN) == len(pool) + len(support)


@pytest.mark.parametrize("seed", SEEDS)
def test_pool_stays_the_same_over_support_sizes(seed):
    pools = {tuple(query_pool(TRAIN, support_set(TRAIN, CLASSES, size, seed), 30, seed)) for size in (1, 2, 5, 16, 32)}
    assert len(pools) == 1


@pytest.mark.parametrize("size", [1, 7, 64])
def test_pool_has_the_size_asked_for_without_repeats(size):
    pool = query_pool(TRAIN + TRAIN, support_set(TRAIN, CLASSES, 8, 0), size, 0)
    assert len(pool) == len(set(pool)) == size


def test_pools_differ_over_seeds():
    assert len({tuple(query_pool(TRAIN, [], 16, seed)) for seed in range(20)}) == 20


@pytest.mark.parametrize("seed", SEEDS)
def test_pool_does_not_depend_on_labels(seed):
    support = support_set(TRAIN, CLASSES, 16, seed)
    flipped = [query if query in support else query._replace(gold=1 - query.gold) for query in TRAIN]
    assert texts(query_pool(flipped, support, 40, seed)) == texts(query_pool(TRAIN, support, 40, seed))


def test_a_pool_larger_than_what_is_left_is_refused():
    support = support_set(TRAIN, CLASSES, 20, 0)
    with pytest.raises(StudyError, match=r"pool_size: 101 .* 100 are left.* 20 support"):
        query_pool(TRAIN, support, 101, 0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("rows", "size", "shares", "expected"),
    [
        (TRAIN, 20, (0.5, 0.5), [10, 10]),
        (TRAIN, 20, (0.9, 0.1), [18, 2]),
        (TRAIN, 20, (0.0, 1.0), [0, 20]),
        (THREE, 40, (0.25, 0.25, 0.5), [10, 10, 20]),
        (THREE, 30, (0.1, 0.2, 0.7), [3, 6, 21]),
    ],
)
def test_pool_shares_say_how_many_of_each_class_there_are(rows, size, shares, expected, seed):
    support = support_set(rows, ("",) * len(shares), 6, seed)
    pool = query_pool(rows, support, size, seed, shares)
    assert counts(pool, shares) == expected
    assert len(set(texts(pool))) == size
    assert set(texts(pool)).isdisjoint(texts(support))


@pytest.mark.parametrize("size", [1, 2, 5, 10, 20, 64])
@pytest.mark.parametrize(("rows", "shares"), [(TRAIN, (0.5, 0.5)), (TRAIN, (0.7, 0.3)), (THREE, (1 / 3, 1 / 3, 1 / 3))])
def test_a_pool_by_shares_has_the_size_asked_for_and_each_share_up_to_one_query(rows, shares, size):
    pool = query_pool(rows, [], size, 0, shares)
    assert len(pool) == size
    assert all(abs(count - size * share) <= 1 for count, share in zip(counts(pool, shares), shares, strict=True))


def test_a_share_that_a_class_cannot_fill_is_refused():
    with pytest.raises(StudyError, match=r"pool_size: 41 .* 40 are left"):
        query_pool(TRAIN, [], 82, 0, (0.5, 0.5))


@every_number_of_classes
@pytest.mark.parametrize("rounds", [1, 10, 30])
def test_evaluation_sample_is_balanced_and_drawn_from_the_rows(rows, classes, rounds):
    sample = evaluation_sample(rows, classes, rounds * len(classes), 0)
    assert counts(sample, classes) == [rounds] * len(classes)
    assert len(set(sample)) == rounds * len(classes)
    assert set(sample) <= set(rows)


def test_evaluation_sample_keeps_the_order_of_the_rows():
    sample = evaluation_sample(THREE, OF_THREE, 30, 3)
    assert sample == [query for query in THREE if query in sample]


def test_evaluation_sample_follows_its_seed():
    assert evaluation_sample(TRAIN, CLASSES, 20, 5) == evaluation_sample(TRAIN, CLASSES, 20, 5)
    assert len({tuple(evaluation_sample(TRAIN, CLASSES, 20, seed)) for seed in range(10)}) == 10


def test_no_evaluation_limit_means_every_row_in_order():
    assert evaluation_sample(THREE, OF_THREE, None, 3) == THREE


@pytest.mark.parametrize(
    ("rows", "classes", "limit", "named"),
    [(TRAIN, CLASSES, 82, "41 rows of non-entailment.* 40"), (THREE, OF_THREE, 93, "31 rows of bad.* 30")],
)
def test_an_evaluation_limit_that_a_class_cannot_fill_is_refused(rows, classes, limit, named):
    with pytest.raises(StudyError, match=rf"eval_limit: {limit} .*{named}"):
        evaluation_sample(rows, classes, limit, 0)


@pytest.mark.parametrize(("rows", "classes", "limit"), [(TRAIN, CLASSES, 21), (THREE, OF_THREE, 20)])
def test_an_evaluation_limit_that_classes_cannot_share_evenly_is_refused(rows, classes, limit):
    with pytest.raises(StudyError, match=rf"eval_limit: {limit} .* {len(classes)} classes"):
        evaluation_sample(rows, classes, limit, 0)


def test_without_takes_out_texts_whatever_their_label():
    taken = [query._replace(gold=1 - query.gold) for query in TRAIN[:7]]
    assert without(TRAIN, taken) == TRAIN[7:]
    assert without(TRAIN, []) == TRAIN


def of_kinds(kinds):
    return [
        Query(f"{subcase} {template} {i}", ("Yes", "No"), gold, (subcase, template))
        for subcase, (gold, templates) in kinds.items()
        for template in templates
        for i in range(3)
    ]


# Five subcases that entail, two that do not; of one template to four
KINDS = {
    **{f"e{i}": (0, [f"e{i} t{j}" for j in range(i)]) for i in range(1, 5)},
    "e5": (0, ["e5 t0", "e5 t1"]),
    "n1": (1, ["n1 t0", "n1 t1", "n1 t2"]),
    "n2": (1, ["n2 t0"]),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_each_classs_subcases_are_held_out_with_all_their_templates(seed):
    away = held_out_kinds(of_kinds(KINDS), "subcases", seed)
    subcases = {subcase for subcase, _ in away}
    assert sorted(name[0] for name in subcases) == ["e", "e", "n"]
    assert away == {(subcase, template) for subcase in subcases for template in KINDS[subcase][1]}


@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_each_subcases_templates_are_held_out_and_a_single_one_is_kept(seed):
    away = Counter(subcase for subcase, _ in held_out_kinds(of_kinds(KINDS), "templates", seed))
    assert away == {subcase: len(templates) // 2 for subcase, (_, templates) in KINDS.items() if len(templates) > 1}


def test_what_is_held_out_follows_the_seed_and_not_the_rows_order():
    rows = of_kinds(KINDS)
    for level in ("subcases", "templates"):
        assert held_out_kinds(rows, level, 3) == held_out_kinds(rows[::-1], level, 3)
        assert len({frozenset(held_out_kinds(rows, level, seed)) for seed in range(20)}) > 5


def test_nothing_is_held_out_where_that_is_asked_even_of_rows_without_kinds():
    assert held_out_kinds(TRAIN, "nothing", 0) == set()


@pytest.mark.parametrize("kind", [(), ("swap",), ("swap", "")])
@pytest.mark.parametrize("level", ["subcases", "templates"])
def test_rows_that_do_not_tell_their_kind_are_refused(kind, level):
    rows = [*of_kinds(KINDS), Query("a", ("Yes", "No"), 0, kind)]
    with pytest.raises(StudyError, match=rf"held_out: {level} .*subcase.*template"):
        held_out_kinds(rows, level, 0)
