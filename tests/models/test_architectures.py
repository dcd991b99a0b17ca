"""Every family of causal language models is read rightly, and is tuned or refused with a reason."""

import warnings

import pytest
import torch
from peft import LoraConfig

from lib.errors import RefusedMethod
from lib.models.forward import last_logits
from lib.models.scoring import score_answers
from lib.models.training import Objective, Training, TrainingRow, step_loss, train
from lib.models.tuning import adapt, check_tuning, merged
from lib.tasks.prompts import EncodedPrompts
from tests.support.architectures import ARCHITECTURES, READ_WHOLE, VOCABULARY, configuration, random_model

PREFIX = [(7 * i + 3) % VOCABULARY for i in range(14)]
# whole prompts are shorter and longer than the 24 tokens from which LongRoPE rotates otherwise
PROMPTS = [[(5 * i + length) % VOCABULARY for i in range(length)] for length in (5, 16, 3)]
ONE_TOKEN, SEVERAL = [[5], [9]], [[5], [6, 7], [6, 9, 10]]
TEXTS = [[3, *PROMPTS[1], *PROMPTS[1]], [9, 41, 8]]
AIM = Objective(kl_weight=0.0, temperature=1.0, answers=ONE_TOKEN, kl_over_vocabulary=False)
RATE = 0.05

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def settings(tuning):
    how = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "dtype": "float32"}
    return Training(tuning=tuning, learning_rate=RATE, epochs=2, batch_size=2, **how)


def log_probs(model, ids):
    """The oracle: a text alone, in one pass, without a cache."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)


def in_full(model, prompt, answers):
    if answers is None:
        return log_probs(model, prompt)[-1]
    read = [(log_probs(model, prompt + answer)[len(prompt) - 1 :], answer) for answer in answers]
    return torch.stack([sum(found[i, token] for i, token in enumerate(answer)) for found, answer in read])


def rows():
    return [TrainingRow(ids, None, label) for label, ids in enumerate(TEXTS)]


@every_architecture
def test_scores_are_those_of_whole_prompts_read_alone(name):
    model = random_model(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for prefix in ([], PREFIX):
            for answers in (ONE_TOKEN, SEVERAL, None):
                asked = None if answers is None else [answers] * len(PROMPTS)
                found = score_answers(model, EncodedPrompts(prefix, PROMPTS), asked, 2)
                for row, prompt in zip(found, PROMPTS, strict=True):
                    torch.testing.assert_close(row, in_full(model, prefix + prompt, answers), rtol=0, atol=2e-5)
    said = [str(one.message) for one in caught if "whole prompts are read" in str(one.message)]
    assert len(said) == (name in READ_WHOLE)


@every_architecture
def test_the_loss_of_a_step_is_that_of_texts_read_alone_and_a_step_changes_it(name):
    model = random_model(name)
    expected = torch.stack([in_full(model, ids, ONE_TOKEN).log_softmax(0)[i] for i, ids in enumerate(TEXTS)])
    loss = step_loss(model, rows(), AIM, settings("full"))
    torch.testing.assert_close(loss.detach(), -expected.mean(), rtol=1e-5, atol=2e-5)
    first, last = train(model, [], rows(), AIM, settings("full"), 0).losses
    assert last != first


@every_architecture
@pytest.mark.parametrize("tuning", ["lora", "bitfit"])
def test_adapters_and_biases_are_trained_or_refused_with_a_reason(name, tuning):
    try:
        check_tuning(name, tuning, configuration(name))
    except RefusedMethod as refusal:
        assert str(refusal).startswith(f"{tuning}: {name} ")
        return
    model = random_model(name).requires_grad_(False)
    before, frozen = last_logits(model, TEXTS), {key: one.clone() for key, one in model.named_parameters()}
    lora = LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM") if tuning == "lora" else None
    tuned = adapt(model, tuning, lora)
    train(tuned, [], rows(), AIM, settings(tuning), 0)
    with torch.no_grad():
        after, whole = last_logits(tuned, TEXTS), merged(tuned)
        torch.testing.assert_close(last_logits(whole, TEXTS), after, rtol=0, atol=1e-4)
    assert (after - before).abs().max() > 1e-3
    moved = {key for key, one in whole.named_parameters() if not torch.equal(one, frozen[key])}
    assert moved
    assert tuning == "lora" or all(key.endswith("bias") for key in moved)
