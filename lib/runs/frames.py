"""From stored results to a pandas frame: one row a run, or a run and task, and one column a number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from lib.methods.calibration import Calibration
from lib.methods.evaluation import Scores, TaskScores
from lib.methods.records import Run
from lib.models.training import EXECUTION_FIELDS
from lib.runs.store import Result

# How a peak may have been measured: on a GPU, on a CPU in a process of the run's own, or not at all.
MEASURES = ("cuda_allocated", "rss", "tensors")
PHASES = ("teacher", "training", "evaluation")
PLAIN = "plain"
# Before the name of a score: how the answers are calibrated.
PREFIXES: dict[str, Calibration] = {"": "none", "calibrated_": "pool", "content_free_": "content_free"}

PARADIGMS = {"meta": "Meta-ICT", "multitask": "Multitask-ICT"}

# What a benchmark is scored by, in the paper's tables.
METRICS = {"crossfit": {"macro_f1": "macro-F1"}, "lama": {"precision_1": "P@1", "precision_10": "P@10"}}

# The column with what one answer for everything, or a random order, would score.
NO_SKILL = {"macro_f1": "majority_f1", "precision_1": "majority", "precision_10": "chance_10"}
STUDENTS = ("ict", "icl_d", "icl_d_lm")
TOP = 10


def results_frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a result, or on a benchmark one a result, target task and k: run, scores, costs, device.

    On a task, columns are `<domain>_<score>`; `<domain>_calibrated_<score>`, without the label prior of the model's own
    answers (to whom, says `<domain>_prior_from`); and `<domain>_content_free_<score>`. Of the scores,
    `accuracy_on_<class>` is the recall of a class, `share_<class>` how often it is predicted, `auc` the area under the
    ROC curve, which no label prior moves, `ties` the share of items without one likeliest class, and `majority` what
    the commonest class would score.

    On a benchmark, `task`, `k`, `items`, `options` (of the task) and the scores of `METRICS` and `NO_SKILL`, in
    percent; macro-F1 is over the labels that are right or given somewhere.

    Costs are `<phase>_<cost>` (seconds, tokens, bytes), and `<phase>_gb` the phase's peak as it was measured (10⁹
    bytes). `peak_gb` is the highest peak of what a method needs to come into being: training and teacher for trained
    methods, evaluation for the others. `method_seconds` is the teacher's time and the training's, 0 without. `steps` is
    how those of the training were computed: `plain`, or which of `padding-free` and `fused` they were; empty where
    nothing was trained. Peaks of training are nan but of plain steps: they tell nothing of what those would take.
    """
    return pd.DataFrame(
        [_of_run(result) | scores | _of_costs(result) for result in results for scores in _scores(result)]
    )


def _of_run(result: Result) -> dict[str, Any]:
    row = {name: getattr(result.run, name) for name in ("method", "support_size", "seed", "model")}
    return row | ({"paradigm": result.run.in_context.paradigm} if result.run.in_context else {})


def _scores(result: Result) -> Iterator[dict[str, Any]]:
    if result.run.in_context:
        yield from map(_task_scores, result.outcome.tasks)
        return
    row: dict[str, Any] = {}
    for domain, evaluation in result.outcome.evaluations.items():
        for prefix, how in PREFIXES.items():
            row |= _flat_scores(f"{domain}_{prefix}", result.run.task.classes, evaluation.scores(how))
        row[f"{domain}_prior_from"] = evaluation.prior_from
        row[f"{domain}_majority"] = max(np.bincount(evaluation.gold)) / len(evaluation.gold)
        row[f"{domain}_auc"] = evaluation.area_under_curve()
        row[f"{domain}_ties"] = evaluation.scores().ties
    yield row


def _of_costs(result: Result) -> dict[str, Any]:
    costs = _comparable_costs(result)
    row: dict[str, Any] = {}
    for phase, cost in costs.items():
        row |= {f"{phase}_{name}": value for name, value in cost.items()}
        row[f"{phase}_gb"] = cost.get(_measure(cost), np.nan) / 1e9
    row["trainable_parameters"] = result.outcome.trainable_parameters
    row["device"] = result.environment.get("device", "unknown")
    row["steps"] = _steps(result.run)
    return row | _making_costs(result.run, costs)


def _steps(run: Run) -> str:
    """How the steps of its training were computed."""
    if not run.training:
        return ""
    other = [name for name, default in EXECUTION_FIELDS.items() if getattr(run.training, name) != default]
    return " and ".join(name.replace("_", "-") for name in other) or PLAIN


def _comparable_costs(result: Result) -> dict[str, dict[str, Any]]:
    """Those by phase, without the peaks of training where its steps were not plain."""
    costs = {phase: asdict(cost) for phase, cost in result.outcome.costs.items()}
    if _steps(result.run) in ("", PLAIN):
        return costs
    peaks = {
        name: np.nan
        for name, cost in costs["training"].items()
        if name not in ("seconds", "tokens") and cost is not None
    }
    return costs | {"training": costs["training"] | peaks}


def _flat_scores(prefix: str, classes: Sequence[str], scores: Scores) -> dict[str, float]:
    flat = {f"{prefix}accuracy": scores.accuracy, f"{prefix}macro_f1": scores.macro_f1}
    for place, name in enumerate(classes):
        flat[f"{prefix}accuracy_on_{name}"] = scores.recall[place]
        flat[f"{prefix}share_{name}"] = scores.predicted[place]
    return flat


def _measure(cost: dict[str, Any]) -> str:
    """How a phase's peak was measured."""
    return next((name for name in MEASURES if cost.get(name) is not None), "nothing")


def _making_costs(run: Run, costs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    making = [costs[phase] for phase in ("teacher", "training") if phase in costs]
    counted = making if run.training else [costs["evaluation"]]
    measured = _measure(counted[0])
    return {
        # of phases that were measured alike: an older result may have counted what a newer one did not measure
        "peak_gb": pd.Series([cost.get(measured) for cost in counted], dtype=float).max(skipna=False) / 1e9,
        "peak_measured": measured,
        "method_seconds": sum(cost["seconds"] for cost in making),
    }


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
    """One row a method, paradigm, k and seed: scores averaged over the target tasks, and the costs of each phase."""
    scores = {"macro_f1", "precision_1", "precision_10", *NO_SKILL.values()}
    costs = {f"{phase}_{name}" for phase in PHASES for name in ("seconds", "tokens", "gb")}
    values = [name for name in tasks if name in scores | costs]
    return tasks.groupby(["method", "paradigm", "k", "seed"], dropna=False, sort=False)[values].mean().reset_index()
