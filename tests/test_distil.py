"""A task of one's own: from a file to a student that answers, as a call, as commands, and as an exported folder."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from html import escape
from io import StringIO

import numpy as np
import pytest
import torch
import yaml
from scipy.special import softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

import lib.runs.profile
from lib import __main__, distil
from lib.errors import StudyError
from lib.evidence.claims import verdict
from lib.methods.examples import evaluation_items, examples_of
from lib.own_task import student_of
from lib.paths import ROOT
from lib.report.own_task import worth
from lib.runs.execution import collect
from lib.runs.own_data import guessed_label, settings_of_size
from lib.runs.profile import read_profile
from lib.tasks import world
from lib.tasks.task import IN_DOMAIN
from tests.support.clone import copy_of_the_study
from tests.support.own_data import write_csv
from tests.support.stored import answering, smoke, stored

PAIRS = world.examples("annotated", "train")[:150]
LABELS = ("follows", "does not")
TASK = {
    "text": "{first_sentence} {second} ?",
    "label": "verdict",
    "words": {"follows": "apple", "does not": "bread"},
    "teacher": "lib/tiny/teacher",
    "student": "lib/tiny/student",
    "shots": 4,
    "pool": 64,
    "held_back": 40,
}
QUERY = {"first_sentence": PAIRS[0].premise, "second": PAIRS[0].hypothesis}
HEADER = ("first sentence", "second", "verdict")


def pairs(folder, header=HEADER, rows=PAIRS, last=lambda number: ()):
    """The world's pairs as a csv file of somebody's own."""
    found = [(row.premise, row.hypothesis, LABELS[row.label], *last(i)) for i, row in enumerate(rows)]
    return write_csv(folder / "pairs.csv", ",".join(header), found)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A distilled student, and how it is had again; its figures lie in a scratch folder."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", folder / "figures")
        file = pairs(folder)

        def again(**changes):
            return distil(**{"data": file, **TASK, **changes})

        again.student = again()
        yield again


@pytest.fixture
def nothing_is_computed(monkeypatch):
    def compute(*_):
        raise AssertionError("something was computed")

    for place in ("lib.runs.execution.execute", "lib.runs.export.trained_student"):
        monkeypatch.setattr(place, compute)


def stored_result(student):
    (result,) = student._results.stored
    return result


def test_it_answers_with_a_probability_for_each_class(own):
    answer = own.student(QUERY)
    assert list(answer) == list(TASK["words"])
    assert sum(answer.values()) == pytest.approx(1)


def test_it_answers_as_its_stored_result_but_for_float16(own):
    """The exported weights move probabilities by less than .002, and none of the 40 answers is another class."""
    task, log_probs = own.student.run.task, stored_result(own.student).outcome.evaluations[IN_DOMAIN].scores_by_item
    by_text = {f"{pair.premise} {pair.hypothesis} ?": pair for pair in PAIRS}
    items = [by_text[item.text] for item in evaluation_items(task, IN_DOMAIN)]
    found = [own.student(dict(zip(QUERY, pair[:2], strict=True))) for pair in items]
    found, wanted = np.array([list(one.values()) for one in found]), softmax(log_probs, axis=1)
    assert 0 < np.abs(found - wanted).max() < 0.002
    assert (found.argmax(1) == wanted.argmax(1)).all()


def test_a_second_call_computes_nothing_and_answers_alike(own, nothing_is_computed):
    again = own()
    assert again(QUERY) == own.student(QUERY)
    assert str(again.report()) == str(own.student.report())


def test_another_setting_is_another_student_and_both_are_kept(own, request):
    other = own(epochs=1)
    request.getfixturevalue("nothing_is_computed")
    assert other(QUERY) != own.student(QUERY)
    assert own()(QUERY) == own.student(QUERY)
    assert own(epochs=1)(QUERY) == other(QUERY)


def test_the_report_counts_what_is_right_on_held_back_rows(own):
    table = own.student.report().table
    result = stored_result(own.student)
    evaluation = result.outcome.evaluations[IN_DOMAIN]
    right = (evaluation.scores_by_item.argmax(1) == evaluation.gold).mean()
    assert len(evaluation.gold) == TASK["held_back"]
    assert table.loc["student, distilled (CD)", "plain"].startswith(f"{right:.2f} [")
    assert list(table.index)[:3] == ["teacher, 4 demonstrations", "student, untuned", "student, 4 demonstrations (ICL)"]
    assert (table["seconds a query"].astype(float) >= 0).all() and (table.GB != "not known").all()


def test_the_report_is_text_in_a_terminal_and_a_table_in_jupyter(own):
    report = own.student.report()
    assert "student, distilled" in repr(report)
    assert "40 held-back rows, as many of each class, drawn with seed 0" in repr(report)
    assert "<table" in report._repr_html_() and escape(report.verdict) in report._repr_html_()


def test_nothing_that_is_held_back_is_learnt_from(own):
    examples = examples_of(own.student.run)
    learnt = {query.text for query in [*examples.support, *examples.pool[0]]}
    assert learnt.isdisjoint(item.text for item in examples.evaluation[IN_DOMAIN])
    assert [item.gold for item in examples.evaluation[IN_DOMAIN]].count(0) == TASK["held_back"] / 2


def test_rows_of_a_split_column_are_held_back(own, tmp_path):
    file = pairs(tmp_path, (*HEADER, "split"), last=lambda number: (("train", "test")[number % 3 == 0],))
    student = own(data=file, held_back=1000, pool=None, name="split", epochs=1)
    tested = {f"{pair.premise} {pair.hypothesis} ?" for pair in PAIRS[::3]}
    examples = examples_of(student.run)
    assert {item.text for item in examples.evaluation[IN_DOMAIN]} <= tested
    assert tested.isdisjoint(query.text for query in examples.pool[0])
    assert len(examples.pool[0]) == len(PAIRS) - len(tested) - TASK["shots"]
    assert "split says so" in str(student.report())


@pytest.mark.parametrize(
    ("distilled", "untuned", "icl", "begins"),
    [(0.9, 0.5, 0.5, "It was worth it"), (0.5, 0.5, 0.9, "It was not worth it"), (0.6, 0.5, 0.9, "It was not"),
     (0.9, 0.5, 0.88, "It cannot be told")],
)  # fmt: skip
def test_the_verdict_is_that_of_the_studys_rule(distilled, untuned, icl, begins):
    gold, items = np.arange(200) % 2, np.arange(200)
    shares = {"cd": distilled, "baseline": untuned, "icl": icl}
    profile = smoke().changed({"support_sizes": [4], "seeds": [0]})
    results = [
        stored(name, 0 if name == "baseline" else 4, 0, answering(gold, (items * 37) % 200 < 200 * share), gold)
        for name, share in shares.items()
    ]
    sweep = collect(profile, {result.run: result for result in results})
    assert worth(sweep, "cd", 4).startswith(begins)
    assert (verdict(0.01, 0.02, 1e-9), verdict(-0.02, -0.01, 1e-9)) == ("supported", "contradicted")


def test_a_search_reports_no_row_that_it_chose_by(own):
    student = own(search=True, name="searched", held_back=20, epochs=1)
    tried = {file.stem for file in (student.profile.folder / "runs").iterdir()}
    assert len(tried) >= 4 + 3 + 2  # the reported four; three rates on one seed, two of them on another
    assert student.run.training.learning_rate in {0.001, 0.003, 0.009, 0.00033, 0.027}
    assert student.run.task.eval_limit == 20


@pytest.mark.parametrize(("reference", "profile"), [("lib/tiny/student", "tiny"), ("random-opt-student", "tiny")])
def test_settings_are_those_of_the_profile_of_the_students_size(reference, profile):
    shipped = read_profile(profile)
    assert settings_of_size(reference) == {
        "learning_rate": shipped.learning_rate, "epochs": shipped.epochs, "batch_size": shipped.batch_size
    }  # fmt: skip


def blocks(folder):
    """The lines of code on a card."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def printed(code, folder, monkeypatch):
    """What exactly these lines print, in the folder of the card."""
    monkeypatch.chdir(folder)
    with redirect_stdout(StringIO()) as said:
        exec(code, {})
    return eval(said.getvalue())


