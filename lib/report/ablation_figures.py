"""What may make context distillation better than the paper's: where the pool comes from, and what the teacher says."""

from collections.abc import Iterator, Sequence
from textwrap import fill as fill_lines
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evidence.claims import (
    FEWEST_SEEDS,
    SIGNIFICANT,
    of_accuracy,
    of_difference,
    share_recovered,
    shown_differences,
    shown_share,
)
from lib.evidence.estimates import Correct, correct_items, mean, recalls, seeds_in_common, summarise, with_bounds
from lib.evidence.scores import over_items
from lib.methods.calibration import Calibration
from lib.methods.table import METHODS
from lib.report.figures import REFERENCE_LINE, error_lengths, house_style
from lib.runs.ablations import PLAIN, REFERENCES
from lib.runs.execution import Sweep
from lib.runs.profile import Profile
from lib.runs.variants import METHOD, Variants

CLASS_MARKERS = "><^vsDPX"  # of the accuracy on one class
LABEL_WIDTH = 46  # characters of a line of a name in the figure
RIVALS = (METHODS["icl"].label, METHODS["pbft"].label)


def _label(method: str) -> str:
    return METHODS[method].label


def _named(variants: Variants, others: Sweep) -> dict[str, tuple[Sweep, str]]:
    """The references, then the ablations: by name the results and the method."""
    references = {_label(method): (others, method) for method in REFERENCES}
    return references | {name: (sweep, METHOD) for name, sweep in variants.sweeps.items()}


def _correct_by_name(variants: Variants, others: Sweep, domain: str, how: Calibration) -> dict[str, Correct]:
    """What the references, then the ablations get right in a domain; those without a result are left out."""
    named = _named(variants, others)
    correct = {name: correct_items(sweep.stored, domain, method, how) for name, (sweep, method) in named.items()}
    return {name: items for name, items in correct.items() if items.items}


def compared(variants: Variants, others: Sweep, how: Calibration = "none") -> pd.DataFrame:
    """Each ablation and reference at each support size and domain: accuracy with a 95% interval over seeds and items.

    The untuned student stands at the sizes and for the seeds of ICL.

    Columns: name, domain, support_size, accuracy, low, high; `on_<class>`, the recall of each class; of two classes
    `share_<class>` of the predictions for the first; majority, the accuracy of one answer for everything; seeds.
    """
    rows = []
    classes = [name.replace("-", "_") for name in others.profile.classes]
    for domain in others.profile.domains:
        by_name = _correct_by_name(variants, others, domain, how)
        for name, correct in by_name.items():
            beside = correct if METHODS[correct.method].reads_support else by_name.get(_label("icl"), correct)
            for size, seeds in seeds_in_common((correct, beside)).items():
                place = {"name": name, "domain": domain, "support_size": size}
                rows.append(place | _scores(correct, size, seeds, classes))
    return pd.DataFrame(rows)


def _scores(correct: Correct, size: int, seeds: Sequence[int], classes: Sequence[str]) -> dict[str, float]:
    items, gold = correct.of_seeds(size, seeds), correct.gold
    scores = of_accuracy(correct.accuracy(size, seeds)) | recalls(items, gold, classes)
    if len(classes) == 2:
        scores[f"share_{classes[0]}"] = np.where(gold == 0, items, 1 - items).mean()
    return scores | {"majority": correct.majority, "seeds": len(seeds)}


def fullest(table: pd.DataFrame) -> int:
    """The support size with most results of `compared`, seeds and names together; the largest of several."""
    seeds = table.groupby("support_size")["seeds"].sum()
    return int(max(seeds.index[seeds == seeds.max()]))


