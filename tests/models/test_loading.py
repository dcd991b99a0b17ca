"""Loading models from folders and GGUF files, what each way of tuning trains, and the messages of what fails."""

import json
import os
import shutil
import time

import gguf
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
)

from lib.errors import RefusedMethod, StudyError
from lib.models import loading
from lib.models.loading import (
    DTYPES,
    check_device,
    check_dtype,
    fastest_dtype,
    load_config,
    load_model,
    load_tokenizer,
    random_model,
    random_models,
)
from lib.models.tuning import adapt, check_tuning

STUDENT, TEACHER = "random-opt-student", "random-opt-teacher"
LORA = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}


LOADERS = [load_tokenizer, load_config, lambda reference: load_model(reference, "float32", "cpu")]
every_loader = pytest.mark.parametrize("load", LOADERS, ids=["tokenizer", "config", "model"])


@pytest.fixture(scope="module")
def bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(["A short text. Yes or No?\nanswer: Yes"] * 4, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def llama_folder(bpe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=bpe.get_vocab_size(), **SIZES)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen(bpe):
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=bpe.get_vocab_size(), initializer_range=0.3, **SIZES))


@pytest.fixture
def gguf_file(bpe, qwen, tmp_path):
    """A small valid GGUF file, written by the format's own package from a tiny random Qwen2."""
    content = json.loads(bpe.to_str())["model"]
    tokens = sorted(content["vocab"], key=content["vocab"].get)
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(qwen.config.max_position_embeddings)
    writer.add_embedding_length(qwen.config.hidden_size)
    writer.add_feed_forward_length(qwen.config.intermediate_size)
    writer.add_block_count(qwen.config.num_hidden_layers)
    writer.add_head_count(qwen.config.num_attention_heads)
    writer.add_head_count_kv(qwen.config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(qwen.config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_token_merges([" ".join(pair) for pair in content["merges"]])
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, qwen.config.num_hidden_layers)
    for name, weight in qwen.state_dict().items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def step(model):
    """One step of plain gradient descent on whatever is trainable."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ids = torch.tensor([[5, 6, 7, 8]])
    model(ids, labels=ids).loss.backward()
    torch.optim.SGD(trained, lr=1.0).step()


def snapshot(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def changed(model, before):
    return {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}


@pytest.mark.parametrize("reference", [STUDENT, TEACHER])
def test_a_loaded_model_is_frozen_and_in_evaluation_mode(reference):
    model = load_model(reference, "float32", "cpu")
    assert not model.training
    assert model.num_parameters(only_trainable=True) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_is_loaded_in_the_precision_asked_for(dtype, llama_folder):
    for reference in (STUDENT, str(llama_folder)):
        weights = load_model(reference, dtype, "cpu").parameters()
        assert {weight.dtype for weight in weights} == {getattr(torch, dtype)}


def test_two_loads_of_one_reference_share_no_storage(llama_folder):
    for reference in (STUDENT, str(llama_folder)):
        first, second = (load_model(reference, "float32", "cpu") for _ in range(2))
        pointers = [{weight.data_ptr() for weight in model.parameters()} for model in (first, second)]
        assert pointers[0].isdisjoint(pointers[1])
        assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


def test_a_save_pretrained_folder_loads_whole(llama_folder, bpe):
    loaded, expected = load_model(str(llama_folder), "float32", "cpu"), LlamaForCausalLM.from_pretrained(llama_folder)
    ids = torch.tensor([bpe.encode("A short text. Yes").ids])
    assert load_tokenizer(str(llama_folder))("A short text. Yes")["input_ids"] == ids[0].tolist()
    assert load_config(str(llama_folder)).max_position_embeddings == 64
    assert not loaded.training
    assert loaded.num_parameters(only_trainable=True) == 0
    torch.testing.assert_close(loaded(ids).logits, expected(ids).logits)


def test_a_folder_that_lacks_a_weight_is_refused_and_not_filled_at_random(llama_folder, tmp_path):
    folder = tmp_path / "partial"
    shutil.copytree(llama_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudyError, match=r"lacks weights .* model\.layers\.0\.mlp\.up_proj\.weight"):
        load_model(str(folder), "float32", "cpu")


@pytest.mark.parametrize(
    "name", ["../elsewhere.safetensors", "/elsewhere.safetensors", "a/../../elsewhere.safetensors"]
)
def test_an_index_that_names_weights_outside_the_folder_is_refused(llama_folder, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(StudyError, match=r"names '.*elsewhere\.safetensors'\. Allowed: files in that folder"):
        load_model(str(folder), "float32", "cpu")


def saved_as(form, model, folder):
    """A model in one of the forms that weights have."""
    if form == "pickle":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        model.config.save_pretrained(folder)
    else:
        model.save_pretrained(folder, max_shard_size="20KB" if form == "shards" else "1GB")


FORMS = pytest.mark.parametrize("form", ["safetensors", "shards", "pickle"])
DEVICES = pytest.mark.parametrize("device", ["cpu", "meta"])


@FORMS
@DEVICES
def test_whole_weights_load_in_every_form(form, device, tmp_path, qwen):
    saved_as(form, qwen, tmp_path)
    loaded = load_model(str(tmp_path), "float32", device)
    assert loaded.device.type == device
    assert {name: weight.shape for name, weight in loaded.state_dict().items()} == {
        name: weight.shape for name, weight in qwen.state_dict().items()
    }


@FORMS
@DEVICES
def test_weights_of_another_shape_are_refused_naming_both_shapes(form, device, tmp_path, qwen):
    saved_as(form, qwen, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(
        StudyError, match=r"^model: .*6 of them: model\.layers\.0\.mlp\.down_proj\.weight \[32, 64\], not \[32, 48\]"
    ):
        load_model(str(tmp_path), "float32", device)


@FORMS
@DEVICES
def test_a_layer_without_weights_is_refused(form, device, tmp_path, qwen):
    saved_as(form, qwen, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    more = {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    (tmp_path / "config.json").write_text(json.dumps(config | more))
    with pytest.raises(StudyError, match=r"lacks weights .* model\.layers\.2\."):
        load_model(str(tmp_path), "float32", device)


def warnings_in(capsys):
    """The study's own, beside what transformers may report."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: model")]


@FORMS
@pytest.mark.parametrize("layers", [0, 1])
def test_layers_that_the_configuration_does_not_have_are_said_once_before_anything_is_computed(
    form, layers, tmp_path, qwen, capsys
):
    saved_as(form, qwen, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    fewer = {"num_hidden_layers": layers, "layer_types": ["full_attention"] * layers}
    (tmp_path / "config.json").write_text(json.dumps(config | fewer))
    load_model(str(tmp_path), "float32", "meta")
    (said,) = warnings_in(capsys)
    assert f"'{tmp_path}' has weights that its configuration does not use" in said
    assert f"model.layers.{layers}." in said
    load_model(str(tmp_path), "float32", "cpu")
    assert warnings_in(capsys) == []


@FORMS
def test_of_whole_weights_nothing_is_said(form, tmp_path, qwen, capsys):
    saved_as(form, qwen, tmp_path)
    load_model(str(tmp_path), "float32", "meta")
    assert warnings_in(capsys) == []


class Intruder:
    """Runs a command where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@DEVICES
def test_a_pickle_of_more_than_weights_is_refused_and_runs_nothing(device, tmp_path, qwen):
    saved_as("pickle", qwen, tmp_path)
    torch.save({"weight": Intruder(tmp_path / "marker")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(StudyError) as caught:
        load_model(str(tmp_path), "float32", device)
    assert str(caught.value).startswith(f"model: '{tmp_path}' has pickled weights")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


def test_an_adapter_is_refused_by_its_name(tmp_path, llama_folder):
    base = load_model(str(llama_folder), "float32", "cpu")
    adapt(base, "lora", LORA).save_pretrained(tmp_path)
    for load in LOADERS:
        with pytest.raises(StudyError, match=rf"^model: '{tmp_path}' is an adapter\. Allowed: "):
            load(str(tmp_path))


@pytest.mark.parametrize("kept", ["nothing", "its settings"])
def test_a_folder_without_a_tokenizer_is_refused_as_such(kept, llama_folder, tmp_path):
    folder = tmp_path / "mute"
    shutil.copytree(llama_folder, folder, ignore=shutil.ignore_patterns("tokenizer.json"))
    if kept == "nothing":
        (folder / "tokenizer_config.json").unlink()
    with pytest.raises(StudyError, match=rf"^model: '{folder}' .*tokenizer"):
        load_tokenizer(str(folder))


def test_a_configuration_that_makes_no_sense_is_refused_with_its_value(llama_folder, tmp_path):
    config = json.loads((llama_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": -4}))
    with pytest.raises(StudyError, match=rf"^model: .*{tmp_path}.*-4"):
        random_model(str(tmp_path), load_config(str(tmp_path)))


@pytest.mark.parametrize("config", [BertConfig(), T5Config()], ids=["encoder", "encoder and decoder"])
def test_a_folder_with_another_kind_of_model_is_refused(config, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(StudyError, match=rf"^model: '{tmp_path}' is .*{config.model_type}.*Allowed: models that read"):
        load_config(str(tmp_path))


def test_a_name_beside_what_is_there_is_no_hub_name(llama_folder):
    typed = f"{llama_folder}x"
    began = time.perf_counter()
    with pytest.raises(StudyError, match=rf"^model: '{typed}' is not there: .*Did you mean '{llama_folder}'"):
        load_config(typed)
    with pytest.raises(StudyError, match=r"^model: 'lib/modles' is not there: .*Did you mean '.*lib/models'"):
        load_config("lib/modles")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("name", ["a b", "what?", "owner/name/more", "-x", "owner/"])
def test_what_no_hub_name_can_be_is_not_asked_for(name):
    with pytest.raises(StudyError, match=r"^model: .* is not there: no folder"):
        load_config(name)


def test_full_tuning_trains_every_parameter():
    model = adapt(load_model(STUDENT, "float32", "cpu"), "full", None)
    assert model.num_parameters(only_trainable=True) == model.num_parameters()


def test_bitfit_trains_the_bias_terms_and_nothing_else():
    model = adapt(load_model(STUDENT, "float32", "cpu"), "bitfit", None)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    biases = {name for name, _ in model.named_parameters() if name.split(".")[-1] == "bias"}
    assert trained == biases
    assert model.num_parameters(only_trainable=True) == sum(model.get_parameter(name).numel() for name in biases) > 0


def test_a_bitfit_step_moves_biases_only():
    model = adapt(load_model(STUDENT, "float32", "cpu"), "bitfit", None)
    before = snapshot(model)
    step(model)
    moved = changed(model, before)
    assert moved
    assert all(name.endswith(".bias") for name in moved)


def test_lora_trains_only_its_adapter():
    model = adapt(load_model(STUDENT, "float32", "cpu"), "lora", LORA)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    width, layers = random_models.WIDTHS[STUDENT], 2
    assert all("lora_" in name for name in trained)
    assert model.num_parameters(only_trainable=True) == layers * len(LORA.target_modules) * 2 * LORA.r * width


def test_a_lora_step_leaves_the_base_model_unchanged():
    model = adapt(load_model(STUDENT, "float32", "cpu"), "lora", LORA)
    before = snapshot(model)
    step(model)
    moved = changed(model, before)
    assert moved == {name for name in before if "lora_" in name}
    base = dict(random_models.model(STUDENT).named_parameters())
    kept = {name.removeprefix("base_model.model.").replace(".base_layer", ""): name for name in before}
    assert all(torch.equal(weight, model.get_parameter(kept[name])) for name, weight in base.items())


def test_bitfit_is_refused_where_there_is_no_bias_naming_the_alternatives(llama_folder):
    with pytest.raises(RefusedMethod) as caught:
        check_tuning(str(llama_folder), "bitfit")
    message = str(caught.value)
    assert message.startswith(f"bitfit: {llama_folder} has no bias terms")
    assert all(name in message for name in ("pbft,", "cd,", "pbft_lora", "cd_lora", "OPT", "GPT-NeoX"))


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_other_tunings_are_not_refused_without_biases(llama_folder, tuning):
    check_tuning(str(llama_folder), tuning)


def test_bitfit_is_not_refused_where_there_are_biases():
    check_tuning(STUDENT, "bitfit")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(StudyError, match=r"device: 'cuda' asked for.*Allowed here: cpu"):
        check_device("cuda")


def test_cpu_is_always_allowed():
    check_device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512", "fastest"),
    [(False, False, "float32"), (True, False, "bfloat16"), (False, True, "bfloat16")],
)
def test_bfloat16_is_the_fastest_where_the_processor_has_units_for_it(amx, avx512, fastest, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert fastest_dtype("cpu") == fastest


def test_a_precision_that_the_device_cannot_compute_in_is_refused(monkeypatch):
    check_dtype.cache_clear()
    check_dtype("cpu", "float32")
    monkeypatch.setitem(DTYPES, "float16", torch.float8_e5m2)  # which no CPU multiplies
    with pytest.raises(
        StudyError, match=r"^dtype: 'float16' cannot be computed on this cpu \(.*Allowed: auto, float32"
    ):
        check_dtype("cpu", "float16")


@every_loader
def test_a_hub_name_that_cannot_be_fetched_is_refused_naming_it_and_what_is_allowed(load):
    with pytest.raises(StudyError) as caught:
        load("nobody-at-all/no-such-model")
    message = str(caught.value)
    assert message.startswith("model: 'nobody-at-all/no-such-model' could not be loaded from the hub")
    assert "Allowed: a hub name, a folder made by save_pretrained, or a .gguf file." in message
    assert "\n" not in message


@every_loader
def test_a_missing_folder_is_refused_without_asking_the_hub(load, tmp_path):
    with pytest.raises(StudyError, match=r"model: '.*absent' is not there: no folder .*absent"):
        load(str(tmp_path / "absent"))


@every_loader
def test_a_folder_without_a_model_is_refused_naming_it(load, tmp_path):
    with pytest.raises(StudyError, match=rf"could not be loaded from the folder {tmp_path}.*Allowed: a hub name"):
        load(str(tmp_path))


@every_loader
def test_a_missing_gguf_file_is_refused_naming_it(load, tmp_path):
    with pytest.raises(StudyError, match=r"model: no GGUF file .*absent\.gguf"):
        load(str(tmp_path / "absent.gguf"))


@every_loader
def test_a_file_that_is_not_gguf_is_refused_naming_it(load, tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(StudyError, match=r"model: .*other\.gguf .*not a GGUF file"):
        load(str(tmp_path / "other.gguf"))
    assert os.listdir(tmp_path) == ["other.gguf"]


@every_loader
@pytest.mark.parametrize("rest", [b"", b"\x03\x00\x00\x00" + bytes(range(200))], ids=["nothing", "garbage"])
def test_a_broken_gguf_file_is_refused_and_leaves_nothing_behind(load, rest, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + rest)
    with pytest.raises(StudyError, match=r"model: .*broken\.gguf could not be read as GGUF"):
        load(str(tmp_path / "broken.gguf"))
    assert os.listdir(tmp_path) == ["broken.gguf"]


def test_a_gguf_file_gives_the_model_and_tokenizer_that_it_was_written_from(gguf_file, qwen, bpe):
    loaded = load_model(str(gguf_file), "bfloat16", "cpu").state_dict()
    assert loaded.keys() == qwen.state_dict().keys()
    assert all(torch.equal(loaded[name], weight.bfloat16()) for name, weight in qwen.state_dict().items())
    assert load_config(str(gguf_file)).max_position_embeddings == 64
    text = "A short text.\n\nYes or No?"
    assert load_tokenizer(str(gguf_file))(text)["input_ids"] == bpe.encode(text).ids


def test_a_gguf_file_is_unpacked_once_beside_itself(gguf_file):
    load_model(str(gguf_file), "float32", "cpu")
    assert sorted(os.listdir(gguf_file.parent)) == ["tiny.gguf", "tiny.unpacked"]
    marker = gguf_file.with_suffix(".unpacked") / "marker"
    marker.touch()
    load_model(str(gguf_file), "float32", "cpu")
    load_tokenizer(str(gguf_file))
    assert marker.is_file()


@pytest.mark.parametrize("age", [-1000, 1000], ids=["older", "newer"])
def test_a_replaced_gguf_file_is_unpacked_again_whatever_its_age(gguf_file, age):
    load_model(str(gguf_file), "float32", "cpu")
    folder = gguf_file.with_suffix(".unpacked")
    (folder / "marker").touch()
    content = bytearray(gguf_file.read_bytes())
    content[-1] ^= 1  # a bit of the last weight
    gguf_file.write_bytes(bytes(content))
    when = folder.stat().st_mtime + age
    os.utime(gguf_file, (when, when))
    load_model(str(gguf_file), "float32", "cpu")
    assert not (folder / "marker").exists()
    assert (folder / "config.json").is_file()


def test_a_gguf_file_of_the_same_content_is_not_unpacked_again(gguf_file):
    load_model(str(gguf_file), "float32", "cpu")
    folder = gguf_file.with_suffix(".unpacked")
    (folder / "marker").touch()
    later = folder.stat().st_mtime + 10
    os.utime(gguf_file, (later, later))
    load_model(str(gguf_file), "float32", "cpu")
    assert (folder / "marker").exists()


def test_of_two_processes_that_unpack_a_file_at_once_the_first_wins(gguf_file, monkeypatch):
    folder, unpack = gguf_file.with_suffix(".unpacked"), loading.AutoTokenizer.from_pretrained

    def after_another_process(*args, **kwargs):
        monkeypatch.undo()
        load_model(str(gguf_file), "float32", "cpu")  # the other one, which is done before this one
        (folder / "marker").touch()
        return unpack(*args, **kwargs)

    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", after_another_process)
    load_tokenizer(str(gguf_file))
    assert (folder / "marker").exists()
    assert sorted(os.listdir(gguf_file.parent)) == ["tiny.gguf", "tiny.unpacked"]


@every_loader
def test_a_part_of_a_gguf_file_is_refused_as_such(load, gguf_file):
    part = gguf_file.rename(gguf_file.with_name("tiny-00001-of-00002.gguf"))
    with pytest.raises(StudyError, match=rf"^model: {part} is part 1 of 2\. Allowed: "):
        load(str(part))
    assert os.listdir(part.parent) == [part.name]


def test_a_gguf_file_that_lacks_a_tensor_is_refused_naming_it_and_leaves_nothing_behind(gguf_file):
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content.replace(b"blk.1.ffn_up.weight", b"blk.7.ffn_up.weight"))
    with pytest.raises(StudyError, match=rf"^model: '{gguf_file}' lacks weights .*layers\.1\.mlp\.up_proj"):
        load_model(str(gguf_file), "float32", "cpu")
    assert os.listdir(gguf_file.parent) == [gguf_file.name]


def test_an_unpacked_model_is_read_by_whoever_reads_its_folder(gguf_file):
    mask = os.umask(0o022)
    try:
        load_model(str(gguf_file), "float32", "cpu")
    finally:
        os.umask(mask)
    folder = gguf_file.with_suffix(".unpacked")
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.98])
def test_a_gguf_file_cut_short_is_refused_and_leaves_nothing_behind(gguf_file, kept):
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(StudyError, match=r"model: .*tiny\.gguf could not be read as GGUF"):
        load_model(str(gguf_file), "float32", "cpu")
    assert os.listdir(gguf_file.parent) == ["tiny.gguf"]


def test_added_biases_are_zeros_on_every_linear_layer_but_the_head_and_change_nothing(llama_folder):
    model = load_model(str(llama_folder), "float32", "cpu")
    ids = torch.tensor([[1, 2, 3]])
    before = model(ids).logits
    adapted = adapt(model, "bitfit", None, "add")
    torch.testing.assert_close(adapted(ids).logits, before)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    linear = {name for name, layer in adapted.named_modules() if isinstance(layer, torch.nn.Linear)}
    assert trained == {f"{name}.bias" for name in linear - {"lm_head"}}
    adapted(ids).logits.sum().backward()
    assert all(adapted.get_parameter(name).grad.abs().sum() > 0 for name in trained)


def test_added_biases_need_no_existing_ones(llama_folder):
    check_tuning(str(llama_folder), "bitfit", biases="add")
    with pytest.raises(RefusedMethod):
        check_tuning(str(llama_folder), "bitfit")
