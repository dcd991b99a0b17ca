"""Figures show what the results hold, and say what they cannot show."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.evidence.claims import CLAIMS
from lib.evidence.estimates import correct_items
from lib.memory.predictions import NO_PEAKS
from lib.methods.table import METHODS, ON_TASKS
from lib.report import accuracy_and_cost as pages
from lib.report.figures import PAPER_ALPHA, PAPER_NUMBERS, paper_points, phase_table
from lib.runs.execution import Sweep, fill
from lib.runs.frames import results_frame
from tests.support.stored import stored

pytestmark = pytest.mark.usefixtures("close_figures")


def row(method, size, seed, accuracy):
    hows = ("accuracy", "calibrated_accuracy", "content_free_accuracy", "auc", "ties")
    shared = {f"{domain}_{how}": accuracy for domain in ("in_domain", "out_of_domain") for how in hows}
    shared |= {f"{domain}_share_entailment": 0.5 for domain in ("in_domain", "out_of_domain")}
    shared |= {f"{domain}_majority": 0.6 for domain in ("in_domain", "out_of_domain")}
    for domain in ("in_domain", "out_of_domain"):
        shared |= {f"{domain}_accuracy_on_entailment": 0.9, f"{domain}_accuracy_on_non-entailment": 0.2}
    costs = {"peak_gb": 2.0 + size, "peak_measured": "rss", "method_seconds": 10.0 * size, "device": "a device"}
    phases = {"training_seconds": 1.5, "training_tokens": 1234, "trainable_parameters": 99}
    costs["steps"] = "" if method == "baseline" else "plain"
    phases |= {"training_rss": 2e9, "training_cuda_allocated": None, "training_cuda_reserved": None}
    return {"method": method, "support_size": size, "seed": seed, **shared, **costs, **phases}


@pytest.fixture
def sweep(smoke_profile):
    rows = [row("baseline", 0, 0, 0.5)]
    rows += [row("cd", n, seed, 0.6 + 0.02 * seed) for n in (1, 4) for seed in (0, 1)]
    return Sweep(smoke_profile, pd.DataFrame(rows), refused={"cd_bitfit": "no bias terms"})


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_points_are_the_means_over_seeds(sweep):
    axis = pages.accuracy_figure(sweep, "fig1").axes[0]
    drawn = [line.get_ydata() for line in axis.lines if len(line.get_ydata()) == 2]
    assert any(np.allclose(ys, [0.61, 0.61]) for ys in drawn)


def test_each_half_has_a_row_of_its_own(sweep):
    _, calibrated, entailment, rest, share = pages.accuracy_figure(sweep, "fig1").axes[::2]
    assert calibrated.get_ylabel() == "calibrated accuracy"
    for axis, height in ((entailment, 0.9), (rest, 0.2), (share, 0.5)):
        assert any(np.allclose(line.get_ydata(), height) for line in axis.lines if len(line.get_ydata()) == 2)


def test_the_majority_line_is_the_larger_class(sweep):
    axis = pages.accuracy_figure(sweep, "fig1").axes[0]
    assert any(np.allclose(line.get_ydata(), 0.6) and line.get_color() == "black" for line in axis.lines)


def test_the_papers_points_are_drawn_only_where_it_has_them(sweep):
    def faint(figure):
        return [line for axis in figure.axes for line in axis.lines if line.get_alpha() == PAPER_ALPHA]

    of_paper = sweep.profile.model_copy(update={"in_domain": "mnli", "out_of_domain": "hans"})
    assert faint(pages.accuracy_figure(replace(sweep, profile=of_paper), "fig1"))
    assert not faint(pages.accuracy_figure(replace(sweep, profile=of_paper), "fig3"))


def test_beside_other_data_than_the_papers_there_are_no_points_of_the_paper(sweep):
    other = sweep.profile.model_copy(update={"in_domain": "mnli"})
    left, right = pages.accuracy_figure(replace(sweep, profile=other), "fig1").axes[:2]
    for axis, there in ((left, True), (right, False)):
        assert any(line.get_alpha() == PAPER_ALPHA for line in axis.lines) == there


def test_a_refused_method_and_the_device_are_named_below(sweep):
    notes = "\n".join(texts(pages.accuracy_figure(sweep, "fig1")))
    assert "CD + BitFit: refused" in notes
    assert "a device" in notes
    assert "2 seeds" in notes


def test_of_one_seed_no_mean_and_no_interval_is_spoken_of(sweep):
    (notes,) = texts(pages.accuracy_figure(replace(sweep, results=sweep.results.query("seed == 0")), "fig1"))
    assert "; one seed; a device." in notes
    assert "interval" not in notes


def predicted(*peaks):
    shared = {"phase": "evaluation", "highest_phase": True, "parameters": 0.25}
    return pd.DataFrame([{"method": m, "support_size": n, "peak_gb": gb, **shared} for m, n, gb in peaks])


def drawn(axis, fillstyle):
    lines = [line for line in axis.lines if line.get_fillstyle() == fillstyle and line.get_alpha() is None]
    return [list(line.get_ydata()) for line in lines if len(line.get_ydata()) == 2]


def test_on_a_cpu_predicted_peaks_are_drawn_hollow(sweep):
    shown = pages.drawn_memory(sweep, predicted(("baseline", 0, 0.5), ("cd", 1, 1.5), ("cd", 4, 2.5)))
    left, right = pages.cost_figure(shown, "fig6").axes
    assert "predicted" in left.get_ylabel()
    assert [1.5, 2.5] in drawn(left, "none")
    assert right.get_ylabel().endswith("s")


def test_on_a_gpu_measured_peaks_are_drawn_filled_and_predicted_ones_not(sweep):
    sweep.results["peak_measured"] = "cuda_allocated"
    shown = pages.drawn_memory(sweep, predicted(("cd", 1, 1.5), ("cd", 4, 2.5)))
    left, _ = pages.cost_figure(shown, "fig6").axes
    assert "measured" in left.get_ylabel()
    assert [3.0, 6.0] in drawn(left, "full")
    assert [1.5, 2.5] not in drawn(left, "none")


def test_where_both_are_there_the_axis_says_which_is_which(sweep):
    sweep.results.loc[sweep.results.method == "cd", "peak_measured"] = "cuda_allocated"
    left, _ = pages.cost_figure(pages.drawn_memory(sweep, predicted(("baseline", 0, 0.5))), "fig6").axes
    assert "filled: measured" in left.get_ylabel()
    assert "hollow: predicted" in left.get_ylabel()


def test_small_peaks_are_in_megabytes_and_beside_no_points_of_the_paper(sweep):
    shown = pages.drawn_memory(sweep, predicted(("cd", 1, 0.001), ("cd", 4, 0.002)))
    left, _ = pages.cost_figure(shown, "fig6").axes
    assert "MB" in left.get_ylabel()
    assert [1.0, 2.0] in drawn(left, "none")
    assert not [line for line in left.lines if line.get_alpha() == PAPER_ALPHA]


def test_without_predictions_the_figure_is_drawn_all_the_same(sweep):
    shown = pages.drawn_memory(sweep, NO_PEAKS)
    assert len(pages.cost_figure(shown, "fig6").axes) == 2


def test_saving_writes_three_files_and_the_numbers_drawn(sweep):
    pages.save(pages.accuracy_figure(sweep, "fig1"), sweep, "fig1", ["in_domain_accuracy"])
    folder = sweep.profile.folder
    assert (folder / "fig1.png").stat().st_size > 10_000
    assert "<svg" in (folder / "fig1.svg").read_text()
    saved = pd.read_csv(folder / "fig1.csv").set_index(["method", "support_size"])
    assert saved.loc[("cd", 4), "mean"] == pytest.approx(0.61)
    assert saved.loc[("cd", 4), "seeds"] == 2
    assert saved.loc[("cd", 4), "device"] == "a device"


def test_an_unchanged_figure_is_an_unchanged_svg(sweep):
    written = []
    for _ in range(2):
        pages.save(pages.accuracy_figure(sweep, "fig1"), sweep, "fig1", ["in_domain_accuracy"])
        written.append((sweep.profile.folder / "fig1.svg").read_bytes())
    assert written[0] == written[1]


def test_table_shows_means_with_intervals_where_seeds_differ(sweep):
    table = pages.table(sweep, "in_domain_accuracy")
    assert table.loc["Baseline", 0] == "0.50"
    assert table.loc["CD", 4] == "0.61 [0.48, 0.74]"
    assert table.loc["CD", 0] == ""


def test_intervals_end_where_a_cost_must(sweep):
    sweep.results.loc[sweep.results.method == "cd", "method_seconds"] = [1.0, 9.0, 1.0, 9.0]
    assert pages.table(sweep, "method_seconds").loc["CD", 4] == "5.00 [0.00, 55.82]"


def test_a_figure_keeps_intervals_over_seeds_and_items(smoke_profile):
    found = fill(smoke_profile, ["icl"])
    pages.save(pages.accuracy_figure(found, "fig1"), found, "fig1", ["in_domain_accuracy"])
    (kept,) = pd.read_csv(smoke_profile.folder / "fig1.csv").query("support_size == 4")[["low", "high"]].to_numpy()
    correct = correct_items(found.stored, "in_domain", "icl")
    assert kept == pytest.approx(np.clip(correct.accuracy(4, smoke_profile.seeds).bounds(), 0, 1), rel=1e-4)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [("device", "another device", "a device and another device."), ("steps", "fused", "; a device.")],
)
def test_times_of_two_devices_or_two_kinds_of_steps_are_not_averaged(sweep, column, value, told):
    sweep.results.loc[4, [column, "method_seconds", "training_seconds"]] = [value, 1e6, 1e6]
    shown = pages.drawn_costs(sweep, NO_PEAKS)
    assert pages.table(shown, "method_seconds").loc["CD", 4] == "40.00"
    assert phase_table(shown.results).loc[("CD", 4), "training seconds"] == "1.5"
    notes = "\n".join(texts(pages.cost_figure(shown, "fig6")))
    assert told in notes
    assert "those of a device and of plain steps alone" in notes
    assert "Times" not in "".join(texts(pages.accuracy_figure(sweep, "fig1")))


def test_what_is_not_trained_keeps_its_times_whatever_the_steps_of_others(sweep):
    sweep.results["evaluation_seconds"] = 3.0
    sweep.results["steps"] = sweep.results.steps.replace("plain", "fused")
    assert pages.drawn_costs(sweep, NO_PEAKS).results.evaluation_seconds.tolist() == [3.0] * len(sweep.results)


def test_phase_table_converts_bytes_and_keeps_counts_whole(sweep):
    table = phase_table(sweep.results)
    assert table.loc[("CD", 4), "training GB"] == "2"
    assert table.loc[("CD", 4), "training tokens"] == "1,234"


def test_phase_table_shows_both_peaks_of_a_gpu(sweep):
    sweep.results["training_rss"] = None
    sweep.results[["training_cuda_allocated", "training_cuda_reserved"]] = [3e9, 4e9]
    table = phase_table(sweep.results)
    assert table.loc[("CD", 4), ["training GB", "training GB reserved"]].tolist() == ["3", "4"]


def test_every_method_has_a_colour_and_a_label_of_its_own():
    assert len({method.colour for method in map(METHODS.get, ON_TASKS)}) == len(ON_TASKS)
    assert len({method.label for method in map(METHODS.get, ON_TASKS)}) == len(ON_TASKS)


THREE = {"sport": "Ball", "music": "Song", "food": "Bread"}
GOLD = [0, 1, 2] * 3 + [0] * 3


@pytest.fixture
def three(smoke_profile):
    """A baseline that says the first class always, and cd, which is right but for the third class."""
    study = smoke_profile.changed({"label_words": THREE, "out_of_domain": ["swaps", "pairs"]})
    results = [stored("baseline", 0, 0, [0] * 12, GOLD, study)]
    results += [stored("cd", n, seed, [min(one, 1) for one in GOLD], GOLD, study) for n in (1, 4) for seed in (0, 1)]
    return Sweep(study, results_frame(results), results)


def levels(axis):
    return [float(line.get_ydata()[0]) for line in axis.lines if len({*map(float, line.get_ydata())}) == 1]


def test_three_classes_and_two_sets_out_of_domain_have_a_column_a_set_and_a_row_a_score(three):
    figure = pages.accuracy_figure(three, "fig1")
    axes = np.reshape(figure.axes, (-1, 3))
    labels = [axis.get_ylabel().replace("\n", " ") for axis in axes[:, 0]]
    assert labels == [
        "accuracy",
        "calibrated accuracy",
        "accuracy on sport",
        "accuracy on music",
        "accuracy on food",
        "share of answers “sport”",
        "share of answers “music”",
    ]
    titles = [axis.get_title() for axis in axes[0]]
    assert all(name in title for name, title in zip(("pairs", "swaps", "pairs"), titles, strict=True))
    assert len({*titles}) == 3
    for column in axes.T:
        for axis, height in zip(column[[0, *range(2, 7)]], (0.75, 1, 1, 0, 0.5, 0.5), strict=True):
            assert any(np.isclose(level, height) for level in levels(axis))
        assert any(np.isclose(level, 0.5) for level in levels(column[0]))  # the commonest class
        assert all(any(np.isclose(level, 1 / 3) for level in levels(axis)) for axis in column[2:])


def test_a_figure_of_three_classes_is_kept_with_a_number_for_every_set_and_class(three):
    pages.draw_accuracy(three, "fig1")
    saved = pd.read_csv(three.profile.folder / "fig1.csv").set_index(["method", "support_size", "quantity"])["mean"]
    for domain in ("in_domain", "out_of_domain", "out_of_domain_2"):
        assert saved.loc[("cd", 4, f"{domain}_accuracy")] == pytest.approx(0.75)
        assert saved.loc[("cd", 4, f"{domain}_accuracy_on_food")] == 0
        assert saved.loc[("baseline", 0, f"{domain}_share_sport")] == 1
    table = pages.accuracy_table(three)
    assert len(table.index.levels[0]) == 3 * (4 + 3)


def test_of_many_classes_one_row_shows_what_says_one_thing_to_everything(smoke_profile):
    words = {name: f"word{i}" for i, name in enumerate("abcde")}
    study = smoke_profile.changed({"label_words": words, "out_of_domain": []})
    results = [stored("icl", n, 0, [0] * 10, [0, 1, 2, 3, 4] * 2, study) for n in (1, 4)]
    axes = pages.accuracy_figure(Sweep(study, results_frame(results), results), "fig1").axes
    assert [axis.get_ylabel() for axis in axes] == ["accuracy", "calibrated accuracy", "macro-F1"]
    assert any(np.isclose(level, 2 / (1 + 5) / 5) for level in levels(axes[2]))  # F1 of one class, over five


def test_effects_are_drawn_beside_their_claims_and_named_where_they_are_beyond_the_axis():
    rows = [(claim.statement, "all", 0.1, 0.0, 0.2) for claim in CLAIMS]
    rows[0] = (CLAIMS[0].statement, "all", 11.0, 10.0, 12.0)
    judged = pd.DataFrame(rows, columns=["claim", "support_size", "effect", "low", "high"])
    (axis,) = pages.effects_figure(judged, "all").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [claim.statement for claim in reversed(CLAIMS)]
    assert [text.get_text() for text in axis.texts] == ["12× →"]


def test_the_table_names_its_source():
    assert "2412.13243" in PAPER_NUMBERS.read_text().splitlines()[0]


def test_every_readable_curve_has_the_four_support_sizes():
    for figure, quantity, methods in [
        ("fig1", "in_domain_accuracy", {"baseline", "icl", "pbft", "cd"}),
        ("fig1", "out_of_domain_accuracy", {"baseline", "icl", "pbft", "cd"}),
        ("fig5", "out_of_domain_accuracy", {"cd", "cd_lora", "cd_bitfit"}),
        ("fig6", "peak_memory", {"cd", "cd_lora", "cd_bitfit"}),
        ("fig6", "training_time", {"cd", "cd_lora", "cd_bitfit"}),
    ]:
        points = paper_points(figure, quantity)
        assert set(points.method) == methods <= set(ON_TASKS)
        assert (points.groupby("method").support_size.apply(list).map(lambda sizes: sizes == [1, 4, 8, 12])).all()


def test_figures_that_could_not_be_read_have_no_points():
    assert all(paper_points(figure, "in_domain_accuracy").empty for figure in ("fig2", "fig3", "fig4"))


def test_icl_was_read_as_multiples_of_a_tenth():
    tenths = paper_points("fig1", "in_domain_accuracy").query("method == 'icl'")["mean"] * 10
    assert (tenths - tenths.round()).abs().max() < 1e-9
