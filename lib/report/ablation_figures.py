"""What may make context distillation better than the paper's: where the pool comes from, and what the teacher says."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill as fill_lines
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.methods.context_distillation import METHODS
from lib.report.claims import FEWEST_SEEDS, SIGNIFICANT, share_recovered, shown_share
from lib.report.correct_items import Correct, correct_items, seeds_in_common
from lib.report.estimates import Array, with_interval
from lib.report.figures import REFERENCE_LINE, house_style
from lib.runs.ablations import PLAIN, REFERENCES
from lib.runs.execution import Sweep
from lib.runs.profile import Profile
from lib.runs.variants import METHOD, Variants

CLASS_MARKERS = "><^vsDPX"  # of the accuracy on one class
LABEL_WIDTH = 46  # characters of a line of a name in the figure


class Answers(NamedTuple):
    """What an idea or a reference gets right in one domain, by support size, and the method that it stands under."""

    by_size: Mapping[int, Correct]
    method: str

    def at(self, size: int, seeds: Sequence[int]) -> Array:
        """[seeds, items] of 0 and 1."""
        return self.by_size[size].of_seeds(self.method, seeds)


def in_common(size: int, several: Sequence[Answers]) -> list[int]:
    """The seeds that all of them have at a support size."""
    there = all(size in one.by_size for one in several)
    return seeds_in_common(one.by_size[size] for one in several) if there else []


def answers(found: Variants, others: Sweep, domain: str) -> dict[str, Answers]:
    """The references, then the ideas, by name; those without a result are left out."""
    named = {METHODS[method].label: (others, method) for method in REFERENCES}
    named |= {name: (sweep, METHOD) for name, sweep in found.sweeps.items()}
    told = {}
    for name, (sweep, method) in named.items():
        readers = (method,) if METHODS[method].reads_support else (method, "icl")
        if by_size := correct_items(sweep.stored, domain, readers):
            told[name] = Answers(by_size, method)
    return told


def compared(found: Variants, others: Sweep) -> pd.DataFrame:
    """Each idea and reference at each support size and domain: accuracy with a 95% interval over seeds and items.

    Columns: name, domain, support_size, accuracy, low, high; `on_<class>`, the recall of each class; of two classes
    `share_<class>` of the predictions for the first; majority, the accuracy of one answer for everything; seeds.
    """
    rows = []
    classes = [name.replace("-", "_") for name in others.profile.classes]
    for domain in others.profile.domains:
        for name, one in answers(found, others, domain).items():
            for size, correct in one.by_size.items():
                shown = {"name": name, "domain": domain, "support_size": size}
                rows.append(shown | _scores(correct.by_method[one.method], correct, classes))
    return pd.DataFrame(rows)


def fullest(table: pd.DataFrame) -> int:
    """The support size with most results, seeds and names together; the largest of several.

    Args:
        table: from `compared`.
    """
    seeds = table.groupby("support_size")["seeds"].sum()
    return int(max(seeds.index[seeds == seeds.max()]))


def _scores(items: Array, correct: Correct, classes: Sequence[str]) -> dict[str, float]:
    accuracy = correct.accuracy(items)
    low, high = np.clip(accuracy.bounds(), 0, 1)  # two seeds' t interval goes beyond what an accuracy can be
    shown = {"accuracy": accuracy.value, "low": low, "high": high}
    shown |= {f"on_{name}": items[:, correct.gold == place].mean() for place, name in enumerate(classes)}
    if len(classes) == 2:
        shown[f"share_{classes[0]}"] = np.where(correct.gold == 0, items, 1 - items).mean()
    return shown | {"majority": max(np.bincount(correct.gold)) / len(correct.gold), "seeds": len(items)}


def differences(found: Variants, others: Sweep) -> pd.DataFrame:
    """Each idea less the paper's way, ICL and PBFT, paired by seed and item: what an ingredient is worth.

    Columns: name, against, domain, support_size, difference, low, high (95%, over seeds and items), differs, seeds.
    `differs` is by intervals widened to 1 − .05 / (number of comparisons at one support size), and needs three seeds.
    """
    rivals = [PLAIN, *(METHODS[one].label for one in ("icl", "pbft"))]
    rows: list[dict[str, Any]] = []
    domains = others.profile.domains
    for domain in domains:
        told = answers(found, others, domain)
        pairs = [(name, rival) for name in found.sweeps for rival in rivals if name in told and rival in told]
        pairs = [(name, rival) for name, rival in pairs if name != rival]
        level = 1 - SIGNIFICANT / max(1, len(pairs) * len(domains))
        for name, rival in pairs:
            shown = {"name": name, "against": rival, "domain": domain}
            rows += [shown | row for row in _differences(told[name], told[rival], level)]
    return pd.DataFrame(rows)


def _differences(one: Answers, rival: Answers, level: float) -> Iterator[dict[str, Any]]:
    for size, correct in one.by_size.items():
        seeds = in_common(size, (one, rival))
        if not seeds:
            continue
        difference = correct.accuracy(one.at(size, seeds) - rival.at(size, seeds))
        low, high = difference.bounds()
        outer = difference.bounds(level)
        differs = len(seeds) >= FEWEST_SEEDS and not outer[0] <= 0 <= outer[1]
        shown = {"support_size": size, "difference": difference.value, "low": low, "high": high}
        yield shown | {"differs": differs, "seeds": len(seeds)}


def differences_table(found: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """`differences` as text: a row a support size and idea, a column a domain and rival; a star where `differs`."""
    if not len(found):
        return pd.DataFrame()
    texts = [
        f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}]{' *' if row.differs else ''}"
        for row in found.itertuples()
    ]
    shown = found.assign(text=texts, domain=found.domain.map(profile.domains), n=found.support_size)
    order = {"index": ["n", "name"], "columns": ["domain", "against"]}
    table = shown.pivot_table("text", **order, aggfunc="first", sort=False).fillna("")
    return table.sort_index(level="n", sort_remaining=False, kind="stable").rename_axis(columns=["", "less"])


def rankings(found: Variants, others: Sweep) -> pd.DataFrame:
    """How well each reference and idea ranks the items, whatever its label prior: the area under the ROC curve.

    A row a support size and name, a column a domain: the mean over seeds with its 95% interval.
    """
    results = [sweep.results.assign(name=name) for name, sweep in found.sweeps.items() if len(sweep.results)]
    if len(others.results):
        names = others.results.method.map(lambda method: METHODS[method].label)
        results.insert(0, others.results.assign(name=names))
    table = pd.concat(results)
    groups = table.groupby(["support_size", "name"], sort=False)
    columns = {
        title: groups[f"{domain}_auc"].agg(with_interval, digits=2, within=(0, 1))
        for domain, title in others.profile.domains.items()
    }
    return pd.DataFrame(columns).rename_axis(["n", "name"]).sort_index(level="n", sort_remaining=False, kind="stable")


def targets_met(found: Variants, others: Sweep) -> pd.DataFrame:
    """For each idea and domain: at how many of its support sizes it beats both ICL and PBFT with intervals that do not
    touch, and the least share of the distance from the untuned student to the teacher that it recovers at any of them,
    with its 95% interval. Sizes at which one of them has fewer than three seeds are not judged, and shares of so few
    say so. Blank where a rival or the teacher has no result.
    """
    table = compared(found, others)
    if not len(table):
        return pd.DataFrame()
    places = table.set_index(["domain", "name", "support_size"]).sort_index()
    rows: dict[str, dict[str, str]] = {name: {} for name in found.sweeps}
    for domain, title in others.profile.domains.items():
        told = answers(found, others, domain)
        for name in [one for one in rows if one in told]:
            of_domain = places.loc[domain]
            rows[name][f"beats ICL and PBFT {title}"] = _beaten(of_domain, name)
            rows[name][f"least share recovered {title}"] = _least_share(told, name)
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _beaten(places: pd.DataFrame, name: str) -> str:
    """places: by name and support size."""
    own, rivals = places.loc[name], [METHODS[one].label for one in ("icl", "pbft")]
    several = places.index[places.seeds >= FEWEST_SEEDS]
    judged = [size for size in own.index if all((one, size) in several for one in (name, *rivals))]
    beats = [size for size in judged if all(own.low[size] > places.loc[(rival, size)].high for rival in rivals)]
    return f"{len(beats)} of {len(judged)}" if judged else ""


def _least_share(told: Mapping[str, Answers], name: str) -> str:
    start, teacher = (told.get(METHODS[one].label) for one in ("baseline", "teacher_icl"))
    if start is None or teacher is None:
        return ""
    three = (start, teacher, told[name])
    shares = []
    for size, correct in told[name].by_size.items():
        if seeds := in_common(size, three):
            share = share_recovered(*(correct.accuracy(one.at(size, seeds)) for one in three))
            shares.append((share, size, len(seeds)))
    known = [one for one in shares if one[0] is not None]
    if not known:
        return "teacher no better" if shares else ""
    share, size, seeds = min(known, key=lambda one: one[0].value)
    return f"{shown_share(share)} at n = {size}{_few_seeds(seeds)}"


def _few_seeds(seeds: int) -> str:
    """A warning, where an interval speaks of one or two seeds."""
    noun = "seed" if seeds == 1 else "seeds"
    return "" if seeds >= FEWEST_SEEDS else f" ({seeds}\N{NO-BREAK SPACE}{noun})"


def ideas_figure(table: pd.DataFrame, size: int, profile: Profile) -> Figure:
    """All ideas and references at one support size, a row each, by domain: accuracy with 95% intervals, and the recall
    of each class, which shows whatever says one thing to everything. Names with fewer than three seeds say so.

    Args:
        table: from `compared`.
        size: the support size.
        profile: whose domains and classes they are.
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
        accuracy.set(title=f"{title.capitalize()}, n = {size}", xlabel="accuracy")
        recall.set(title=title.capitalize(), xlabel="accuracy on each class", xlim=(-0.03, 1.03))
    axes[0].set_yticks(range(len(names)), labels)
    handles, labels = axes[count].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, loc="upper right", bbox_to_anchor=(1, 0), frameon=False)
    figure.tight_layout()
    return figure


def _accuracies(axis: Axes, rows: pd.DataFrame) -> None:
    """rows: by name, from the lowest place upwards."""
    references = {METHODS[one].label: METHODS[one].colour for one in REFERENCES}
    for place, (name, one) in enumerate(rows.iterrows()):
        errors = np.abs([[one.low - one.accuracy], [one.high - one.accuracy]])
        colour = references.get(name, METHODS[METHOD].colour)
        axis.errorbar([one.accuracy], [place], xerr=errors, fmt="o", capsize=3, color=colour)
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
