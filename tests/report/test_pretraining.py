"""Figures of the pretraining draw what they are given."""

import pandas as pd
import pytest

from lib.report.pretraining import accuracy_table, in_context_figure, learning_curves_figure

CURVE = pd.DataFrame(
    {
        "step": [50, 100, 150],
        "stage": ["pairs", "pairs", "contexts"],
        "in_domain_accuracy": [0.5, 0.7, 0.9],
        "out_of_domain_accuracy": [0.5, 0.6, 0.8],
    }
)
ACCURACIES = pd.DataFrame(
    [
        {"model": model, "dataset": dataset, "support_size": size, "context": context, "accuracy": 0.5 + context / 10}
        for model in ("teacher", "student")
        for dataset in ("annotated", "overlap")
        for size in (0, 4)
        for context in (0, 1, 2)
    ]
)


def test_learning_curves_are_drawn_with_a_line_where_a_stage_begins():
    (axis,) = learning_curves_figure({"teacher": CURVE}).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert drawn["in domain"] == [0.5, 0.7, 0.9]
    assert drawn["out of domain"] == [0.5, 0.6, 0.8]
    assert [150, 150] in [list(line.get_xdata()) for line in axis.lines]


def test_in_context_accuracy_has_a_panel_a_model_and_named_domains():
    figure = in_context_figure(ACCURACIES)
    assert [axis.get_title() for axis in figure.axes] == ["teacher", "student"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["in domain", "out of domain"]


def test_the_table_gives_means_and_intervals():
    table = accuracy_table(ACCURACIES)
    assert table.loc[("teacher", "overlap"), 4] == "0.60 [0.35, 0.85]"
    assert list(table.columns) == pytest.approx([0, 4])
