"""What may make context distillation better than the paper's: where the pool comes from, and what the teacher says."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures import COLOURS, REFERENCE_LINE, house_style
from lib.frames import DOMAINS
from lib.methods import METHODS
from lib.profiles import Profile
from lib.resampling import Resampling, bounds, correct_items, digits, right
from lib.store import Record
from lib.sweep import Sweep, fill
from lib.variants import Variants, chosen, few

METHOD = "cd"
REFERENCES = ("baseline", "icl", "pbft", "teacher_icl")
PLAIN = "as in the paper"
LARGER = 4
SIZES, SEEDS = (4, 12), 5


def ideas(profile: Profile) -> dict[str, dict[str, Any]]:
    """Each idea's changes to a profile, one ingredient more at a time."""
    target, prior = {"pool": "target"}, {"calibration": "pool"}
    return {
        PLAIN: {},
        "larger pool": {"pool_size": LARGER * profile.pool_size},
        "prior removed": prior,
        "four orders": {"orders": 4},
        "confidence": {"confidence": True},
        "target's pool": target,
        "target's pool, prior removed": {**target, **prior},
        "… and four orders": {**target, **prior, "orders": 4},
        "… and confidence": {**target, **prior, "confidence": True},
        "… and a larger pool": {**target, **prior, "pool_size": LARGER * profile.pool_size},
        "… half the subcases held out": {**target, **prior, "held_out": "subcases"},
        "… half the templates held out": {**target, **prior, "held_out": "templates"},
    }


def variants(profile: Profile) -> dict[str, dict[str, Any]]:
    """What is run: every idea, or those that the profile names, at two support sizes and on a few seeds.

    Raises:
        StudyError: the profile names an idea that is not known.
    """
    here, tried = few(profile, SIZES, SEEDS), chosen("ideas", profile.ideas, ideas(profile))
    return {name: {**here, **change} for name, change in tried.items()}


def references(profile: Profile) -> Sweep:
    """The methods that ideas are compared with, at the same sizes and seeds."""
    return fill(profile.changed(few(profile, SIZES, SEEDS)), list(REFERENCES))


def compared(found: Variants, others: Sweep) -> pd.DataFrame:
    """Each idea and reference at each support size, in both domains: accuracy with a 95% interval over seeds and items.

    Columns: name, domain, support_size, accuracy, low, high, seeds.
    """
    rows = []
    for domain in DOMAINS:
        for method in REFERENCES:
            rows += _rows(METHODS[method].label, others, domain, method)
        for name, sweep in found.sweeps.items():
            rows += _rows(name, sweep, domain, METHOD)
    return pd.DataFrame(rows)


def _rows(name: str, sweep: Sweep, domain: str, method: str) -> list[dict[str, Any]]:
    readers = (method,) if METHODS[method].reads_support else (method, "icl")
    correct = correct_items(sweep.records, domain, readers)
    rows = []
    for size in correct.sizes:
        items = correct.of(method, size)
        if items is None:
            continue
        draws = Resampling(*items.shape).accuracies(items)
        low, high = bounds(draws)
        shown = {"name": name, "domain": domain, "support_size": size, "accuracy": draws[0]}
        rows.append({**shown, "low": low, "high": high, "seeds": len(items)})
    return rows


def apart(found: Variants) -> pd.DataFrame:
    """Ideas that hold a part of the target out of the pool: accuracy on that part and on the rest, out of domain.

    Columns: name, items, support_size, accuracy, low, high (95%, over seeds and items), seeds.
    """
    rows = []
    for name, sweep in found.sweeps.items():
        for size, records in _with_held_out(sweep).items():
            correct = np.stack([right(record["outcome"]["out_of_domain"]) for record in records])
            away = np.stack([digits(record["outcome"]["held_out"]) for record in records])
            for items, taken in (("held out of the pool", away), ("of kinds in the pool", 1 - away)):
                resampling = Resampling(*correct.shape)
                draws = resampling.accuracies(correct * taken) / resampling.accuracies(taken)
                low, high = bounds(draws)
                shown = {"name": name, "items": items, "support_size": size, "accuracy": draws[0]}
                rows.append({**shown, "low": low, "high": high, "seeds": len(records)})
    return pd.DataFrame(rows)


def _with_held_out(sweep: Sweep) -> dict[int, list[Record]]:
    """Records by support size of a sweep that holds out a part of the target."""
    by_size: dict[int, list[Record]] = {}
    for record in sweep.records:
        if record["outcome"].get("held_out"):
            by_size.setdefault(record["cell"]["support_size"], []).append(record)
    return by_size


def targets_met(table: pd.DataFrame, found: Mapping[str, Sweep]) -> pd.DataFrame:
    """For each idea: at how many support sizes it beats ICL and PBFT with intervals that do not touch, by domain, and
    the least share of the distance from the untuned student to the teacher that it recovers at any size.
    """
    places = table.set_index(["domain", "name", "support_size"]).sort_index()
    labels = {one: METHODS[one].label for one in REFERENCES}
    rows = {}
    for name in found:
        row: dict[str, str] = {}
        for domain, title in DOMAINS.items():
            if (domain, name) not in places.index:
                continue
            own = places.loc[(domain, name)]
            rivals = [
                places.loc[(domain, labels[one])] for one in ("icl", "pbft") if (domain, labels[one]) in places.index
            ]
            beats = [size for size in own.index if all(_above(own.loc[size], rival, size) for rival in rivals)]
            row[f"beats ICL and PBFT {title}"] = f"{len(beats)} of {len(own)}" if rivals else ""
            row[f"least share recovered {title}"] = _least_share(places, domain, own, labels)
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _above(own: pd.Series, rival: pd.DataFrame, size: int) -> bool:
    return size in rival.index and own.low > rival.loc[size].high


def _least_share(places: pd.DataFrame, domain: str, own: pd.DataFrame, labels: Mapping[str, str]) -> str:
    if not {(domain, labels["baseline"]), (domain, labels["teacher_icl"])} <= set(places.index.droplevel(2)):
        return ""
    start, teacher = (places.loc[(domain, labels[one])].accuracy for one in ("baseline", "teacher_icl"))
    distance = teacher - start
    shares = ((own.accuracy - start) / distance)[distance > 0.1].dropna()
    return f"{shares.min():.0%}" if len(shares) else "teacher no better"


def ideas_figure(table: pd.DataFrame, size: int) -> Figure:
    """All ideas and references at one support size: accuracy in and out of domain with 95% intervals."""
    house_style()
    rows = table[table.support_size == size]
    names = list(dict.fromkeys(rows.name))
    figure, axes = plt.subplots(1, 2, figsize=(12, 0.38 * len(names) + 1.2), sharey=True)
    references = {METHODS[one].label: COLOURS[one] for one in REFERENCES}
    for axis, (domain, title) in zip(axes, DOMAINS.items(), strict=True):
        of_domain = rows[rows.domain == domain].set_index("name").reindex(names)
        for place, name in enumerate(reversed(names)):
            one = of_domain.loc[name]
            errors = np.abs([[one.low - one.accuracy], [one.high - one.accuracy]])
            colour = references.get(name, COLOURS[METHOD])
            axis.errorbar([one.accuracy], [place], xerr=errors, fmt="o", capsize=3, color=colour)
        axis.axvline(0.5, **REFERENCE_LINE)
        axis.set(title=title.capitalize(), xlabel="accuracy", yticks=range(len(names)), yticklabels=names[::-1])
    figure.suptitle(f"n = {size}", fontsize=11)
    figure.tight_layout()
    return figure
