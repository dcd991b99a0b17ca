"""Replaced data and models are noticed: results that came from others are refused, or computed anew where asked."""

import shutil
from dataclasses import replace

import pytest

import lib.runs.execution
from lib.errors import StudyError
from lib.models import random_models
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.runs.provenance import changed, fingerprint
from lib.runs.store import Store
from tests.support.own_data import things


@pytest.fixture
def profile(figures_folder, tmp_path):
    """A task from a file and a student from a folder, with one result."""
    folder = tmp_path / "student"
    random_models.model("random-opt-student").save_pretrained(folder)
    random_models.tokenizer().save_pretrained(folder)
    changes = things(tmp_path, student=str(folder), seeds=[0], support_sizes=[3])
    made = read_profile("smoke", changes)
    assert len(fill(made, ["baseline"]).stored) == 1
    return made


def swap_labels(file):
    text = file.read_text()
    file.write_text(text.replace(",animal,", ",@,").replace(",plant,", ",animal,").replace(",@,", ",plant,"))


def test_a_result_names_the_data_and_the_model_that_it_came_from(profile):
    (result,) = fill(profile, ["baseline"]).stored
    assert sorted(result.sources) == ["data things", f"model {profile.student}"]


def test_swapped_labels_are_refused_naming_the_data_and_what_helps(profile, tmp_path):
    swap_labels(tmp_path / "things.csv")
    with pytest.raises(StudyError, match=r"data things: .*baseline.*--anew"):
        fill(profile, ["baseline"])


def test_the_message_names_the_file_and_counts_the_results(profile, tmp_path):
    swap_labels(tmp_path / "things.csv")
    with pytest.raises(StudyError) as caught:
        fill(profile, ["baseline"])
    for said in (str(tmp_path / "things.csv"), "1 stored", "baseline n=0 seed=0", "--anew", "anew: true"):
        assert said in str(caught.value)


def test_stored_results_of_replaced_data_are_not_drawn_either(profile, tmp_path):
    swap_labels(tmp_path / "things.csv")
    with pytest.raises(StudyError, match="data things"):
        fill(profile.changed({"stored_only": True}), ["baseline"])


def test_new_runs_of_replaced_data_read_them_again_in_the_same_process(profile, tmp_path):
    """Only the new run is asked for, so that nothing stored is out of date; what was read before must not come back."""
    (before,) = fill(profile, ["baseline"]).stored
    swap_labels(tmp_path / "things.csv")
    (after,) = fill(profile.changed({"support_sizes": [3]}), ["icl"]).stored
    assert after.outcome.evaluations["in_domain"].gold != before.outcome.evaluations["in_domain"].gold


def test_a_run_whose_data_are_replaced_meanwhile_fails_and_stores_nothing(profile, tmp_path, monkeypatch):
    def run_method(*asked):
        outcome = context_distillation_run(*asked)
        swap_labels(tmp_path / "things.csv")
        return outcome

    context_distillation_run = lib.runs.execution.context_distillation.run_method
    monkeypatch.setattr(lib.runs.execution.context_distillation, "run_method", run_method)
    sweep = fill(profile, ["icl"])
    assert len(sweep.results) == 0
    assert "data things" in sweep.failed["icl n=3 seed=0"]


def test_soft_labels_of_a_replaced_teacher_are_never_used(profile, tmp_path, monkeypatch):
    folder = tmp_path / "teacher"
    shutil.copytree(tmp_path / "student", folder)
    taught = profile.changed({"teacher": str(folder), "pool_size": 2})
    assert len(fill(taught, ["cd"]).stored) == 1
    random_models.model("random-opt-teacher").save_pretrained(folder)
    (run,) = taught.runs(("cd",))
    assert Store(taught.folder).load_prepared(run.needs) is None
    monkeypatch.setattr(lib.runs.execution.context_distillation, "ask_teacher", lambda *_: 1 / 0)
    sweep = fill(taught.changed({"anew": True}), ["cd"])
    assert len(sweep.results) == 0
    assert "ZeroDivisionError" in sweep.failed["cd n=3 seed=0"]


@pytest.mark.parametrize("name", ["a.safetensors", "config.json", "tokenizer.json", "model.gguf"])
def test_any_file_of_a_model_counts_and_notes_beside_it_do_not(profile, tmp_path, name):
    (run,) = profile.runs(("baseline",))
    then = fingerprint(run)
    (tmp_path / "student" / "README.md").write_text("a note")
    assert fingerprint(run) == then
    (tmp_path / "student" / name).write_text("{}")
    assert changed(then, fingerprint(run)) == [f"model {profile.student}"]


