"""What the paper leaves unsaid, one choice at a time from the profile's own settings: which moves the result most?"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.errors import StudyError
from lib.evidence.estimates import interval
from lib.report.ablation_figures import CLASS_MARKERS
from lib.report.figures import REFERENCE_LINE, error_lengths, house_style, of_seeds
from lib.runs.ablations import candidates, name_of, profile_values, shown
from lib.runs.profile import Profile
from lib.runs.variants import Variants

DOMAIN_COLOURS = sns.color_palette("colorblind")[::3]  # of the evaluated sets, in domain first


def choice_effects(profile: Profile, variants: Variants) -> pd.DataFrame:
    """The accuracy at each value of each choice, for each domain: the mean over seeds with its 95% interval.

    Each row also says whether the value is the profile's own. It gives the accuracy on each class, and what one answer
    for everything would score. The values of a choice are compared on the support sizes and seeds that all of them
    have. A choice is left out where only one value has a result, or where the values share no support size and seed.

    Columns: choice, value, own, support_sizes, seeds, and by domain `<domain>`, `<domain>_low`, `_high`,
    `_on_<class>`, `_majority`.

    Raises:
        StudyError: no choice is left.
    """
    own, comparable, rows = profile_values(profile), _comparable(profile, variants), []
    for choice, value in candidates(profile):
        results = comparable[(comparable.choice == choice) & (comparable.value == value)]
        if len(results):
            rows.append({"choice": choice, "value": value, "own": value == own[choice], **_row(results, profile)})
    if not rows:
        raise StudyError("sensitivity: no choice can be compared; two values of one need results at the same seeds.")
    return pd.DataFrame(rows)


def _comparable(profile: Profile, variants: Variants) -> pd.DataFrame:
    """All results by choice and value, at the support sizes and seeds that all of a choice's values have."""
    columns = ["choice", "value", "support_size", "seed"]
    parts = [pd.DataFrame(columns=columns)]
    for choice, value in candidates(profile):
        if sweep := variants.sweeps.get(name_of(choice, value)):
            parts.append(sweep.results.assign(choice=choice, value=value).astype({"value": object}))
    tried = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    values = tried.groupby("choice")["value"].transform("nunique")
    here = tried.groupby(["choice", "support_size", "seed"])["value"].transform("nunique")
    return tried[(here == values) & (values > 1)]


def _row(results: pd.DataFrame, profile: Profile) -> dict[str, Any]:
    sizes = ", ".join(map(str, sorted(results.support_size.unique())))
    shown: dict[str, Any] = {"support_sizes": sizes, "seeds": results.seed.nunique()}
    for domain in profile.domains:
        shown |= _scores(results, domain, profile.classes)
    return shown


def _scores(results: pd.DataFrame, domain: str, classes: Sequence[str]) -> dict[str, float]:
    accuracies = results.groupby("seed")[f"{domain}_accuracy"].mean()
    low, high = np.clip(interval(accuracies), 0, 1)
    halves = {f"{domain}_on_{name}": results[f"{domain}_accuracy_on_{name}"].mean() for name in classes}
    majority = results[f"{domain}_majority"].iloc[0]
    bounds = {f"{domain}_low": low, f"{domain}_high": high, f"{domain}_majority": majority}
    return {domain: accuracies.mean()} | bounds | halves


def spread(moved: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """By how much each choice moves the mean accuracy between its best and its worst value, the largest first."""
    groups = moved.groupby("choice", sort=False)
    table = pd.DataFrame({title: groups[name].max() - groups[name].min() for name, title in profile.domains.items()})
    for name, title in profile.domains.items():
        best = moved.loc[groups[name].idxmax()].set_index("choice")["value"]
        table[f"best {title}"] = best.map(shown)
    return table.sort_values(list(profile.domains.values()), ascending=False)


def sensitivity_figure(moved: pd.DataFrame, profile: Profile) -> Figure:
    """A panel a choice: accuracy in and out of domain over its values; the profile's own value is marked.

    Triangles are the accuracy on entailment (right) and on non-entailment (left) alone: where they are far apart, the
    student says one thing to nearly everything.
    """
    house_style()
    choices = list(dict.fromkeys(moved.choice))
    columns = min(4, len(choices))
    wide = max(2, columns)  # room for the legend below a single panel
    lines = -(-len(choices) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.25 * wide, 3.2 * lines), sharey=True, squeeze=False)
    for axis, choice in zip(axes.flat, choices, strict=False):
        _panel(axis, moved[moved.choice == choice].reset_index(drop=True), profile)
        axis.set_title(choice)
    for axis in axes.flat[len(choices) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set(ylabel="accuracy", ylim=(0, 1.03))
    hollow = {"ls": "", "color": "0.4", "fillstyle": "none"}
    markers = zip(profile.classes, CLASS_MARKERS, strict=False)
    halves = [Line2D([], [], marker=marker, label=f"on {name} alone", **hollow) for name, marker in markers]
    handles = [*axes[0, 0].get_legend_handles_labels()[0], *halves]
    figure.legend(handles=handles, ncols=wide, loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False)
    figure.suptitle(f"n = {moved.support_sizes.iloc[0]}; {of_seeds(moved.seeds)}", fontsize=11)
    figure.tight_layout()
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, profile: Profile) -> None:
    """rows: from `choice_effects`, those of one choice."""
    for (domain, title), colour in zip(profile.domains.items(), DOMAIN_COLOURS, strict=False):
        errors = error_lengths(rows[domain], rows[f"{domain}_low"], rows[f"{domain}_high"])
        axis.errorbar(rows.index, rows[domain], yerr=errors, marker="o", capsize=3, color=colour, label=title)
        for name, marker in zip(profile.classes, CLASS_MARKERS, strict=False):
            axis.plot(rows.index, rows[f"{domain}_on_{name}"], marker, color=colour, alpha=0.5, fillstyle="none")
        axis.axhline(rows[f"{domain}_majority"].max(), **REFERENCE_LINE)
    for place in rows.index[rows.own]:
        axis.axvspan(place - 0.25, place + 0.25, color="0.9", zorder=0)
    axis.margins(x=0.12)
    axis.set(xticks=rows.index, xticklabels=[shown(value) for value in rows.value])
    axis.tick_params(axis="x", labelsize=9)
