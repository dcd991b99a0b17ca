"""Figures of predicted memory: what peaks are made of, what a choice saves, how they grow with the model."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from pandas.io.formats.style import Styler

from lib.memory.allocations import PARTS
from lib.memory.memory_questions import CARDS
from lib.methods.table import METHODS
from lib.report.figures import PAPER_ALPHA, SOURCE, house_style, paper_points
from lib.runs.frames import PHASES

_PALETTE = sns.color_palette("colorblind")
PART_COLOURS = dict(zip(PARTS, [_PALETTE[i] for i in (7, 5, 1, 8, 0, 3, 9)], strict=True))

GAP = pd.DataFrame(index=[""])  # an empty bar

# The paper's figures of memory and the methods in each.
PAPER_FIGURES = {
    "fig2": ("Figure 2", ("baseline", "icl", "pbft", "cd")),
    "fig4": ("Figure 4", ("pbft", "pbft_lora", "pbft_bitfit")),
    "fig6": ("Figure 6", ("cd", "cd_lora", "cd_bitfit")),
}


def papers_figure(peaks: pd.DataFrame, sizes: Sequence[int], measured: pd.DataFrame | None = None) -> Figure:
    """The paper's figures 2, 4 and 6, memory: predicted peaks hollow, measured ones filled, the paper's own faint.

    Of the peaks, rows of `lib.memory.predictions.frame`, those of the highest phase are drawn. Measured ones, where a
    GPU's record has them, are rows of method, support_size and peak_gb.
    """
    house_style()
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), sharex=True)
    highest, training = peaks[peaks.highest_phase], peaks[peaks.phase == "training"]
    for axis, (name, (title, methods)) in zip(axes, PAPER_FIGURES.items(), strict=True):
        paper = paper_points(name, "peak_memory").rename(columns={"mean": "peak_gb"})
        for method in methods:
            _line(axis, highest, sizes, method, fillstyle="none", label=METHODS[method].label)
            if METHODS[method].distils:
                _line(axis, training, sizes, method, marker="", linestyle=":")
            if measured is not None:
                _line(axis, measured, sizes, method, linestyle="none")
            _line(axis, paper, sizes, method, alpha=PAPER_ALPHA, linestyle="none")
        axis.set(title=title, xlabel="support examples n", xticks=range(len(sizes)), xticklabels=sizes)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=9)
    axes[0].set_ylabel("peak of tensors, GB")
    note = "Hollow: predicted, the highest phase; dotted: the student's training alone. "
    note += "Filled: measured. " if measured is not None else ""
    figure.text(0.5, 0, f"{note}Faint: the paper.\n{SOURCE}.", ha="center", va="top", size=9, color="0.35")
    figure.tight_layout()
    return figure


def _line(axis: Axes, peaks: pd.DataFrame, sizes: Sequence[int], method: str, **style: object) -> None:
    """A method's peaks over the places of the support sizes; a method without a support set is level."""
    rows = peaks[peaks.method == method]
    if rows.empty:
        return
    level = rows.support_size.eq(0).all()
    heights = [rows.peak_gb.iloc[0]] * len(sizes) if level else rows.set_index("support_size").peak_gb.reindex(sizes)
    axis.plot(range(len(sizes)), heights, **{**_looks(method), "linestyle": "--" if level else "-", **style})


def _looks(method: str) -> dict[str, str]:
    return {"color": METHODS[method].colour, "marker": METHODS[method].marker}


def parts_figure(peaks: pd.DataFrame) -> Figure:
    """What each phase's peak is made of, a panel a phase, a group of bars a method, a bar a support size."""
    house_style()
    groups = {phase: _groups(peaks[peaks.phase == phase]) for phase in PHASES}
    bars = {phase: pd.concat([row for rows in of.values() for row in (GAP, rows)]) for phase, of in groups.items()}
    figure, axes = plt.subplots(1, len(PHASES), figsize=(15, 5), width_ratios=[len(rows) for rows in bars.values()])
    for axis, (phase, of) in zip(axes, groups.items(), strict=True):
        _stack(axis, bars[phase], "bar", labels=bars[phase].support_size.fillna(""), fontsize=8)
        lengths = np.array([len(rows) for rows in of.values()])
        middles = np.cumsum(lengths + 1) - (lengths + 1) / 2
        axis.set(title=phase.capitalize(), xlabel=None, ylim=(0, 1.08 * bars[phase].peak_gb.max()))
        axis.set_xticks(middles, of, size=9)
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("predicted peak, GB")
    _parts_legend(figure)
    return figure