def test_a_replaced_gguf_file_is_another_model(profile, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(1000))
    (run,) = profile.changed({"student": str(file)}).runs(("baseline",))
    then = fingerprint(run)
    file.write_bytes(b"GGUF" + bytes(999) + b"1")
    assert changed(then, fingerprint(run)) == [f"model {file}"]


def test_every_file_that_a_benchmark_reads_counts(smoke_profile, tmp_path):
    """Also what two folders of one name hold, the split, and the plain text."""
    for place in ("one/facts", "two/facts"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "P1.jsonl").write_text("{}")
    (tmp_path / "split.json").write_text("{}")
    (tmp_path / "plain.txt").write_text("plain text")
    run = smoke_profile.in_context_runs("lama")[-1]
    benchmark = replace(
        run.task,
        source=str(tmp_path / "one/facts"),
        tuning_source=str(tmp_path / "two/facts"),
        split=str(tmp_path / "split.json"),
    )
    objective = replace(run.in_context.objective, lm_text=str(tmp_path / "plain.txt"))
    run = replace(run, task=benchmark, in_context=replace(run.in_context, objective=objective))
    then = fingerprint(run)
    for file in sorted(file for file in tmp_path.rglob("*") if file.is_file()):
        before = file.read_text()
        file.write_text(before + " ")
        assert len(changed(then, fingerprint(run))) == 1, file
        file.write_text(before)
    assert changed(then, fingerprint(run)) == []


def test_results_of_replaced_data_are_computed_anew_where_asked(profile, tmp_path):
    (before,) = fill(profile, ["baseline"]).stored
    swap_labels(tmp_path / "things.csv")
    (after,) = fill(profile.changed({"anew": True}), ["baseline"]).stored
    assert after.sources != before.sources
    assert after.outcome.evaluations["in_domain"].gold != before.outcome.evaluations["in_domain"].gold
    assert fill(profile, ["baseline"]).stored == [after]


def test_data_put_back_are_what_the_result_came_from(profile, tmp_path):
    (before,) = fill(profile, ["baseline"]).stored
    swap_labels(tmp_path / "things.csv")
    swap_labels(tmp_path / "things.csv")
    assert fill(profile, ["baseline"]).stored == [before]


def test_a_replaced_model_folder_is_refused_naming_the_model(profile, tmp_path):
    random_models.model("random-opt-teacher").save_pretrained(tmp_path / "student")
    with pytest.raises(StudyError, match=r"model .*student: .*baseline.*--anew"):
        fill(profile, ["baseline"])


def test_weights_that_an_index_names_in_an_inner_folder_belong_to_the_model(profile, tmp_path):
    inner = tmp_path / "student" / "inner"
    inner.mkdir()
    (inner / "a.safetensors").write_bytes(b"before")
    (tmp_path / "student" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "inner/a.safetensors"}}')
    (run,) = profile.runs(("baseline",))
    then = fingerprint(run)
    (inner / "b.safetensors").write_bytes(b"no part of the model")
    assert changed(then, fingerprint(run)) == []
    (inner / "a.safetensors").write_bytes(b"after it")
    assert changed(then, fingerprint(run)) == [f"model {profile.student}"]


def test_what_is_not_there_now_is_not_compared(profile, tmp_path):
    (run,) = profile.runs(("baseline",))
    then = fingerprint(run)
    (tmp_path / "things.csv").unlink()
    assert changed(then, fingerprint(run)) == []


@pytest.mark.parametrize("kind", ["a folder", "a file"])
def test_one_other_byte_in_the_middle_of_a_large_model_is_another_model(profile, tmp_path, monkeypatch, kind):
    """Results that were stored when samples of large files were compared, and no more, stay those of this model."""
    monkeypatch.setattr("lib.paths.WHOLE", 10_000)
    monkeypatch.setattr("lib.paths.BLOCK", 10)
    monkeypatch.setattr("lib.paths.DIGESTS", tmp_path / "digests")
    file = tmp_path / ("student/model.safetensors" if kind == "a folder" else "model.gguf")
    content = bytes(1_000_001)
    file.write_bytes(content)
    student = profile.student if kind == "a folder" else str(file)
    (run,) = profile.changed({"student": student}).runs(("baseline",))
    then = fingerprint(run)
    sampled = {name: digest[:16] for name, digest in then.items()}
    file.write_bytes(content[:12_345] + b"1" + content[12_346:])
    assert changed(then, fingerprint(run)) == [f"model {student}"]
    assert changed(sampled, fingerprint(run)) == []
    file.write_bytes(b"1" + content[1:])
    assert changed(sampled, fingerprint(run)) == [f"model {student}"]
