"""Frames: one row a record, its numbers under the names that figures use, and which costs are a method's own."""

import numpy as np
import pytest

from lib.runs.frames import results_frame

GB = 10**9


def scores(accuracy):
    return {
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.1,
        "halves": [accuracy + 0.2, accuracy - 0.2],
        "shares": [0.7, 0.3],
    }


def cost(rss, seconds=1.0, cuda=None):
    allocated = cuda and cuda * GB
    return {
        "seconds": seconds,
        "tokens": 10,
        "rss": rss and rss * GB,
        "cuda_allocated": allocated,
        "cuda_reserved": allocated and 2 * allocated,
    }


LOG_PROBS = [[-0.1, -2.0], [-0.3, -1.0], [-0.2, -1.5], [-0.3, -1.1]]  # log-odds 1.9, .7, 1.3, .8


def record(method, gold="0100", **costs):
    evaluations = {
        domain: {
            "plain": scores(plain),
            "calibrated": scores(plain + 0.05),
            "gold": gold,
            "label_log_probs": LOG_PROBS,
        }
        for domain, plain in {"in_domain": 0.6, "out_of_domain": 0.4}.items()
    }
    return {
        "cell": {"method": method, "support_size": 4, "seed": 1, "model": "small"},
        "outcome": {**evaluations, "costs": costs, "trainable_parameters": 12, "losses": []},
        "environment": {"device": "a processor"},
    }


def only_row(method, **costs):
    frame = results_frame([record(method, **costs)])
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_row_holds_the_cell_and_the_scores_of_both_domains():
    row = only_row("icl", evaluation=cost(5))
    expected = {
        "method": "icl",
        "support_size": 4,
        "seed": 1,
        "model": "small",
        "in_domain_gold_entailment": 0.75,
        "in_domain_accuracy": 0.6,
        "in_domain_macro_f1": 0.5,
        "in_domain_accuracy_on_entailment": 0.8,
        "in_domain_accuracy_on_non-entailment": 0.4,
        "in_domain_share_entailment": 0.7,
        "in_domain_calibrated_accuracy": 0.65,
        "out_of_domain_accuracy": 0.4,
        "out_of_domain_share_non-entailment": 0.3,
        "out_of_domain_calibrated_macro_f1": 0.35,
        "evaluation_tokens": 10,
        "evaluation_rss": 5 * GB,
        "trainable_parameters": 12,
        "device": "a processor",
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_records_become_rows_in_order():
    frame = results_frame([record(name, evaluation=cost(1)) for name in ("icl", "baseline", "teacher_icl")])
    assert frame.method.tolist() == ["icl", "baseline", "teacher_icl"]


def test_no_records_give_an_empty_frame():
    assert results_frame([]).empty


@pytest.mark.parametrize(("teacher", "training"), [(300, 200), (200, 300)])
def test_the_peak_of_a_distilled_method_is_the_higher_of_teacher_and_training(teacher, training):
    row = only_row("cd", teacher=cost(teacher), training=cost(training), evaluation=cost(900))
    assert row.peak_gb == 300
    assert row.peak_measured == "rss"


def test_the_peak_of_a_fine_tuned_method_is_that_of_its_training():
    assert only_row("pbft_lora", training=cost(200), evaluation=cost(900)).peak_gb == 200


@pytest.mark.parametrize("method", ["baseline", "icl", "teacher_icl"])
def test_the_peak_of_an_untrained_method_is_that_of_its_evaluation(method):
    assert only_row(method, evaluation=cost(900)).peak_gb == 900


def test_the_peak_is_the_allocators_where_cuda_was_measured():
    row = only_row("cd", teacher=cost(None, cuda=50), training=cost(None, cuda=80), evaluation=cost(None, cuda=90))
    assert (row.peak_gb, row.peak_measured) == (80, "cuda_allocated")


@pytest.mark.parametrize(
    ("method", "phases", "seconds"),
    [("cd", {"teacher": 2.0, "training": 3.0}, 5.0), ("pbft", {"training": 3.0}, 3.0), ("icl", {}, 0.0)],
)
def test_the_seconds_of_a_method_are_the_teachers_and_the_trainings(method, phases, seconds):
    costs = {name: cost(1, seconds=value) for name, value in phases.items()}
    assert only_row(method, **costs, evaluation=cost(1, seconds=70.0)).method_seconds == seconds


@pytest.mark.parametrize("execution", ["padding_free", "fused"])
@pytest.mark.parametrize("teacher", [50, 200])
def test_peaks_of_training_are_not_told_where_its_steps_were_not_plain(execution, teacher):
    one = record("cd", teacher=cost(teacher), training=cost(100, seconds=3.0), evaluation=cost(60, seconds=2.0))
    one["cell"]["training"] = {"padding_free": False, "fused": False}
    assert results_frame([one])[["steps", "training_rss"]].values.tolist() == [["plain", 100 * GB]]
    one["cell"]["training"] = {**one["cell"]["training"], execution: True}
    (row,) = results_frame([one]).itertuples()
    assert np.isnan(row.training_rss) and np.isnan(row.peak_gb)
    assert (row.steps, row.training_seconds) == (execution.replace("_", "-"), 3.0)
    assert (row.training_tokens, row.teacher_rss, row.evaluation_seconds) == (10, teacher * GB, 2.0)
    assert (row.peak_measured, row.in_domain_accuracy) == ("rss", 0.6)


def test_what_is_not_trained_has_no_steps():
    assert only_row("icl", evaluation=cost(1)).steps == ""


@pytest.mark.parametrize(("gold", "area"), [("0100", 1.0), ("0010", 1 / 3), ("1101", 2 / 3), ("1011", 0.0)])
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order_whatever_the_threshold(gold, area):
    """All answers are entailment; the items of entailment should have the higher log-odds."""
    pairs = [(i, j) for i in range(4) for j in range(4) if gold[i] == "0" and gold[j] == "1"]
    odds = [first - second for first, second in LOG_PROBS]
    counted = sum(odds[i] > odds[j] for i, j in pairs) / len(pairs)
    (row,) = results_frame([record("icl", gold, evaluation=cost(1))]).itertuples()
    assert row.in_domain_auc == pytest.approx(counted)
    assert counted == pytest.approx(area)


def test_items_of_one_class_have_no_area():
    (row,) = results_frame([record("icl", "0000", evaluation=cost(1))]).itertuples()
    assert row.in_domain_auc != row.in_domain_auc
