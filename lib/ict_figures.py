"""Figures and tables of in-context learning distillation: scores against k, and the paper's numbers."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import REFERENCE_LINE, house_style
from lib.ict_frames import COLUMNS, METRICS, PARADIGMS
from lib.ict_methods import ICT_METHODS
from lib.intervals import interval
from lib.paths import ROOT
from lib.sweep import Sweep

NUMBERS = ROOT / "lib" / "ict_paper_numbers.csv"
_PALETTE = sns.color_palette("colorblind")
# Colour and marker; the same method is alike in both benchmarks.
STYLES = {
    "teacher_untuned": ("0.6", "*"),
    "untuned": (_PALETTE[1], "o"),
    "teacher_ict": ("0.15", "*"),
    "ict": (_PALETTE[0], "s"),
    "icl_d": (_PALETTE[2], "D"),
    "icl_d_lm": (_PALETTE[3], "P"),
}
DODGE = 0.05


def paper_table(benchmark: str) -> pd.DataFrame:
    """The paper's own numbers for a benchmark in its own layout: a row a paradigm and pair of models."""
    numbers = pd.read_csv(NUMBERS, comment="#")
    of_benchmark = numbers[numbers.benchmark == benchmark]
    pairs = of_benchmark.teacher + " → " + of_benchmark.student
    wide = of_benchmark.assign(pair=pairs, paradigm=of_benchmark.paradigm.map(PARADIGMS)).pivot(
        index=["paradigm", "pair"], columns=["method", "metric"], values="value"
    )
    columns = [one for one in COLUMNS if one in wide]
    shown = {ICT_METHODS[one].label: _joined(wide[one][list(METRICS[benchmark])]) for one in columns}
    return pd.DataFrame(shown).rename_axis(index=["", ""])


def _joined(values: pd.DataFrame) -> pd.Series:
    return values.apply(lambda row: " / ".join(f"{value:.1f}" for value in row), axis=1)


def curves_figure(means: pd.DataFrame, benchmark: str) -> Figure:
    """Scores in percent against k, a column a paradigm and a row a metric: means over seeds with 95% intervals.

    The dotted line is the score of the commonest answer of each task, where the metric has one.
    """
    house_style()
    metrics = METRICS[benchmark]
    paradigms = {name: title for name, title in PARADIGMS.items() if (means.paradigm == name).any()}
    shape = {"figsize": (11, 3.6 * len(metrics) + 0.6), "sharex": True, "sharey": "row", "squeeze": False}
    figure, axes = plt.subplots(len(metrics), len(paradigms), **shape)
    for column, (paradigm, title) in enumerate(paradigms.items()):
        shown = means[means.paradigm.isna() | (means.paradigm == paradigm)]
        for axis, (metric, name) in zip(axes[:, column], metrics.items(), strict=True):
            _lines(axis, shown, metric)
            axis.set(title=title if axis is axes[0, column] else "", ylabel=name if column == 0 else "", ylim=(0, 103))
            if metric == "precision_1":
                axis.axhline(shown.majority.mean(), label="commonest answer", **REFERENCE_LINE)
        axes[-1, column].set(xlabel="demonstrations k", xticks=sorted(means.k.unique()))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.1 / len(metrics))}
    figure.legend(handles, labels, ncols=4, frameon=False, **place)
    figure.tight_layout()
    return figure


def _lines(axis: Axes, means: pd.DataFrame, metric: str) -> None:
    present = [method for method in STYLES if (means.method == method).any()]
    for place, method in enumerate(present):
        groups = means[means.method == method].groupby("k")[metric]
        heights = groups.mean()
        low, high = np.array([interval(values) for _, values in groups]).T
        errors = np.nan_to_num([heights - low, high - heights])
        colour, marker = STYLES[method]
        places = heights.index + DODGE * (place - len(present) / 2)
        label = ICT_METHODS[method].label
        axis.errorbar(places, heights, errors, color=colour, marker=marker, capsize=2, label=label)


def left_out(sweep: Sweep) -> pd.Series:
    """Tasks that the benchmark names and the results do not have, with reasons."""
    reasons: dict[str, str] = {}
    for record in sweep.records:
        reasons |= record["outcome"]["left_out"]
    return pd.Series(reasons, name="left out because", dtype=object)


def by_task(tasks: pd.DataFrame, benchmark: str, k: int, methods: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """The first metric of each target task at k, means over seeds: a row a task, columns paradigm and method."""
    metric = next(iter(METRICS[benchmark]))
    shown = tasks[(tasks.k == k) & tasks.method.isin(methods)]
    names = shown.assign(
        paradigm=shown.paradigm.map(PARADIGMS).fillna("untuned"),
        method=shown.method.map(lambda name: ICT_METHODS[name].label),
    )
    return names.pivot_table(metric, "task", ["paradigm", "method"], sort=False).rename_axis(None)
