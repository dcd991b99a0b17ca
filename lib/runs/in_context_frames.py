"""From stored results of in-context learning distillation to pandas frames, scores and tables."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from lib.methods.in_context_distillation import TaskScores
from lib.runs.frames import MEASURES, PHASES
from lib.runs.store import Result

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
    rows = [row for result in results for row in _rows(result)]
    return pd.DataFrame(rows)


def _rows(result: Result) -> list[dict[str, Any]]:
    run, outcome = result.run, result.outcome
    named = {name: getattr(run, name) for name in ("method", "paradigm", "seed", "model")}
    costs = {"device": result.environment["device"]}
    for phase in PHASES:
        if cost := outcome.costs.get(phase):
            measured = next((name for name in MEASURES if getattr(cost, name) is not None), None)
            costs |= {f"{phase}_seconds": cost.seconds, f"{phase}_tokens": cost.tokens}
            costs[f"{phase}_gb"] = getattr(cost, measured) / 1e9 if measured else np.nan
    return [named | _scores(task) | costs for task in outcome.tasks]


def _scores(task: TaskScores) -> dict[str, Any]:
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
