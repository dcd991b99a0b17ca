"""Losses against float64 re-derivations in numpy and scipy, and the algebra that they must obey."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import entropy

from lib.models.losses import HARD_WEIGHTS, cross_entropy, kl_divergence, soft_cross_entropy

TEMPERATURES = [0.5, 1.0, 2.0, 7.5]
LABELS = torch.tensor([0, 4, 2, 1, 3, 0])


def draw(seed, rows=6, classes=5, scale=3.0):
    return torch.tensor(np.random.default_rng(seed).normal(0, scale, (rows, classes)), dtype=torch.float32)


def oracle_kl(teacher, student, temperature):
    p, q = (softmax(logits.double().numpy() / temperature, axis=1) for logits in (teacher, student))
    return temperature**2 * rel_entr(p, q).sum() / len(p)


def gradient(loss_of, logits):
    leaf = logits.clone().requires_grad_(True)
    loss_of(leaf).backward()
    return leaf.grad


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_equals_its_definition_in_float64(temperature):
    teacher, student = draw(0), draw(1)
    loss = kl_divergence(teacher, student, temperature)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(oracle_kl(teacher, student, temperature), rel=2e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_gradient_is_the_analytic_one(temperature):
    teacher, student = draw(2), draw(3)
    found = gradient(lambda s: kl_divergence(teacher, s, temperature), student)
    q = softmax(student.double().numpy() / temperature, axis=1)
    p = softmax(teacher.double().numpy() / temperature, axis=1)
    np.testing.assert_allclose(found.numpy(), temperature * (q - p) / 6, rtol=1e-4, atol=1e-6)


def test_kl_temperature_is_one_unless_given():
    teacher, student = draw(4), draw(5)
    assert kl_divergence(teacher, student) == kl_divergence(teacher, student, 1.0)


def test_kl_is_not_symmetric_and_the_teacher_comes_first():
    teacher, student = draw(6), draw(7)
    forward, reverse = (oracle_kl(*pair, 1.0) for pair in [(teacher, student), (student, teacher)])
    assert abs(forward - reverse) > 0.1
    assert kl_divergence(teacher, student).item() == pytest.approx(forward, rel=2e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_of_equal_logits_is_exactly_zero_with_a_gradient_of_zero_up_to_rounding(temperature, scale):
    logits = draw(8, scale=scale)
    student = logits.clone().requires_grad_(True)
    loss = kl_divergence(logits, student, temperature)
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad.abs().max() < temperature * torch.finfo(torch.float32).eps


def test_kl_does_not_depend_on_a_constant_added_to_a_row():
    teacher, student, shift = draw(9), draw(10), torch.arange(6.0)[:, None]
    plain = kl_divergence(teacher, student, 2.0)
    torch.testing.assert_close(kl_divergence(teacher + shift, student - shift, 2.0), plain)


def test_kl_of_logits_and_of_log_probabilities_is_the_same():
    teacher, student = draw(11), draw(12)
    from_log_probs = kl_divergence(teacher.log_softmax(-1), student, 3.0)
    torch.testing.assert_close(from_log_probs, kl_divergence(teacher, student, 3.0))


def test_kl_gradient_keeps_its_size_over_temperatures():
    teacher, student = draw(13, classes=2, scale=0.1), draw(14, classes=2, scale=0.1)
    sizes = [gradient(lambda s, t=t: kl_divergence(teacher, s, t), student).norm().item() for t in (5.0, 50.0)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_twice_the_loss_has_twice_the_gradient():
    teacher, student = draw(15), draw(16)
    once = gradient(lambda s: kl_divergence(teacher, s, 2.0), student)
    twice = gradient(lambda s: 2 * kl_divergence(teacher, s, 2.0), student)
    torch.testing.assert_close(twice, 2 * once)


def test_no_gradient_reaches_the_teacher():
    teacher, student = draw(17).requires_grad_(True), draw(18).requires_grad_(True)
    kl_divergence(teacher, student, 2.0).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


def test_kl_is_not_infinite_where_the_teacher_is_certain():
    teacher = torch.tensor([[200.0, -200.0]])
    student = torch.tensor([[-200.0, 200.0]])
    assert kl_divergence(teacher, student).item() == pytest.approx(400.0)


def test_cross_entropy_equals_its_definition_in_float64():
    student = draw(19)
    expected = -log_softmax(student.double().numpy(), axis=1)[np.arange(6), LABELS.numpy()].mean()
    loss = cross_entropy(student, LABELS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=2e-5)


def test_cross_entropy_gradient_is_the_analytic_one():
    student = draw(20)
    found = gradient(lambda s: cross_entropy(s, LABELS), student)
    residual = softmax(student.double().numpy(), axis=1) - np.eye(5)[LABELS.numpy()]
    np.testing.assert_allclose(found.numpy(), residual / 6, rtol=1e-4, atol=1e-6)


def test_cross_entropy_of_a_one_hot_teacher_is_the_kl():
    student = draw(21)
    one_hot = torch.nn.functional.one_hot(LABELS, 5).float() * 200
    torch.testing.assert_close(kl_divergence(one_hot, student), cross_entropy(student, LABELS))


LOSSES = {
    "kl": lambda student: kl_divergence(draw(22)[: len(student)], student, 2.0),
    "soft cross-entropy": lambda student: soft_cross_entropy(draw(54)[: len(student)], student, 2.0),
    "cross-entropy": lambda student: cross_entropy(student, LABELS[: len(student)]),
}


@pytest.mark.parametrize("loss_of", LOSSES.values(), ids=LOSSES)
def test_the_loss_of_no_rows_is_zero_with_a_gradient_of_zero(loss_of):
    student = draw(23).requires_grad_(True)
    loss = loss_of(student[:0])
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(student.grad, torch.zeros(6, 5))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_a_batch_changes_nothing(seed):
    teacher, student = draw(28), draw(29)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    divergence = kl_divergence(teacher, student, 2.0)
    torch.testing.assert_close(kl_divergence(teacher[order], student[order], 2.0), divergence)
    torch.testing.assert_close(cross_entropy(student[order], LABELS[order]), cross_entropy(student, LABELS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_computed_in_float32(dtype):
    teacher = draw(30).to(dtype)
    student = (teacher.float() + 0.05 * draw(31)).to(dtype)
    loss = kl_divergence(teacher, student, 2.0)
    assert loss.item() == pytest.approx(oracle_kl(teacher, student, 2.0), rel=1e-4)
    expected = -log_softmax(student.double().numpy(), axis=1)[np.arange(6), LABELS.numpy()].mean()
    assert cross_entropy(student, LABELS).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_cross_entropy_equals_its_definition_in_float64(temperature):
    teacher, student = draw(40), draw(41)
    p = softmax(teacher.double().numpy() / temperature, axis=1)
    log_q = log_softmax(student.double().numpy() / temperature, axis=1)
    loss = soft_cross_entropy(teacher, student, temperature)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-(temperature**2) * (p * log_q).sum(axis=1).mean(), rel=2e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_cross_entropy_gradient_is_the_analytic_one(temperature):
    teacher, student = draw(42), draw(43)
    found = gradient(lambda s: soft_cross_entropy(teacher, s, temperature), student)
    p, q = (softmax(logits.double().numpy() / temperature, axis=1) for logits in (teacher, student))
    np.testing.assert_allclose(found.numpy(), temperature * (q - p) / 6, rtol=1e-4, atol=1e-6)


def test_soft_cross_entropy_temperature_is_one_unless_given():
    teacher, student = draw(44), draw(45)
    assert soft_cross_entropy(teacher, student) == soft_cross_entropy(teacher, student, 1.0)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_cross_entropy_is_the_teachers_entropy_and_the_divergence_from_it(temperature):
    teacher, student = draw(46), draw(47)
    entropies = entropy(softmax(teacher.double().numpy() / temperature, axis=1), axis=1)
    own = temperature**2 * entropies.mean()
    divergence = kl_divergence(teacher, student, temperature).item()
    assert soft_cross_entropy(teacher, teacher, temperature).item() == pytest.approx(own, rel=2e-5)
    assert soft_cross_entropy(teacher, student, temperature).item() == pytest.approx(own + divergence, rel=2e-5)


def test_soft_cross_entropy_of_a_certain_teacher_is_the_cross_entropy_with_its_label():
    student = draw(48)
    one_hot = torch.nn.functional.one_hot(LABELS, 5).float() * 200
    torch.testing.assert_close(soft_cross_entropy(one_hot, student), cross_entropy(student, LABELS))


def test_soft_cross_entropy_does_not_depend_on_a_constant_added_to_a_row():
    teacher, student, shift = draw(49), draw(50), torch.arange(6.0)[:, None]
    plain = soft_cross_entropy(teacher, student, 2.0)
    torch.testing.assert_close(soft_cross_entropy(teacher + shift, student - shift, 2.0), plain)
    torch.testing.assert_close(soft_cross_entropy(teacher.log_softmax(-1), student, 2.0), plain)


def test_no_gradient_of_the_soft_cross_entropy_reaches_the_teacher():
    teacher, student = draw(51).requires_grad_(True), draw(52).requires_grad_(True)
    soft_cross_entropy(teacher, student, 2.0).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_soft_cross_entropy_of_low_precision_logits_is_computed_in_float32(dtype):
    teacher, student = draw(55).to(dtype), draw(56).to(dtype)
    p, log_q = softmax(teacher.double().numpy(), axis=1), log_softmax(student.double().numpy(), axis=1)
    loss = soft_cross_entropy(teacher, student)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-(p * log_q).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0]),
    ],
)
def test_gold_labels_weigh_by_schedule_and_progress(schedule, weights):
    assert [HARD_WEIGHTS[schedule](i / 4) for i in range(5)] == pytest.approx(weights)


@pytest.mark.parametrize("weight_at", HARD_WEIGHTS.values(), ids=HARD_WEIGHTS)
def test_the_weight_of_gold_labels_begins_at_one_never_rises_and_stays_a_share(weight_at):
    weights = [weight_at(i / 100) for i in range(101)]
    assert weights[0] == 1.0
    assert weights == sorted(weights, reverse=True)
    assert min(weights) >= 0.0