def differences(variants: Variants, others: Sweep, how: Calibration = "none") -> pd.DataFrame:
    """Each ablation less the paper's way, ICL and PBFT, paired by seed and item: what an ingredient is worth.

    Columns: name, against, domain, support_size, difference, low, high (95%, over seeds and items), differs, seeds.
    `differs` is by intervals widened to 1 − .05 / (number of comparisons at one support size), and needs three seeds.
    """
    rows: list[dict[str, Any]] = []
    domains = others.profile.domains
    for domain in domains:
        by_name = _correct_by_name(variants, others, domain, how)
        pairs = [(name, rival) for name in variants.sweeps for rival in (PLAIN, *RIVALS) if name != rival]
        pairs = [pair for pair in pairs if {*pair} <= {*by_name}]
        level = 1 - SIGNIFICANT / max(1, len(pairs) * len(domains))
        for name, rival in pairs:
            place = {"name": name, "against": rival, "domain": domain}
            rows += [place | row for row in _differences(by_name[name], by_name[rival], level)]
    return pd.DataFrame(rows).rename(columns={"difference_low": "low", "difference_high": "high"})


def _differences(correct: Correct, rival: Correct, level: float) -> Iterator[dict[str, Any]]:
    for size, seeds in seeds_in_common((correct, rival)).items():
        difference = mean(correct.of_seeds(size, seeds) - rival.of_seeds(size, seeds), correct.gold, correct.clusters)
        yield {"support_size": size, **of_difference(difference, level), "seeds": len(seeds)}


def differences_table(worth: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """`differences` as text: a row a support size and ablation, a column a domain and rival; a star where `differs`."""
    if not len(worth):
        return pd.DataFrame()
    texts = shown_differences(worth.rename(columns={"low": "difference_low", "high": "difference_high"}))
    rows = worth.assign(text=texts, domain=worth.domain.map(profile.domains), n=worth.support_size)
    order = {"index": ["n", "name"], "columns": ["domain", "against"]}
    table = rows.pivot_table("text", **order, aggfunc="first", sort=False).fillna("")
    return table.sort_index(level="n", sort_remaining=False, kind="stable").rename_axis(columns=["", "less"])


def rankings(variants: Variants, others: Sweep) -> pd.DataFrame:
    """How well each reference and ablation ranks the items, whatever its label prior: the area under the ROC curve.

    A row a support size and name, a column a domain: the mean over seeds with its 95% interval over seeds and items.
    """
    titles = {f"{domain}_auc": title for domain, title in others.profile.domains.items()}
    parts = [
        over_items(summarise(sweep.results[sweep.results.method == method], [*titles]), sweep.stored).assign(name=name)
        for name, (sweep, method) in _named(variants, others).items()
        if len(sweep.results)
    ]
    areas = pd.concat(parts).rename(columns={"support_size": "n"})
    areas["text"] = [with_bounds(*row) for row in areas[["mean", "low", "high"]].itertuples(index=False)]
    table = areas.pivot_table("text", ["n", "name"], "quantity", aggfunc="first", sort=False).rename(columns=titles)
    ordered = table[[*titles.values()]].rename_axis(columns=None)
    return ordered.sort_index(level="n", sort_remaining=False, kind="stable")


def targets_met(variants: Variants, others: Sweep, how: Calibration = "none") -> pd.DataFrame:
    """For each ablation and domain: at how many of its support sizes it beats both ICL and PBFT with intervals that do
    not touch, and the least share of the distance from the untuned student to the teacher that it recovers at any of
    them, with its 95% interval. Sizes at which one of them has fewer than three seeds are not judged, and shares of so
    few say so. Blank where a rival or the teacher has no result.
    """
    table = compared(variants, others, how)
    if not len(table):
        return pd.DataFrame()
    places = table.set_index(["domain", "name", "support_size"]).sort_index()
    rows: dict[str, dict[str, str]] = {name: {} for name in variants.sweeps}
    for domain, title in others.profile.domains.items():
        by_name = _correct_by_name(variants, others, domain, how)
        for name in [name for name in rows if name in by_name]:
            rows[name][f"beats ICL and PBFT {title}"] = _beaten(places.loc[domain], name)
            rows[name][f"least share recovered {title}"] = _least_share(
                [by_name.get(_label("baseline")), by_name.get(_label("teacher_icl")), by_name[name]]
            )
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _beaten(places: pd.DataFrame, name: str) -> str:
    """places: by name and support size."""
    own = places.loc[name]
    several = places.index[places.seeds >= FEWEST_SEEDS]
    judged = [size for size in own.index if all((contender, size) in several for contender in (name, *RIVALS))]
    beats = [size for size in judged if all(own.low[size] > places.loc[(rival, size)].high for rival in RIVALS)]
    return f"{len(beats)} of {len(judged)}" if judged else ""


def _least_share(three: Sequence[Correct | None]) -> str:
    """three: the untuned student, the teacher and the ablation."""
    if None in three:
        return ""
    common = seeds_in_common(three)
    shares = {
        size: share_recovered(*(correct.accuracy(size, seeds) for correct in three)) for size, seeds in common.items()
    }
    known = {size: share for size, share in shares.items() if share}
    if not known:
        return "teacher no better" if shares else ""
    size = min(known, key=lambda size: known[size].value)
    return f"{shown_share(known[size])} at n = {size}{_few_seeds(len(common[size]))}"


def _few_seeds(seeds: int) -> str:
    """A warning, where an interval speaks of one or two seeds."""
    noun = "seed" if seeds == 1 else "seeds"
    return "" if seeds >= FEWEST_SEEDS else f" ({seeds}\N{NO-BREAK SPACE}{noun})"


def ablations_figure(table: pd.DataFrame, size: int, profile: Profile) -> Figure:
    """All ablations and references at one support size, a row each, by domain: accuracy with 95% intervals, and the
    recall of each class, which shows whatever says one thing to everything. Names with fewer than three seeds say so.
    """
    house_style()
    rows = table[table.support_size == size]
    names = list(dict.fromkeys(rows.name))[::-1]
    seeds = rows.groupby("name")["seeds"].min()
    labels = [fill_lines(name + _few_seeds(seeds[name]), LABEL_WIDTH) for name in names]
    count = len(profile.domains)
    figure, axes = plt.subplots(1, 2 * count, figsize=(7 * count, 0.4 * len(names) + 1.2), sharey=True)
    for column, (domain, title) in enumerate(profile.domains.items()):
        accuracy, recall = axes[column], axes[column + count]
        if column:
            accuracy.sharex(axes[0])
        of_domain = rows[rows.domain == domain].set_index("name").reindex(names)
        _accuracies(accuracy, of_domain)
        _recalls(recall, of_domain, profile.classes)
        accuracy.set(title=f"{title.capitalize()}, n = {size}", xlabel="calibrated accuracy")
        recall.set(title=title.capitalize(), xlabel="calibrated, on each class", xlim=(-0.03, 1.03))
    axes[0].set_yticks(range(len(names)), labels)
    handles, labels = axes[count].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, loc="upper right", bbox_to_anchor=(1, 0), frameon=False)
    figure.tight_layout()
    return figure


