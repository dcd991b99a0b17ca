"""Preflight: what cannot work is refused, in words that help, before a model is loaded or anything is written."""

import json
import re

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import lib.methods.context_distillation
import lib.models.loading
from lib.errors import StudyError
from lib.methods.examples import examples_of
from lib.models import random_models
from lib.runs import preflight
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.tasks.task import Benchmark
from tests.support.own_data import TWO_TOKEN_WORDS, things


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"a model was loaded: {arguments}")

    monkeypatch.setattr(lib.models.loading, "load_model", refuse)
    monkeypatch.setattr(lib.methods.context_distillation, "load", refuse)


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


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


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
    """A model folder of 200 positions."""
    narrow = LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, max_position_embeddings=200)
    LlamaForCausalLM(narrow).save_pretrained(tmp_path / "narrow")
    random_models.tokenizer().save_pretrained(tmp_path / "narrow")
    return str(tmp_path / "narrow")


@pytest.mark.parametrize(("method", "pool"), [("pbft", "train"), ("cd", "support")])
def test_a_support_row_that_does_not_fit_the_student_is_refused(refusal, long_data, narrow_student, method, pool):
    changes = {**long_data, "student": narrow_student, "support_sizes": [1], "pool": pool}
    assert "tokens do not fit the model's 200 positions" in refusal(changes, [method])


def test_a_pool_row_that_does_not_fit_the_student_is_refused(refusal, narrow_student, tmp_path):
    """All rows to learn from are too long but the one that the support set has, which is drawn by its place."""
    rows = [
        {"premise": f"A dog sleeps. {i}", "hypothesis": "It sleeps.", "label": ("entailment", "contradiction")[i % 2]}
        for i in range(12)
    ]
    rows = [row | {"split": "train" if i < 6 else "dev"} for i, row in enumerate(rows)]
    write_rows(tmp_path / "drawn.jsonl", rows)
    changes = {"data": str(tmp_path), "in_domain": "drawn", "out_of_domain": [], "support_sizes": [1], "seeds": [0]}
    (run,) = read_profile("smoke", changes).runs(("cd",))
    (support,) = examples_of(run).support
    long = [
        row if row["premise"] in support.text else row | {"premise": "word " * 240 + row["premise"]} for row in rows
    ]
    write_rows(tmp_path / "mixed.jsonl", [*long[:6], *rows[6:]])
    message = refusal({**changes, "in_domain": "mixed", "student": narrow_student}, ["cd"])
    assert "tokens do not fit the model's 200 positions" in message
    assert preflight.check(read_profile("smoke", {**changes, "student": narrow_student}).runs(("cd",))) == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["foo", "bar"], "label_words: each needs tokens of its own"),
        (["Yes foo", "Yes bar"], "label_words: each needs tokens of its own"),
    ],
)
def test_label_words_that_cannot_be_told_apart_are_refused(refusal, words, expected):
    message = refusal({"label_words": words})
    assert expected in message
    assert all(repr(word) in message for word in words)


def merging_tokenizer():
    """Whole words with the space after them: a label word changes the tokens of what stands before it."""
    words = ["<unk>", "</s>", *(f"{word}{space}" for word in ("Yes", "No", "answer:") for space in ("", " "))]
    split = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    return PreTrainedTokenizerFast(tokenizer_object=split, unk_token="<unk>", eos_token="</s>")


def test_label_words_that_merge_with_what_stands_before_them_are_refused(refusal, tmp_path):
    student = save_reader(tmp_path / "student", merging_tokenizer())
    message = refusal({"student": student}, ["icl"])
    assert "label_words: 'Yes' merges with the text before it" in message
    assert "answer:" in message


SEVERAL_TOKENS = {"label_words": ["in the sea", "in the sky"]}


def test_label_words_of_several_tokens_pass_where_they_are_compared_by_themselves():
    assert preflight.check(read_profile("smoke", SEVERAL_TOKENS).runs()) == {}


def test_a_label_word_that_begins_another_is_refused(refusal):
    message = refusal({"label_words": ["in the sea", "in the"]})
    assert "label_words: 'in the sea' begins with all tokens of 'in the'" in message


