"""Calibrated answers: a bias that is the same for all queries goes, the ranking stays."""

import numpy as np
import pytest
import torch

from lib.methods.calibration import calibrated_soft_labels, log_prior, split_calibrated, without_prior


def balanced(size=200, bias=0.0):
    """Log-odds spread evenly around nothing, all moved by a bias."""
    odds = torch.linspace(-2, 2, size) + bias
    return torch.log_softmax(torch.stack([odds, torch.zeros(size)], dim=1), dim=-1)


def drawn(items, classes, seed=0):
    """Log-probabilities that leave some of the probability to the rest of the vocabulary."""
    return np.log(np.random.default_rng(seed).uniform(0.01, 0.3, (items, classes)))


def share(log_probs):
    return (log_probs[:, 0] > log_probs[:, 1]).float().mean().item()


def renormalised(log_probs):
    return log_probs - np.log(np.exp(log_probs).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_prior_is_the_logarithm_of_the_mean_of_the_renormalised_probabilities(classes):
    answers = drawn(5, classes)
    shares = [np.exp(row) / np.exp(row).sum() for row in answers]
    np.testing.assert_allclose(np.exp(log_prior(answers)), np.mean(shares, axis=0))


def test_the_prior_does_not_depend_on_what_is_left_to_other_words():
    answers, left = drawn(5, 3), np.array([[0.0], [-3.0], [1.0], [-40.0], [7.0]])
    np.testing.assert_allclose(log_prior(answers + left), log_prior(answers))


def test_a_prior_is_subtracted_from_every_item():
    log_probs = drawn(4, 3)
    np.testing.assert_array_equal(without_prior(log_probs, np.array([1.0, -2.0, 0.5])), log_probs - [1.0, -2.0, 0.5])


def test_without_calibration_answers_are_as_they_came():
    answers = balanced(bias=3.0)
    assert calibrated_soft_labels(answers, answers[:3], "none") is answers


def test_a_bias_towards_one_label_goes():
    answers = balanced(bias=1.5)
    assert share(answers) > 0.85
    assert 0.45 < share(calibrated_soft_labels(answers, answers[:3], "pool")) < 0.6


@pytest.mark.parametrize("how", ["content_free", "pool"])
def test_the_ranking_of_queries_stays(how):
    answers = balanced(bias=1.5)
    odds = [given[:, 0] - given[:, 1] for given in (answers, calibrated_soft_labels(answers, answers[:3], how))]
    assert torch.equal(odds[0].argsort(), odds[1].argsort())


def test_content_free_inputs_can_give_the_prior():
    answers, free = balanced(bias=1.0), balanced(size=4, bias=1.0).mean(0, keepdim=True)
    moved = calibrated_soft_labels(answers, free, "content_free")
    expected = answers - free.softmax(-1).log()
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("how", ["content_free", "pool"])
@pytest.mark.parametrize("classes", [2, 3])
def test_soft_labels_are_calibrated_by_the_formula_of_evaluation(classes, how):
    answers, free = drawn(40, classes), drawn(3, classes, seed=1)
    given = [torch.tensor(one, dtype=torch.float32) for one in (answers, free)]
    found = calibrated_soft_labels(*given, how)
    expected = without_prior(answers, log_prior(free if how == "content_free" else answers))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", ["content_free", "pool"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_prior_that_all_answers_share_goes_wholly(classes, how):
    """All queries are answered alike, so the prior is the answer itself: whatever the constants, nothing is left."""
    answers = np.repeat(drawn(1, classes), 6, axis=0)
    for constants in (np.zeros(classes), np.array([4.0, -2.0, 1.0])[:classes]):
        moved = torch.tensor(answers + constants)
        found = calibrated_soft_labels(moved, moved[:3], how).softmax(-1)
        torch.testing.assert_close(found, torch.full_like(found, 1 / classes))


@pytest.mark.parametrize("classes", [2, 3])
def test_of_each_half_the_prior_of_the_other_is_taken(classes):
    log_probs = drawn(9, classes)
    halves = np.array_split(np.random.default_rng(4).permutation(9), 2)
    expected = np.empty_like(log_probs)
    for own, other in (halves, halves[::-1]):
        expected[own] = without_prior(log_probs[own], log_prior(log_probs[other]))
    np.testing.assert_allclose(split_calibrated(log_probs, 4), renormalised(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("items", [2, 7, 8])
@pytest.mark.parametrize("classes", [2, 3])
def test_no_items_own_answer_moves_its_own_prior(classes, items):
    log_probs = drawn(items, classes)

    def corrections(given):
        moved = split_calibrated(given) - renormalised(given)
        return moved - moved.mean(axis=1, keepdims=True)

    before = corrections(log_probs)
    for item in range(items):
        other = log_probs.copy()
        other[item] = np.log([0.7, 0.02, 0.1][:classes])
        after = corrections(other)
        np.testing.assert_allclose(after[item], before[item], rtol=0, atol=1e-12)
        assert not np.allclose(after, before)


def test_split_calibration_takes_out_a_constant_for_each_class():
    log_probs = np.repeat(drawn(1, 3), 10, axis=0)
    np.testing.assert_allclose(
        np.exp(split_calibrated(log_probs + np.array([5.0, 0.0, -1.0]))), np.full((10, 3), 1 / 3)
    )


def test_split_calibrated_answers_are_renormalised_and_the_same_for_a_seed():
    log_probs = drawn(20, 3)
    found = split_calibrated(log_probs, 1)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
    np.testing.assert_array_equal(found, split_calibrated(log_probs, 1))
    assert not np.array_equal(found, split_calibrated(log_probs, 2))


def test_an_item_alone_keeps_its_answer():
    log_probs = drawn(1, 3)
    np.testing.assert_allclose(split_calibrated(log_probs), renormalised(log_probs))
