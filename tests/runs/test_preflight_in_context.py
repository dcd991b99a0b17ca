"""Preflight of in-context tuning: what cannot work is refused before a model is loaded or a file is written."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import lib.methods.in_context_distillation
import lib.models.loading
from lib.errors import StudyError
from lib.methods.table import ON_BENCHMARKS
from lib.models import random_models
from lib.runs import preflight
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.tasks import smoke
from lib.tasks.task import Benchmark


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"a model was loaded: {arguments}")

    monkeypatch.setattr(lib.models.loading, "load_model", refuse)
    monkeypatch.setattr(lib.methods.in_context_distillation, "load_model", refuse)


@pytest.fixture
def refusal(figures_folder):
    """The message with which a benchmark is refused; that nothing was written is checked."""

    def ask(changes, methods=None, benchmark="crossfit"):
        with pytest.raises(StudyError) as caught:
            fill(read_profile("smoke", changes), methods, benchmark)
        assert not figures_folder.exists()
        return str(caught.value)

    return ask


def check(changes, methods=ON_BENCHMARKS, benchmark="crossfit"):
    runs = read_profile("smoke", changes).in_context_runs(benchmark)
    return preflight.check([run for run in runs if run.method in methods])


def save_reader(folder, positions, tokenizer=None):
    """A model folder of so many positions."""
    config = LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, max_position_embeddings=positions)
    LlamaForCausalLM(config).save_pretrained(folder)
    (tokenizer or random_models.tokenizer()).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def narrow(tmp_path):
    return lambda positions: save_reader(tmp_path / f"of {positions}", positions)


def write_tasks(folder, **words):
    """A CrossFit folder of two short targets and as many tasks to tune on, whose inputs are so many words long."""
    for name, count in words.items():
        rows = [
            {"input": f"{'dog ' * count}{i}", "output": "ab"[i % 2], "options": ["a", "b"], "split": split}
            for split, rows in (("train", range(6)), ("test", range(6, 10)))
            for i in rows
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = {"train": [name for name in words if name.startswith("tuned")]}
    split["test"] = [name for name in words if name not in split["train"]]
    (folder / "split.json").write_text(json.dumps(split))
    return {"in_context.crossfit.source": str(folder), "in_context.crossfit.split": str(folder / "split.json")}


@pytest.mark.parametrize("benchmark", ["crossfit", "lama"])
def test_the_smoke_profile_passes_and_nothing_of_it_is_refused(benchmark):
    assert check({}, benchmark=benchmark) == {}


@pytest.mark.parametrize("k", [20, 100])
def test_more_demonstrations_than_there_are_examples_are_refused(refusal, k):
    message = refusal({"in_context.crossfit.demonstrations": k, "in_context.crossfit.examples": 200})
    assert "crossfit: no task to tune on is left" in message
    assert f"times: 8 examples, of any length, where {k + 1} are needed" in message


def test_a_curve_beyond_the_examples_is_refused(refusal):
    message = refusal({"in_context.lama.curve": [30]}, benchmark="lama")
    assert "30 are needed" in message


@pytest.mark.parametrize("name", ["untuned", "ict", "icl_d"])
def test_demonstrations_that_do_not_fit_the_student_are_refused(refusal, narrow, name):
    message = refusal({"student": narrow(16)}, [name])
    assert "do not fit the model's" in message
    assert "use fewer demonstrations" in message


@pytest.mark.parametrize("name", ["teacher_untuned", "teacher_ict", "icl_d", "icl_d_lm"])
def test_demonstrations_that_do_not_fit_the_teacher_are_refused(refusal, narrow, name):
    assert "do not fit the model's" in refusal({"teacher": narrow(16)}, [name])


def test_a_narrow_teacher_does_not_stop_methods_without_one(narrow):
    assert check({"teacher": narrow(16)}, ("untuned", "ict")) == {}


def test_room_is_left_for_the_longest_option(narrow, tmp_path):
    rows = [{"input": f"dog {i}", "output": "in the sea", "options": ["in the sea", "cloud"]} for i in range(6)]
    rows = [row | {"split": "test" if i > 3 else "train"} for i, row in enumerate(rows)]
    for name in ("tuned", "asked"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["tuned"], "test": ["asked"]}))
    prompt = "dog 0\nAnswer: in the sea\n\ndog 4\nAnswer:"
    tokens = len(random_models.tokenizer()(f"{prompt} in the sea")["input_ids"])
    changes = {
        "in_context.crossfit.source": str(tmp_path),
        "in_context.crossfit.split": str(tmp_path / "split.json"),
        "in_context.crossfit.demonstrations": 1,
    }
    assert check({**changes, "student": narrow(tokens - 1)}, ("untuned", "ict")) == {}
    with pytest.raises(StudyError, match=f"{tokens - 3} tokens and 2 of an answer do not fit"):
        check({**changes, "student": narrow(tokens - 2)}, ("untuned",))


def test_tasks_that_are_only_tuned_on_have_to_fit_where_they_are_read(refusal, narrow, tmp_path):
    changes = {**write_tasks(tmp_path, tuned=40, asked=2), "student": narrow(90)}
    assert "do not fit the model's" in refusal(changes, ["ict"])
    assert check(changes, ("untuned",)) == {}
    assert check({**changes, "in_context.paradigms": ["multitask"]}, ("ict", "icl_d")) == {}


def test_tasks_to_tune_on_have_to_fit_the_teacher_too(refusal, narrow, tmp_path):
    changes = {**write_tasks(tmp_path, tuned=40, asked=2), "teacher": narrow(90)}
    for name in ("teacher_ict", "icl_d"):
        assert "do not fit the model's" in refusal(changes, [name])
    assert check(changes, ("teacher_untuned", "ict")) == {}


@pytest.mark.parametrize("split", ["nowhere.json", ""])
def test_a_missing_split_is_refused(refusal, tmp_path, split):
    changes = {**write_tasks(tmp_path, tuned=2, asked=2), "in_context.crossfit.split": split}
    assert f"crossfit.split: {split!r} is not a JSON file of train and test task names" in refusal(changes)


@pytest.mark.parametrize("benchmark", ["crossfit", "lama"])
def test_a_missing_folder_is_refused(refusal, tmp_path, benchmark):
    changes = write_tasks(tmp_path, tuned=2, asked=2)
    message = refusal({**changes, f"in_context.{benchmark}.source": str(tmp_path / "nowhere")}, benchmark=benchmark)
    assert "nowhere" in message


def test_a_task_on_both_sides_is_refused(refusal, tmp_path):
    changes = write_tasks(tmp_path, tuned=2, asked=2)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["tuned"], "test": ["asked", "tuned"]}))
    assert "split.json: tuned would be both tuned on and evaluated" in refusal(changes)


def test_a_missing_text_file_is_refused_only_where_plain_text_is_read(refusal):
    changes = {"in_context.lm_text": "nowhere.txt"}
    assert "lm_text: 'nowhere.txt' is not there. Allowed: inputs, a text file, or hub:OWNER/NAME" in refusal(changes)
    assert check(changes, ("ict", "icl_d")) == {}


def test_a_file_without_text_is_refused(refusal, tmp_path):
    (tmp_path / "blank.txt").write_text("\n  \n")
    assert "holds no text" in refusal({"in_context.lm_text": str(tmp_path / "blank.txt")}, ["icl_d_lm"])


def test_options_that_are_the_same_tokens_are_refused(refusal, tmp_path):
    changes = write_tasks(tmp_path, tuned=2, asked=2)
    file = tmp_path / "asked.jsonl"
    file.write_text(file.read_text().replace('"a"', '"unheardof"').replace('"b"', '"unread"'))
    message = refusal(changes, ["untuned"])
    assert "each needs tokens of its own" in message
    assert "'unheardof'" in message and "'unread'" in message


def strange_tokenizer():
    """Whole words apart from their spaces: those of the options, and many that nobody else knows."""
    options = {word for rows in smoke.TASKS.values() for row in rows for word in row["output"].split()}
    words = ["<unk>", "</s>", " ", *sorted(options), *(f"@{i}" for i in range(300))]
    split = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.Split(" ", behavior="isolated")
    return PreTrainedTokenizerFast(tokenizer_object=split, unk_token="<unk>", eos_token="</s>")


def test_vocabularies_with_next_to_nothing_in_common_are_refused_only_for_plain_text(tmp_path):
    teacher = save_reader(tmp_path / "strange", 512, strange_tokenizer())
    with pytest.raises(
        StudyError, match=r"lm_weight: 0\.2: .* random-opt-student and .* share \d tokens; .* needs 100"
    ):
        check({"teacher": teacher}, ("icl_d_lm",))
    assert check({"teacher": teacher}, ("teacher_ict", "ict", "icl_d")) == {}


def test_a_small_vocabulary_that_is_wholly_shared_passes(tmp_path, monkeypatch):
    both = [save_reader(tmp_path / name, 512, strange_tokenizer()) for name in ("student", "teacher")]
    monkeypatch.setattr(preflight, "FEWEST_SHARED", 1000)
    assert check({"student": both[0], "teacher": both[1]}) == {}


def test_an_absent_cuda_device_is_refused(refusal, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "device: 'cuda' asked for, but torch sees no CUDA device here" in refusal({"device": "cuda"})


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_missing_model_is_refused(refusal, tmp_path, role):
    assert str(tmp_path / "nowhere") in refusal({role: str(tmp_path / "nowhere")})


def test_repeated_rows_of_a_task_are_counted_once_with_file_and_line(tmp_path, capsys):
    changes = write_tasks(tmp_path, tuned=2, asked=2)
    file = tmp_path / "tuned.jsonl"
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    assert check(changes, ("untuned", "ict")) == {}
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("warning: crossfit, tuned: 1 rows repeat") and f"{file}, line" in said


@pytest.mark.parametrize(
    ("source", "pinned"), [("hub", True), ("hub:a/b", False), ("hub:a/b@main", False), (f"hub:a/b@{'0a' * 20}", True)]
)
def test_a_benchmark_of_the_hub_without_a_commit_is_doubtful(source, pinned):
    said = preflight._doubts_of_hub(Benchmark("lama", source))
    assert [source in doubt and "may change" in doubt for doubt in said] == ([] if pinned else [True])
