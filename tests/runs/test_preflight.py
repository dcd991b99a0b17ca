"""Preflight: what cannot work is refused, in words that help, before a model is loaded or anything is written."""

import json

import pytest
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast

import lib.methods.context_distillation
import lib.models.loading
from lib.errors import StudyError
from lib.models import random_models
from lib.runs import preflight
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.tasks.samples import support_set
from lib.tasks.sources import from_folder


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"a model was loaded: {arguments}")

    monkeypatch.setattr(lib.models.loading, "load_model", refuse)
    monkeypatch.setattr(lib.methods.context_distillation, "load_model", refuse)


@pytest.fixture
def refusal(figures_folder):
    """The message with which `fill` refuses a changed smoke profile; that nothing was written is checked."""

    def ask(changes, methods=None):
        profile = read_profile("smoke", changes)
        with pytest.raises(StudyError) as caught:
            fill(profile, methods)
        assert not figures_folder.exists()
        return str(caught.value)

    return ask


def write_pairs(folder, name, premise="A dog sleeps.", rows=6, **more):
    lines = [
        {"premise": f"{premise} {i}", "hypothesis": "It sleeps.", "label": ("entailment", "contradiction")[i % 2]}
        for i in range(rows)
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line | more) + "\n" for line in lines))


@pytest.fixture
def long_data(tmp_path):
    """Training rows of 240 words and short evaluation rows: four demonstrations are over the 512 positions."""
    folder = tmp_path / "long"
    folder.mkdir()
    write_pairs(folder, "long", premise="word " * 240, split="train")
    short = (folder / "long.jsonl").read_text()
    write_pairs(folder, "long", split="validation")
    with (folder / "long.jsonl").open("a") as file:
        file.write(short)
    write_pairs(folder, "short")
    return {"data": str(folder), "in_domain": "long", "out_of_domain": "short", "support_sizes": [4]}


@pytest.mark.parametrize("method", ["icl", "teacher_icl", "pbft", "pbft_bitfit", "cd_lora"])
def test_a_support_set_larger_than_the_data_is_refused(refusal, method):
    message = refusal({"support_sizes": [1, 100]}, [method])
    assert "support_sizes: 100 examples need 50 of each class" in message
    assert "the largest possible is 6" in message


def test_a_pool_larger_than_what_the_support_set_leaves_is_refused(refusal):
    message = refusal({"pool_size": 3}, ["cd"])
    assert "pool_size: 3 queries asked for, but 2 are left" in message


@pytest.mark.parametrize("limit", [10, 100])
def test_more_evaluation_items_than_there_are_is_refused(refusal, limit):
    assert f"eval_limit: {limit} needs {limit // 2} rows of entailment, but there are 2" in refusal(
        {"eval_limit": limit}
    )


@pytest.mark.parametrize("method", ["icl", "teacher_icl", "cd"])
def test_demonstrations_that_do_not_fit_the_model_are_refused(refusal, long_data, method):
    assert "tokens do not fit the model's 512 positions" in refusal(long_data, [method])


@pytest.fixture
def narrow_student(tmp_path):
    """A model folder without weights, of 200 positions."""
    narrow = LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, max_position_embeddings=200)
    narrow.save_pretrained(tmp_path / "narrow")
    random_models.tokenizer().save_pretrained(tmp_path / "narrow")
    return str(tmp_path / "narrow")


@pytest.mark.parametrize(("method", "pool"), [("pbft", "train"), ("cd", "support")])
def test_a_support_row_that_does_not_fit_the_student_is_refused(refusal, long_data, narrow_student, method, pool):
    changes = {**long_data, "student": narrow_student, "support_sizes": [1], "pool": pool}
    assert "tokens do not fit the model's 200 positions" in refusal(changes, [method])


