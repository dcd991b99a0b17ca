"""What a search of settings found: the best of each method beside its runner-up, accuracy against rate, the budget."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evidence.estimates import interval, with_bounds
from lib.methods.table import METHODS
from lib.report.figures import house_style
from lib.runs.search import MEASURE

CALIBRATED, ROWS, COLUMNS = "accuracy, calibrated", 2, 3
KEPT = ["method", "learning_rate", "epochs", "pattern", "seed", "in_domain_accuracy", MEASURE, "in_domain_auc"]
KEPT += ["in_domain_share_entailment", "final_loss", "queries", "training_seconds", "failed"]
SCORES = {"in_domain_accuracy": "plain", "in_domain_auc": "area", "final_loss": "final loss"}


def record(results: pd.DataFrame) -> pd.DataFrame:
    """The columns of `lib.runs.search.search_settings` that are kept of a search, those that it has."""
    return results[[name for name in KEPT if name in results]]


def leaders(results: pd.DataFrame) -> pd.DataFrame:
    """A row a method: its best candidate and its runner-up, of those that were tried on the most seeds.

    Scores are means over seeds. The calibrated accuracy and its difference, paired by seed, have 95% intervals over
    seeds. `at the edge` says that the best rate is the lowest or the highest of those tried.
    """
    by_method = results.groupby("method", sort=False)
    return pd.DataFrame({METHODS[method].label: _leader(own) for method, own in by_method}).T


def _leader(own: pd.DataFrame) -> dict[str, str]:
    by_seed = own.pivot_table(MEASURE, "seed", "candidate", sort=False)
    by_seed = by_seed.loc[:, by_seed.count() == by_seed.count().max()]
    first, second, *_ = [*by_seed.mean().sort_values(ascending=False, kind="stable").index, None]
    best = own[own.candidate == first]
    means = {title: f"{best[name].mean():.2f}" for name, title in SCORES.items() if best[name].notna().any()}
    rates = own.learning_rate
    return {
        "best": first,
        CALIBRATED: _with_interval(by_seed[first], 0, 1),
        **means,
        "runner-up": second or "",
        "best − runner-up": _with_interval(by_seed[first] - by_seed[second]) if second else "",
        "at the edge": "yes" if best.learning_rate.iloc[0] in (rates.min(), rates.max()) else "",
        "seeds": str(int(by_seed[first].count())),
    }


def _with_interval(values: pd.Series, lowest: float = -1, highest: float = 1) -> str:
    return with_bounds(values.mean(), *np.clip(interval(values), lowest, highest), "{:.3f}".format)


def budget(results: pd.DataFrame) -> pd.DataFrame:
    """A row a method: its candidates, its runs, the queries that its students were trained on, and seconds."""
    by_method = results.groupby(results.method.map(lambda name: METHODS[name].label), sort=False)
    columns = {"candidates": ("candidate", "nunique"), "runs": ("candidate", "size"), "queries": ("queries", "sum")}
    seconds = {"training seconds": ("training_seconds", "sum"), "evaluation seconds": ("evaluation_seconds", "sum")}
    return by_method.agg(**columns, **seconds).rename_axis(None).round().astype(int)


def against_rate(results: pd.DataFrame) -> Figure:
    """Calibrated accuracy of each trained method against the learning rate: a point a run, a line a number of epochs
    through the means.
    """
    house_style()
    trained = results.dropna(subset=["learning_rate", MEASURE])
    figure, axes = plt.subplots(ROWS, COLUMNS, figsize=(12, 6), sharey=True)
    for axis, (method, own) in zip(axes.flat, trained.groupby("method", sort=False), strict=False):
        _panel(axis, own)
        axis.set_title(METHODS[method].label)
    for axis in [axis for axis in axes.flat if not axis.lines]:
        axis.remove()
    figure.supxlabel("learning rate")
    figure.supylabel(CALIBRATED)
    figure.tight_layout()
    return figure


def _panel(axis: Axes, own: pd.DataFrame) -> None:
    for epochs, rows in own.groupby("epochs"):
        means = rows.groupby("learning_rate")[MEASURE].mean()
        (line,) = axis.plot(means.index, means, label=f"{epochs:g} epochs")
        axis.plot(rows.learning_rate, rows[MEASURE], "o", markersize=4, alpha=0.5, color=line.get_color())
    axis.set_xscale("log")
    axis.legend(frameon=False, fontsize="small")
