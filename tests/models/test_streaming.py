"""Streamed models: the answers of whole ones, whatever the files and the architecture; and clear refusals."""

import gc
import shutil
from collections import namedtuple

import psutil
import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from lib.errors import StudyError
from lib.models.loading import load_model
from lib.models.scoring import class_log_probs
from lib.models.streaming import check_streams, is_streamed, load
from lib.tasks.prompts import EncodedPrompts

SHAPE = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
MODELS = {
    "OPT, tied vocabulary": (
        OPTForCausalLM,
        OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=64),
    ),
    "Llama, grouped heads": (LlamaForCausalLM, LlamaConfig(**SHAPE, intermediate_size=64, num_key_value_heads=1)),
    "GPT-NeoX": (GPTNeoXForCausalLM, GPTNeoXConfig(**SHAPE, intermediate_size=64)),
}
PROMPTS = EncodedPrompts([5, 6, 7, 8], [[9, 10], [11], [12, 13, 14, 15], [3, 4, 5]])
ANSWERS = {"one token": [[7], [3]], "several tokens": [[7, 3], [7, 9, 4]], "vocabulary": None}
Memory = namedtuple("Memory", "available")


def saved(name, folder, dtype=torch.float32, **options):
    torch.manual_seed(0)
    of, config = MODELS[name]
    of(config).to(dtype).save_pretrained(folder, **options)
    return str(folder)


def answers(model, kind):
    return class_log_probs(model, PROMPTS, ANSWERS[kind], 3)


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_streamed_model_answers_as_a_whole_one_but_for_the_last_digit(name, kind, tmp_path):
    folder = saved(name, tmp_path)
    streamed = load(folder, "float32", "cpu", "streamed")
    assert is_streamed(streamed)
    expected = answers(load(folder, "float32", "cpu", "whole"), kind)  # kernels may depend on where weights lie
    torch.testing.assert_close(answers(streamed, kind), expected, rtol=2.5e-7, atol=0)
    assert is_streamed(streamed)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_in_another_precision_than_the_file_are_those_of_a_whole_model(dtype, tmp_path):
    folder = saved("OPT, tied vocabulary", tmp_path, torch.float16, max_shard_size="40KB")
    streamed = load(folder, dtype, "cpu", "streamed")
    assert torch.equal(answers(streamed, "one token"), answers(load_model(folder, dtype, "cpu"), "one token"))


def in_older_files(folder):
    """The same weights as `torch.save` writes them, which cannot be read one by one."""
    (file,) = folder.glob("*.safetensors")
    torch.save(load_model(str(folder), "float32", "cpu").state_dict(), folder / "pytorch_model.bin")
    file.unlink()


def test_weights_that_are_not_in_safetensors_are_streamed_from_a_copy_that_goes_with_the_model(tmp_path, monkeypatch):
    folder, scratch = tmp_path / "model", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    saved("OPT, tied vocabulary", folder)
    expected = answers(load_model(str(folder), "float32", "cpu"), "one token")
    in_older_files(folder)
    streamed = load(str(folder), "float32", "cpu", "streamed")
    assert list(scratch.iterdir())
    assert torch.equal(answers(streamed, "one token"), expected)
    del streamed
    gc.collect()
    assert not list(scratch.iterdir())


def test_a_disk_without_room_for_that_copy_is_refused(tmp_path, monkeypatch):
    saved("OPT, tied vocabulary", tmp_path)
    in_older_files(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**20, 2**20, 1000))
    with pytest.raises(StudyError, match=r"teacher_memory: 'streamed': .* no safetensors.*TMPDIR"):
        load(str(tmp_path), "float32", "cpu", "streamed")


def test_auto_streams_what_would_not_fit(tmp_path, monkeypatch):
    folder = saved("OPT, tied vocabulary", tmp_path)
    size = sum(one.nbytes for one in load_model(folder, "float32", "cpu").parameters())
    for free, streams in ((2 * size, False), (size, True)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: Memory(free))
        assert is_streamed(load(folder, "float32", "cpu", "auto")) == streams


def test_memory_too_small_for_the_largest_layer_is_refused(tmp_path, monkeypatch):
    folder = saved("OPT, tied vocabulary", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(1000))
    with pytest.raises(StudyError, match=r"teacher_memory: 'streamed': the largest layer .* 0\.00 GiB are free on cpu"):
        load(folder, "float32", "cpu", "streamed")


def test_a_model_with_a_cache_of_another_kind_is_refused_before_its_weights_are_read(tmp_path):
    torch.manual_seed(0)
    MambaForCausalLM(MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"teacher_memory: 'streamed': .*Allowed: whole"):
        check_streams(str(tmp_path), "float32")


def test_random_models_are_streamed_too():
    whole, streamed = (load("random-opt-teacher", "float32", "cpu", memory) for memory in ("whole", "streamed"))
    assert torch.equal(answers(streamed, "one token"), answers(whole, "one token"))
