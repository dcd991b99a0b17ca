"""Calibrated targets: a bias that is the same for all queries goes, the ranking stays; confidence weighs."""

import pytest
import torch

from lib.methods.calibration import calibrated, confidence


def balanced(size=200, bias=0.0):
    """Log-odds spread evenly around nothing, all moved by a bias."""
    odds = torch.linspace(-2, 2, size) + bias
    return torch.log_softmax(torch.stack([odds, torch.zeros(size)], dim=1), dim=-1)


def share(log_probs):
    return (log_probs[:, 0] > log_probs[:, 1]).float().mean().item()


def test_without_calibration_answers_are_as_they_came():
    answers = balanced(bias=3.0)
    assert calibrated(answers, answers[:3], "none") is answers


def test_a_bias_towards_one_label_goes():
    answers = balanced(bias=1.5)
    assert share(answers) > 0.85
    assert 0.45 < share(calibrated(answers, answers[:3], "pool")) < 0.6


def test_the_ranking_of_queries_stays():
    answers = balanced(bias=1.5)
    odds = [given[:, 0] - given[:, 1] for given in (answers, calibrated(answers, answers[:3], "pool"))]
    assert torch.equal(odds[0].argsort(), odds[1].argsort())


def test_content_free_inputs_can_give_the_prior():
    answers, free = balanced(bias=1.0), balanced(size=4, bias=1.0).mean(0, keepdim=True)
    moved = calibrated(answers, free, "content_free")
    expected = answers - free.softmax(-1).log()
    torch.testing.assert_close(moved, expected)


def test_confidence_is_one_on_average_and_highest_where_the_teacher_is_sure():
    answers = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]]))
    weights = confidence(answers)
    assert weights.mean().item() == pytest.approx(1.0)
    assert weights[0].item() == pytest.approx(0.0, abs=1e-6)
    assert weights[1] > weights[2]