@pytest.mark.parametrize(
    ("changes", "methods", "expected"),
    [
        ({"kl_over": "vocabulary"}, ["cd"], r"kl_over: 'vocabulary' .*first token.* Allowed: labels"),
    ],
)
def test_label_words_of_several_tokens_are_refused_where_first_tokens_are_compared(refusal, changes, methods, expected):
    assert re.search(expected, refusal({**SEVERAL_TOKENS, **changes}, methods))
    assert preflight.check(read_profile("smoke", changes).runs(tuple(methods))) == {}


def test_recomputed_activations_pass_with_label_words_of_several_tokens():
    assert preflight.check(read_profile("smoke", {**SEVERAL_TOKENS, "checkpointing": True}).runs(("pbft",))) == {}


def test_settings_that_need_first_tokens_pass_for_methods_that_do_not_use_them():
    changes = {**SEVERAL_TOKENS, "kl_over": "vocabulary"}
    assert preflight.check(read_profile("smoke", changes).runs(("icl", "teacher_icl", "baseline"))) == {}


@pytest.fixture
def overlapping(tmp_path):
    """Six rows to learn from in domain and six evaluated out of domain, which share two rows but for white space."""
    rows = [
        {"premise": f"Dog {i} sleeps.", "hypothesis": "It sleeps.", "label": ("entailment", "contradiction")[i % 2]}
        for i in range(10)
    ]
    alike = [row | {"premise": f"  {row['premise']} \n"} for row in rows[:2]]
    other = [row | {"premise": row["premise"].replace("Dog", "Cat")} for row in rows[:4]]
    write_rows(
        tmp_path / "known.jsonl",
        [row | {"split": "train"} for row in rows[:6]] + [row | {"split": "dev"} for row in rows[6:]],
    )
    write_rows(tmp_path / "again.jsonl", [*alike, *other])
    return {"data": str(tmp_path), "in_domain": "known", "out_of_domain": "again", "support_sizes": [4]}


@pytest.mark.parametrize(
    ("method", "changes"),
    [("icl", {"support_sizes": [6]}), ("pbft", {"support_sizes": [6]}), ("cd", {"pool_size": 2})],
)
def test_rows_to_learn_from_that_are_evaluated_as_a_model_sees_them_are_refused(refusal, overlapping, method, changes):
    message = refusal({**overlapping, **changes}, [method])
    assert re.search(r"data: 2 examples to learn from are also evaluated in again.* split column", message)


def test_evaluated_rows_that_nobody_learns_from_pass(overlapping):
    assert preflight.check(read_profile("smoke", overlapping).runs(("baseline",))) == {}


def test_one_file_for_both_splits_is_learnt_from_where_it_is_not_evaluated(tmp_path):
    write_pairs(tmp_path, "pairs", rows=12)
    own = {"data": str(tmp_path), "in_domain": "pairs", "out_of_domain": [], "eval_limit": 4}
    runs = read_profile("smoke", own).runs()
    assert preflight.check(runs) == {}
    run = next(run for run in runs if run.method == "cd")
    examples = examples_of(run)
    learnt = {query.text for query in [*examples.support, *examples.pool[0]]}
    assert len(learnt) == run.support_size + 2
    assert learnt.isdisjoint(query.text for query in examples.evaluation["in_domain"])


def test_a_file_all_of_which_is_evaluated_leaves_nothing_to_learn_from(refusal, tmp_path):
    write_pairs(tmp_path, "pairs", rows=12)
    message = refusal({"data": str(tmp_path), "in_domain": "pairs", "out_of_domain": []}, ["icl"])
    assert "eval_limit: all 12 rows of pairs are evaluated" in message


@pytest.mark.parametrize("pool", ["target", "both"])
def test_a_pool_of_the_targets_rows_needs_an_out_of_domain_set(refusal, pool):
    assert "pool: " in refusal({"out_of_domain": [], "pool": pool}, ["cd"])


