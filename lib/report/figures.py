"""What all figures and tables of results share: the house style, curves with intervals, tables of means, files."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evidence.estimates import Array, with_bounds
from lib.methods.table import METHODS, Method
from lib.runs.files import replace_file, write_csv
from lib.runs.frames import PHASES
from lib.runs.profile import Profile

REFERENCE_LINE = {"color": "black", "linewidth": 1, "linestyle": (0, (1, 2))}
PAPER_ALPHA = 0.35
_DODGE = 0.32

# The numbers that arXiv 2412.13243 shows, its datasets by domain, and how its numbers were found.
PAPER_NUMBERS = Path(__file__).with_name("paper_numbers.csv")
PAPER_DATASETS = {"in_domain": "mnli", "out_of_domain": "hans"}
SOURCE = "arXiv 2412.13243 (OPT-1.3B → OPT-125M), read off its figures by pixel: accuracy ±0.01, GB ±0.03, s ±0.5"

# Costs of a phase in a frame of results: the title in a table, and what one unit of the column is there.
COSTS = {
    "seconds": ("seconds", 1),
    "tokens": ("tokens", 1),
    "gb": ("GB", 1),
    "cuda_allocated": ("GB", 1e-9),
    "cuda_reserved": ("GB reserved", 1e-9),
    "rss": ("GB", 1e-9),
    "tensors": ("GB", 1e-9),
}


def house_style() -> None:
    """Set fonts, grid and resolution for all figures of the study."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams |= {
        "figure.dpi": 110,
        "savefig.dpi": 160,
        "savefig.bbox": "tight",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titleweight": "bold",
        "grid.alpha": 0.5,
        "text.parse_math": False,  # names of sets and classes may hold dollar signs
        "svg.hashsalt": "few-shot-distillation",  # the same figure is the same file
    }


def paper_points(figure: str, quantity: str) -> pd.DataFrame:
    """Points of one quantity in one of the paper's figures: columns method, support_size, mean, low and high (nan).

    Args:
        figure: `fig1`, `fig5` or `fig6`; figures 2 to 4 could not be read, so they give no rows.
        quantity: `in_domain_accuracy`, `out_of_domain_accuracy`, `peak_memory` (GB) or `training_time` (s).
    """
    numbers = pd.read_csv(PAPER_NUMBERS, comment="#").rename(columns={"value": "mean"})
    points = numbers[(numbers.figure == figure) & (numbers.quantity == quantity)]
    return points[["method", "support_size", "mean"]].assign(low=np.nan, high=np.nan).reset_index(drop=True)


def error_lengths(value: pd.Series, low: pd.Series, high: pd.Series) -> Array:
    """[2, values]: how far the interval reaches below and above each value, as matplotlib takes it."""
    return np.abs([value - low, high - value])


def curves(
    axis: Axes, summary: pd.DataFrame, sizes: Sequence[int], methods: Mapping[str, Method], **style: object
) -> None:
    """One line a method over the numbers of examples, side by side, with intervals.

    Args:
        axis: where to draw.
        summary: of one quantity, from `lib.evidence.estimates.summarise`; without bounds a point has no interval.
        sizes: the numbers of examples on the axis, evenly spaced.
        methods: those that have a place side by side; those without a row leave theirs empty.
        style: of all lines, in place of the method's.
    """
    beside = [name for name, method in methods.items() if method.marker]
    shifts = dict(zip(beside, np.linspace(-_DODGE / 2, _DODGE / 2, len(beside)) * (len(beside) > 1), strict=True))
    for name in [name for name in methods if name in set(summary.method)]:
        method, rows = methods[name], summary[summary.method == name]
        drawn = {"color": method.colour, "label": method.label, **style}
        if method.marker:
            places = np.arange(len(sizes)) + shifts[name]
            _curve(axis, places, rows.set_index("support_size").reindex(sizes), {"marker": method.marker, **drawn})
        else:
            for height in rows["mean"].unique():
                axis.axhline(height, zorder=1, **{**drawn, "linestyle": "--"})
    axis.xaxis.grid(False)
    axis.set(xticks=range(len(sizes)), xticklabels=sizes, xlim=(-0.5, len(sizes) - 0.5))