def test_a_pool_row_that_does_not_fit_the_student_is_refused(refusal, narrow_student, tmp_path):
    write_pairs(tmp_path, "mixed")
    rows = [json.loads(line) for line in (tmp_path / "mixed.jsonl").read_text().splitlines()]
    ((support, *_),) = support_set(from_folder(tmp_path, "mixed", "train"), 1, 0)
    long = [row if row["premise"] == support else row | {"premise": "word " * 240 + row["premise"]} for row in rows]
    write_pairs(tmp_path, "short")
    short = (tmp_path / "short.jsonl").read_text().splitlines()
    lines = [row | {"split": "train"} for row in long] + [json.loads(line) | {"split": "dev"} for line in short]
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    changes = {"data": str(tmp_path), "in_domain": "mixed", "out_of_domain": "short"}
    message = refusal({**changes, "student": narrow_student, "support_sizes": [1], "seeds": [0]}, ["cd"])
    assert "tokens do not fit the model's 200 positions" in message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["foo", "bar"], r"label_words: each needs a first token of its own"),
        (["Yes", "Yes"], r"label_words: each needs a first token of its own"),
        (["Yes", "No", "Maybe"], r"label_words: ['Yes', 'No', 'Maybe'] has 3 words, but 2 classes need one each"),
    ],
)
def test_label_words_that_cannot_be_told_apart_are_refused(refusal, words, expected):
    message = refusal({"label_words": words})
    assert expected in message
    assert all(repr(word) in message for word in words)


def save_reader(folder, tokenizer):
    """A model folder without weights: what preflight may read."""
    random_models.config("random-opt-teacher").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def other_tokenizer():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=random_models.tokenizer().backend_tokenizer,
        unk_token="<unk>",
        eos_token="</s>",
        pad_token="</s>",
    )
    tokenizer.add_tokens(["unheard"])
    return tokenizer


def test_a_vocabulary_comparison_across_tokenizers_is_refused(refusal, tmp_path):
    teacher = save_reader(tmp_path / "teacher", other_tokenizer())
    message = refusal({"teacher": teacher, "kl_over": "vocabulary"}, ["cd"])
    assert "kl_over: 'vocabulary'" in message
    assert teacher in message
    assert "random-opt-student have different vocabularies. Allowed for this pair: labels." in message


def test_a_label_comparison_across_tokenizers_passes(tmp_path):
    teacher = save_reader(tmp_path / "teacher", other_tokenizer())
    assert preflight.check(read_profile("smoke", {"teacher": teacher}).runs(("cd",))) == {}


def test_a_vocabulary_comparison_with_one_tokenizer_passes():
    assert preflight.check(read_profile("smoke", {"kl_over": "vocabulary"}).runs(("cd",))) == {}


def test_an_absent_cuda_device_is_refused(refusal, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "device: 'cuda' asked for, but torch sees no CUDA device here. Allowed here: cpu." in refusal(
        {"device": "cuda"}
    )


def test_a_missing_data_folder_is_refused(refusal, tmp_path):
    message = refusal({"data": str(tmp_path / "nowhere")})
    assert f"data: '{tmp_path / 'nowhere'}' is not a folder. Allowed: hub, world, embedded, or a folder" in message


def test_an_unknown_embedded_dataset_is_refused(refusal):
    message = refusal({"in_domain": "pears"})
    assert "dataset: 'pears' is not known. Did you mean 'pairs'? Allowed: pairs, swaps." in message


def test_a_dataset_that_is_not_in_the_folder_is_refused(refusal, tmp_path):
    write_pairs(tmp_path, "present")
    message = refusal({"data": str(tmp_path), "in_domain": "present", "out_of_domain": "absent"})
    assert "dataset: 'absent'" in message
    assert "Present: present." in message


def test_a_broken_line_of_data_is_refused_with_file_and_number(refusal, tmp_path):
    write_pairs(tmp_path, "pairs")
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write('{"premise": "cut sho')
    message = refusal({"data": str(tmp_path), "out_of_domain": "pairs"})
    assert f"{tmp_path / 'pairs.jsonl'}, line 7: not JSON" in message


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize("reference", ["./nowhere", "someone/no-such-model", "./nowhere.gguf"])
def test_a_missing_model_is_refused(refusal, role, reference):
    message = refusal({role: reference}, ["icl", "cd"])
    assert message.startswith("model: ")
    assert reference.removeprefix("./") in message


def test_a_method_that_does_not_apply_is_returned_with_its_reason_and_the_others_pass(tmp_path):
    LlamaConfig(vocab_size=200, hidden_size=8, num_attention_heads=2, num_hidden_layers=1).save_pretrained(tmp_path)
    random_models.tokenizer().save_pretrained(tmp_path)
    runs = read_profile("smoke", {"student": str(tmp_path)}).runs(("pbft", "pbft_bitfit", "cd_bitfit"))
    refused = preflight.check(runs)
    assert set(refused) == {run for run in runs if run.method != "pbft"}
    assert all("has no bias terms to train. Set bitfit: add" in reason for reason in refused.values())


def test_the_smoke_profile_passes():
    assert preflight.check(read_profile("smoke").runs()) == {}
