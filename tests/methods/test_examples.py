"""What is read: pools from the target's domain, what is held out of them, and orders of the demonstrations."""

from dataclasses import replace

import pytest

from lib.errors import StudyError
from lib.methods import reading
from lib.methods.reading import evaluation_items, held_out_items, pool_of, pool_parts, support_of, teacher_contexts
from lib.runs.profile import read_profile
from lib.tasks.samples import held_out, without_held_out
from lib.tasks.task import Example


def request(profile="tiny", size=4, **changes):
    (run,) = read_profile(profile, {"support_sizes": [size], "seeds": [0], **changes}).runs(("cd",))
    return run.distillation.targets


def texts(rows):
    return {row[:2] for row in rows}


def test_a_pool_from_the_targets_domain_has_none_of_what_is_evaluated():
    asked = request(pool="target", pool_size=64)
    pool = pool_of(asked)
    assert len(pool) == 64
    assert not texts(pool) & texts(evaluation_items(asked.task, asked.task.out_of_domain))
    assert texts(pool) <= texts(reading.examples("world", "overlap", "train"))


@pytest.mark.parametrize("size", [20, 21])
def test_a_pool_of_both_is_half_of_each_domains(size):
    own, like_target = pool_parts(request(pool="both", pool_size=size))
    assert (len(own), len(like_target)) == (size - size // 2, size // 2)
    assert own == pool_of(request(pool="train", pool_size=len(own)))
    assert like_target == pool_of(request(pool="target", pool_size=len(like_target)))
    assert pool_of(request(pool="both", pool_size=size)) == own + like_target


@pytest.fixture
def one_file(monkeypatch):
    """Every dataset is one file without splits."""
    rows = [Example(f"{i}", "h", i % 2, f"sub{i % 4}", f"t{i % 3}") for i in range(60)]
    monkeypatch.setattr(reading, "examples", lambda source, dataset, split: rows)
    reading._train_rows.cache_clear()
    yield rows
    reading._train_rows.cache_clear()


@pytest.mark.parametrize("pool", ["target", "train"])
def test_where_one_file_is_both_pool_and_evaluation_only_the_rest_is_drawn(one_file, pool):
    asked = request(pool=pool, pool_size=20, eval_limit=20)
    assert not texts(pool_of(asked)) & texts(evaluation_items(asked.task, "overlap"))
    assert len(pool_of(asked)) == 20


def test_where_one_file_is_both_splits_no_demonstration_is_evaluated(one_file):
    asked = request(size=8, eval_limit=20, pool_size=4, demonstration_sets=2)
    evaluated = texts(evaluation_items(asked.task, asked.task.in_domain))
    for demonstrations, _ in teacher_contexts(asked):
        assert len(demonstrations) == 8
        assert not texts(demonstrations) & evaluated


def test_a_pool_of_no_queries_is_the_support_set_left_one_out():
    asked = request(pool_size=0)
    assert asked == request(pool="support", pool_size=7)
    support = support_of(asked)
    assert pool_of(asked) == support
    assert teacher_contexts(asked) == [(support[:i] + support[i + 1 :], [support[i]]) for i in range(4)]


def test_orders_are_permutations_and_the_first_is_the_sets_own():
    asked = request(orders=3, size=8)
    support, orders = support_of(asked), [order for order, _ in teacher_contexts(asked)]
    assert orders[0] == support
    assert all(sorted(order) == sorted(support) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert teacher_contexts(replace(asked, orders=1)) == teacher_contexts(asked)[:1]


@pytest.mark.parametrize("pool", ["train", "support"])
def test_further_sets_share_nothing_with_one_another_or_the_pool(pool):
    asked = request(size=8, demonstration_sets=3, pool=pool)
    found = teacher_contexts(asked)
    support, asked_of = support_of(asked), texts(pool_of(asked))
    assert found[: len(found) // 3] == teacher_contexts(replace(asked, demonstration_sets=1))
    further = [one for one, _ in found[len(found) // 3 :]]
    for demonstrations in further:
        assert sum(row.label for row in demonstrations) == 4
        assert not texts(demonstrations) & (asked_of | texts(support))
    assert len({tuple(one) for one in further}) == 2
    assert [query for _, query in found] == [query for _, query in found[: len(found) // 3]] * 3


def test_sets_and_orders_are_multiplied():
    assert len(teacher_contexts(request(orders=2, demonstration_sets=3))) == 6


HANS = [
    Example(f"{label} {sub} {template} {i}", "h", label, f"{'le' if label == 0 else 'ln'}_{sub}", f"temp{template}")
    for label in (0, 1)
    for sub in range(5)
    for template in range(3)
    for i in range(2)
]


def test_half_of_each_classs_subcases_are_held_out_whole():
    away = held_out(HANS, "subcases", 0)
    left = without_held_out(HANS, "subcases", 0)
    gone = {subcase for subcase, _ in away}
    assert {name[:2] for name in gone} == {"le", "ln"}
    assert len(gone) == 4
    assert not gone & {row.subcase for row in left}
    assert len(left) == len(HANS) - 4 * 6
    assert held_out(HANS, "subcases", 0) == away != held_out(HANS, "subcases", 1)


def test_of_each_subcase_some_templates_are_held_out_and_some_stay():
    left = without_held_out(HANS, "templates", 0)
    assert {row.subcase for row in left} == {row.subcase for row in HANS}
    for subcase in {row.subcase for row in HANS}:
        assert len({row.template for row in left if row.subcase == subcase}) == 2


def test_nothing_is_held_out_unless_asked_and_data_without_names_are_refused():
    assert without_held_out(HANS, "nothing", 0) == HANS
    with pytest.raises(StudyError, match="held_out: subcases need data that name each row's subcase"):
        held_out([Example("p", "h", 0)], "subcases", 0)


@pytest.mark.parametrize("kind", ["subcases", "templates"])
def test_items_whose_kind_the_pool_lacks_are_told_from_the_rest(monkeypatch, kind):
    monkeypatch.setattr(reading, "examples", lambda source, dataset, split: HANS)
    asked = request(pool="target", pool_size=8, held_out=kind, eval_limit=30)
    pool = {(row.subcase, row.template) for row in pool_of(asked)}
    items = evaluation_items(asked.task, asked.task.out_of_domain)
    away = held_out_items(asked)
    assert len(away) == len(items)
    assert 0 < sum(away) < len(items)
    for item, told in zip(items, away, strict=True):
        assert not told or (item.subcase, item.template) not in pool
    assert not any(held_out_items(replace(asked, held_out="nothing")))
