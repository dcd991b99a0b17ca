"""Search: as many candidates for each method, the best on all seeds, one step beyond an edge; each keeps its name."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import yaml

from lib.errors import StudyError
from lib.methods.table import TRAINED
from lib.paths import FIGURES, PROFILES
from lib.runs.execution import fill
from lib.runs.frames import seed_means
from lib.runs.profile import profile_names, read_profile
from lib.runs.search import (
    MEASURE,
    best,
    beyond_the_edge,
    candidates,
    leading,
    profile_lines,
    search,
    search_settings,
)
from lib.runs.store import Store

CHANGES = {"seeds": [5], "support_sizes": [4]}
SMALL = {
    "eval_limit": 2,
    "search.items": 2,
    "search.seeds": [100, 101, 102],
    "search.rates": {"full": [1e-3, 1e-2], "lora": [1e-3, 1e-2], "bitfit": [1e-3, 1e-2]},
}


@pytest.fixture
def found(figures_folder):
    tried = {"pbft": [{"learning_rate": 1e-3}, {"learning_rate": 0.1, "epochs": 1}], "icl": [{}]}
    return search(read_profile("smoke"), tried, CHANGES)


def test_every_candidate_has_its_rows_under_its_own_name(found):
    assert list(zip(found.method, found.candidate, strict=True)) == [
        ("pbft", "learning_rate 0.001"),
        ("pbft", "learning_rate 0.1, epochs 1"),
        ("icl", ""),
    ]
    assert set(found.seed) == {5}


def test_candidates_are_trained_with_their_own_settings(found):
    assert found.training_tokens[0] == 2 * found.training_tokens[1]
    assert found.queries[:2].tolist() == [8, 4]


def test_a_candidates_results_are_those_of_the_profile_changed_alike(found):
    profile = read_profile("smoke", {**CHANGES, "learning_rate": 0.1, "epochs": 1})
    sweep = fill(profile, ["pbft"])
    columns = [name for name in sweep.results if name.startswith(("in_domain", "out_of_domain", "training"))]
    assert found.iloc[1][columns].dropna().to_dict() == sweep.results.iloc[0][columns].dropna().to_dict()
    assert found.final_loss[1] == pytest.approx(np.mean(sweep.stored[0].outcome.losses))


def test_the_final_loss_is_that_of_the_last_epoch(found, figures_folder):
    losses = fill(read_profile("smoke", {**CHANGES, "learning_rate": 1e-3}), ["pbft"]).stored[0].outcome.losses
    assert found.final_loss[0] == pytest.approx(np.mean(losses[len(losses) // 2 :]))


@pytest.mark.parametrize("name", profile_names())
def test_each_trained_method_has_as_many_rates_and_epochs(name):
    profile = read_profile(name)
    trained = {method: several for method, several in candidates(profile).items() if method in TRAINED}
    assert {*trained} == {*TRAINED} & {*profile.methods}
    assert len({len(several) for several in trained.values()}) == 1
    for method, several in trained.items():
        for setting in ("learning_rate", "epochs"):
            assert len({change[f"{setting}.{method}"] for change in several}) > 1


def test_icl_has_the_patterns_where_there_are_several():
    assert {change["pattern"] for change in candidates(read_profile("smollm2"))["icl"]} > {"gpt-3", "minimal"}
    assert "icl" not in candidates(read_profile("tiny"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search.rates": {"full": [1.0, 2.0], "lora": [1.0, 2.0, 3.0], "bitfit": [1.0, 2.0]}}, r"search\.rates.*full"),
        ({"search.rates.full": [1.0, 2.0]}, r"search\.rates: .*lora, bitfit"),
        ({"search.epochs": {"pbft": [10], "cd": [1, 3]}}, r"search\.epochs: .*\(10,\).* as many"),
        ({"search.epochs": {"pbft": [3, 1], "cd": [1, 3]}}, r"search\.epochs: .*\(3, 1\).* ascend"),
        ({"search.seeds": [100]}, r"search\.seeds: \[100\] is not allowed.*at least 2"),
    ],
)
def test_a_budget_that_differs_between_methods_is_refused(changes, words):
    with pytest.raises(StudyError, match=words):
        read_profile("smoke", changes)


def test_the_whole_search_gives_each_method_the_same_runs_but_for_the_edge(figures_folder):
    profile = read_profile("smoke", SMALL | {"methods": ["icl", "pbft", "cd_lora"]})
    found = search_settings(profile)
    assert list(dict.fromkeys(found.method)) == ["icl", "pbft", "cd_lora"]
    for _, own in found[found.method != "icl"].groupby("method"):
        inside = own[own.learning_rate.isin([1e-3, 1e-2])]
        assert inside.candidate.nunique() == 4
        assert sorted(Counter(inside.candidate).values()) == [1, 1, 3, 3]
        beyond = own[~own.learning_rate.isin([1e-3, 1e-2])]  # of two rates one is always at an edge
        assert list(beyond.seed) == [100, 101, 102]
        assert Counter(own.candidate)[best(own).item()] == 3
    stored = search_settings(profile.changed({"stored_only": True}))
    assert stored[MEASURE].tolist() == found[MEASURE].tolist()


def test_a_search_without_all_its_results_is_no_search(figures_folder):
    profile = read_profile("smoke", SMALL | {"methods": ["pbft"], "stored_only": True})
    with pytest.raises(StudyError, match=r"stored_only: 4 results .*pbft n=1 seed=100"):
        search_settings(profile)


def test_a_candidate_that_fails_is_kept_with_its_reason_and_not_chosen(figures_folder):
    rates = [{"learning_rate": 1e-3}, {"learning_rate": 1e30}]
    found = search(read_profile("smoke"), {"pbft": rates}, CHANGES)
    assert "learning_rate 1e+30" in found.failed[1]
    assert found.seed.tolist() == [5, 5]
    assert best(found).to_dict() == {"pbft": "learning_rate 0.001"}


def results(*rows):
    return pd.DataFrame(rows, columns=["method", "candidate", "seed", MEASURE])


def tried(*rows):
    """Results of CD at learning rates and epochs."""
    frame = pd.DataFrame(rows, columns=["learning_rate", "epochs", MEASURE])
    named = [f"learning_rate {row.learning_rate:g}, epochs {row.epochs:g}" for row in frame.itertuples()]
    return frame.assign(method="cd", candidate=named, seed=1)


@pytest.mark.parametrize(
    ("best_rate", "further"), [(1e-3, 3.3e-4), (3e-3, None), (1e-2, 3.3e-2)], ids=["lowest", "between", "highest"]
)
def test_beyond_an_edge_the_next_rate_is_tried_with_the_bests_epochs(best_rate, further):
    found = tried(
        *((rate, epochs, 0.9 * (rate == best_rate and epochs == 3)) for rate in (1e-3, 3e-3, 1e-2) for epochs in (1, 3))
    )
    change = {"learning_rate.cd": further, "epochs.cd": 3}
    assert beyond_the_edge(found) == ({"cd": [change]} if further else {})


def test_half_of_each_methods_candidates_go_on_by_their_means_so_far_and_at_least_two():
    of_cd = [{"learning_rate.cd": rate, "epochs.cd": 1} for rate in (1e-4, 1e-3, 3e-3, 1e-2, 3e-2)]
    first = tried((1e-4, 1, 0.9), (1e-3, 1, 0.5), (3e-3, 1, 0.7), (1e-2, 1, 0.5), (3e-2, 1, 0.1))
    assert leading(first, {"cd": of_cd, "pbft": [{}]}, 0.5) == {"cd": of_cd[:3]}
    second = pd.concat([first, tried((1e-4, 1, 0.1), (1e-3, 1, 0.8), (3e-3, 1, 0.7))])
    assert leading(second, {"cd": of_cd[:3]}, 0.5) == {"cd": of_cd[1:3]}
    assert leading(second, {"cd": of_cd[1:3]}, 0.5) == {"cd": of_cd[1:3]}


def test_the_chosen_settings_are_lines_of_a_profile():
    icl = pd.DataFrame({"method": ["icl"], "candidate": ["pattern minimal"], "pattern": ["minimal"], MEASURE: [0.5]})
    lines = yaml.safe_load(profile_lines(pd.concat([icl, tried((1e-3, 1, 0.5), (3e-3, 3, 0.7))])))
    assert lines == {"learning_rate": {"cd": 3e-3}, "epochs": {"cd": 3}, "pattern": "minimal"}
    changed = read_profile("smoke", {f"{name}.cd": lines[name]["cd"] for name in ("learning_rate", "epochs")})
    assert {run.training.epochs for run in changed.runs(("cd",))} == {3}


def test_the_highest_mean_is_chosen_and_a_tie_goes_to_the_first_that_is_listed():
    found = results(("cd", "b", 1, 0.7), ("cd", "a", 1, 0.7), ("cd", "c", 1, 0.6), ("pbft", "a", 1, 0.1))
    assert best(found).to_dict() == {"cd": "b", "pbft": "a"}


def test_those_that_were_tried_on_further_seeds_decide():
    once = [("cd", "a", 1, 0.9), ("cd", "b", 1, 0.8), ("cd", "c", 1, 0.7)]
    again = [("cd", "b", 2, 0.6), ("cd", "c", 2, 0.8)]
    assert best(results(*once, *again)).to_dict() == {"cd": "c"}


def test_candidates_compete_only_within_the_columns_that_are_named():
    found = results(("ict", "a", 1, 0.4), ("ict", "b", 1, 0.6), ("ict", "a", 1, 0.9), ("ict", "b", 1, 0.8))
    chosen = best(found.assign(paradigm=["meta", "meta", "multitask", "multitask"]), by=["paradigm", "method"])
    assert chosen.to_dict() == {("meta", "ict"): "b", ("multitask", "ict"): "a"}


def test_candidates_of_in_context_tuning_are_runs_of_the_changed_profile(figures_folder):
    rates = [{"in_context.crossfit.learning_rate.meta": rate} for rate in (1e-3, 0.1)]
    changes = {"in_context.seeds": [9], "in_context.paradigms": ["meta"]}
    found = search(read_profile("smoke"), {"ict": rates, "untuned": [{}]}, changes, "crossfit")
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
