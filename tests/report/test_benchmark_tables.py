"""Figures and tables of in-context learning distillation show what the results hold, and the paper's own numbers."""

import numpy as np
import pandas as pd
import pytest

from lib.methods.evaluation import Outcome, TaskScores
from lib.methods.table import METHODS, ON_BENCHMARKS
from lib.report.benchmark_tables import NUMBERS, by_task, curves_figure, left_out, paper_table, scale
from lib.runs.execution import Sweep
from lib.runs.frames import METRICS
from lib.runs.store import Result

pytestmark = pytest.mark.usefixtures("close_figures")


def row(method, paradigm, k, seed, score, majority=40.0, task=None):
    scores = {"macro_f1": score, "precision_1": score, "precision_10": score + 20, "majority": majority}
    scores |= {"chance_10": 25.0, "majority_f1": 32.0}
    of_task = {"task": task, "items": 60, "options": 4} if task else {}
    return {"method": method, "paradigm": paradigm, "k": k, "seed": seed, **scores, **of_task}


@pytest.fixture
def means():
    """Two k and three seeds of the untuned student and of two methods under both paradigms."""
    rows = []
    for seed in range(3):
        for k in (1, 4):
            rows.append(row("untuned", None, k, seed, 10 + k + seed))
            for method, score in (("ict", 30), ("icl_d", 50)):
                rows.append(row(method, "meta", k, seed, score + k + seed))
                rows.append(row(method, "multitask", k, seed, score + 10 + k + seed))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("benchmark", "pair", "expected"),
    [
        ("crossfit", ("Meta-ICT", "GPT2-large → GPT2-small"), ["57.0", "50.2", "51.3", "51.1"]),
        ("crossfit", ("Multitask-ICT", "GPT2-large → GPT2-small"), ["66.2", "58.4", "59.9", "61.2"]),
        (
            "lama",
            ("Multitask-ICT", "BERT-large → BERT-base"),
            ["25.6 / 57.3", "22.3 / 53.2", "23.7 / 55.4", "27.2 / 61.2"],
        ),
    ],
)
def test_the_papers_numbers_stand_under_their_methods(benchmark, pair, expected):
    table = paper_table(benchmark)
    assert list(table.columns) == ["teacher (ICT)", "ICT", "ICL-D", "ICL-D (LM)"]
    assert table.loc[pair].tolist() == expected


@pytest.mark.parametrize("benchmark", ["crossfit", "lama"])
def test_the_papers_table_has_three_pairs_of_models_under_each_paradigm(benchmark):
    index = paper_table(benchmark).index
    assert len(index) == len(set(index)) == 6
    assert {paradigm for paradigm, _ in index} == {"Meta-ICT", "Multitask-ICT"}


def test_the_papers_numbers_are_whole_and_a_model_has_one_score_by_gold_labels_alone():
    numbers = pd.read_csv(NUMBERS, comment="#")
    keys = ["benchmark", "paradigm", "teacher", "student", "method", "metric"]
    assert not numbers.duplicated(keys).any()
    for benchmark, metrics in METRICS.items():
        found = numbers[numbers.benchmark == benchmark]
        assert set(found.metric) == set(metrics)
        assert len(found) == 2 * 3 * 4 * len(metrics)
    students = numbers[numbers.method == "ict"].rename(columns={"student": "tuned"})
    teachers = numbers[numbers.method == "teacher_ict"].rename(columns={"teacher": "tuned"})
    scores = pd.concat([students, teachers]).groupby(["benchmark", "paradigm", "tuned", "metric"])["value"]
    assert (scores.nunique() == 1).all()


def heights(axis, label):
    """The means that are drawn for a label, and how long the interval at each is."""
    drawn = [line for line in axis.lines if line.get_label() in {METHODS[name].label for name in ON_BENCHMARKS}]
    (place,) = [i for i, line in enumerate(drawn) if line.get_label() == label]
    _, _, bars = axis.containers[place].lines
    return drawn[place].get_ydata(), [np.ptp(one[:, 1]) for one in bars[0].get_segments() if len(one)]


@pytest.mark.parametrize(("benchmark", "rows"), [("crossfit", [0]), ("lama", [0, 20])])
def test_curves_are_means_over_seeds_with_intervals_by_paradigm_and_metric(means, benchmark, rows):
    axes = np.reshape(curves_figure(means, benchmark).axes, (len(rows), 2))
    half = 4.302653 / np.sqrt(3)  # Student's t at two degrees of freedom, a standard deviation of one
    for added, of_metric in zip(rows, axes, strict=True):
        for axis, paradigm in zip(of_metric, (0, 10), strict=True):
            for label, score in (("untuned", 10), ("ICT", 30 + paradigm), ("ICL-D", 50 + paradigm)):
                means_drawn, widths = heights(axis, label)
                np.testing.assert_allclose(means_drawn, [score + added + 2, score + added + 5])
                np.testing.assert_allclose(widths, 2 * half, rtol=1e-4)


def test_titles_and_axes_say_what_they_show(means):
    axes = curves_figure(means, "lama").axes
    assert [axis.get_title() for axis in axes] == ["Meta-ICT", "Multitask-ICT", "", ""]
    assert [axis.get_ylabel() for axis in axes] == ["P@1", "", "P@10", ""]
    assert [axis.get_xlabel() for axis in axes] == ["", "", "demonstrations k", "demonstrations k"]
    assert [tick.get_text() for tick in axes[2].get_xticklabels()] == ["1", "4"]


