"""Training: the step loss against float64 forward passes, the order of rows, and what a run of training changes."""

import copy
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import Lfm2Config, Lfm2ForCausalLM

from lib.errors import NonFiniteLossError
from lib.models import random_models
from lib.models.training import (
    Objective,
    Training,
    TrainingRow,
    batches,
    make_optimizer,
    optimise,
    step_loss,
    step_of,
    train,
    training_mode,
    training_step,
)
from lib.models.tuning import adapt

COLUMNS = [7, 3]
ANSWERS = [[7], [3]]
# The second and the third are told apart by what follows their first token.
WHOLE_WORDS = [[5, 2], [7, 3], [7, 9, 4]]
SETTINGS = Training("full", 1e-2, 2, 2, "constant", 0.0, 0.0, "float32")
LORA = LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM")
LABELS_ONLY = Objective(0.0, 1.0, ANSWERS, False)
AIM = Objective(0.5, 1.0, ANSWERS, False)


@pytest.fixture
def model():
    """A random model whose logits are far from uniform."""
    model = random_models.model("random-opt-student").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def row(ids, target=None, label=None):
    return TrainingRow(ids, None if target is None else torch.tensor(target), label)


def rows_of(kind, width, classes=2):
    """Rows of different lengths: with a target, with a label, or with both."""
    random = np.random.default_rng(0)
    target = random.normal(size=(4, width)).astype("float32")
    ids = [random.integers(3, 50, size=length).tolist() for length in (5, 9, 3, 6)]
    has_target, has_label = {
        "targets": ((0, 1, 2, 3), ()),
        "labels": ((), (0, 1, 2, 3)),
        "both": ((0, 1, 2, 3), (0, 1, 2, 3)),
        "mixed": ((0, 1), (1, 2, 3)),
    }[kind]
    targets = [target[i] if i in has_target else None for i in range(4)]
    labels = [i % classes if i in has_label else None for i in range(4)]
    return [row(*one) for one in zip(ids, targets, labels, strict=True)]


def log_softmax(values):
    shifted = values - values.max()
    return shifted - np.log(np.exp(shifted).sum())


def last_logits_alone(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].numpy()


def over_first_tokens(model, ids):
    return last_logits_alone(model, ids)[COLUMNS]


def whole_word_scores(model, ids):
    """log P(word | prompt) of each of `WHOLE_WORDS`, from a pass of prompt and word together."""
    found = []
    for word in WHOLE_WORDS:
        log_probs = model(torch.tensor([ids + word])).logits[0].log_softmax(-1)
        found.append(sum(log_probs[len(ids) - 1 + i, token] for i, token in enumerate(word)))
    return torch.stack(found)


def over_whole_words(model, ids):
    with torch.no_grad():
        return whole_word_scores(model, ids).numpy()


def loss_by_hand(model, rows, objective, over_labels=over_first_tokens):
    """KL and CE each from forward passes of their own, one unpadded row at a time, in float64."""
    model, weight, temperature = copy.deepcopy(model).double(), objective.kl_weight, objective.temperature
    compared = last_logits_alone if objective.kl_over_vocabulary else over_labels
    divergences, entropies = [0.0], [0.0]
    for one in (one for one in rows if one.target is not None):
        student = compared(model, one.ids)
        p, q = log_softmax(one.target.double().numpy() / temperature), log_softmax(student / temperature)
        divergences.append(float((np.exp(p) * (p - q)).sum()))
    for one in (one for one in rows if one.label is not None):
        entropies.append(-log_softmax(over_labels(model, one.ids))[one.label])
    kl, ce = (sum(terms) / max(1, len(terms) - 1) for terms in (divergences, entropies))
    return weight * temperature**2 * kl + (1 - weight) * ce


