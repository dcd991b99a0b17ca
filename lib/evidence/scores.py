"""Every score of answers as an estimate over seeds and items: the intervals of figures 1 to 6 and of their tables."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add

import numpy as np
import pandas as pd

from lib.evidence.estimates import Estimate, mean
from lib.methods.calibration import Calibration
from lib.methods.evaluation import Evaluation, placements, shared_votes
from lib.runs.frames import PREFIXES
from lib.runs.store import Result


def over_items(summary: pd.DataFrame, results: Sequence[Result]) -> pd.DataFrame:
    """The summary with 95% intervals over seeds and items for each score of answers; costs keep theirs over seeds.

    It is that of `lib.evidence.estimates.summarise`, by method and support size, of these results.
    """
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.run.method, result.run.support_size), []).append(result)
    rows = summary.to_dict("records")
    for row in rows:
        score = _estimate(groups.get((row["method"], row["support_size"]), []), row["quantity"])
        if score:
            row["low"], row["high"] = np.clip(score.bounds(), 0, 1)
    return pd.DataFrame(rows, columns=summary.columns)


def _estimate(results: Sequence[Result], quantity: str) -> Estimate | None:
    there = results[0].outcome.evaluations if results else ()
    names = {f"{domain}_{prefix}": (domain, how) for domain in there for prefix, how in PREFIXES.items()}
    before = max(filter(quantity.startswith, names), key=len, default=None)  # a name may begin with another
    if before is None:
        return None
    domain, how = names[before]
    evaluations = [result.outcome.evaluations[domain] for result in results]
    return estimate(evaluations, results[0].run.task.classes, quantity.removeprefix(before), how)


def estimate(
    evaluations: Sequence[Evaluation], classes: Sequence[str], score: str, how: Calibration = "none"
) -> Estimate | None:
    """A score of answers to the same items, one evaluation a seed; calibration does not move the area under the curve.

    Scores are `accuracy`, `macro_f1`, `ties`, `auc`, `accuracy_on_<class>` (recall) and `share_<class>` (of answers).
    None for another one, and for the recall of a class without items.
    """
    if score == "auc":
        return area(evaluations)
    votes = np.stack([shared_votes(evaluation.calibrated(how)) for evaluation in evaluations])
    gold = np.eye(len(classes))[evaluations[0].gold]
    right = votes * gold
    over = partial(mean, classes=gold.argmax(axis=1), clusters=evaluations[0].clusters)
    if score == "accuracy":
        return over(right.sum(axis=2))
    if score == "ties":
        return over((votes.max(axis=2) < 1).astype(float))
    if score == "macro_f1":
        there = [k for k in range(len(classes)) if (votes[..., k] + gold[:, k]).any()]
        f1 = [over(2 * right[..., k]) / over(votes[..., k] + gold[:, k]) for k in there]
        return reduce(add, f1) * (1 / len(classes))
    for k, name in enumerate(classes):
        if score == f"share_{name}":
            return over(votes[..., k])
        if score == f"accuracy_on_{name}" and gold[:, k].any():
            return over(right[..., k]) * (1 / gold[:, k].mean())
    return None


def area(evaluations: Sequence[Evaluation]) -> Estimate | None:
    """The area under the ROC curve, and with more than two classes its mean over pairs of them.

    Evaluations are one a seed, of the same items. None where these do not have every class.
    """
    first = evaluations[0]
    gold = np.asarray(first.gold)
    if len(np.unique(gold)) < first.scores_by_item.shape[1]:
        return None
    of_seeds = np.stack([placements(evaluation.scores_by_item, gold) for evaluation in evaluations])
    placed = mean(of_seeds, gold, first.clusters)
    return replace(placed * 0.5, by_item=placed.by_item)  # their mean is twice the area
