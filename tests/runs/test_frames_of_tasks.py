"""Frames of in-context learning distillation: scores counted by hand, means over tasks, tables by paradigm."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.methods.evaluation import Outcome, TaskScores
from lib.methods.table import METHODS, ON_BENCHMARKS
from lib.models.cost import Cost
from lib.report.benchmark_tables import cost_table, paper_layout
from lib.runs.frames import results_frame, seed_means
from lib.runs.profile import read_profile
from lib.runs.store import Result
from tests.support.in_context import changed

GB = 10**9


def task(name, k, gold, predicted, rank=None, labels=3):
    rank = rank or [int(one != other) for one, other in zip(gold, predicted, strict=True)]
    return TaskScores(name, k, labels, gold, predicted, rank)


def cost(seconds=1.0, tokens=10, **measured):
    return Cost(seconds, tokens, **measured)


def result(method, paradigm, seed, tasks, **costs):
    run = changed(read_profile("smoke").in_context_runs("crossfit")[0], method=method, paradigm=paradigm, seed=seed)
    outcome = Outcome(costs or {"evaluation": cost()}, 0, [], tasks=tasks)
    return Result(replace(run, model="small"), outcome, {"device": "a processor"})


def only_row(*tasks, **costs):
    (row,) = results_frame([result("ict", "meta", 0, list(tasks), **costs)]).to_dict("records")
    return row


def test_a_row_holds_run_task_scores_and_costs():
    row = only_row(
        task("times", 2, [0, 1, 2, 2], [0, 1, 1, 0], [0, 0, 3, 12]),
        training=cost(3.0, 7, rss=2 * GB),
        evaluation=cost(5.0, 9, cuda_allocated=GB),
    )
    expected = {
        "method": "ict",
        "paradigm": "meta",
        "seed": 0,
        "model": "small",
        "task": "times",
        "k": 2,
        "items": 4,
        "precision_1": 50.0,
        "precision_10": 75.0,
        "majority": 50.0,
        "majority_f1": pytest.approx(100 * (2 / 3) / 3),
        "device": "a processor",
        "training_seconds": 3.0,
        "training_tokens": 7,
        "training_gb": 2.0,
        "evaluation_seconds": 5.0,
        "evaluation_gb": 1.0,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert not any(name.startswith("teacher") for name in row)


def test_macro_f1_is_over_the_labels_that_are_right_or_given_somewhere():
    """Else a model that is always right could not reach 100 where few items are scored."""
    assert only_row(task("one", 0, [0, 0, 1], [0, 0, 1], labels=4))["macro_f1"] == pytest.approx(100)
    assert only_row(task("one", 0, [0, 0, 1], [0, 0, 3], labels=4))["macro_f1"] == pytest.approx(100 / 3)
    assert only_row(task("one", 0, [0, 0, 1, 1], [0, 0, 0, 0], labels=2))["macro_f1"] == pytest.approx(100 / 3)


def test_what_takes_no_skill_is_one_answer_for_everything():
    """Half right: that label's F1 is 2 · ½ / (1 + ½), the other's 0."""
    row = only_row(task("one", 0, [1, 0, 1, 0], [1, 0, 1, 0], labels=2))
    assert (row["majority"], row["majority_f1"]) == (50, pytest.approx(100 / 3))


def test_macro_f1_equals_a_count_by_hand_on_random_answers():
    draw = np.random.default_rng(0)
    for labels in (2, 3, 7):
        gold, predicted = draw.integers(labels, size=(2, 12)).tolist()
        by_label = []
        for label in range(labels):
            right = sum(one == other == label for one, other in zip(gold, predicted, strict=True))
            said = gold.count(label) + predicted.count(label)
            by_label += [2 * right / said] if said else []
        found = only_row(task("one", 0, gold, predicted, labels=labels))["macro_f1"]
        assert found == pytest.approx(100 * np.mean(by_label))


def test_precision_at_ten_takes_ranks_below_ten():
    row = only_row(task("one", 0, [0] * 4, [1] * 4, [0, 1, 9, 10]))
    assert (row["precision_1"], row["precision_10"]) == (25.0, 75.0)


@pytest.mark.parametrize(("labels", "chance"), [(5, 100.0), (10, 100.0), (40, 25.0)])
def test_a_random_order_has_the_right_option_among_the_first_ten_as_often_as_there_are_few(labels, chance):
    row = only_row(task("one", 0, [0, 1], [0, 1], labels=labels))
    assert (row["options"], row["chance_10"]) == (labels, chance)


def test_a_peak_is_what_its_device_measured():
    row = only_row(
        task("one", 0, [0], [0]),
        teacher=cost(cuda_allocated=3 * GB),
        training=cost(rss=2 * GB),
        evaluation=cost(cuda_allocated=GB, rss=5 * GB),
    )
    assert [row[f"{phase}_gb"] for phase in ("teacher", "training", "evaluation")] == [3.0, 2.0, 1.0]
    assert np.isnan(only_row(task("one", 0, [0], [0]))["evaluation_gb"])


def test_rows_are_those_of_each_run_and_its_tasks_in_order():
    tasks = [task(name, k, [0, 1], [0, 1]) for name in ("b", "a") for k in (0, 2)]
    frame = results_frame([result("untuned", None, 0, tasks), result("ict", "meta", 1, tasks)])
    assert list(zip(frame.method, frame.task, frame.k, strict=True)) == [
        (method, name, k) for method in ("untuned", "ict") for name in ("b", "a") for k in (0, 2)
    ]


def test_no_results_give_an_empty_frame():
    assert results_frame([]).empty


def right(share, name="one", k=2, items=10):
    """A task of two labels with this share of its answers right."""
    gold = [i % 2 for i in range(items)]
    return task(name, k, gold, [one if i < share * items else 1 - one for i, one in enumerate(gold)], labels=2)


def test_scores_of_a_seed_are_means_over_tasks_whatever_their_number_of_items():
    tasks = [right(1.0, "short", items=4), right(0.5, "long", items=40), right(0.0, "short", k=0, items=4)]
    means = seed_means(results_frame([result("ict", "meta", 0, tasks, evaluation=cost(3.0, 50))])).set_index("k")
    assert means.precision_1.to_dict() == {2: 75.0, 0: 0.0}
    assert means.evaluation_tokens.to_dict() == {2: 50, 0: 50}


def test_methods_paradigms_seeds_and_k_are_averaged_apart():
    shares = {
        ("untuned", None, 0): 0.1,
        ("ict", "meta", 0): 0.2,
        ("ict", "meta", 1): 0.3,
        ("ict", "multitask", 0): 0.4,
        ("icl_d", "meta", 0): 0.5,
    }
    means = seed_means(results_frame([result(*one, [right(share), right(0.9, k=4)]) for one, share in shares.items()]))
    found = means[means.k == 2]
    assert found.precision_1.tolist() == pytest.approx([100 * share for share in shares.values()])
    assert found.paradigm.fillna("none").tolist() == [paradigm or "none" for _, paradigm, _ in shares]
    assert set(means[means.k == 4].precision_1) == {90.0}


@pytest.fixture
def means():
    """Every method at two k and three seeds; no two methods, paradigms, metrics or k have a score in common."""
    rows = []
    for i, name in enumerate(ON_BENCHMARKS):
        for j, paradigm in enumerate(("meta", "multitask") if METHODS[name].episodes else (None,)):
            for k in (2, 5):
                for seed in range(3):
                    score = 10.0 * i + 3 * j + k / 10 + 0.01 * (seed - 1)
                    scores = {"macro_f1": score, "precision_1": score + 0.5, "precision_10": score + 1.5}
                    costs = {"evaluation_tokens": 1000.0 * (i + 1) * (j + 1), "evaluation_seconds": 1.0 + seed}
                    costs["evaluation_gb"] = 0.5
                    scores |= {"majority_f1": 32.0, "majority": 40.0, "chance_10": 25.0}
                    if METHODS[name].distils:
                        costs |= {"teacher_tokens": 5000.0, "teacher_seconds": 2.0, "teacher_gb": 0.7}
                    rows.append({"method": name, "paradigm": paradigm, "k": k, "seed": seed, **scores, **costs})
    return pd.DataFrame(rows)


COLUMNS = ["teacher, untuned", "untuned", "teacher (ICT)", "ICT", "ICL-D", "ICL-D (LM)"]
METHODS_OF_COLUMNS = ["teacher_untuned", "untuned", "teacher_ict", "ict", "icl_d", "icl_d_lm"]


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize(
    ("benchmark", "metrics"),
    [("crossfit", {"macro-F1": 0.0}), ("lama", {"P@1": 0.5, "P@10": 1.5})],
)
def test_the_papers_layout_has_each_paradigm_and_metric_at_one_k(means, benchmark, metrics, k):
    table = paper_layout(means, benchmark, k)
    assert list(table.columns) == ["without skill", *COLUMNS]
    level = {"macro-F1": "32.0", "P@1": "40.0", "P@10": "25.0"}
    assert table["without skill"].tolist() == [level[name] for name in metrics] * 2
    assert list(table.index) == [(title, name) for title in ("Meta-ICT", "Multitask-ICT") for name in metrics]
    for j, title in enumerate(("Meta-ICT", "Multitask-ICT")):
        for name, offset in metrics.items():
            for label, method in zip(COLUMNS, METHODS_OF_COLUMNS, strict=True):
                place = 10.0 * list(ON_BENCHMARKS).index(method) + (3 * j if METHODS[method].episodes else 0)
                assert table.loc[(title, name), label].split()[0] == f"{place + k / 10 + offset:.1f}"


def test_a_paradigm_without_students_has_no_row(means):
    table = paper_layout(means[means.paradigm != "meta"], "crossfit", 2)
    assert list(table.index) == [("Multitask-ICT", "macro-F1")]
    untuned = means[means.paradigm.isna() | (means.method == "teacher_ict")]
    assert paper_layout(untuned, "crossfit", 2).empty


def test_a_method_without_results_has_no_column_and_one_under_one_paradigm_an_empty_place(means):
    shown = means[(means.method != "icl_d_lm") & ~((means.method == "icl_d") & (means.paradigm == "meta"))]
    table = paper_layout(shown, "crossfit", 2)
    assert "ICL-D (LM)" not in table
    assert table["ICL-D"].tolist() == ["", table.loc[("Multitask-ICT", "macro-F1"), "ICL-D"]]
    assert table.loc[("Multitask-ICT", "macro-F1"), "ICL-D"].startswith("43.2")


def test_costs_are_means_over_seeds_by_paradigm_and_method(means):
    table = cost_table(means)
    expected = [("Meta-ICT", label) for label in COLUMNS[2:]] + [("Multitask-ICT", label) for label in COLUMNS[2:]]
    assert sorted(table.index) == sorted(expected)
    assert table.loc[("Meta-ICT", "ICT"), "evaluation tokens"] == "4,000"
    assert table.loc[("Multitask-ICT", "ICT"), "evaluation tokens"] == "8,000"
    assert table["evaluation seconds"].tolist() == ["2"] * 8
    teacher = table.loc[("Meta-ICT", "ICL-D"), ["teacher tokens", "teacher seconds", "teacher GB"]]
    assert teacher.tolist() == ["5,000", "2", "0.7"]
    assert table.loc[("Meta-ICT", "ICT"), "teacher seconds"] == ""
    assert not any(name.startswith("training") for name in table)
