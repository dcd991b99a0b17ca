"""From stored results to a pandas frame: one row a run, one column a number."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from lib.methods.context_distillation import METHODS
from lib.methods.evaluation import Scores
from lib.methods.records import Run
from lib.models.training import EXECUTION_FIELDS
from lib.runs.store import Result

# How a peak may have been measured: on a GPU, on a CPU in a process of the run's own, or not at all.
MEASURES = ("cuda_allocated", "rss")

PHASES = ("teacher", "training", "evaluation")

PLAIN = "plain"


def results_frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a result: method, support size, seed, scores of each domain, cost of each phase, device.

    Columns are `<domain>_<score>`, `<domain>_calibrated_<score>` (by content-free inputs) and `<phase>_<cost>` (bytes,
    seconds). Of the scores, `accuracy_on_<class>` is the recall of a class, `share_<class>` how often it is predicted,
    `auc` the area under the ROC curve, which no label prior moves, and `majority` what the commonest class would score.
    `peak_gb` is the highest peak (10⁹ bytes) of what a method needs to come into being: training and teacher for
    trained methods, evaluation for the others. `queries_per_second` is over the evaluated items, in batches, reading of
    the demonstrations included. `method_seconds` is the teacher's time and the training's, 0 without. `steps` is how
    those of the training were computed: `plain`, or which of `padding-free` and `fused` they were; empty where nothing
    was trained. Peaks of training are nan but of plain steps: they tell nothing of what those would take.
    """
    return pd.DataFrame([_row(result) for result in results])


def _row(result: Result) -> dict[str, Any]:
    run, outcome, costs = result.run, result.outcome, _comparable_costs(result)
    row: dict[str, Any] = {name: getattr(run, name) for name in ("method", "support_size", "seed", "model")}
    for domain, evaluation in outcome.evaluations.items():
        row |= _flat_scores(domain, run.task.classes, evaluation.scores())
        row |= _flat_scores(f"{domain}_calibrated", run.task.classes, evaluation.scores("content_free"))
        row[f"{domain}_majority"] = max(np.bincount(evaluation.gold)) / len(evaluation.gold)
        row[f"{domain}_auc"] = evaluation.area_under_curve()
        row[f"{domain}_ties"] = evaluation.scores().ties
    for phase, cost in costs.items():
        row |= {f"{phase}_{name}": value for name, value in cost.items()}
    items = sum(len(evaluation.gold) for evaluation in outcome.evaluations.values())
    row["queries_per_second"] = items / costs["evaluation"]["seconds"]
    row["trainable_parameters"] = outcome.trainable_parameters
    row["device"] = result.environment["device"]
    row["steps"] = _steps(run)
    return row | _making_costs(run.method, costs)


def _steps(run: Run) -> str:
    """How the steps of its training were computed."""
    if not run.training:
        return ""
    return " and ".join(name.replace("_", "-") for name in EXECUTION_FIELDS if getattr(run.training, name)) or PLAIN


def _comparable_costs(result: Result) -> dict[str, dict[str, Any]]:
    """Those by phase, without the peaks of training where its steps were not plain."""
    costs = {phase: asdict(cost) for phase, cost in result.outcome.costs.items()}
    if _steps(result.run) in ("", PLAIN):
        return costs
    told = ("seconds", "tokens")
    peaks = {name: np.nan for name, cost in costs["training"].items() if name not in told and cost is not None}
    return costs | {"training": costs["training"] | peaks}


def _flat_scores(prefix: str, classes: Sequence[str], scores: Scores) -> dict[str, float]:
    flat = {f"{prefix}_accuracy": scores.accuracy, f"{prefix}_macro_f1": scores.macro_f1}
    for place, name in enumerate(classes):
        flat[f"{prefix}_accuracy_on_{name}"] = scores.recall[place]
        flat[f"{prefix}_share_{name}"] = scores.predicted[place]
    return flat


def _making_costs(method: str, costs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    making = [costs[phase] for phase in ("teacher", "training") if phase in costs]
    shown = making if METHODS[method].tuning else [costs["evaluation"]]
    measured = next((name for name in MEASURES if shown[0].get(name) is not None), "nothing")
    return {
        "peak_gb": np.max([cost.get(measured, np.nan) for cost in shown]) / 1e9,
        "peak_measured": measured,
        "method_seconds": sum(cost["seconds"] for cost in making),
    }
