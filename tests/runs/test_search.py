"""Search: each candidate is the study's own run under changed settings, and keeps its name beside its results."""

import json

import pandas as pd
import pytest

from lib.paths import FIGURES, PROFILES
from lib.runs.execution import fill
from lib.runs.frames import seed_means
from lib.runs.profile import read_profile
from lib.runs.search import best, learning_rates, search
from lib.runs.store import Store

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


def results(*rows):
    return pd.DataFrame(rows, columns=["method", "candidate", "seed", "in_domain_accuracy"])


def test_the_highest_mean_is_chosen_and_a_tie_goes_to_the_first_that_is_listed():
    found = results(("cd", "b", 1, 0.7), ("cd", "a", 1, 0.7), ("cd", "c", 1, 0.6), ("pbft", "a", 1, 0.1))
    assert best(found).to_dict() == {"cd": "b", "pbft": "a"}


def test_further_seeds_decide_among_those_that_were_tried_on_them():
    once = [("cd", "a", 1, 0.9), ("cd", "b", 1, 0.8), ("cd", "c", 1, 0.7)]
    again = [("cd", "b", 2, 0.6), ("cd", "c", 2, 0.8)]
    assert best(results(*once, *again)).to_dict() == {"cd": "c"}


def test_candidates_compete_only_within_the_columns_that_are_named():
    found = results(("ict", "a", 1, 0.4), ("ict", "b", 1, 0.6), ("ict", "a", 1, 0.9), ("ict", "b", 1, 0.8))
    chosen = best(found.assign(paradigm=["meta", "meta", "multitask", "multitask"]), by=["paradigm", "method"])
    assert chosen.to_dict() == {("meta", "ict"): "b", ("multitask", "ict"): "a"}


def test_a_candidate_rate_changes_its_own_method_alone():
    usual = read_profile("smoke").runs(("pbft", "cd", "cd_lora"))
    (candidate,) = learning_rates({"cd": (0.3,)})["cd"]
    for before, after in zip(usual, read_profile("smoke", candidate).runs(("pbft", "cd", "cd_lora")), strict=True):
        assert after.training.learning_rate == (0.3 if before.method == "cd" else before.training.learning_rate)


def test_candidates_of_in_context_tuning_are_runs_of_the_changed_profile(figures_folder):
    rates = [{"in_context.crossfit.learning_rate.meta": rate} for rate in (1e-3, 0.1)]
    changes = {"in_context.seeds": [9], "in_context.paradigms": ["meta"]}
    found = search("smoke", {"ict": rates, "untuned": [{}]}, changes, "crossfit")
    names = [*(f"in_context.crossfit.learning_rate.meta {rate}" for rate in (0.001, 0.1)), ""]
    assert list(dict.fromkeys(found.candidate)) == names
    assert set(found.seed) == {9}
    for label, change, method in zip(names, [*rates, {}], ["ict", "ict", "untuned"], strict=True):
        alone = seed_means(fill(read_profile("smoke", {**changes, **change}), [method], "crossfit").results)
        assert found[found.candidate == label].macro_f1.tolist() == alone.macro_f1.tolist()


def test_crossfits_settings_are_searched_on_tasks_that_are_not_reported():
    split = json.loads((PROFILES / "crossfit_search_split.json").read_text())
    profile = read_profile("smollm2")
    found = [Store(FIGURES / "smollm2").load(run) for run in profile.in_context_runs("crossfit")]
    reported = {task.task for result in found if result for task in result.outcome.tasks}
    assert len(reported) == profile.in_context.crossfit.target_tasks
    assert reported.isdisjoint(split["test"])
    assert reported.isdisjoint(split["train"])