def _curve(axis: Axes, places: Array, rows: pd.DataFrame, drawn: Mapping[str, object]) -> None:
    """The means of one method, and their intervals, which have no place in a legend."""
    axis.plot(places, rows["mean"], **drawn)
    errors = error_lengths(rows["mean"], rows.low, rows.high)
    axis.errorbar(places, rows["mean"], errors, fmt="none", ecolor=drawn["color"], elinewidth=1.2, capsize=3)


def legend_below(figure: Figure, notes: str = "") -> None:
    """One legend of all panels under them, and under it what the figure cannot draw."""
    entries: dict[str, object] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 4, "frameon": False}
    figure.tight_layout()
    legend = figure.legend(list(entries.values()), list(entries), **place)
    figure.canvas.draw()
    below = figure.transFigure.inverted().transform(legend.get_window_extent())[0][1]
    figure.text(0.5, below - 0.01, notes, ha="center", va="top", size=9, color="0.35")


def interval_table(
    summary: pd.DataFrame, methods: Mapping[str, Method], rows: str | list[str], columns: str, digits: int
) -> pd.DataFrame:
    """Means of `lib.evidence.estimates.summarise` with intervals as text, methods by their labels and in their order.

    `rows` and `columns` are columns of the summary whose values make those of the table; one of them is `method`.
    """
    form = f"{{:.{digits}f}}".format
    text = [with_bounds(*bounds, form) for bounds in summary[["mean", "low", "high"]].itertuples(index=False)]
    named = summary.assign(text=text, method=summary.method.map(lambda name: methods[name].label))
    table = named.pivot_table("text", rows, columns, aggfunc="first", sort=False).fillna("")
    axis = "columns" if columns == "method" else "index"
    order = [method.label for method in methods.values() if method.label in getattr(table, axis)]
    return table.reindex(order, axis=axis).rename_axis(columns=None)


def phase_table(
    results: pd.DataFrame,
    methods: Mapping[str, Method] = METHODS,
    by: Sequence[str] = ("method", "support_size"),
) -> pd.DataFrame:
    """What each group of results cost by phase, as text: mean seconds, tokens and peak in GB, and what is trained.

    On CUDA the peak is shown twice: allocated to tensors, and reserved by the caching allocator.
    """
    titles = {"trainable_parameters": ("trained parameters", 1)}
    titles |= {
        f"{phase}_{cost}": (f"{phase} {title}", scale) for phase in PHASES for cost, (title, scale) in COSTS.items()
    }
    known = [name for name in titles if name in results and results[name].notna().any()]
    named = results.assign(method=results.method.map(lambda name: methods[name].label))
    means = named.astype(dict.fromkeys(known, float)).groupby(list(by), sort=False)[known].mean()
    whole = [name for name in known if name.endswith(("tokens", "parameters"))]
    text = {
        name: (means[name] * titles[name][1]).map("{:,.0f}".format if name in whole else _three_digits, "ignore")
        for name in known
    }
    return pd.DataFrame(text).fillna("").rename(columns={name: titles[name][0] for name in known})


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save_with(figure: Figure, profile: Profile, name: str, drawn: pd.DataFrame) -> None:
    """Write `<name>.png`, `.svg` and, of what is drawn, `.csv` to the profile's folder."""
    save_table(drawn, profile, name)
    for kind, metadata in (("png", None), ("svg", {"Date": None})):
        save = partial(figure.savefig, format=kind, metadata=metadata)
        replace_file(profile.folder / f"{name}.{kind}", save)


def save_table(drawn: pd.DataFrame, profile: Profile, name: str) -> None:
    """Write `<name>.csv` to the profile's folder."""
    write_csv(profile.folder / f"{name}.csv", drawn.assign(profile=profile.name))


def of_seeds(counts: Collection[int]) -> str:
    """What a figure's points and bars are, by the numbers of seeds behind them, in words."""
    return "one seed" if max(counts) == 1 else f"{from_to(counts)} seeds, mean and 95% interval"


def from_to(counts: Collection[int]) -> str:
    """The least and the most of some counts in words, or the one number that all of them are."""
    fewest, most = min(counts), max(counts)
    return f"{most}" if fewest == most else f"{fewest} to {most}"