CARDS = {"one token": TASK["words"], "several tokens": {"follows": "red apple", "does not": "red bread"}}


@pytest.mark.parametrize("words", CARDS.values(), ids=CARDS)
def test_the_lines_on_the_card_answer_as_the_student(own, words, tmp_path, monkeypatch):
    student = own(words=words, name=f"card_{len(words['follows'])}", epochs=1, pool=16)
    code, *pipeline = blocks(student.save(tmp_path / "my-student"))
    text = dict.fromkeys(QUERY, "A text of yours.")
    wanted = student(text)
    assert printed(code, tmp_path / "my-student", monkeypatch) == pytest.approx(wanted, abs=1e-4)
    assert len(pipeline) == (words == TASK["words"])  # words that share a token are no classes of a pipeline
    for lines in pipeline:
        (answers,) = printed(lines, tmp_path / "my-student", monkeypatch)
        assert {one["label"]: one["score"] for one in answers} == pytest.approx(wanted, abs=1e-4)


def test_the_card_takes_five_lines(own):
    assert [len(block.splitlines()) for block in blocks(own.student.folder)] == [5, 3]


def test_a_saved_student_is_whole_and_replaces_nothing_else(own, tmp_path):
    target = own.student.save(tmp_path / "my-student")
    assert own.student.save(target) == target
    model, tokenizer = AutoModelForCausalLM.from_pretrained(target), AutoTokenizer.from_pretrained(target)
    assert model.dtype == torch.float16
    ids = tokenizer(TASK["text"].format(**QUERY), return_tensors="pt").input_ids
    tokens = [model.config.few_shot["label_tokens"][name][0] for name in TASK["words"]]
    found = model(ids).logits[0, -1, tokens].float().softmax(-1).tolist()
    assert dict(zip(TASK["words"], found, strict=True)) == pytest.approx(own.student(QUERY), abs=0.01)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(StudyError, match=r"to: .*work.* holds something else"):
        own.student.save(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "mine"


def test_weights_that_are_gone_are_trained_again(own):
    before = own.student(QUERY)
    (own.student.folder / "config.json").unlink()
    assert own()(QUERY) == before


BAD = {
    "no file": ({"data": "nowhere.csv"}, "data: 'nowhere.csv' is no file"),
    "no format": ({"data": __file__}, "data: test_distil.py: its format: '.py' is not known. Allowed: .jsonl, .csv"),
    "no such field": ({"text": "{secnd} ?"}, "pairs.csv, line 2: no column 'secnd'. Did you mean 'second'"),
    "no field": ({"text": "Which?"}, "text: 'Which\\?' needs the name of a column"),
    "a space at the end": ({"text": "{second} "}, "text: .* ends in a space"),
    "the label given away": ({"text": "{second} {verdict}"}, "text: .*the label itself"),
    "no such label column": ({"label": "verdit"}, "no column 'verdit'. Did you mean 'verdict'"),
    "a label without a class": (
        {"words": {"follows": "apple", "no": "bread"}}, "verdict: 'does not' is not known.* said in labels"),
    "one class": ({"words": {"follows": "apple"}}, "words: .* names fewer than two classes"),
    "words alike": ({"words": dict.fromkeys(TASK["words"], "apple")}, "words: .*must differ"),
    "no such model": ({"student": "./nowhere"}, "model: './nowhere' is not there"),
    "no such teacher": ({"teacher": "lib/tiny/teacer"}, "teacer' is not there.*teacher"),
    "too many shots": ({"shots": 160, "too_long": 0}, "shots: 160 examples need 80 of each class"),
    "too many shots for the models": ({"shots": 150}, "too_long: all 150 rows .* beside 150 rows as long"),
    "no shots": ({"shots": -1}, "shots.*-1 is not allowed"),
    "too large a pool": ({"pool": 500}, "pool: 500 queries asked for"),
    "nothing held back": ({"held_back": 1}, "held_back: 1, but no row"),
    "no such method": ({"method": "pbft"}, "method: 'pbft' is not known. Allowed: cd, cd_lora"),
    "biases that no model has": ({"method": "cd_bitfit", "bitfit": "add"}, "added biases is no model"),
    "no such setting": ({"epocs": 3}, "profile key: 'epocs' is not known. Did you mean 'epochs'"),
    "a bad name": ({"name": "../x"}, "name: '../x' is not allowed"),
    "a setting out of range": ({"kl_weight": 2}, "kl_weight: 2 is not allowed"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_before_anything_is_computed(own, case, nothing_is_computed):
    changes, message = BAD[case]
    with pytest.raises(StudyError, match=message) as caught:
        own(**{"name": "bad", **changes})
    assert not re.search("(support_sizes|pool_size|label_words|eval_limit|datasets.*): ", str(caught.value))


QUERIES = {
    "one text for two fields": ("a text", r"a text for each of \['first_sentence', 'second'\].*given: str"),
    "a field too few": ({"second": "a"}, r"given: \['second'\]"),
    "a field too many": ({**QUERY, "third": "a"}, "third"),
    "no text": ({**QUERY, "second": 3}, "query: second is 3. Allowed: a text"),
    "half a character": ({**QUERY, "second": "a\ud800"}, "query: second is .*holds half a character"),
    "nothing": (dict.fromkeys(QUERY, " "), "query: the text is empty"),
    "too long": ({**QUERY, "second": "dog " * 2000}, "tokens do not fit the model's 1024"),
}


@pytest.mark.parametrize("case", QUERIES)
def test_a_query_that_cannot_be_asked_is_one_message(own, case):
    query, message = QUERIES[case]
    with pytest.raises(StudyError, match=message):
        own.student(query)


def test_the_study_stays_light_where_distil_is_not_asked_for():
    code = "import sys, lib.paths; print('torch' in sys.modules, 'pandas' in sys.modules, hasattr(lib, 'other'))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False", "False"]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`run_all.sh` with the given words, with profiles and figures in scratch folders."""
    (tmp_path / "profiles").mkdir()
    shipped = lib.runs.profile.PROFILES
    for name in ("tiny", "smollm2", "qwen05"):
        (tmp_path / "profiles" / f"{name}.yaml").write_text((shipped / f"{name}.yaml").read_text())
    monkeypatch.setattr("lib.runs.profile.FIGURES", tmp_path / "figures")
    for module in ("lib.runs.profile", "lib.runs.own_data"):
        monkeypatch.setattr(f"{module}.PROFILES", tmp_path / "profiles")
    for variable in ("FEW_SHOT_BATCH", "PYTHONPATH"):
        monkeypatch.setenv(variable, "")

    def call(*words):
        monkeypatch.setattr("sys.argv", ["run_all.sh", *map(str, words)])
        return __main__.main()

    return call


TINY = ("--student", "lib/tiny/student", "--teacher", "lib/tiny/teacher")


def test_from_a_file_to_an_answer_by_commands(command, tmp_path, capsys):
    assert command("init", pairs(tmp_path), *TINY) == 0
    assert "The label column is 'verdict', guessed, since it has the fewest values" in capsys.readouterr().out
    written = tmp_path / "profiles" / "mine.yaml"
    settings = yaml.safe_load(written.read_text())
    assert settings["profile"]["pattern"] == "{first_sentence}\n{second}\nVerdict:"
    settings["profile"] |= {"pattern": "{first_sentence} {second} ?", "pool_size": 32, "epochs": 1}
    settings["profile"]["label_words"] = TASK["words"]
    written.write_text(yaml.safe_dump(settings, sort_keys=False))
    assert command("check", "--profile", "mine") == 0
    said = capsys.readouterr().out
    for line in (
        "150 (75 follows, 75 does not)",
        "Time: about",
        "Memory of cd, training",
        "as the student reads it",
        "follows: apple",
    ):
        assert line in said
    assert not (tmp_path / "figures" / "mine" / "runs").exists()
    query = [f"{field}={text}" for field, text in QUERY.items()]
    assert command("ask", "--profile", "mine", *query) == 0
    shares = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in shares] == list(TASK["words"])
    assert float(shares[0][1]) == pytest.approx(student_of(read_profile("mine"))(QUERY)["follows"], abs=1e-3)


def test_what_was_kept_is_not_trained_again_when_it_is_asked(command, tmp_path, capsys, monkeypatch, own):
    monkeypatch.setattr("lib.runs.profile.FIGURES", own.student.profile.folder.parent)
    file = tmp_path / "kept.yaml"
    settings = own.student.profile.model_dump(mode="json")
    file.write_text(yaml.safe_dump({"profile": settings}, sort_keys=False))
    own()
    for place in ("lib.runs.execution.execute", "lib.runs.export.trained_student"):
        monkeypatch.setattr(place, None)
    assert command("ask", "--profile", file, *(f"{field}={text}" for field, text in QUERY.items())) == 0
    assert f"follows\t{own.student(QUERY)['follows']:.3f}" in capsys.readouterr().out


HOSTILE = ['"quoted": {x}', "#hash", "é\u2028line", "- dash", "null", "7"]


def test_a_profile_is_written_for_any_names_and_labels(command, tmp_path):
    file = tmp_path / "odd.csv"
    with file.open("w", newline="", encoding="utf-8") as rows:
        table = csv.writer(rows)
        table.writerow(["my text: {a}", "2nd # col", "id"])
        table.writerows([f"a text of some words {i}", HOSTILE[i % 6], i] for i in range(60))
    assert command("init", file, "--name", "odd") == 0
    profile = read_profile("odd")
    assert list(profile.label_words) == sorted(HOSTILE)
    assert dict(profile.dataset("own").columns) == {"my_text_a": "my text: {a}"}
    assert profile.pattern.startswith("{my_text_a}\n")


def test_a_profile_that_is_there_is_not_overwritten(command, tmp_path, capsys):
    file = pairs(tmp_path)
    assert command("init", file) == 0
    (tmp_path / "profiles" / "mine.yaml").write_text("my own work")
    assert command("init", file) == 2
    assert "'mine' is there" in capsys.readouterr().err
    assert (tmp_path / "profiles" / "mine.yaml").read_text() == "my own work"


def located(*rows):
    return [(f"row {i}", row) for i, row in enumerate(rows)]


def test_the_label_column_is_guessed_by_its_name_or_by_its_few_values():
    rows = [
        {"text": f"t{i}", "lang": "en", "kind": "abc"[i % 3], "Stars": "ab"[i % 2] + str(i % 4), "split": "x"}
        for i in range(24)
    ]
    assert guessed_label(located(*rows))[0] == "Stars"
    for row in rows:
        row["column"] = row.pop("Stars")
    assert guessed_label(located(*rows)) == ("kind", "guessed, since it has the fewest values of all columns, 3")


FIELDS = ("premise=a", "hypothesis=b")
BAD_COMMANDS = {
    "init, no file": (("init", "nowhere.csv"), "data: 'nowhere.csv' is no file"),
    "init, no label": (("init", "{at}/texts.csv"), "label: no column has from 2 to 20 values"),
    "init, no such label": (("init", "{at}/pairs.csv", "--label", "x"), "label: 'x' is not known. Allowed: first"),
    "init, no rows": (("init", "{at}/empty.csv"), "data: the file has no rows"),
    "init, a bad name": (("init", "{at}/pairs.csv", "--name", "A b"), "name: 'A b' is not allowed"),
    "init, a name elsewhere": (("init", "{at}/pairs.csv", "--name", "../x"), "name: '../x' is not allowed"),
    "init, the name of one that ships": (("init", "{at}/pairs.csv", "--name", "tiny"), "a profile 'tiny' is there"),
    "init, no text": (("init", "{at}/labels.csv"), "no column of texts beside the label 'label'"),
    "check, no profile": (("check", "--profile", "mine"), "profile: 'mine' is not known"),
    "ask, no profile": (("ask", "--profile", "mine", "a text"), "profile: 'mine' is not known"),
    "ask, no fields": (("ask", "--profile", "tiny", "a text"), "a text for each of .*premise"),
    "ask, no such method": (("ask", "--profile", "tiny", "--method", "icl", *FIELDS), "method: 'icl'"),
    "ask, no such size": (("ask", "--profile", "tiny", "--support", "5", *FIELDS), "support: 5 is not"),
    "ask, nothing that distils": (
        ("ask", "--profile", "tiny", "--set", "methods=[icl]", *FIELDS), "has none that distils"),
    "export, no such dtype": (("export", "--profile", "tiny", "--dtype", "int4"), "dtype: 'int4' is not known"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_input_to_a_command_is_one_message_and_status_2(command, tmp_path, capsys, case):
    words, message = BAD_COMMANDS[case]
    pairs(tmp_path)
    write_csv(tmp_path / "texts.csv", "text,id", [(f"text {i}", i) for i in range(30)])
    write_csv(tmp_path / "labels.csv", "label", [("ab"[i % 2],) for i in range(30)])
    write_csv(tmp_path / "empty.csv", "text,label", [])
    before = sorted(tmp_path.rglob("*"))
    assert command(*(word.format(at=tmp_path) for word in words)) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and "Traceback" not in said and said.count("error: ") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_in_a_clean_copy_and_leaves_nothing_to_commit(tmp_path):
    clone = copy_of_the_study(tmp_path / "clone")
    shutil.copy(ROOT / ".gitignore", clone)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(clone))
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all")):
        subprocess.run([*git, *words], check=True)
    command = [sys.executable, "-m", "papermill", "your_own_task.ipynb", str(tmp_path / "out.ipynb"), "--cwd", "."]
    environment = os.environ | {"PYTHONPATH": str(clone), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, cwd=clone / "notebooks", env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    outputs = str(json.loads((tmp_path / "out.ipynb").read_text())["cells"])
    assert "student, distilled (CD)" in outputs and "It was worth it" in outputs
    assert subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout == ""