def _accuracies(axis: Axes, rows: pd.DataFrame) -> None:
    """rows: by name, from the lowest place upwards."""
    references = {_label(method): METHODS[method].colour for method in REFERENCES}
    colours = [references.get(name, METHODS[METHOD].colour) for name in rows.index]
    errors = error_lengths(rows.accuracy, rows.low, rows.high)
    for place, colour in enumerate(colours):
        axis.errorbar(rows.accuracy.iloc[[place]], [place], xerr=errors[:, [place]], fmt="o", capsize=3, color=colour)
    axis.axvline(rows.majority.max(), **REFERENCE_LINE)


def _recalls(axis: Axes, rows: pd.DataFrame, classes: Sequence[str]) -> None:
    """rows: by name, from the lowest place upwards."""
    places = range(len(rows))
    recalls = rows[[f"on_{name.replace('-', '_')}" for name in classes]]
    axis.hlines(places, recalls.min(axis=1), recalls.max(axis=1), color="0.8", zorder=1)
    for i, (name, column) in enumerate(zip(classes, recalls, strict=True)):
        marker = CLASS_MARKERS[i % len(CLASS_MARKERS)]
        style = {"color": "0.2", "fillstyle": "none" if i else "full", "linestyle": "none"}
        axis.plot(recalls[column], places, marker=marker, label=f"items of {name}", **style)
    axis.axvline(1 / len(classes), **REFERENCE_LINE)
