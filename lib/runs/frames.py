"""From stored results to a pandas frame: one row a run, one column a number."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from lib.methods.context_distillation import METHODS
from lib.methods.evaluation import Scores
from lib.methods.in_context_distillation import TaskScores
from lib.methods.records import Run
from lib.models.training import EXECUTION_FIELDS
from lib.runs.store import Result

# How a peak may have been measured: on a GPU, on a CPU in a process of the run's own, or not at all.
MEASURES = ("cuda_allocated", "rss", "tensors")
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


PARADIGMS = {"meta": "Meta-ICT", "multitask": "Multitask-ICT"}

# What a benchmark is scored by, in the paper's tables.
METRICS = {"crossfit": {"macro_f1": "macro-F1"}, "lama": {"precision_1": "P@1", "precision_10": "P@10"}}

# The column with what one answer for everything, or a random order, would score.
NO_SKILL = {"macro_f1": "majority_f1", "precision_1": "majority", "precision_10": "chance_10"}
STUDENTS = ("ict", "icl_d", "icl_d_lm")
TOP = 10


def task_frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a run, task and k: method, paradigm, seed, task, k, items, and scores of `METRICS`.

    Scores are in percent; macro-F1 is over the labels that are right or given somewhere. Beside them, in percent too,
    what takes no skill: `majority` and `majority_f1`, the scores of the commonest answer given to everything, and
    `chance_10`, precision at 10 of a random order. `options` is how many the task has. Costs of the run stand in every
    row of it, `<phase>_seconds`, `<phase>_tokens` and `<phase>_gb` (10⁹ bytes, as measured).
    """
    rows = [row for result in results for row in _task_rows(result)]
    return pd.DataFrame(rows)


def _task_rows(result: Result) -> list[dict[str, Any]]:
    run, outcome = result.run, result.outcome
    named = {name: getattr(run, name) for name in ("method", "paradigm", "seed", "model")}
    costs = {"device": result.environment["device"]}
    for phase in PHASES:
        if cost := outcome.costs.get(phase):
            measured = next((name for name in MEASURES if getattr(cost, name) is not None), None)
            costs |= {f"{phase}_seconds": cost.seconds, f"{phase}_tokens": cost.tokens}
            costs[f"{phase}_gb"] = getattr(cost, measured) / 1e9 if measured else np.nan
    return [named | _task_scores(task) | costs for task in outcome.tasks]


def _task_scores(task: TaskScores) -> dict[str, Any]:
    gold, predicted, rank = (np.asarray(getattr(task, name)) for name in ("gold", "predicted", "rank"))
    commonest = np.full_like(gold, np.bincount(gold).argmax())
    return {
        "task": task.task,
        "k": task.demonstrations,
        "items": len(gold),
        "macro_f1": _macro_f1(gold, predicted),
        "precision_1": 100 * float((rank == 0).mean()),
        "precision_10": 100 * float((rank < TOP).mean()),
        "options": task.labels,
        "chance_10": 100 * min(1.0, TOP / task.labels),
        "majority": 100 * float((gold == commonest).mean()),
        "majority_f1": _macro_f1(gold, commonest),
    }


def _macro_f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    """In percent, over the labels that are right or given somewhere."""
    return 100 * f1_score(gold, predicted, average="macro", zero_division=0)


def seed_means(tasks: pd.DataFrame) -> pd.DataFrame:
    """One row a method, paradigm, k and seed: scores averaged over the target tasks, costs as they are."""
    keys = ["method", "paradigm", "k", "seed"]
    values = [name for name in tasks.select_dtypes("number") if name not in (*keys, "items", "options")]
    return tasks.groupby(keys, dropna=False, sort=False)[values].mean().reset_index()
