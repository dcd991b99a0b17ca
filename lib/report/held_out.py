"""The control for kinds of items that pool and evaluation share: half of the kinds are kept out of the pool."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.methods.context_distillation import Outcome
from lib.report.correct_items import Correct, correct_items, seeds_in_common
from lib.report.estimates import Array
from lib.runs.ablations import HALF
from lib.runs.store import Result
from lib.runs.variants import METHOD, Variants
from lib.tasks.task import OUT_OF_DOMAIN


def held_out_scores(found: Variants) -> pd.DataFrame:
    """Accuracy out of domain on the items of the kinds that a control's pool lacks, and on the others.

    Which kinds are held out differs by seed, and they may be harder than the rest. So beside the control stands the
    idea itself, whose pool has all kinds, on the same items: the difference is what it costs not to have seen a kind.

    Columns: name, support_size, items; accuracy, low, high; majority, the accuracy of one answer to all of these items;
    auc, the mean area under the ROC curve; all_kinds, the accuracy of the idea itself; difference of the control from
    it, difference_low, difference_high; seeds. Intervals are 95%, over seeds and items. Seeds are those that both have;
    where the idea has none of the control's, the control stands alone.
    """
    rows: list[dict[str, Any]] = []
    for name, sweep in found.sweeps.items():
        controlled = [result for result in sweep.stored if result.outcome.held_out]
        idea = found.sweeps.get(name.partition(HALF)[0])
        wholes = _correct(idea.stored) if controlled and idea else {}
        for size, control in _correct(controlled).items():
            whole = wholes.get(size)
            both = seeds_in_common((control, whole)) if whole else []
            of_size = [one for one in controlled if one.run.support_size == size]
            outcomes = {one.run.seed: one.outcome for one in of_size}
            told = {seed: outcomes[seed] for seed in both or control.seeds}
            shown = {"name": name, "support_size": size}
            rows += [shown | row for row in _rows(told, control, whole if both else None)]
    return pd.DataFrame(rows)


def held_out_table(found: pd.DataFrame) -> pd.DataFrame:
    """`held_out_scores` as text: a row an idea, support size and kind of items, a mean and its interval in one column.

    Args:
        found: from `held_out_scores`.
    """
    if not len(found):
        return pd.DataFrame()
    columns = {
        "accuracy": "{accuracy:.2f} [{low:.2f}, {high:.2f}]",
        "one answer": "{majority:.2f}",
        "area": "{auc:.2f}",
        "all kinds": "{all_kinds:.2f}",
        "difference": "{difference:+.2f} [{difference_low:+.2f}, {difference_high:+.2f}]",
        "seeds": "{seeds}",
    }
    index = pd.MultiIndex.from_frame(found[["name", "support_size", "items"]].rename(columns={"support_size": "n"}))
    # an idea may have none of its control's seeds: then its columns are not there
    rows = [defaultdict(lambda: np.nan, row) for row in found.to_dict("records")]
    texts = {title: [form.format_map(row) for row in rows] for title, form in columns.items()}
    return pd.DataFrame(texts, index).replace(".*nan.*", "", regex=True)


def _correct(results: Sequence[Result]) -> dict[int, Correct]:
    return correct_items(results, OUT_OF_DOMAIN, (METHOD,))


def _rows(outcomes: Mapping[int, Outcome], control: Correct, whole: Correct | None) -> Iterator[dict[str, Any]]:
    """Of one support size: the control's outcomes by seed, what it gets right, and what the idea itself does."""
    seeds = list(outcomes)
    away = np.stack([np.asarray(outcome.held_out, dtype=float) for outcome in outcomes.values()])
    right = control.of_seeds(METHOD, seeds)
    for items, taken in (("held out of the pool", away), ("of kinds in the pool", 1 - away)):
        if not taken.any():
            continue
        row = {"items": items, **_interval("accuracy", control, right, taken, "")}
        chosen = [own > 0 for own in taken]
        row["majority"] = np.mean([max(np.bincount(control.gold[own])) / own.sum() for own in chosen])
        scored = zip(outcomes.values(), chosen, strict=True)
        row["auc"] = np.mean([outcome.evaluations[OUT_OF_DOMAIN].area_under_curve(own) for outcome, own in scored])
        if whole:
            with_all = whole.of_seeds(METHOD, seeds)
            row["all_kinds"] = (with_all * taken).sum() / taken.sum()
            row |= _interval("difference", control, right - with_all, taken, "difference_")
        yield row | {"seeds": len(seeds)}


def _interval(name: str, correct: Correct, values: Array, taken: Array, prefix: str) -> dict[str, Any]:
    """The mean of values [seeds, items] over the items taken, and its bounds, within the least and greatest value."""
    share = correct.accuracy(values * taken) / correct.accuracy(taken)
    low, high = np.clip(share.bounds(), values.min(), values.max())
    return {name: share.value, f"{prefix}low": low, f"{prefix}high": high}
