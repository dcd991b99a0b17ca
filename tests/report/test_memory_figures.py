"""Figures of predicted memory: what is drawn is what the tables hold."""

import numpy as np
import pandas as pd
import pytest

from lib.memory.allocations import PARTS
from lib.report import memory_figures

pytestmark = pytest.mark.usefixtures("close_figures")


def row(method, size, phase, highest_phase, peak):
    parts = dict.fromkeys(PARTS, 0.0) | {"parameters": peak / 4, "activations": 3 * peak / 4}
    return {
        "method": method,
        "support_size": size,
        "phase": phase,
        "highest_phase": highest_phase,
        "peak_gb": peak,
        **parts,
        "place": "layers.1",
    }


@pytest.fixture
def peaks():
    rows = [row("baseline", 0, "evaluation", True, 0.5), row("teacher_icl", 4, "evaluation", True, 7.0)]
    for size in (1, 4):
        rows += [row("pbft", size, "training", True, 2.0), row("pbft", size, "evaluation", False, 0.5)]
        rows += [row("cd", size, "teacher", True, 5.0 + size), row("cd", size, "training", False, 3.0)]
        rows += [row("cd", size, "evaluation", False, 0.5)]
    return pd.DataFrame(rows)


def heights(axis, fillstyle):
    return [list(line.get_ydata()) for line in axis.lines if line.get_fillstyle() == fillstyle]


def test_headline_peaks_are_drawn_hollow_and_measured_ones_filled(peaks):
    measured = pd.DataFrame({"method": ["cd", "cd"], "support_size": [1, 4], "peak_gb": [5.9, 8.8]})
    left = memory_figures.papers_figure(peaks, (1, 4), measured).axes[0]
    assert [6.0, 9.0] in heights(left, "none")
    assert [5.9, 8.8] in heights(left, "full")
    assert [0.5, 0.5] in heights(left, "none")


def test_bars_stack_their_parts_to_the_peak(peaks):
    teacher, training, _ = memory_figures.parts_figure(peaks).axes
    tops = {round(bar.get_y() + bar.get_height(), 6) for bar in teacher.patches}
    assert {6.0, 9.0} <= tops
    shown = [text.get_text() for text in training.texts]
    assert shown.count("all n") == 2  # neither PBFT nor CD's training changes with n here


def test_a_decision_has_a_panel_and_an_option_a_bar():
    options = [{**row("cd", 4, "training", True, peak), "decision": "a choice"} for peak in (3.0, 2.0, 1.5, 1.0)]
    decided = pd.DataFrame(options).assign(option=["dear", "less", "little", "cheap"])
    (axis,) = memory_figures.decisions_figure(decided).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cheap", "little", "less", "dear"]
    assert np.isclose([bar.get_x() + bar.get_width() for bar in axis.patches], 3.0).any()


def test_growth_is_drawn_for_each_method_below_the_cards():
    grown = pd.DataFrame({"method": "pbft", "student": ["a-1m", "a-2m"], "parameters": [1e6, 2e6], "peak_gb": [1, 3]})
    (axis,) = memory_figures.growth_figure(grown).axes
    assert [1, 3] in heights(axis, "none")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1M", "2M"]


def test_the_comparison_draws_every_phase_of_the_record():
    record = pd.DataFrame({"predicted": [1e9, 2e9], "cuda_allocated": [1.1e9, 2e9], "phase": ["teacher", "training"]})
    (axis,) = memory_figures.comparison_figure(record.assign(device="a card")).axes
    assert np.asarray(axis.collections[0].get_offsets()).tolist() == [[1.0, 1.1], [2.0, 2.0]]
    assert axis.get_title() == "a card"


def test_the_table_leaves_out_parts_that_no_peak_has(peaks):
    table = memory_figures.table(peaks)
    assert list(table.columns) == ["GB", "parameters", "activations", "place"]
    assert table.loc[("CD", 4, "teacher"), "GB"] == "9"


def test_readings_of_at_least_sixty_percent_less_are_bold():
    compared = pd.DataFrame({"PBFT, GB": [2.0], "CD against PBFT": [-0.6], "CD + LoRA against PBFT": [-0.59]})
    page = memory_figures.reading_table(compared).to_html()
    assert page.count("font-weight: bold") == 1
    assert "-60%" in page