@pytest.mark.parametrize("vocabulary", [False, True])
@pytest.mark.parametrize("kind", ["targets", "labels", "both", "mixed"])
@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (1.0, 1.0), (0.3, 2.5)])
def test_step_loss_equals_separate_float64_passes(model, kind, vocabulary, weight, temperature):
    rows = rows_of(kind, model.config.vocab_size if vocabulary else 2)
    objective = Objective(weight, temperature, ANSWERS, vocabulary)
    loss = step_loss(model, rows, objective, SETTINGS).item()
    assert loss == pytest.approx(loss_by_hand(model, rows, objective), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("more", [-7, 7])
def test_of_a_vocabulary_that_is_filled_up_further_the_common_columns_are_compared(model, more):
    width = model.config.vocab_size
    rows = rows_of("targets", width + more)
    loss = step_loss(model, rows, Objective(1.0, 2.0, ANSWERS, True), SETTINGS)
    common = min(width, width + more)
    own = torch.stack([model(torch.tensor([row.ids])).logits[0, -1, :common] for row in rows]).double() / 2
    told = torch.stack([row.target[:common] for row in rows]).double() / 2
    by_hand = (told.softmax(-1) * (told.log_softmax(-1) - own.log_softmax(-1))).sum(-1).mean() * 4
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["targets", "labels", "both", "mixed"])
@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (1.0, 1.0), (0.3, 2.5)])
def test_label_words_that_share_a_first_token_are_learnt_as_whole_words(model, kind, weight, temperature):
    rows = rows_of(kind, 3, classes=3)
    objective = Objective(weight, temperature, WHOLE_WORDS, False)
    expected = loss_by_hand(model, rows, objective, over_whole_words)
    assert step_loss(model, rows, objective, SETTINGS).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    if expected:
        on_first_tokens = Objective(weight, temperature, [word[-1:] for word in WHOLE_WORDS], False)
        assert step_loss(model, rows, on_first_tokens, SETTINGS).item() != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: adapt(model, "lora", LORA)])
def test_the_gradient_of_whole_words_is_that_of_their_plain_forward_passes(model, wrap):
    rows, model = rows_of("labels", 3, classes=3), wrap(model)
    found = step_gradient(model, Objective(0.0, 1.0, WHOLE_WORDS, False), rows)
    model.zero_grad()
    scores = torch.stack([whole_word_scores(model, one.ids) for one in rows])
    torch.nn.functional.cross_entropy(scores, torch.tensor([one.label for one in rows])).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert expected.norm() > 1e-3
    torch.testing.assert_close(found[1], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("kind", ["targets", "labels"])
def test_training_on_whole_words_teaches_them(kind):
    rows, student = rows_of(kind, 3, classes=3), random_models.model("random-opt-student")
    objective = Objective(float(kind == "targets"), 1.0, WHOLE_WORDS, False)
    settings = Training("full", 1e-2, 60, 4, "constant", 0.0, 0.0, "float32")
    pool, support = (rows, []) if kind == "targets" else ([], rows)
    losses = train(student, pool, support, objective, settings, 0).losses
    assert losses[-1] < 0.3 * losses[0]
    wanted = [one.target.argmax().item() if one.label is None else one.label for one in rows]
    assert [over_whole_words(student, one.ids).argmax() for one in rows] == wanted


@pytest.mark.parametrize(("logits", "padding_free"), [("all", False), ("labels", False), ("last", True)])
def test_how_one_token_is_read_has_no_part_where_whole_words_are(model, logits, padding_free):
    rows = rows_of("mixed", 3, classes=3)
    objective = Objective(0.3, 2.0, WHOLE_WORDS, False)
    plain = step_gradient(model, objective, rows)
    other = step_gradient(model, objective, rows, replace(SETTINGS, logits=logits, padding_free=padding_free))
    assert other[0] == plain[0]
    assert torch.equal(other[1], plain[1])


@pytest.mark.parametrize(("weight", "kind"), [(1.0, "labels"), (0.0, "targets")])
def test_step_without_a_weighted_term_is_zero_and_still_runs_backward(model, weight, kind):
    loss = step_loss(model, rows_of(kind, 2), Objective(weight, 1.0, ANSWERS, False), SETTINGS)
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_gradient_is_the_weighted_sum_of_both_terms_gradients(model):
    rows = rows_of("mixed", 2)

    def gradient(weight, rows):
        model.zero_grad()
        step_loss(model, rows, Objective(weight, 2.0, ANSWERS, False), SETTINGS).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    kl = gradient(1.0, [one for one in rows if one.target is not None])
    ce = gradient(0.0, [one for one in rows if one.label is not None])
    assert kl.norm() > 1e-3 < ce.norm()
    torch.testing.assert_close(gradient(0.25, rows), 0.25 * kl + 0.75 * ce, rtol=1e-4, atol=1e-4)


def step_gradient(model, objective, rows, settings=SETTINGS):
    model.zero_grad()
    loss = step_loss(model, rows, objective, settings)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("logits", ["last", "all", "labels"])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: adapt(model, "lora", LORA)])
