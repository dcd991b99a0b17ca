"""Search: each candidate is the study's own cell under changed settings, and keeps its name beside its results."""

import pytest

from lib.profiles import read_profile
from lib.search import search
from lib.sweep import fill

CHANGES = {"seeds": [5], "support_sizes": [4]}


@pytest.fixture
def found(figures_folder):
    candidates = {"pbft": [{"learning_rate": 1e-3}, {"learning_rate": 0.1, "epochs": 1}], "icl": [{}]}
    return search("smoke", candidates, CHANGES)


def test_every_candidate_has_its_rows_under_its_own_name(found):
    assert list(zip(found.method, found.candidate, strict=True)) == [
        ("pbft", "learning_rate 0.001"),
        ("pbft", "learning_rate 0.1, epochs 1"),
        ("icl", ""),
    ]
    assert set(found.seed) == {5}


def test_candidates_are_trained_with_their_own_settings(found):
    assert found.training_tokens[0] == 2 * found.training_tokens[1]


def test_a_candidates_results_are_those_of_the_profile_changed_alike(found):
    profile = read_profile("smoke", {**CHANGES, "learning_rate": 0.1, "epochs": 1})
    alone = fill(profile, ["pbft"]).results
    columns = [name for name in alone if name.startswith(("in_domain", "out_of_domain", "training"))]
    assert found.iloc[1][columns].dropna().to_dict() == alone.iloc[0][columns].dropna().to_dict()
