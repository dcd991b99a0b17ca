"""Scores against hand-computed cases, and what contextual calibration promises."""

import numpy as np
import pytest

from lib.methods.evaluation import calibrate, evaluate, scores

ENTAILMENT, OTHER = [-0.1, -2.0], [-2.0, -0.1]


def of(*predictions):
    return np.array([OTHER if prediction else ENTAILMENT for prediction in predictions])


def test_scores_of_a_case_worked_by_hand():
    found = scores(of(0, 0, 0, 1, 1, 0), [0, 0, 0, 0, 1, 1])
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.halves == pytest.approx([3 / 4, 1 / 2])
    assert found.shares == pytest.approx([4 / 6, 2 / 6])
    assert found.macro_f1 == pytest.approx((2 * 3 / (4 + 4) + 2 * 1 / (2 + 2)) / 2)


@pytest.mark.parametrize("said", [0, 1])
def test_saying_one_class_for_everything_shows_in_halves_shares_and_f1(said):
    found = scores(of(*[said] * 6), [0, 1, 0, 1, 0, 1])
    assert found.accuracy == 0.5
    assert found.halves == [1.0 - said, float(said)]
    assert found.shares == [1.0 - said, float(said)]
    assert found.macro_f1 == pytest.approx(1 / 3)


def test_perfect_predictions_score_one_everywhere():
    found = scores(of(0, 1, 1), [0, 1, 1])
    assert (found.accuracy, found.macro_f1, found.halves) == (1.0, 1.0, [1.0, 1.0])
    assert found.shares == pytest.approx([1 / 3, 2 / 3])


def test_a_class_without_items_or_predictions_scores_zero():
    found = scores(of(0, 0), [0, 0])
    assert found.halves == [1.0, 0.0]
    assert found.macro_f1 == 0.5


def test_only_the_difference_between_labels_decides():
    log_probs = of(0, 1, 1, 0)
    shift = np.array([[-5.0], [0.0], [-40.0], [3.0]])
    assert scores(log_probs + shift, [0, 1, 0, 1]) == scores(log_probs, [0, 1, 0, 1])


def test_calibration_divides_probabilities_by_the_content_free_ones():
    log_probs = np.log([[0.6, 0.2], [0.1, 0.3]])
    np.testing.assert_allclose(np.exp(calibrate(log_probs, np.array([0.8, 0.2]))), [[0.75, 1.0], [0.125, 1.5]])


def test_calibration_makes_a_content_free_input_a_tie():
    content_free = np.log([[0.08, 0.01]])
    prior = np.array(evaluate(content_free, content_free, [0]).content_free)
    calibrated = calibrate(content_free, prior)
    assert calibrated[0, 0] == pytest.approx(calibrated[0, 1], abs=1e-12)


def test_a_uniform_content_free_prior_changes_nothing():
    found = evaluate(of(0, 1, 1, 0), np.log([[0.2, 0.2]]), [0, 1, 0, 1])
    assert found.calibrated == found.plain


@pytest.mark.parametrize("bias", [[6.0, 0.0], [0.0, 6.0]])
def test_calibration_takes_out_a_constant_bias(bias):
    gold = [0, 1, 1, 0, 1, 0]
    content_free = np.log([[0.3, 0.3], [0.1, 0.1]]) + bias - 6.0
    found = evaluate(of(*gold) + bias - 6.0, content_free, gold)
    assert found.plain.accuracy == 0.5
    assert found.calibrated.accuracy == 1.0
    assert found.calibrated.halves == [1.0, 1.0]


def test_content_free_prior_is_the_mean_of_the_normalised_probabilities():
    content_free = np.log([[0.09, 0.01], [0.002, 0.008]])
    found = evaluate(of(0, 1), content_free, [0, 1]).content_free
    assert found == pytest.approx([(0.9 + 0.2) / 2, (0.1 + 0.8) / 2])


def test_mean_label_log_probs_are_taken_over_each_gold_class():
    log_probs = np.array([[-1.0, -4.0], [-3.0, -2.0], [-5.0, -0.5]])
    found = evaluate(log_probs, np.log([[0.5, 0.5]]), [0, 1, 0]).mean_label_log_probs
    assert found == [[-3.0, -2.25], [-3.0, -2.0]]


def test_mean_label_log_probs_of_an_absent_class_are_empty():
    assert evaluate(of(0), np.log([[0.5, 0.5]]), [0]).mean_label_log_probs == [list(ENTAILMENT), []]


def test_gold_is_one_digit_an_item_in_order():
    assert evaluate(of(0, 0, 0, 0), np.log([[0.5, 0.5]]), [0, 1, 1, 0]).gold == "0110"


def test_label_log_probs_are_kept_in_order_to_four_places():
    log_probs = np.array([[-1.23456, -4.0], [-0.5, -2.00004]])
    assert evaluate(log_probs, np.log([[0.5, 0.5]]), [0, 1]).label_log_probs == [[-1.2346, -4.0], [-0.5, -2.0]]


def test_stored_scores_follow_from_what_is_stored():
    rng = np.random.default_rng(0)
    log_probs, gold = np.log(rng.uniform(0.01, 0.4, (40, 2))), rng.integers(0, 2, 40).tolist()
    found = evaluate(log_probs, np.log(rng.uniform(0.01, 0.4, (3, 2))), gold)
    stored, read = np.array(found.label_log_probs), [int(digit) for digit in found.gold]
    assert scores(stored, read) == found.plain
    assert scores(calibrate(stored, np.array(found.content_free)), read) == found.calibrated
