"""A student that is exported: plain transformers load it and it answers as the stored result says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from huggingface_hub import ModelCard
from nbconvert.filters.markdown import markdown2html
from transformers import AutoModelForCausalLM, AutoTokenizer

import lib.runs.profile
from lib.errors import StudyError
from lib.methods.encoder import PromptEncoder
from lib.methods.examples import evaluation_items
from lib.runs.execution import fill
from lib.runs.export import _card, _licence, export, megabytes
from lib.runs.profile import read_profile
from lib.runs.store import Store
from lib.tasks.task import IN_DOMAIN
from tests.support.browser import HOSTILE, runs_or_loads, visible
from tests.support.own_data import hostile_things


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A folder of figures with the results that each test begins with."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", folder)
        fill(read_profile("smoke"), ["pbft", "cd", "cd_lora"])
    return folder


@pytest.fixture
def filled(computed, smoke_profile):
    shutil.copytree(computed / smoke_profile.name, smoke_profile.folder)
    return smoke_profile


@pytest.mark.parametrize("method", ["pbft", "cd", "cd_lora"])
def test_plain_transformers_load_it_and_it_scores_as_stored(filled, method):
    folder = export(filled, method, 4, 1, dtype="float32")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    (run,) = filled.changed({"support_sizes": [4], "seeds": [1]}).runs((method,))
    stored = Store(filled.folder).load(run).outcome.evaluations[IN_DOMAIN].label_log_probs
    for item, log_probs in zip(evaluation_items(run.task, IN_DOMAIN), stored, strict=True):
        columns = [tokenizer(f"{item.text} {word}")["input_ids"][-1] for word in run.task.label_words]
        ids = tokenizer(item.text, return_tensors="pt").input_ids
        with torch.no_grad():
            found = model(ids).logits[0, -1].log_softmax(-1)[columns]
        np.testing.assert_allclose(found.numpy(), log_probs, atol=2e-4)


def test_weights_are_float16_where_nothing_is_said_and_half_as_large(filled, tmp_path):
    long, short = (export(filled, "cd", 4, 1, tmp_path / dtype, dtype) for dtype in ("float32", "float16"))
    assert export(filled, "cd", 4, 1, tmp_path / "usual") and megabytes(tmp_path / "usual") == megabytes(short)
    assert 0.5 <= megabytes(short) / megabytes(long) < 0.55
    assert f"take {megabytes(short):.3g} MB in float16" in (short / "README.md").read_text()


@pytest.mark.parametrize(
    ("where", "licence"), [("folder", "mit"), ("folder without a card", None), ("gguf", "apache-2.0")]
)
def test_the_licence_is_that_of_the_base_model(filled, tmp_path, monkeypatch, where, licence):
    base, target = tmp_path / "base", tmp_path / "student"
    if where == "gguf":
        writer = GGUFWriter(base.with_suffix(".gguf"), "llama")
        writer.add_license(licence)
        for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.close):
            write()
        assert _licence(str(base.with_suffix(".gguf"))) == licence
        return
    base.mkdir()
    if licence:
        ModelCard(f"---\nlicense: {licence}\n---\nA base model.").save(base / "README.md")
    monkeypatch.setattr("lib.runs.export._licence", lambda _: _licence(str(base)))
    data = ModelCard.load(export(filled, "cd", 4, 0, target) / "README.md").data
    assert data.license == (licence or "unknown") and data.base_model is None


def test_the_base_model_of_the_hub_is_named(filled, monkeypatch):
    (run,) = filled.changed({"support_sizes": [4], "seeds": [0]}).runs(("cd",))
    result = replace(Store(filled.folder).load(run), run=replace(run, model="owner/model"))
    monkeypatch.setattr("lib.runs.export.PromptEncoder", lambda _: PromptEncoder(run.model))
    card = _card(result, classifies=False, dtype="float16", size=1.0)
    assert card.data.base_model == "owner/model" and "No text-classification pipeline" in card.text


def test_the_card_says_where_it_comes_from(filled, tmp_path):
    folder = export(filled, "cd", 4, 0, tmp_path / "student")
    card = (folder / "README.md").read_text()
    assert folder == tmp_path / "student"
    for said in ("random-opt-teacher", "random-opt-student", "n = 4, seed 0", "Support set", '"kl_weight": 0.5'):
        assert said in card
    settings = json.loads(card.split("```json\n")[1].split("```")[0])
    assert settings["support_size"] == 4
    assert not list(tmp_path.glob(".exporting-*"))


def test_the_card_shows_every_text_as_it_is(smoke_profile, tmp_path):
    profile = smoke_profile.changed(hostile_things(tmp_path, seeds=[0], support_sizes=[4]))
    fill(profile, ["cd"])
    card = (export(profile, "cd", 4, 0) / "README.md").read_text()
    body = card.rpartition("---")[2]
    assert runs_or_loads(markdown2html(body)) == []
    page = markdown2html(body.partition("All settings")[0])
    assert visible(page).count(HOSTILE) == 2 + 2 * 3 + 1 + 5  # the set, the classes, the first class, the queries


def test_an_earlier_student_is_replaced_and_nothing_else_ever(filled, tmp_path):
    target = tmp_path / "student"
    target.mkdir()
    assert export(filled, "cd", 4, 0, target) == target == export(filled, "cd", 4, 1, target)
    assert "seed 1" in (target / "README.md").read_text()
    mine = tmp_path / "mine"
    (mine / ".git").mkdir(parents=True)
    (mine / "README.md").write_text("My own work.")
    for other in (mine, mine / "README.md", tmp_path):
        with pytest.raises(StudyError, match="holds something else"):
            export(filled, "cd", 4, 0, other)
    assert (mine / "README.md").read_text() == "My own work."
    assert (mine / ".git").is_dir()


def test_soft_labels_that_are_gone_are_asked_for_again(filled):
    for file in (filled.folder / "soft_labels").iterdir():
        file.unlink()
    assert (export(filled, "cd", 4, 0) / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("method", "size", "seed", "message"),
    [
        ("icl", 4, 0, "method: 'icl' is not known"),
        ("cd", 5, 0, "support: 5 is not known"),
        ("cd", 4, 9, "seed: 9 is not known"),
        ("cd_bitfit", 4, 0, "no result of cd_bitfit at n = 4, seed 0"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(filled, method, size, seed, message):
    with pytest.raises(StudyError, match=message):
        export(filled, method, size, seed)
    assert not (filled.folder / "students").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_trained(filled, tmp_path, monkeypatch):
    def train(*_):
        raise AssertionError("a student was trained")

    monkeypatch.setattr("lib.runs.export.trained_student", train)
    (tmp_path / "file").write_text("")
    for target in (Path("/proc/student"), tmp_path / "file" / "student", tmp_path / ("a" * 300)):
        with pytest.raises(StudyError, match=r"^to: ") as caught:
            export(filled, "pbft", 4, 0, target)
        assert str(target) in str(caught.value)


def test_a_student_with_added_biases_is_refused(filled):
    added = filled.model_copy(update={"bitfit": "add"})
    fill(added, ["pbft_bitfit"])
    with pytest.raises(StudyError, match="added biases is no model that plain transformers loads"):
        export(added, "pbft_bitfit", 4, 0)


@pytest.mark.parametrize("place", ["file/student", "link", "link/student", "/proc/student"])
def test_a_place_that_cannot_be_written_is_known_before_anything_is_trained(smoke_profile, tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/proc/nowhere/at/all")
    with pytest.raises(StudyError, match=r"^to: "):
        export(smoke_profile, "cd", 4, 0, tmp_path / place)
