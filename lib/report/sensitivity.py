"""What the paper leaves unsaid, one choice at a time from the profile's own settings: which moves the result most?"""

from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.errors import StudyError
from lib.evidence.claims import FEWEST_SEEDS, SIGNIFICANT, of_accuracy, of_difference, shown_differences
from lib.evidence.estimates import HOW, Correct, Estimate, correct_items, mean, over_sizes, recalls, with_bounds
from lib.report.ablation_figures import CLASS_MARKERS
from lib.report.figures import REFERENCE_LINE, error_lengths, house_style, of_seeds
from lib.runs.ablations import candidates, name_of, profile_values, value_text
from lib.runs.profile import Profile
from lib.runs.variants import METHOD, Variants

DOMAIN_COLOURS = sns.color_palette("colorblind")[::3]  # of the evaluated sets, in domain first


def choice_effects(profile: Profile, variants: Variants) -> pd.DataFrame:
    """The accuracy at each value of each choice in each domain, plain and calibrated, with a 95% interval.

    Intervals are over seeds and items. The values of a choice are compared on the support sizes and seeds that all of
    them have. A choice is left out where only one value has a result, or where the values share no support size and
    seed.

    Columns: choice, value, own (whether it is the profile's), domain, answers (plain, calibrated); accuracy, low, high;
    `on_<class>`, the recall of each class; majority, the accuracy of one answer for everything; the difference from the
    profile's own value, difference_low, difference_high, and `differs`, by intervals corrected for the number of such
    differences; support_sizes, seeds.

    Raises:
        StudyError: no choice is left.
    """
    effects = list(_effects(profile, variants))
    if not effects:
        raise StudyError("sensitivity: no choice can be compared; two values of one need results at the same seeds.")
    level = 1 - SIGNIFICANT * len(HOW) / max(len(HOW), sum(difference is not None for _, difference in effects))
    return pd.DataFrame([row | of_difference(difference, level) for row, difference in effects])


def _effects(profile: Profile, variants: Variants) -> Iterator[tuple[dict[str, Any], Estimate | None]]:
    """Each row, and its difference from the profile's own value."""
    own = profile_values(profile)
    tried: dict[str, dict[Any, str]] = {}
    for choice, value in candidates(profile):
        if (name := name_of(choice, value)) in variants.sweeps:
            tried.setdefault(choice, {})[value] = name
    for choice, names in tried.items():
        for domain in profile.domains:
            for answers, how in HOW.items():
                stored = {value: variants.sweeps[name].stored for value, name in names.items()}
                correct = {value: correct_items(results, domain, METHOD, how) for value, results in stored.items()}
                shared = {"choice": choice, "domain": domain, "answers": answers}
                for row, difference in _values(correct, own[choice], profile):
                    yield shared | row, difference


def _values(
    correct: Mapping[Any, Correct], own: object, profile: Profile
) -> Iterator[tuple[dict[str, Any], Estimate | None]]:
    """The values of one choice in one domain."""
    there = {value: items for value, items in correct.items() if items.items}
    common = over_sizes(list(there.values())) if len(there) > 1 else None
    if common is None:
        return
    sizes, seeds, rights = common
    by_value = dict(zip(there, rights, strict=True))
    for value, right in by_value.items():
        gold, clusters = there[value].gold, there[value].clusters
        row = {"value": value, "own": value == own, **of_accuracy(mean(right, gold, clusters))}
        row |= recalls(right, gold, profile.classes) | {"majority": there[value].majority}
        row |= {"support_sizes": ", ".join(map(str, sizes)), "seeds": len(seeds)}
        compared = value != own and own in by_value
        yield row, mean(right - by_value[own], gold, clusters) if compared else None


