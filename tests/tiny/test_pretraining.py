"""Pretraining: a killed training goes on to the same weights, growing a model changes little, stages end when due."""

import os
from dataclasses import replace

import pytest
import torch
from transformers import GPTNeoXForCausalLM

import lib.tiny.pretraining
from lib.errors import StudyError
from lib.tasks import world
from lib.tiny.curriculum import Stage, draw_batch
from lib.tiny.models import config, tokenizer
from lib.tiny.pretraining import Recipe, deepen, pretrain

SMALL = world.Scope(people=12, decoration=0.0, contrasts=1)
PAIRS = Stage("pairs", 1, SMALL, tokens=200, until=2.0, least_steps=1, most_steps=4)
CONTEXTS = replace(PAIRS, name="contexts", layers=2, pairs=(3,), drawn_words=1.0)
RECIPE = Recipe(width=16, heads=2, stages=(PAIRS, CONTEXTS), learning_rate=1e-2, seed=0)


class Killed(Exception):
    """What stands for the kill."""


@pytest.fixture
def saved_often(monkeypatch):
    monkeypatch.setattr(lib.tiny.pretraining, "STEPS_BETWEEN_SAVES", 1)


def weights(folder):
    return GPTNeoXForCausalLM.from_pretrained(folder).state_dict()


@pytest.mark.parametrize("step", [2, 6], ids=["before the model grows", "after it has grown"])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, saved_often, step):
    pretrain(RECIPE, tmp_path / "whole")
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == step:
            raise Killed
        return draw_batch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(lib.tiny.pretraining, "draw_batch", killed)
        with pytest.raises(Killed):
            pretrain(RECIPE, tmp_path / "killed")
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    pretrain(RECIPE, tmp_path / "killed")
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch, saved_often):
    curve = pretrain(RECIPE, tmp_path)
    monkeypatch.setattr(lib.tiny.pretraining, "draw_batch", lambda *_: pytest.fail("a step was taken"))
    assert pretrain(RECIPE, tmp_path).equals(curve)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path, saved_often):
    pretrain(RECIPE, tmp_path)
    with pytest.raises(lib.tiny.pretraining.StudyError, match=r"checkpoint\.pt.*recipe"):
        pretrain(replace(RECIPE, learning_rate=1e-3), tmp_path)


def test_a_stage_ends_when_it_is_mastered_or_at_its_last_step(tmp_path, saved_often, capsys):
    easy = replace(PAIRS, name="easy", until=0.0, least_steps=2)
    pretrain(replace(RECIPE, stages=(easy, PAIRS)), tmp_path)
    easy_line, pairs_line = capsys.readouterr().out.splitlines()
    assert easy_line.startswith("[1/2] easy: 2 steps")
    assert pairs_line.startswith("[2/2] pairs: 4 steps")


def test_training_lowers_the_loss_from_the_seed_on(tmp_path, saved_often):
    stage = replace(PAIRS, most_steps=150)
    curve = pretrain(replace(RECIPE, stages=(stage,)), tmp_path)
    assert curve.loss.iloc[0] > 1.5 > 1.0 > curve.loss.iloc[-1]
    assert list(curve.step) == [50, 100, 150]


def test_a_deeper_model_computes_nearly_the_same():
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(config(32, 2, 2)).eval()
    deeper = deepen(model, 5).eval()
    ids = tokenizer()("The baker praised the pilot.", return_tensors="pt")["input_ids"]
    assert deeper.config.num_hidden_layers == 5
    states, before = [net.base_model(ids, output_hidden_states=True).hidden_states for net in (deeper, model)]
    torch.testing.assert_close(states[1], before[1])
    assert torch.nn.functional.cosine_similarity(states[-1], before[-1], dim=-1).min() > 0.9


class Intruder:
    """Runs a command where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("kind", ["a pickle of more than tensors", "something else", "a checkpoint that was cut short"])
def test_a_checkpoint_that_is_none_is_refused_and_runs_nothing(tmp_path, saved_often, kind):
    pretrain(RECIPE, tmp_path / "model")
    checkpoint = tmp_path / "model" / "checkpoint.pt"
    if kind == "a pickle of more than tensors":
        torch.save({"recipe": Intruder(tmp_path / "marker")}, checkpoint)
    else:
        checkpoint.write_bytes(b"else" if kind == "something else" else checkpoint.read_bytes()[:1000])
    with pytest.raises(StudyError, match=r"checkpoint\.pt is no checkpoint"):
        pretrain(RECIPE, tmp_path / "model")
    assert not (tmp_path / "marker").exists()


def test_what_is_written_is_whole_or_absent_and_may_be_read_by_others(tmp_path, monkeypatch, saved_often):
    """Each file is put in its place when it is written; a kill just before leaves those that were there."""
    pretrain(RECIPE, tmp_path / "model")
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    assert {"checkpoint.pt", "model.safetensors", "config.json", "tokenizer.json", "learning_curve.csv"} <= {*before}
    assert {oct(file.stat().st_mode & 0o044) for file in (tmp_path / "model").iterdir()} == {"0o44"}

    def killed(*_):
        raise Killed

    monkeypatch.setattr(lib.tiny.pretraining.os, "replace", killed)
    with pytest.raises(Killed):
        pretrain(RECIPE, tmp_path / "model")
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before