def _groups(peaks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows by method, one row where its peak is the same at all sizes; methods with the same peaks are one group."""
    groups: dict[tuple, tuple[list[str], pd.DataFrame]] = {}
    for method in (name for name in METHODS if name in set(peaks.method)):
        rows = peaks[peaks.method == method].sort_values("support_size").astype({"support_size": str})
        distinct = rows.iloc[:1].assign(support_size="all n") if rows.peak_gb.round(3).nunique() == 1 else rows
        groups.setdefault(tuple(distinct.peak_gb.round(3)), ([], distinct))[0].append(METHODS[method].label)
    return {_several(labels): rows for labels, rows in groups.values()}


def _several(labels: Sequence[str]) -> str:
    """One label for methods with the same peaks; where there are many, they are evaluated on the query alone."""
    if len(labels) == 1:
        return labels[0].replace(" + ", "\n+ ")
    return "\n".join(labels) if len(labels) < 4 else "without demon-\nstrations"


def _stack(axis: Axes, rows: pd.DataFrame, kind: str, **labels: object) -> None:
    """One bar a row, its parts one upon the other, with its label at the end."""
    style = {"width": 0.85, "edgecolor": "white", "linewidth": 0.4}
    rows[[*PARTS]].plot(kind=kind, stacked=True, ax=axis, rot=0, color=PART_COLOURS, legend=False, **style)
    axis.bar_label(axis.containers[-1], **labels)


def _parts_legend(figure: Figure) -> None:
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour, label=part) for part, colour in PART_COLOURS.items()]
    figure.tight_layout()
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(PARTS), frameon=False)


def decisions_figure(decided: pd.DataFrame) -> Figure:
    """A bar an option, by decision: the peak of the phase in which it tells, and what that is made of."""
    house_style()
    names = list(dict.fromkeys(decided.decision))
    heights = [len(decided[decided.decision == name]) for name in names]
    figure, grid = plt.subplots(len(names), 1, figsize=(10, 0.5 * sum(heights)), height_ratios=heights, squeeze=False)
    for axis, name in zip(grid[:, 0], names, strict=True):
        rows = decided[decided.decision == name].iloc[::-1]
        _stack(axis, rows.set_index("option"), "barh", labels=rows.peak_gb.map(" {:.2f}".format), fontsize=9)
        axis.set(ylabel=None, xlim=(0, 1.1 * rows.peak_gb.max()))
        axis.set_title(f"{name} ({rows.phase.iloc[0]})", loc="left", fontsize=10)
        axis.grid(axis="y", visible=False)
    grid[-1, 0].set_xlabel("predicted peak of the phase, GB (each panel has a scale of its own)")
    _parts_legend(figure)
    return figure


def growth_figure(grown: pd.DataFrame) -> Figure:
    """Peaks over the sizes of students, both logarithmic, with the memory of common cards."""
    house_style()
    figure, axis = plt.subplots(figsize=(9, 5.2))
    for method, rows in grown.groupby("method", sort=False):
        axis.plot(rows.parameters, rows.peak_gb, fillstyle="none", label=METHODS[method].label, **_looks(method))
    for card in CARDS:
        axis.axhline(card * 2**30 / 1e9, color="black", linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
        axis.text(grown.parameters.max() * 1.25, card * 2**30 / 1e9, f"{card} GiB", va="center", size=9)
    sizes = grown.drop_duplicates("student")
    axis.set(xscale="log", yscale="log", xlabel="student", ylabel="highest predicted peak, GB")
    _plain_numbers(axis)
    axis.set_xticks(sizes.parameters, [name.rpartition("-")[2].upper() for name in sizes.student])
    axis.set_xticks([], minor=True)
    axis.legend(fontsize=9)
    figure.tight_layout()
    return figure


def comparison_figure(record: pd.DataFrame) -> Figure:
    """Measured against predicted peaks of all phases, both logarithmic; dotted lines are 5% to either side."""
    house_style()
    figure, axis = plt.subplots(figsize=(6, 5.2))
    predicted, measured = record.predicted / 1e9, record.cuda_allocated / 1e9
    sns.scatterplot(x=predicted, y=measured, hue=record.phase, style=record.phase, ax=axis)
    ends = [predicted.min(), predicted.max()]
    for factor, style in ((1, "-"), (0.95, ":"), (1.05, ":")):
        axis.plot(ends, [factor * end for end in ends], color="black", linewidth=0.8, linestyle=style, zorder=1)
    axis.set(xscale="log", yscale="log", xlabel="predicted, GB", ylabel="measured (allocated), GB")
    _plain_numbers(axis)
    axis.set_title(record.device.iloc[0])
    figure.tight_layout()
    return figure


def _plain_numbers(axis: Axes) -> None:
    """Logarithmic axes without formulas, which the house style does not typeset."""
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter(LogFormatter())
        direction.set_minor_formatter(LogFormatter())


def table(peaks: pd.DataFrame) -> pd.DataFrame:
    """Peaks by method, support size and phase with the parts that count, in GB, and the module where each stands."""
    named = peaks.assign(
        method=[METHODS[name].label for name in peaks.method],
        place=[".".join(place.split(".")[-3:]) for place in peaks.place],
    )
    counts = named[[*PARTS]].gt(named.peak_gb / 1000, axis=0)
    parts = [part for part in PARTS if counts[part].any()]
    text = named[["peak_gb", *parts]].map("{:.3g}".format)
    text[parts] = text[parts].where(counts[parts], "")
    rows = named[["method", "support_size", "phase", "place"]].join(text)
    rows = rows.rename(columns={"support_size": "n", "peak_gb": "GB"}).set_index(["method", "n", "phase"])
    return rows[["GB", *parts, "place"]]


def reading_table(compared: pd.DataFrame) -> Styler:
    """Peaks in GB and differences in percent; bold where the difference is at least the paper's 60%."""
    differences = [name for name in compared if name.endswith("against PBFT")]
    formats = {name: "{:+.0%}" if name in differences else "{:.2f}" for name in compared}
    bold = "font-weight: bold"
    return (
        compared.style.set_uuid("readings")
        .format(formats)
        .map(lambda value: bold if value <= -0.6 else "", subset=differences)
    )
