"""The study's intervals against simulated studies whose truth is known."""

import pytest

from lib.evidence.coverage import coverage


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_clustered_by_template_hold_the_truth_as_often_as_they_should(seeds):
    clustered, independent = (coverage(seeds, one, 400) for one in (True, False))
    assert clustered["covered"] >= 0.93
    assert independent["covered"] < 0.9
    assert independent["width over ideal"] < clustered["width over ideal"]


def test_three_seeds_make_intervals_wider_than_ten_do():
    assert coverage(3, True, 200)["width over ideal"] > coverage(10, True, 200)["width over ideal"]
