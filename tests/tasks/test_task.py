"""A task's values: how an item is shown, and which sets are evaluated in which role."""

import pytest

from lib.tasks.task import Dataset, Query, Task, domain_keys

SETS = [Dataset(name, "world") for name in "abcd"]


@pytest.mark.parametrize(("gold", "shown"), [(0, "A film ? very good"), (2, "A film ? bad")])
def test_a_demonstration_is_the_item_with_the_word_of_its_class_after_one_space(gold, shown):
    assert Query("A film ?", ("very good", "so so", "bad"), gold).answered == shown


@pytest.mark.parametrize(
    ("further", "keys"),
    [
        (0, ["in_domain"]),
        (1, ["in_domain", "out_of_domain"]),
        (3, ["in_domain", "out_of_domain", "out_of_domain_2", "out_of_domain_3"]),
    ],
)
def test_the_evaluated_sets_are_known_by_their_roles_in_order(further, keys):
    task = Task("{text}", ("x", "y"), ("Yes", "No"), SETS[0], tuple(SETS[1 : further + 1]))
    assert domain_keys(further) == keys
    assert list(task.domains.items()) == list(zip(keys, SETS[: further + 1], strict=True))