def test_neither_padding_nor_the_heads_place_changes_loss_or_gradient(model, logits, padding_free, wrap):
    rows, model = rows_of("mixed", 2), wrap(model)
    objective = Objective(0.3, 2.0, ANSWERS, False)
    expected = step_gradient(model, objective, rows)
    found = step_gradient(model, objective, rows, replace(SETTINGS, logits=logits, padding_free=padding_free))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert expected[1].norm() > 1e-3
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-4)


def numbered(first, count):
    return [row([number]) for number in range(first, first + count)]


def numbers(rows):
    return [one.ids[0] for one in rows]


SIZES = [(5, 3, 2), (4, 1, 3), (7, 9, 4), (3, 2, 8), (6, 0, 4)]


@pytest.mark.parametrize(("pool", "support", "size"), SIZES)
def test_every_pool_row_comes_once_an_epoch(pool, support, size):
    steps = list(batches(numbered(0, pool), numbered(100, support), size, 3, seed=0))
    per_epoch = -(-pool // size)
    assert len(steps) == 3 * per_epoch
    for start in range(0, len(steps), per_epoch):
        seen = [number for step in steps[start : start + per_epoch] for number in numbers(step) if number < 100]
        assert sorted(seen) == list(range(pool))


@pytest.mark.parametrize(("pool", "support", "size"), SIZES[:4])
def test_support_rows_are_cycled_evenly(pool, support, size):
    steps = list(batches(numbered(0, pool), numbered(100, support), size, 4, seed=0))
    joined = [[number for number in numbers(step) if number >= 100] for step in steps]
    counts = Counter(number for step in joined for number in step)
    assert all(0 < len(step) == len(set(step)) <= max(1, size // 2) for step in joined)
    assert max(counts.values()) - min(counts[number] for number in range(100, 100 + support)) <= 1


def test_without_a_pool_an_epoch_is_one_pass_over_the_support_rows():
    steps = [numbers(step) for step in batches([], numbered(0, 5), 2, 3, seed=0)]
    assert [len(step) for step in steps] == [2, 2, 1] * 3
    assert all(sorted(chain(*steps[start : start + 3])) == list(range(5)) for start in (0, 3, 6))


def test_order_of_rows_follows_from_the_seed_and_changes_by_epoch():
    def order(seed):
        torch.rand(1)
        return [number for step in batches(numbered(0, 20), [], 4, 2, seed) for number in numbers(step)]

    assert order(3) == order(3) != order(4)
    assert order(3)[:20] != order(3)[20:]


def trained(model, settings=SETTINGS, seed=0, pool=(), support=None):
    support = rows_of("labels", 2) if support is None else support
    return train(model, pool, support, LABELS_ONLY, settings, seed)


def test_training_with_dropout_is_determined_by_its_seed(model):
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.3
    first, second, other = (copy.deepcopy(model) for _ in range(3))
    losses = trained(first).losses
    torch.rand(5)
    assert trained(second).losses == losses != trained(other, seed=1).losses
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_training_overfits_two_contradictory_rows():
    support = [row([4, 5, 6], label=0), row([4, 5, 9], label=1)]
    settings = Training("full", 1e-2, 30, 2, "constant", 0.0, 0.0, "float32")
    losses = trained(random_models.model("random-opt-student"), settings, support=support).losses
    assert losses[0] == pytest.approx(np.log(2), abs=0.1)
    assert losses[-1] < 0.05


@pytest.mark.parametrize(
    ("tuning", "is_trained"),
    [
        ("full", lambda name: True),
        ("bitfit", lambda name: name.endswith(".bias")),
        ("lora", lambda name: "lora_" in name),
    ],
)
def test_training_changes_exactly_the_trainable_parameters(tuning, is_trained):
    adapted = adapt(random_models.model("random-opt-student").requires_grad_(False), tuning, LORA)
    before = {name: parameter.detach().clone() for name, parameter in adapted.named_parameters()}
    trained(adapted)
    changed = {name for name, parameter in adapted.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if is_trained(name)} != set()


def test_a_diverging_loss_is_an_error_that_names_step_and_learning_rate(model):
    settings = Training("full", 1e30, 2, 2, "constant", 0.0, 0.0, "float32")
    with pytest.raises(NonFiniteLossError, match=r"loss is (nan|inf) at step [23] of 4 \(learning_rate 1e\+30, dtype"):
        trained(model, settings)


def test_bfloat16_training_keeps_float32_weights_and_gives_other_losses(model):
    settings = Training("full", 1e-2, 2, 2, "constant", 0.0, 0.0, "bfloat16")
    reference = trained(copy.deepcopy(model)).losses
    losses = trained(model, settings).losses
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert losses != reference
    assert losses[0] == pytest.approx(reference[0], rel=0.05)


def test_tokens_are_the_rows_lengths_summed_over_all_steps(model):
    pool = [row([5] * length, target=[0.0, 0.0]) for length in (3, 4, 8)]
    log = trained(model, pool=pool, support=[row([6] * 5, label=1)])
    assert log.tokens == 2 * (3 + 4 + 8) + 4 * 5


def test_training_keeps_one_loss_a_step_and_ends_in_evaluation_mode(model):
    assert len(trained(model).losses) == 4
    assert not model.training


def test_a_learning_rate_schedule_ends_lower_than_a_constant_one(model):
    moved = {}
    for schedule in ("constant", "linear"):
        copied = copy.deepcopy(model)
        trained(copied, Training("full", 1e-4, 4, 2, schedule, 0.0, 0.0, "float32"))
        pairs = zip(copied.parameters(), model.parameters(), strict=True)
        moved[schedule] = sum((a - b).abs().sum().item() for a, b in pairs)
    assert 0 < moved["linear"] < 0.9 * moved["constant"]


def test_recomputed_activations_change_no_weight(model):
    plain, checkpointed = copy.deepcopy(model), copy.deepcopy(model)
    for module in [*plain.modules(), *checkpointed.modules()]:
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.3  # the same mask must be drawn when a layer is run again
    trained(plain)
    trained(checkpointed, replace(SETTINGS, checkpointing=True))
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert not checkpointed.is_activation_checkpointing


def test_recomputed_activations_change_no_loss_of_whole_words(model):
    aim, rows = replace(LABELS_ONLY, answers=WHOLE_WORDS), rows_of("labels", 3, classes=3)
    plain, checkpointed = (
        train(copy.deepcopy(model), [], rows, aim, replace(SETTINGS, checkpointing=yes), 0).losses
        for yes in (False, True)
    )
    assert checkpointed == pytest.approx(plain, rel=1e-4)
    assert len({*plain}) == len(plain)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    "execution", [{"padding_free": True}, {"fused": True}, {"accumulate": 3}, {"optimizer_in_backward": True}]
)
def test_how_a_step_is_computed_changes_neither_losses_nor_tokens(model, optimizer, execution):
    settings = replace(SETTINGS, learning_rate=1e-3, optimizer=optimizer, weight_decay=0.1)
    plain = train(copy.deepcopy(model), rows_of("targets", 2), rows_of("labels", 2), AIM, settings, 0)
    other = replace(settings, **execution)
    log = train(model, rows_of("targets", 2), rows_of("labels", 2), AIM, other, 0)
    assert log.losses == pytest.approx(plain.losses, rel=1e-3)
    assert len(set(log.losses)) == len(log.losses) == 4
    assert log.tokens == plain.tokens


@pytest.mark.parametrize("kind", ["targets", "labels", "both", "mixed"])
@pytest.mark.parametrize("accumulate", [2, 3, 9])
def test_the_gradients_of_a_steps_parts_sum_to_those_of_the_step(model, kind, accumulate):
    rows, gradients = rows_of(kind, 2), []
    for parts in (1, accumulate):
        each = copy.deepcopy(model).double()
        for loss_of in step_of(each, rows, AIM, replace(SETTINGS, accumulate=parts)):
            loss_of().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in each.parameters()]))
    whole, summed = gradients
    assert (summed - whole).abs().max() <= 1e-6 * whole.abs().max()


