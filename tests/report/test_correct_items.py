"""What is right: the seeds that methods have in common, and the items that each gets right."""

from lib.report.correct_items import correct_items
from tests.support.stored import stored


def test_each_size_has_the_seeds_that_all_methods_have_there():
    shapes = [("cd", 4, 0), ("cd", 4, 1), ("cd", 8, 1), ("cd", 12, 0), ("icl", 4, 1), ("icl", 4, 0), ("icl", 8, 1)]
    results = [stored(*one, [0, 0], [0, 1]) for one in [*shapes, ("icl", 4, 2), ("pbft", 4, 9), ("baseline", 0, 0)]]
    found = correct_items(results, "in_domain", ("cd", "icl", "baseline"))
    assert {size: correct.seeds for size, correct in found.items()} == {4: (0, 1), 8: (1,)}
    assert {name: items.shape for name, items in found[4].by_method.items()} == {
        "cd": (2, 2),
        "icl": (2, 2),
        "baseline": (2, 2),
    }


def test_items_are_right_where_the_answer_is_their_class():
    results = [
        stored("icl", 4, seed, answers, [0, 1, 0, 1]) for seed, answers in ((3, [0, 1, 0, 0]), (1, [1, 1, 1, 1]))
    ]
    (correct,) = correct_items(results, "in_domain", ("icl",)).values()
    assert correct.gold.tolist() == [0, 1, 0, 1]
    assert correct.of_seeds("icl", [3, 1]).tolist() == [[1, 1, 1, 0], [0, 1, 0, 1]]
    assert correct.accuracy(correct.of_seeds("icl", [3])).value == 0.75
