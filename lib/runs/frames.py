"""From stored records to a pandas frame: one row a run, one column a number."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from lib.methods.context_distillation import METHODS
from lib.models.training import EXECUTION_FIELDS
from lib.runs.store import Record
from lib.tasks.task import CLASSES

Array = NDArray[np.float64]
DOMAINS = {"in_domain": "in domain", "out_of_domain": "out of domain"}

# How a peak may have been measured: on a GPU, on a CPU in a process of the run's own, or not at all.
MEASURES = ("cuda_allocated", "rss")

PHASES = ("teacher", "training", "evaluation")

PLAIN = "plain"


def results_frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a record: method, support size, seed, scores of both domains, cost of each phase, device.

    Columns are `<domain>_<score>`, `<domain>_calibrated_<score>` and `<phase>_<cost>` (bytes, seconds). The score `auc`
    is the area under the ROC curve, which no label prior moves.
    `peak_gb` is the highest peak (10⁹ bytes) of what a method needs to come into being: training and teacher for
    trained methods, evaluation for the others. `queries_per_second` is over the evaluated items, in batches, reading of
    the demonstrations included. `method_seconds` is the teacher's time and the training's, 0 without. `steps` is how
    those of the training were computed: `plain`, or which of `padding-free` and `fused` they were; empty where nothing
    was trained. Peaks of training are nan but of plain steps: they tell nothing of what those would take.
    """
    return pd.DataFrame([_row(record) for record in records])


def _row(record: dict[str, Any]) -> dict[str, Any]:
    run, outcome, costs = record["cell"], record["outcome"], _comparable_costs(record)
    row = {name: run[name] for name in ("method", "support_size", "seed", "model")}
    for domain in DOMAINS:
        row |= _flat_scores(domain, outcome[domain]["plain"])
        row |= _flat_scores(f"{domain}_calibrated", outcome[domain]["calibrated"])
        gold = outcome[domain]["gold"]
        row[f"{domain}_gold_entailment"] = gold.count("0") / len(gold)
        row[f"{domain}_auc"] = area_under_curve(outcome[domain])
    for phase, cost in costs.items():
        row |= {f"{phase}_{name}": value for name, value in cost.items()}
    items = sum(len(outcome[domain]["gold"]) for domain in DOMAINS)
    row["queries_per_second"] = items / costs["evaluation"]["seconds"]
    row["trainable_parameters"] = outcome["trainable_parameters"]
    row["device"] = record["environment"]["device"]
    row["steps"] = _steps(run)
    return row | _headline_costs(run["method"], costs)


def _steps(run: Record) -> str:
    """How the steps of its training were computed."""
    if not (training := run.get("training")):
        return ""
    return " and ".join(name.replace("_", "-") for name in EXECUTION_FIELDS if training.get(name)) or PLAIN


def _comparable_costs(record: Record) -> dict[str, dict[str, Any]]:
    """Those by phase, without the peaks of training where its steps were not plain."""
    costs = record["outcome"]["costs"]
    if _steps(record["cell"]) in ("", PLAIN):
        return costs
    told = ("seconds", "tokens")
    peaks = {name: np.nan for name, cost in costs["training"].items() if name not in told and cost is not None}
    return costs | {"training": costs["training"] | peaks}


def area_under_curve(evaluation: dict[str, Any], taken: Array | slice = slice(None)) -> float:
    """The share of pairs of one item of each class that the log-odds of entailment rank rightly; nan of one class.

    Args:
        evaluation: as stored.
        taken: [items], whether an item counts; all of them by default.
    """
    entailment, other = np.asarray(evaluation["label_log_probs"])[taken].T
    gold = digits(evaluation["gold"])[taken]
    return float(roc_auc_score(gold == 0, entailment - other)) if len(np.unique(gold)) > 1 else np.nan


def _flat_scores(prefix: str, scores: dict[str, Any]) -> dict[str, float]:
    flat = {f"{prefix}_{name}": scores[name] for name in ("accuracy", "macro_f1")}
    for i, name in enumerate(CLASSES):
        flat[f"{prefix}_accuracy_on_{name}"] = scores["halves"][i]
        flat[f"{prefix}_share_{name}"] = scores["shares"][i]
    return flat


def _headline_costs(method: str, costs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    making = [costs[phase] for phase in ("teacher", "training") if phase in costs]
    shown = making if METHODS[method].tuning else [costs["evaluation"]]
    measured = next((name for name in MEASURES if shown[0].get(name) is not None), "nothing")
    return {
        "peak_gb": np.max([cost.get(measured, np.nan) for cost in shown]) / 1e9,
        "peak_measured": measured,
        "method_seconds": sum(cost["seconds"] for cost in making),
    }


def digits(text: str) -> Array:
    """The numbers that a string of digits holds, one each."""
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(float) - ord("0")