def choices_table(moved: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """`choice_effects` as text: a row a value, the choice first that moves calibrated accuracy in domain most.

    Columns by domain: the accuracy plain and calibrated, and the calibrated difference from the profile's own value,
    with a star where it `differs`.
    """
    texts = moved.assign(
        text=list(map(with_bounds, moved.accuracy, moved.low, moved.high)),
        value=_named(moved),
        difference=shown_differences(moved),
    )
    index = ["choice", "value"]
    columns = {}
    for domain, title in profile.domains.items():
        own = {how: rows.set_index(index) for how, rows in texts[texts.domain == domain].groupby("answers")}
        columns |= {(title, how): own[how].text for how in HOW}
        columns[title, "less the own value, calibrated"] = own["calibrated"].difference
    columns["", "seeds"] = own["calibrated"].seeds
    table = pd.DataFrame(columns)
    return table.loc[[choice for choice in _by_spread(moved) if choice in table.index.levels[0]]]


def _named(moved: pd.DataFrame) -> pd.Series:
    return moved.value.map(value_text) + moved.own.map({True: " (own)", False: ""})


def _by_spread(moved: pd.DataFrame) -> list[str]:
    """The choices, that first whose calibrated accuracies in domain are farthest apart."""
    first = moved[(moved.answers == "calibrated") & (moved.domain == moved.domain.iloc[0])]
    accuracy = first.groupby("choice").accuracy
    return list((accuracy.max() - accuracy.min()).sort_values(ascending=False).index)


def what_stands(moved: pd.DataFrame, profile: Profile) -> str:
    """In words, which calibrated differences from the profile's own values stand when they are corrected."""
    compared = moved[(moved.answers == "calibrated") & moved.difference.notna()]
    standing = compared[compared.differs]
    places = zip(standing.choice, standing.value.map(value_text), standing.domain.map(profile.domains), strict=True)
    texts = [f"{' '.join(place)}: {text}" for place, text in zip(places, shown_differences(standing), strict=True)]
    untold = compared.loc[compared.seeds < FEWEST_SEEDS, "choice"].unique()
    note = f" With fewer than {FEWEST_SEEDS} seeds nothing can be told of {', '.join(untold)}." if len(untold) else ""
    which = f"these {len(texts)} stand: {'; '.join(texts)}." if texts else "none stands."
    return f"Of {len(compared)} calibrated differences from the profile's own values {which}{note}"


def sensitivity_figure(moved: pd.DataFrame, profile: Profile) -> Figure:
    """A panel a choice: accuracy in and out of domain over its values, and below it the calibrated one.

    The profile's own value is marked. Triangles are the accuracy on entailment (right) and on non-entailment (left)
    alone: where they are far apart, the student says one thing to nearly everything.
    """
    house_style()
    choices = list(dict.fromkeys(moved.choice))
    columns = min(4, len(choices))
    wide = max(2, columns)  # room for the legend below a single panel
    lines = -(-len(choices) // columns) * len(HOW)
    figure, axes = plt.subplots(lines, columns, figsize=(3.25 * wide, 2.9 * lines), sharey=True, squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    for place, choice in enumerate(choices):
        for below, answers in enumerate(HOW):
            axis = axes[place // columns * len(HOW) + below, place % columns]
            axis.set_visible(True)
            rows = moved[(moved.choice == choice) & (moved.answers == answers)]
            _panel(axis, rows, profile)
            axis.set_title(f"{choice}, {answers}")
    for line, axis in enumerate(axes[:, 0]):
        axis.set(ylabel=["accuracy", "calibrated accuracy"][line % len(HOW)], ylim=(0, 1.03))
    hollow = {"ls": "", "color": "0.4", "fillstyle": "none"}
    markers = zip(profile.classes, CLASS_MARKERS, strict=False)
    recalls = [Line2D([], [], marker=marker, label=f"on {name} alone", **hollow) for name, marker in markers]
    handles = [*axes[0, 0].get_legend_handles_labels()[0], *recalls]
    figure.legend(handles=handles, ncols=wide, loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False)
    figure.suptitle(f"n = {moved.support_sizes.iloc[0]}; {of_seeds(moved.seeds)}", fontsize=11)
    figure.tight_layout()
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, profile: Profile) -> None:
    """rows: from `choice_effects`, those of one choice and one kind of answers."""
    for (domain, title), colour in zip(profile.domains.items(), DOMAIN_COLOURS, strict=False):
        own = rows[rows.domain == domain].reset_index(drop=True)
        errors = error_lengths(own.accuracy, own.low, own.high)
        axis.errorbar(own.index, own.accuracy, yerr=errors, marker="o", capsize=3, color=colour, label=title)
        for name, marker in zip(profile.classes, CLASS_MARKERS, strict=False):
            axis.plot(own.index, own[f"on_{name}"], marker, color=colour, alpha=0.5, fillstyle="none")
        axis.axhline(own.majority.max(), **REFERENCE_LINE)
    for place in own.index[own.own]:
        axis.axvspan(place - 0.25, place + 0.25, color="0.9", zorder=0)
    axis.margins(x=0.12)
    axis.set(xticks=own.index, xticklabels=[value_text(value) for value in own.value])
    axis.tick_params(axis="x", labelsize=9)
