"""The page of a search: best and runner-up on the seeds that both have, budgets, accuracy against rate."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.report.settings_search import CALIBRATED, against_rate, budget, leaders, record
from lib.runs.search import MEASURE

pytestmark = pytest.mark.usefixtures("close_figures")
BY_SEED = {1e-3: (0.6, 0.7, 0.65), 3e-3: (0.7, 0.72, 0.8), 1e-2: (0.9, np.nan, np.nan)}
ALIKE = {"in_domain_accuracy": 0.5, "in_domain_auc": 0.75, "final_loss": 0.25, "queries": 10}
ALIKE |= {"training_seconds": 2.0, "evaluation_seconds": 1.0, "epochs": 3}


def rows(method, by_seed=BY_SEED):
    return [
        {"method": method, "candidate": f"rate {rate}", "learning_rate": rate, "seed": seed, MEASURE: value, **ALIKE}
        for rate, values in by_seed.items()
        for seed, value in enumerate(values)
        if not np.isnan(value)
    ]


@pytest.fixture
def found():
    icl = [{"method": "icl", "candidate": "pattern a", "pattern": "a", "seed": seed, MEASURE: 0.5} for seed in range(3)]
    return pd.DataFrame([*icl, *rows("pbft"), *rows("cd")]).fillna({"in_domain_accuracy": 0.5, "in_domain_auc": 0.5})


def test_the_best_stands_beside_the_runner_up_of_those_on_the_most_seeds(found):
    shown = leaders(found).loc["CD"]
    assert (shown["best"], shown["runner-up"], shown["seeds"]) == ("rate 0.003", "rate 0.001", "3")
    assert (shown["plain"], shown["area"], shown["final loss"]) == ("0.50", "0.75", "0.25")


def test_a_difference_is_paired_by_seed_with_students_interval(found):
    differences = np.subtract(BY_SEED[3e-3], BY_SEED[1e-3])
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    assert leaders(found).loc["PBFT", "best − runner-up"] == f"{differences.mean():.3f} [{low:.3f}, {high:.3f}]"


def test_an_accuracys_interval_ends_where_accuracies_do():
    wide = pd.DataFrame(rows("cd", {1e-3: (0.5, 1.0, 0.9), 3e-3: (0.1, 0.2, 0.1)}))
    assert leaders(wide).loc["CD", CALIBRATED].endswith(", 1.000]")


@pytest.mark.parametrize(("highest", "edge"), [(3e-3, "yes"), (1e-2, "")])
def test_a_best_rate_at_the_edge_is_marked(found, highest, edge):
    kept = found[~(found.learning_rate > highest)]
    assert leaders(kept).loc["CD", "at the edge"] == edge


def test_one_candidate_has_no_runner_up(found):
    shown = leaders(found).loc["ICL"]
    assert (shown["best"], shown["runner-up"], shown["best − runner-up"]) == ("pattern a", "", "")


def test_the_budget_counts_candidates_runs_and_queries(found):
    shown = budget(found).loc["CD"]
    assert shown.to_dict() == {
        "candidates": 3,
        "runs": 7,
        "queries": 70,
        "training seconds": 14,
        "evaluation seconds": 7,
    }


def test_the_figure_has_a_point_a_run_and_a_line_through_the_means(found):
    pbft, cd = against_rate(found).axes
    assert [axis.get_title() for axis in (pbft, cd)] == ["PBFT", "CD"]
    line, points = cd.lines
    assert line.get_ydata() == pytest.approx([np.nanmean(values) for values in BY_SEED.values()])
    assert len(points.get_ydata()) == 7


def test_a_record_keeps_every_row_and_no_column_of_costs_that_it_does_not_name(found):
    kept = record(found)
    assert len(kept) == len(found)
    assert {"method", "learning_rate", MEASURE, "in_domain_auc", "final_loss", "training_seconds"} <= {*kept}
    assert "evaluation_seconds" not in kept