def test_evaluation_items_have_to_be_as_many_of_each_class(refusal):
    message = refusal({"eval_limit": 3}, ["icl"])
    assert re.search(r"eval_limit: 3 is no multiple of the 2 classes", message)


def save_reader(folder, tokenizer):
    """A model folder with this tokenizer."""
    random_models.model("random-opt-teacher").save_pretrained(folder)
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
    assert f"data: '{tmp_path / 'nowhere'}' is no file and no folder" in message
    assert "Allowed: hub, world, embedded, a file" in message


def test_an_unknown_embedded_dataset_is_refused(refusal):
    message = refusal({"in_domain": "pears"})
    assert "dataset: 'pears' is not known. Did you mean 'pairs'? Allowed: pairs, swaps." in message


def test_a_dataset_that_is_not_in_the_folder_is_refused(refusal, tmp_path):
    write_pairs(tmp_path, "present")
    message = refusal({"data": str(tmp_path), "in_domain": "present", "out_of_domain": "absent", "eval_limit": 2})
    assert "dataset: 'absent'" in message
    assert "Present: present.jsonl." in message


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
    config = LlamaConfig(vocab_size=221, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    random_models.tokenizer().save_pretrained(tmp_path)
    runs = read_profile("smoke", {"student": str(tmp_path)}).runs(("pbft", "pbft_bitfit", "cd_bitfit"))
    refused = preflight.check(runs)
    assert set(refused) == {run for run in runs if run.method != "pbft"}
    assert all("has no bias terms to train. Set bitfit: add" in reason for reason in refused.values())


def test_the_smoke_profile_passes(capsys):
    assert preflight.check(read_profile("smoke").runs()) == {}
    assert capsys.readouterr().err == ""


def warnings_of(capsys, changes, methods=None):
    """What preflight says of a changed smoke profile that it lets pass, line by line."""
    assert preflight.check(read_profile("smoke", changes).runs(methods)) == {}
    return capsys.readouterr().err.splitlines()


def test_repeated_and_conflicting_rows_are_counted_once_with_file_and_lines(capsys, tmp_path):
    changes = things(tmp_path)
    with (tmp_path / "things.csv").open("a") as file:
        file.write("dog,animal,train\nhorse ,animal,train\noak,animal,train\n")
    repeated, conflicting = sorted(warnings_of(capsys, changes), key=lambda line: "labels" in line)
    assert "things: 2 rows repeat" in repeated and "things.csv, line 32, 33." in repeated
    assert "things: 2 rows" in conflicting and "other labels" in conflicting
    assert "things.csv, line 12, 34." in conflicting


def test_label_words_of_several_tokens_are_counted(capsys, tmp_path):
    said = warnings_of(capsys, things(tmp_path, TWO_TOKEN_WORDS))
    assert len(said) == 2
    for line, model in zip(said, ("random-opt-student", "random-opt-teacher"), strict=True):
        assert "label_words: 3 of 3" in line and "'small animal' has 2" in line and model in line


def test_a_trailing_space_does_not_make_an_evaluated_row_one_to_learn_from(refusal, tmp_path):
    rows = [{"premise": f"A dog sleeps. {i}", "hypothesis": "It sleeps."} for i in range(8)]
    rows = [row | {"label": ("entailment", "contradiction")[i % 2]} for i, row in enumerate(rows)]
    spaced = [row | {"hypothesis": "It sleeps. ", "split": "train"} for row in rows]
    write_rows(tmp_path / "pairs.jsonl", [*spaced, *(row | {"split": "dev"} for row in rows)])
    changes = {"data": str(tmp_path), "in_domain": "pairs", "out_of_domain": []}
    assert "eval_limit: all 8 rows of pairs are evaluated" in refusal(changes)


def too_long_rows(folder, words=240):
    """Short rows, of which the third and the fourth to learn from and the last evaluated one are long."""
    rows = [{"premise": f"A dog sleeps. {i}", "hypothesis": "It sleeps."} for i in range(16)]
    rows = [row | {"label": ("entailment", "contradiction")[i % 2]} for i, row in enumerate(rows)]
    rows = [row | {"split": "train" if i < 10 else "dev"} for i, row in enumerate(rows)]
    for i in (2, 3, 15):
        rows[i]["premise"] = "word " * words + rows[i]["premise"]
    write_rows(folder / "pairs.jsonl", rows)
    return {"data": str(folder), "in_domain": "pairs", "out_of_domain": [], "support_sizes": [4], "seeds": [0]}


def test_rows_that_are_too_long_are_refused_with_file_and_lines(refusal, narrow_student, tmp_path):
    message = refusal({**too_long_rows(tmp_path), "student": narrow_student}, ["baseline"])
    assert "1 of 6 rows are too long" in message and f"{tmp_path / 'pairs.jsonl'}, line 16." in message
    assert "too_long: skip" in message


def test_rows_that_are_too_long_are_skipped_where_asked_for_and_counted(capsys, narrow_student, tmp_path):
    changes = {**too_long_rows(tmp_path), "student": narrow_student, "too_long": "skip"}
    to_learn_from, evaluated = warnings_of(capsys, changes, ("baseline", "icl", "teacher_icl", "pbft", "cd"))
    assert "pairs: 2 rows are too long and left out" in to_learn_from and to_learn_from.endswith("line 3, 4.")
    assert "pairs: 1 rows are too long and left out" in evaluated and evaluated.endswith("line 16.")
    for run in read_profile("smoke", changes).runs():
        examples = examples_of(run)
        seen = [*examples.support, *examples.evaluation["in_domain"], *(one for part in examples.pool for one in part)]
        assert not any(query.text.startswith("word") for query in seen)


def test_a_row_is_skipped_that_leaves_no_room_for_the_largest_support_set(narrow_student, tmp_path):
    changes = {**too_long_rows(tmp_path, words=30), "student": narrow_student, "too_long": "skip"}
    items = {
        size: examples_of(read_profile("smoke", {**changes, "support_sizes": [size]}).runs(("pbft",))[0]).evaluation
        for size in (1, 4)
    }
    assert {size: len(of_size["in_domain"]) for size, of_size in items.items()} == {1: 6, 4: 5}


COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@pytest.mark.parametrize("revision", [None, "main", "refs/convert/parquet", COMMIT[:-1], COMMIT])
def test_a_dataset_of_the_hub_without_a_commit_is_doubtful(revision):
    data = {"source": "hub:owner/name"} | ({"revision": revision} if revision else {})
    task = read_profile("smoke", {"datasets": {"pairs": data}, "out_of_domain": []}).task(0)
    said = preflight._doubts_of_hub(task)
    assert len(said) == (revision != COMMIT)
    assert all(doubt.startswith("hub:owner/name is read as it is on the hub now") for doubt in said)


def test_the_papers_data_are_pinned():
    profile = read_profile("paper")
    tasks = [profile.task(0), Benchmark("lama", profile.in_context.lama.source)]
    assert [preflight._doubts_of_hub(task) for task in tasks] == [[]] * len(tasks)


def test_rows_of_a_split_that_is_not_read_are_counted(tmp_path, capsys):
    changes = things(tmp_path)
    file = tmp_path / "things.csv"
    file.write_text(file.read_text() + "later,animal,trian\nmore,animal,trian\n")
    fill(read_profile("smoke", changes), ["baseline"])
    assert "things: 2 rows have the split 'trian', which is not read. Read are train and " in capsys.readouterr().err


def test_rows_whose_label_is_another_in_the_other_split_are_counted(tmp_path, capsys):
    changes = things(tmp_path)
    file = tmp_path / "things.csv"
    lines = file.read_text().splitlines()
    word, name, _ = next(line for line in lines if line.endswith(",test")).split(",")
    other = next(line.split(",")[1] for line in lines[1:] if line.split(",")[1] != name)
    file.write_text("\n".join([*lines, f"{word} ,{other},train"]) + "\n")
    preflight.check(read_profile("smoke", changes).runs(("baseline",)), weights=False)
    assert "things: 1 rows to evaluate have another label among those to learn from: " in capsys.readouterr().err
