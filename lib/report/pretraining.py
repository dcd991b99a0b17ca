"""Figures of the pretraining: how the models of the world learnt, and what they make of demonstrations in the end."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.evidence.estimates import interval, with_bounds
from lib.report.figures import REFERENCE_LINE, house_style
from lib.tasks.world import DATASETS

DOMAINS = ("in domain", "out of domain")
LIMITS = (0.4, 1.02)  # of accuracies


def learning_curves_figure(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Smoothed training accuracy against steps, a panel a model; thin lines are where a stage begins.

    The curves are those of `lib.tiny.pretraining.pretrain`, by the model's name.
    """
    house_style()
    figure, axes = plt.subplots(len(curves), 1, figsize=(11, 3.4 * len(curves)), squeeze=False)
    for axis, (name, curve) in zip(axes[:, 0], curves.items(), strict=True):
        for domain in DOMAINS:
            axis.plot(curve.step, curve[f"{domain.replace(' ', '_')}_accuracy"], label=domain)
        for step in curve.groupby("stage", sort=False).step.min()[1:]:
            axis.axvline(step, color="0.8", linewidth=0.8, zorder=0)
        axis.axhline(0.5, **REFERENCE_LINE)
        axis.set(title=name.capitalize(), ylabel="accuracy in training", ylim=LIMITS)
        axis.grid(axis="x", visible=False)
    axes[-1, 0].set_xlabel("step")
    axes[0, 0].legend(loc="lower right")
    figure.tight_layout()
    return figure


def in_context_figure(accuracies: pd.DataFrame) -> Figure:
    """Accuracy against demonstrations, a panel a model: means over contexts with 95% intervals.

    The accuracies are those of `lib.tiny.evaluation.context_accuracies`, with a column `model`.
    """
    house_style()
    grid = sns.catplot(
        accuracies.assign(dataset=accuracies.dataset.replace(dict(zip(DATASETS, DOMAINS, strict=True)))),
        kind="point",
        x="support_size",
        y="accuracy",
        hue="dataset",
        col="model",
        errorbar=interval,
        capsize=0.08,
        linewidth=1.6,
        err_kws={"linewidth": 1.2},
        height=4,
        aspect=1.3,
    )
    grid.set(xlabel="demonstrations n", ylim=LIMITS).set_titles("{col_name}")
    grid.refline(y=0.5, **REFERENCE_LINE)
    grid.legend.set_title(None)
    return grid.figure


def accuracy_table(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Means with 95% intervals over contexts, as text: models and datasets by demonstrations."""
    groups = accuracies.groupby(["model", "dataset", "support_size"], sort=False).accuracy
    return (
        groups.apply(lambda values: with_bounds(values.mean(), *interval(values))).unstack().rename_axis("n =", axis=1)
    )