def test_updates_in_the_backward_pass_are_those_of_whole_steps_bit_for_bit_and_leave_no_gradient(model):
    plain = copy.deepcopy(model)
    trained(plain)
    trained(model, replace(SETTINGS, optimizer_in_backward=True))
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is None


def test_updates_in_the_backward_pass_never_hold_all_gradients(model):
    held = []
    settings = replace(SETTINGS, optimizer_in_backward=True)
    optimizer = make_optimizer(model, settings, "cpu")
    with training_mode(model, settings, optimizer):
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(
                lambda _: held.append(sum(one.grad is not None for one in model.parameters()))
            )
        training_step(model, step_of(model, rows_of("labels", 2), LABELS_ONLY, settings), settings, optimizer)
    assert set(held) <= {0, 1}
    assert len(held) == len(list(model.parameters()))


@pytest.mark.filterwarnings("ignore:.*whole prompts are read")
def test_the_prompts_of_a_model_that_would_mix_them_in_a_row_are_padded():
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}
    convolving = Lfm2ForCausalLM(Lfm2Config(**sizes, **heads, pad_token_id=0, initializer_range=0.3))
    losses = [
        train(copy.deepcopy(convolving), rows_of("targets", 2), [], AIM, replace(SETTINGS, padding_free=yes), 0).losses
        for yes in (False, True)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_prompts_of_a_step_are_one_row_where_the_model_keeps_them_apart(model, dtype):
    shapes = []
    frozen = adapt(model.requires_grad_(False).to(getattr(torch, dtype)), "lora", LORA)
    for parameter in frozen.parameters():
        if parameter.requires_grad or parameter.ndim < 2:
            parameter.data = parameter.data.float()
    base = frozen.get_base_model()
    base.register_forward_pre_hook(lambda _, __, named: shapes.append(named["input_ids"].shape), with_kwargs=True)
    trained(frozen, replace(SETTINGS, padding_free=True, dtype=dtype))
    assert [rows for rows, _ in shapes[-4:]] == [1] * 4
    assert sum(tokens for _, tokens in shapes[-4:]) == 2 * (5 + 9 + 3 + 6)
    trained(frozen, replace(SETTINGS, dtype=dtype))
    assert [rows for rows, _ in shapes[-4:]] == [2] * 4


def test_sgd_moves_against_the_gradient_by_the_learning_rate(model):
    rows = rows_of("labels", 2)[:2]
    _, gradient = step_gradient(model, LABELS_ONLY, rows)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    model.zero_grad()
    trained(model, Training("full", 1e-3, 1, 2, "constant", 0.0, 0.0, "float32", optimizer="sgd"), support=rows)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(after - before, -1e-3 * gradient, rtol=1e-3, atol=1e-6)


def pull(model, target):
    """A step's loss: how far the scale of the model's final norm is from a number, ones to begin with."""
    return lambda: (model.get_decoder().final_layer_norm.weight - target).square().sum()


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_optimise_is_gradient_descent_on_the_losses_in_their_order(schedule):
    model, targets = random_models.model("random-opt-student"), [3.0, -1.0, 0.5, 2.0]
    settings = Training("full", 0.1, 1, 2, schedule, 0.0, 0.0, "float32", optimizer="sgd")
    steps = ([pull(model, target)] for target in targets)
    losses = optimise(model, steps, 4, settings, 0)
    weight, expected = np.ones(32), []
    for step, target in enumerate(targets):
        expected.append(np.square(weight - target).sum())
        rate = 0.1 if schedule == "constant" else 0.1 * (4 - step) / 4
        weight = weight - rate * 2 * (weight - target)
    assert losses == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(model.get_decoder().final_layer_norm.weight.detach().numpy(), weight, rtol=1e-4)


def test_optimise_warms_up_over_its_share_of_the_steps():
    model = random_models.model("random-opt-student")
    settings = Training("full", 0.1, 1, 2, "constant_with_warmup", 0.5, 0.0, "float32", optimizer="sgd")
    losses = optimise(model, [[pull(model, 2.0)]] * 6, 6, settings, 0)
    factors = [np.sqrt(after / before) for before, after in pairwise(losses)]
    assert factors == pytest.approx([1 - 0.2 * share for share in (0, 1 / 3, 2 / 3, 1, 1)], rel=1e-4)


def test_optimise_asks_for_each_loss_in_training_mode_and_after_the_step_before(model):
    asked = []

    def step():
        asked.append((model.training, model.get_decoder().final_layer_norm.weight.sum().item()))
        return pull(model, 0.0)()

    optimise(model, ([step] for _ in range(3)), 3, SETTINGS, 0)
    assert [training for training, _ in asked] == [True] * 3
    assert len({weight for _, weight in asked}) == 3
    assert not model.training


def test_optimise_stops_at_the_first_loss_that_is_not_finite(model):
    asked = []

    def step(factor):
        asked.append(factor)
        return factor * pull(model, 0.0)()

    with pytest.raises(NonFiniteLossError, match=r"loss is nan at step 2 of 3 \(learning_rate 0\.01, dtype float32\)"):
        optimise(model, [[partial(step, factor)] for factor in (1.0, float("nan"), 1.0)], 3, SETTINGS, 0)
    assert asked[0] == 1.0
    assert len(asked) == 2


def test_optimise_leaves_frozen_weights_as_they_were(model):
    model.requires_grad_(False).get_decoder().final_layer_norm.requires_grad_(True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimise(model, [[pull(model, 0.0)]] * 2, 2, replace(SETTINGS, weight_decay=0.5), 0)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"model.decoder.final_layer_norm.weight"}