def test_what_takes_no_skill_is_a_line(means):
    def lines(axis):
        return [line.get_ydata() for line in axis.lines if line.get_label() == "without skill"]

    found = [list(map(list, lines(axis))) for axis in curves_figure(means, "lama").axes]
    assert found == [[[40, 40]]] * 2 + [[[25, 25]]] * 2
    assert [lines(axis) for axis in curves_figure(means, "crossfit").axes] == [[[32, 32]]] * 2


def test_one_legend_names_every_method_shown(means):
    (legend,) = curves_figure(means, "crossfit").legends
    assert sorted(text.get_text() for text in legend.get_texts()) == ["ICL-D", "ICT", "untuned", "without skill"]


def test_one_seed_is_drawn_without_an_interval(means):
    axis = curves_figure(means[means.seed == 1], "crossfit").axes[0]
    found, widths = heights(axis, "ICT")
    np.testing.assert_allclose(found, [32, 35])
    assert widths == []


def test_every_method_has_a_style_of_its_own():
    looks = {(METHODS[name].colour, METHODS[name].marker) for name in ON_BENCHMARKS}
    assert len(looks) == len(ON_BENCHMARKS)


def test_tasks_that_are_left_out_are_named_once_with_their_reasons(smoke_profile):
    run = smoke_profile.in_context_runs("crossfit")[0]
    told = ({"a": "no file"}, {"a": "no file", "b": "too long"})
    results = [Result(run, Outcome({}, 0, [], left_out=reasons), {}) for reasons in told]
    assert left_out(Sweep(smoke_profile, pd.DataFrame(), results)).to_dict() == {"a": "no file", "b": "too long"}
    assert left_out(Sweep(smoke_profile, pd.DataFrame(), [])).empty


def test_the_scale_of_a_run_is_read_off_its_results(smoke_profile):
    tasks = [TaskScores(name, 2, 2, [0] * n, [0] * n, [0] * n) for name, n in (("ant", 60), ("bee", 37))]
    of_benchmark = {"training_tasks": 12, "examples": 64, "learning_rate.multitask": 3e-4}
    changes = {f"in_context.crossfit.{name}": value for name, value in of_benchmark.items()}
    changes |= {"in_context.steps": 200, "in_context.learning_rate": 2e-5}
    study = smoke_profile.changed({**changes, "student": "b/small", "teacher": "a/large.gguf"})
    planned = {(run.method, run.in_context.paradigm, run.seed): run for run in study.in_context_runs("crossfit")}
    wanted = [("teacher_untuned", None, 0), ("ict", "meta", 0), ("ict", "meta", 1), ("ict", "multitask", 0)]
    results = [Result(planned[one], Outcome({}, 0, [], tasks=tasks), {}) for one in wanted]
    table = scale(Sweep(smoke_profile, pd.DataFrame(), results), "crossfit")
    assert table.here.to_dict() == {
        "models": "large.gguf, small",
        "targets": "2 tasks, 37 to 60 items of each",
        "seeds": "2 under Meta-ICT, 1 under Multitask-ICT",
        "tuned on, Meta-ICT": "at most 12 tasks",
        "tuned on, Multitask-ICT": "at most 64 examples of each target",
        "steps": "200 of 2 episodes",
        "the student's learning rate": "2e-05 under Meta-ICT, 0.0003 under Multitask-ICT",
    }
    assert table["the paper"]["models"] == "GPT-2 large, medium, small"
    alike = scale(Sweep(smoke_profile, pd.DataFrame(), results[:3]), "crossfit")
    assert alike.here["the student's learning rate"] == "2e-05"
    untuned = scale(Sweep(smoke_profile, pd.DataFrame(), results[:1]), "crossfit")
    assert "steps" not in untuned.index
    assert untuned.here["seeds"] == "1"


def test_each_task_is_averaged_over_seeds_at_one_k_by_paradigm_and_method():
    rows = []
    for seed in (0, 1):
        for name, score in (("zebra", 10), ("ant", 30)):
            rows.append(row("untuned", None, 2, seed, score + seed, task=name))
            rows.append(row("ict", "meta", 2, seed, score + 5 + seed, task=name))
            rows.append(row("ict", "multitask", 2, seed, score + 7 + seed, task=name))
            rows.append(row("ict", "multitask", 4, seed, 99, task=name))
    table = by_task(pd.DataFrame(rows), "crossfit", 2)
    scored = [("untuned", "untuned"), ("Meta-ICT", "ICT"), ("Multitask-ICT", "ICT")]
    assert list(table.columns) == [("", "items"), ("", "options"), ("", "without skill"), *scored]
    assert table[scored].to_numpy().tolist() == [[10.5, 15.5, 17.5], [30.5, 35.5, 37.5]]
    assert table[""].to_numpy().tolist() == [[60, 4, 32], [60, 4, 32]]
    assert list(table.index) == ["zebra", "ant"]


def test_tasks_are_shown_by_the_benchmarks_first_metric():
    rows = [row("ict", "meta", 1, 0, 30, task="one") | {"macro_f1": 99}]
    assert by_task(pd.DataFrame(rows), "lama", 1)["Meta-ICT"].to_numpy().tolist() == [[30.0]]
