"""Frames: one row a result, its numbers under the names that figures use, and which costs are a method's own."""

from dataclasses import replace

import numpy as np
import pytest

from lib.models.cost import Cost
from lib.runs.frames import results_frame
from lib.runs.profile import read_profile
from tests.support.stored import result, run_of, stored

GB = 10**9


def cost(rss, seconds=1.0, cuda=None):
    allocated = cuda and cuda * GB
    return Cost(seconds, 10, allocated, allocated and 2 * allocated, rss and rss * GB)


LOG_PROBS = [[-0.1, -2.0], [-0.3, -1.0], [-0.2, -1.5], [-0.3, -1.1]]  # log-odds 1.9, .7, 1.3, .8


def result_of(method, gold=(0, 1, 0, 0), log_probs=LOG_PROBS, **costs):
    return result(run_of(method, 4, 1), log_probs, gold, costs=costs, trainable_parameters=12)


def only_row(method, **costs):
    frame = results_frame([result_of(method, **costs)])
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_row_holds_the_run_and_the_scores_of_both_domains():
    """Four items are answered with the first class, of which three are, and one with the second, which is wrong."""
    gold = [0, 0, 0, 1, 0]
    one = result_of("icl", gold, [*LOG_PROBS, [-2.0, -0.1]], evaluation=cost(5))
    (elsewhere,) = [replace(one.outcome.evaluations["out_of_domain"], gold=[1, 1, 0, 1, 1])]
    evaluations = one.outcome.evaluations | {"out_of_domain": elsewhere}
    row = results_frame([replace(one, outcome=replace(one.outcome, evaluations=evaluations))]).iloc[0]
    expected = {
        "method": "icl",
        "support_size": 4,
        "seed": 1,
        "model": "random-opt-student",
        "in_domain_majority": 0.8,
        "in_domain_ties": 0,
        "in_domain_accuracy": 0.6,
        "in_domain_macro_f1": 0.375,  # the first class's F1 is 2 · 3 / (4 + 4), the second's 0
        "in_domain_accuracy_on_entailment": 0.75,
        "in_domain_accuracy_on_non-entailment": 0,
        "in_domain_share_entailment": 0.8,
        "in_domain_share_non-entailment": 0.2,
        "in_domain_content_free_accuracy": 0.6,
        "out_of_domain_majority": 0.8,
        "out_of_domain_accuracy": 0.4,
        "out_of_domain_accuracy_on_non-entailment": 0.25,
        "out_of_domain_share_non-entailment": 0.2,
        "evaluation_tokens": 10,
        "evaluation_rss": 5 * GB,
        "trainable_parameters": 12,
        "device": "a processor",
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_content_free_columns_are_without_the_content_free_inputs_prior():
    """After a prior of .8 for the first class, log-odds below log 4 ≈ 1.39 are answers of the second."""
    one = result_of("icl", evaluation=cost(5))
    moved = {name: replace(each, content_free=[0.8, 0.2]) for name, each in one.outcome.evaluations.items()}
    row = results_frame([replace(one, outcome=replace(one.outcome, evaluations=moved))]).iloc[0]
    assert row[["in_domain_accuracy", "in_domain_content_free_accuracy"]].tolist() == [0.75, 0.5]
    assert row["in_domain_content_free_share_entailment"] == 0.25


def test_calibrated_columns_are_without_the_prior_of_the_models_own_answers():
    """Its answers to unlabelled queries give the first class a share of .8: log-odds below 1.39 become the second's."""
    one = result_of("icl", evaluation=cost(5))
    moved = {name: replace(each, unlabelled=[[-0.2231, -1.6094]]) for name, each in one.outcome.evaluations.items()}
    row = results_frame([replace(one, outcome=replace(one.outcome, evaluations=moved))]).iloc[0]
    assert row[["in_domain_accuracy", "in_domain_calibrated_accuracy"]].tolist() == [0.75, 0.5]
    assert row["in_domain_prior_from"] == "unlabelled queries"
    assert results_frame([one]).iloc[0]["in_domain_prior_from"] == "the other half of the items"


def test_items_with_more_than_one_likeliest_class_count_by_their_share_and_are_told():
    tied = [[-0.7, -0.7], *LOG_PROBS[1:]]
    row = results_frame([result_of("icl", [0, 0, 0, 1], tied, evaluation=cost(1))]).iloc[0]
    assert row[["in_domain_ties", "in_domain_accuracy", "in_domain_share_entailment"]].tolist() == [0.25, 0.625, 0.875]


def test_columns_are_those_of_all_classes_and_all_evaluated_sets():
    changes = {"label_words": {"red": "apple", "green": "pear", "blue": "plum"}, "out_of_domain": ["swaps", "pairs"]}
    study = read_profile("smoke", changes)
    found = results_frame([stored("icl", 4, 0, [0, 1, 2, 2, 1, 1], [0, 1, 2, 0, 1, 1], study)]).iloc[0]
    for domain in ("in_domain", "out_of_domain", "out_of_domain_2"):
        recalls = [found[f"{domain}_accuracy_on_{name}"] for name in ("red", "green", "blue")]
        assert recalls == pytest.approx([0.5, 1, 1])
        shares = [found[f"{domain}_content_free_share_{name}"] for name in ("red", "green", "blue")]
        assert shares == pytest.approx([1 / 6, 3 / 6, 2 / 6])
        assert found[[f"{domain}_accuracy", f"{domain}_majority"]].tolist() == pytest.approx([5 / 6, 1 / 2])


def test_results_become_rows_in_order():
    frame = results_frame([result_of(name, evaluation=cost(1)) for name in ("icl", "baseline", "teacher_icl")])
    assert frame.method.tolist() == ["icl", "baseline", "teacher_icl"]


def test_no_results_give_an_empty_frame():
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
    one = result_of("cd", teacher=cost(teacher), training=cost(100, seconds=3.0), evaluation=cost(60, seconds=2.0))
    assert results_frame([one])[["steps", "training_rss"]].values.tolist() == [["plain", 100 * GB]]
    otherwise = replace(one.run, training=replace(one.run.training, **{execution: True}))
    (row,) = results_frame([replace(one, run=otherwise)]).itertuples()
    assert np.isnan(row.training_rss) and np.isnan(row.peak_gb)
    assert (row.steps, row.training_seconds) == (execution.replace("_", "-"), 3.0)
    assert (row.training_tokens, row.teacher_rss, row.evaluation_seconds) == (10, teacher * GB, 2.0)
    assert (row.peak_measured, row.in_domain_accuracy) == ("rss", 0.75)


def test_a_run_without_a_measured_peak_has_seconds_and_no_peak():
    row = only_row("cd", teacher=cost(None), training=cost(None, seconds=3.0), evaluation=cost(None))
    assert (row.peak_measured, row.method_seconds) == ("nothing", 4.0)
    assert np.isnan(row.peak_gb)


def test_what_is_not_trained_has_no_steps():
    assert only_row("icl", evaluation=cost(1)).steps == ""


@pytest.mark.parametrize(
    ("gold", "area"), [((0, 1, 0, 0), 1.0), ((0, 0, 1, 0), 1 / 3), ((1, 1, 0, 1), 2 / 3), ((1, 0, 1, 1), 0.0)]
)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order_whatever_the_threshold(gold, area):
    """All answers are entailment; the items of entailment should have the higher log-odds."""
    pairs = [(i, j) for i in range(4) for j in range(4) if gold[i] == 0 and gold[j] == 1]
    odds = [first - second for first, second in LOG_PROBS]
    counted = sum(odds[i] > odds[j] for i, j in pairs) / len(pairs)
    (row,) = results_frame([result_of("icl", gold, evaluation=cost(1))]).itertuples()
    assert row.in_domain_auc == pytest.approx(counted)
    assert counted == pytest.approx(area)


def test_items_of_one_class_have_no_area():
    (row,) = results_frame([result_of("icl", [0] * 4, evaluation=cost(1))]).itertuples()
    assert row.in_domain_auc != row.in_domain_auc


def test_a_peak_of_phases_that_were_measured_otherwise_is_not_known():
    row = only_row("cd", teacher=Cost(1.0, 10, tensors=GB), training=Cost(1.0, 10), evaluation=cost(5))
    assert np.isnan(row.peak_gb)
