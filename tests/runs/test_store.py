"""The store: whatever ends a run, a result is whole or absent, and what is whole is kept."""

import json
import math
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import lib.runs.files
from lib.errors import StorageError
from lib.methods.context_distillation import SoftLabels, run_method
from lib.methods.evaluation import Evaluation, Outcome, TaskScores
from lib.methods.in_context_distillation import TunedWeights
from lib.models.cost import Cost
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.runs.provenance import key
from lib.runs.store import Refusal, Result, Store, checksum

SWEEP = {"support_sizes": [4]}
METHODS = ["baseline", "icl", "pbft", "cd", "cd_lora"]


@pytest.fixture(scope="module")
def baseline():
    """The baseline run of the smoke profile and its outcome."""
    (run,) = read_profile("smoke").runs(("baseline",))
    return run, run_method(run, None)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def filled(smoke_profile):
    """A profile at one size and seed with cd computed, its store, its run and its teacher's request."""
    profile = read_profile("smoke", {**SWEEP, "seeds": [0]})
    fill(profile, ["icl", "cd"])
    (run,) = profile.runs(("cd",))
    return profile, Store(profile.folder), run, run.distillation.labelling


def request_of(profile):
    return profile.runs(("cd",))[0].distillation.labelling


def numbers(result):
    return replace(result.outcome, costs={})


def files(folder, kind="*"):
    return sorted(folder.glob(f"{kind}/*"))


def cut(file, kept):
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])


def some_soft_labels():
    return SoftLabels(torch.randn(2, 2), torch.randn(3, 2), Cost(1.5, 20, None, None, 300))


def teacher_of(profile):
    return next(run.needs for run in profile.in_context_runs("crossfit") if run.needs)


def some_weights(dtype=torch.float32):
    parameters = {"model.wide": torch.randn(3, 2, dtype=dtype).T, "model.bias": torch.zeros(5, dtype=dtype)}
    return TunedWeights(parameters, [0.75, 0.5], Cost(1.5, 20, None, None, 300))


def some_scores():
    return TaskScores("a task", 2, 3, [0, 2], [0, 1], [0, 1])


def write_half_and_raise(scratch):
    Path(scratch).write_text("hal")
    raise OSError("the disk is full")


@pytest.mark.parametrize("before", [None, "old"])
def test_a_write_that_raises_leaves_the_old_file_or_none_and_nothing_else(tmp_path, before):
    file = tmp_path / "runs" / "result.json"
    if before:
        file.parent.mkdir()
        file.write_text(before)
    with pytest.raises(StorageError, match=r"result\.json.*the disk is full"):
        lib.runs.files.replace_file(file, write_half_and_raise)
    assert [path.read_text() for path in files(tmp_path)] == ([before] if before else [])


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_result_that_is_cut_short_is_computed_again_with_a_warning(filled, capsys, kept):
    profile, store, run, _ = filled
    before, others = store.load(run), {file: file.stat().st_mtime_ns for file in files(store.folder)}
    file = store.folder / "runs" / f"{key(run)}.json"
    others.pop(file)
    cut(file, kept)
    fill(profile, ["icl", "cd"])
    assert f"warning: {file} is cut short" in capsys.readouterr().err
    assert numbers(store.load(run)) == numbers(before)
    assert {other: other.stat().st_mtime_ns for other in others} == others


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_soft_labels_that_are_cut_short_are_computed_again_with_a_warning(filled, capsys, kept):
    profile, store, run, request = filled
    before, result = store.load_prepared(request).log_probs.clone(), store.load(run)
    file = store.folder / "soft_labels" / f"{key(request)}.safetensors"
    cut(file, kept)
    (store.folder / "runs" / f"{key(run)}.json").unlink()
    fill(profile, ["cd"])
    assert f"warning: {file} is cut short" in capsys.readouterr().err
    assert torch.equal(store.load_prepared(request).log_probs, before)
    assert numbers(store.load(run)) == numbers(result)


def test_a_result_comes_back_as_it_was_saved(store, baseline):
    run, outcome = baseline
    store.save(run, outcome, {"device": "a processor", "threads": 2})
    assert store.load(run) == Result(run, outcome, {"device": "a processor", "threads": 2})


@pytest.mark.parametrize("name", METHODS)
def test_a_result_of_any_method_comes_back_with_the_types_that_it_had(store, smoke_profile, name):
    run = smoke_profile.changed({"calibration_pool": 2, "pool_shares": [0.5, 0.5]}).runs((name,))[0]
    evaluation = Evaluation([0, 1], [[-0.1234, -2.5], [-1.0, -0.25]], [0.25, 0.75], [[-0.5, -1.5]])
    costs = {"training": Cost(1.5, 20, 300, 400, None), "evaluation": Cost(2.0, 30, None, None, 500)}
    outcome = Outcome(costs, 12, [0.75, 0.5], {"in_domain": evaluation, "out_of_domain": evaluation}, [True, False])
    store.save(run, outcome, {"device": "a processor"})
    loaded = store.load(run)
    assert loaded == Result(run, outcome, {"device": "a processor"})
    assert loaded.run.task.label_words == ("Yes", "No")
    assert key(loaded.run) == key(run)


def test_a_result_of_in_context_tuning_comes_back_as_it_was_saved(store, smoke_profile):
    for run in smoke_profile.in_context_runs("lama"):
        outcome = Outcome({"evaluation": Cost(1.5, 20)}, 12, [0.5], tasks=[some_scores()], left_out={"a": "no file"})
        store.save(run, outcome, {"device": "a processor"})
        assert store.load(run) == Result(run, outcome, {"device": "a processor"})


def test_how_a_result_was_computed_comes_back_whatever_is_asked_for(store, smoke_profile):
    run = smoke_profile.changed({"padding_free": True}).runs(("pbft",))[0]
    store.save(run, Outcome({}, 0, []), {})
    (asked, *_) = smoke_profile.runs(("pbft",))
    assert store.load(asked).run.training.padding_free


def edited(file, change):
    """Change what a stored file says, and nothing of its form."""
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def first_evaluation(record):
    return record["outcome"]["evaluations"]["in_domain"]


EDITS = {
    "another number": lambda record: first_evaluation(record)["label_log_probs"][0].reverse(),
    "another class": lambda record: first_evaluation(record)["gold"].reverse(),
    "not a number": lambda record: first_evaluation(record)["label_log_probs"][0].__setitem__(0, math.nan),
    "no finite number": lambda record: record["outcome"]["losses"].append(math.inf),
    "a string in place of a number": lambda record: record["outcome"].update(trainable_parameters="0"),
    "another setting": lambda record: record["run"].update(eval_batch_size=5),
    "another machine": lambda record: record["environment"].update(device="another"),
    "one number less": lambda record: first_evaluation(record)["content_free"].pop(),
    "an entry more": lambda record: record.update(note="by hand"),
    "no outcome": lambda record: record.pop("outcome"),
    "no checksum": lambda record: record.pop("checksum"),
    "another run's key": lambda record: record.update(key="0" * 16),
    "a refusal": lambda record: record.update(refused="by hand"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_result_that_was_edited_counts_as_absent_with_a_warning(store, baseline, capsys, name):
    run, outcome = baseline
    store.save(run, outcome, {"device": "a processor"})
    (file,) = files(store.folder)
    edited(file, EDITS[name])
    assert store.load(run) is None
    assert f"warning: {file} is cut short or altered" in capsys.readouterr().err


WRONG_TYPES = {
    "a string in place of a number": lambda record: record["outcome"].update(trainable_parameters="many"),
    "a string in place of a list": lambda record: first_evaluation(record).update(gold="0101"),
    "a string among numbers": lambda record: first_evaluation(record)["label_log_probs"][0].__setitem__(0, "low"),
    "an entry that no result has": lambda record: record["outcome"].update(mood="good"),
    "an entry that is missing": lambda record: record["outcome"].pop("costs"),
    "an outcome that is none": lambda record: record.update(outcome=[]),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_what_is_no_result_counts_as_absent_with_a_warning_even_under_its_own_checksum(store, baseline, capsys, name):
    run, outcome = baseline
    store.save(run, outcome, {"device": "a processor"})
    (file,) = files(store.folder)

    def change(record):
        WRONG_TYPES[name](record)
        del record["checksum"]
        record["checksum"] = checksum(record)

    edited(file, change)
    assert store.load(run) is None
    assert "cut short or altered" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "3", "null", '"a result"', "[" * 100_000, "\ufeff{}"])
def test_a_file_that_holds_no_object_counts_as_absent_with_a_warning(store, baseline, capsys, content):
    run, outcome = baseline
    store.save(run, outcome, {})
    (file,) = files(store.folder)
    file.write_text(content)
    assert store.load(run) is None
    assert "cut short or altered" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_place_of_a_result_is_not_waited_for(store, baseline, capsys):
    run, outcome = baseline
    store.save(run, outcome, {"device": "a processor"})
    (file,) = files(store.folder)
    file.unlink()
    os.mkfifo(file)
    assert store.load(run) is None
    assert str(file) in capsys.readouterr().err


def test_a_result_under_another_runs_name_counts_as_absent_with_a_warning(store, baseline, capsys):
    run, outcome = baseline
    other = replace(run, seed=1)
    store.save(run, outcome, {})
    os.replace(store.folder / "runs" / f"{key(run)}.json", store.folder / "runs" / f"{key(other)}.json")
    assert store.load(other) is None
    assert "altered, and counts as absent" in capsys.readouterr().err
    assert store.load(run) is None


def test_an_edited_result_is_computed_again(filled, capsys):
    profile, store, run, _ = filled
    before = store.load(run)
    edited(store.folder / "runs" / f"{key(run)}.json", EDITS["another number"])
    sweep = fill(profile, ["icl", "cd"])
    assert numbers(store.load(run)) == numbers(before)
    assert len(sweep.stored) == 2
    assert "cut short or altered" in capsys.readouterr().err


def with_a_bit_flipped(content, place):
    """Bit 0 of a file's first byte is bit 0, bit 7 of its last byte the last."""
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    return bytes(flipped)


def bits_all_over(content, count=400):
    return range(0, 8 * len(content), max(1, 8 * len(content) // count) | 1)


@pytest.mark.parametrize("name", ["result", "refusal"])
def test_a_record_with_any_bit_flipped_is_absent_or_says_the_same(store, baseline, capsys, name):
    run, outcome = baseline
    store.save(run, outcome, {"device": "a processor"}) if name == "result" else store.refuse(run, "no biases")
    before, (file,) = store.load(run), files(store.folder)
    whole, absent = file.read_bytes(), 0
    for place in bits_all_over(whole):
        file.write_bytes(with_a_bit_flipped(whole, place))
        after = store.load(run)
        assert after in (None, before)
        absent += after is None
        assert capsys.readouterr().err.count(str(file)) == (after is None)
    assert absent > 300


@pytest.mark.parametrize("name", ["soft labels", "teacher"])
def test_tensors_with_any_bit_flipped_are_absent_or_the_same(store, smoke_profile, capsys, name):
    labels = name == "soft labels"
    job, prepared = (
        (request_of(smoke_profile), some_soft_labels()) if labels else (teacher_of(smoke_profile), some_weights())
    )
    store.save_prepared(job, prepared)
    (file,) = files(store.folder)
    whole, before, absent = file.read_bytes(), repr(store.load_prepared(job)), 0
    for place in bits_all_over(whole):
        file.write_bytes(with_a_bit_flipped(whole, place))
        after = store.load_prepared(job)
        assert after is None or repr(after) == before
        absent += after is None
        assert capsys.readouterr().err.count(str(file)) == (after is None)
    assert absent > 300


SHAPES = {
    "a query less": lambda labels: replace(labels, log_probs=labels.log_probs[:1]),
    "a class more": lambda labels: replace(labels, log_probs=torch.zeros(2, 3)),
    "another form": lambda labels: replace(labels, log_probs=labels.log_probs.flatten()),
    "one number": lambda labels: replace(labels, log_probs=torch.tensor(0.5)),
    "no number": lambda labels: replace(labels, log_probs=labels.log_probs * math.nan),
    "whole numbers": lambda labels: replace(labels, log_probs=labels.log_probs.long()),
    "another prior": lambda labels: replace(labels, content_free=torch.zeros(3, 5)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_soft_labels_of_another_shape_count_as_absent_with_a_warning(store, smoke_profile, capsys, name):
    request = request_of(smoke_profile)
    store.save_prepared(request, SHAPES[name](some_soft_labels()))
    assert (store.load_prepared(request), store.ready(request)) == (None, False)
    assert "altered" in capsys.readouterr().err


@pytest.mark.parametrize("notes", [None, {}, {"checksum": "0"}, {"cost": "{"}, {"checksum": '"0"', "cost": "3"}])
def test_soft_labels_without_their_metadata_count_as_absent_with_a_warning(store, smoke_profile, capsys, notes):
    request = request_of(smoke_profile)
    store.save_prepared(request, some_soft_labels())
    (file,) = files(store.folder)
    save_file({"log_probs": torch.zeros(2, 2), "content_free": torch.zeros(3, 2)}, file, notes)
    assert (store.load_prepared(request), store.done(request)) == (None, False)
    assert capsys.readouterr().err.count(str(file)) == 1


def with_a_digit_changed(file):
    """Change the last byte: of the last number of the last tensor."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def renamed_to(file, other):
    os.replace(file, file.with_name(f"{key(other)}.safetensors"))


def test_tensors_with_a_digit_changed_count_as_absent_with_a_warning(store, smoke_profile, capsys):
    request, teacher = request_of(smoke_profile), teacher_of(smoke_profile)
    store.save_prepared(request, some_soft_labels())
    store.save_prepared(teacher, some_weights())
    for file in files(store.folder):
        with_a_digit_changed(file)
    assert (store.load_prepared(request), store.load_prepared(teacher)) == (None, None)
    assert (store.ready(request), store.ready(teacher)) == (False, False)
    assert capsys.readouterr().err.count("cut short or altered") == 4


def test_notes_of_tensors_with_a_digit_changed_count_as_absent_with_a_warning(store, smoke_profile, capsys):
    request = request_of(smoke_profile)
    store.save_prepared(request, some_soft_labels())
    (file,) = files(store.folder)
    content = file.read_bytes()
    assert content.count(b"1.5") == 1
    file.write_bytes(content.replace(b"1.5", b"2.5"))
    assert store.load_prepared(request) is None
    assert "cut short or altered" in capsys.readouterr().err


def test_tensors_under_another_requests_name_count_as_absent_with_a_warning(store, smoke_profile, capsys):
    request, teacher = request_of(smoke_profile), teacher_of(smoke_profile)
    others = replace(request, seed=7), replace(teacher, model="another")
    store.save_prepared(request, some_soft_labels())
    store.save_prepared(teacher, some_weights())
    for file, other in zip(files(store.folder), others, strict=True):
        renamed_to(file, other)
    assert (store.load_prepared(others[0]), store.load_prepared(others[1])) == (None, None)
    assert capsys.readouterr().err.count("cut short or altered") == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_soft_labels_come_back_as_they_were_saved(store, smoke_profile, dtype):
    request, soft_labels = request_of(smoke_profile), some_soft_labels()
    soft_labels = replace(soft_labels, log_probs=soft_labels.log_probs.to(dtype).T)
    store.save_prepared(request, soft_labels)
    loaded = store.load_prepared(request)
    assert torch.equal(loaded.log_probs, soft_labels.log_probs)
    assert torch.equal(loaded.content_free, soft_labels.content_free)
    assert (loaded.log_probs.dtype, loaded.cost) == (dtype, soft_labels.cost)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tuned_teacher_comes_back_as_it_was_saved(store, smoke_profile, dtype):
    request, weights = teacher_of(smoke_profile), some_weights(dtype)
    store.save_prepared(request, weights)
    loaded = store.load_prepared(request)
    assert loaded.parameters.keys() == weights.parameters.keys()
    assert all(torch.equal(values, loaded.parameters[name]) for name, values in weights.parameters.items())
    assert {values.dtype for values in loaded.parameters.values()} == {dtype}
    assert (loaded.losses, loaded.cost) == (weights.losses, weights.cost)


def test_a_tuned_teacher_is_loaded_for_its_own_settings_alone(store, smoke_profile):
    request = teacher_of(smoke_profile)
    store.save_prepared(request, some_weights())
    assert store.load_prepared(replace(request, model="another")) is None
    assert not store.ready(replace(request, episodes=replace(request.episodes, paradigm="multitask")))


def test_a_preparation_is_ready_once_it_is_there(store, smoke_profile):
    teacher, request = teacher_of(smoke_profile), request_of(smoke_profile)
    assert (store.ready(teacher), store.ready(request)) == (False, False)
    store.save_prepared(teacher, some_weights())
    assert (store.ready(teacher), store.ready(request)) == (True, False)
    store.save_prepared(request, some_soft_labels())
    assert (store.ready(teacher), store.ready(request)) == (True, True)


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_tuned_teacher_that_is_cut_short_is_not_ready_and_counts_as_absent_with_a_warning(
    store, smoke_profile, capsys, kept
):
    request = teacher_of(smoke_profile)
    store.save_prepared(request, some_weights())
    (file,) = files(store.folder)
    cut(file, kept)
    assert (store.ready(request), store.load_prepared(request)) == (False, None)
    assert capsys.readouterr().err.count(f"warning: {file} is cut short") == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_never_written(store, baseline, value):
    run, outcome = baseline
    with pytest.raises(ValueError, match="JSON compliant"):
        store.save(run, replace(outcome, losses=[0.5, value]), {})
    assert files(store.folder) == []


def test_a_failure_is_kept_and_is_no_result(store, baseline):
    run, _ = baseline
    store.fail(run, "out of memory")
    assert store.failure(run) == "out of memory"
    assert store.load(run) is None


@pytest.mark.parametrize("record", [{}, {"reason": None}, {"reason": 3}, {"reason": ["out of memory"]}])
def test_a_failure_without_a_reason_counts_as_absent_with_a_warning(store, baseline, capsys, record):
    run, _ = baseline
    store.fail(run, "out of memory")
    (file,) = files(store.folder)
    file.write_text(json.dumps(record))
    assert store.failure(run) is None
    assert capsys.readouterr().err.count(str(file)) == 1


def test_what_is_done_is_known_without_a_warning(store, baseline, smoke_profile, capsys):
    run, outcome = baseline
    request = request_of(smoke_profile)
    assert not store.done(run) and not store.done(request)
    store.save(run, outcome, {})
    store.save_prepared(request, some_soft_labels())
    assert store.done(run) and store.done(request)
    for file in files(store.folder):
        cut(file, 0.5)
    assert not store.done(run) and not store.done(request)
    assert capsys.readouterr().err == ""


def hold(store, run, held, release):
    with store.claim(run) as ours:
        assert ours
        held.set()
        release.wait()


@pytest.mark.parametrize("end", ["released", "killed"])
def test_a_claim_is_one_process_s_until_it_is_released_or_the_process_is_killed(store, baseline, end):
    run, _ = baseline
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(store, run, held, release))
    other.start()
    held.wait()
    assert store.claimed(run) and not store.claimed(replace(run, seed=1))
    release.set() if end == "released" else other.kill()
    other.join()
    assert not store.claimed(run)
    assert files(store.folder) == []


def test_a_result_forgets_its_runs_failure(store, baseline):
    run, outcome = baseline
    other = replace(run, seed=1)
    for failed in (run, other):
        store.fail(failed, "out of memory")
    store.save(run, outcome, {})
    assert (store.failure(run), store.failure(other)) == (None, "out of memory")


def test_soft_labels_forget_their_own_failure(store, smoke_profile):
    request = request_of(smoke_profile)
    store.fail(request, "out of memory")
    store.save_prepared(request, some_soft_labels())
    assert store.failure(request) is None


def test_a_tuned_teacher_forgets_its_own_failure(store, smoke_profile):
    request = teacher_of(smoke_profile)
    store.fail(request, "out of memory")
    assert (store.failure(request), store.ready(request)) == ("out of memory", False)
    store.save_prepared(request, some_weights())
    assert store.failure(request) is None


def test_all_failures_can_be_forgotten(store, baseline, smoke_profile):
    jobs = [baseline[0], request_of(smoke_profile), teacher_of(smoke_profile), smoke_profile.in_context_runs("lama")[0]]
    for job in jobs:
        store.fail(job, "out of memory")
    store.forget_failures()
    assert [store.failure(job) for job in jobs] == [None] * 4


def test_a_refusal_is_kept_with_its_reason(store, baseline):
    store.refuse(baseline[0], "bitfit: no biases")
    assert store.load(baseline[0]) == Refusal(baseline[0], "bitfit: no biases")


def test_a_refusal_that_was_edited_counts_as_absent_with_a_warning(store, baseline, capsys):
    store.refuse(baseline[0], "bitfit: no biases")
    (file,) = files(store.folder)
    edited(file, lambda record: record.update(refused="by hand"))
    assert store.load(baseline[0]) is None
    assert "cut short or altered" in capsys.readouterr().err


def test_an_empty_store_has_nothing_and_writes_nothing(store, baseline, smoke_profile):
    request, teacher = request_of(smoke_profile), teacher_of(smoke_profile)
    assert [store.load(baseline[0]), store.failure(baseline[0]), store.load_prepared(request)] == [None, None, None]
    assert (store.load_prepared(teacher), store.ready(teacher)) == (None, False)
    store.forget_failures()
    assert list(store.folder.iterdir()) == []


def test_results_can_be_read_by_others(store, baseline):
    run, outcome = baseline
    store.save(run, outcome, {})
    (file,) = files(store.folder)
    assert file.stat().st_mode & 0o777 == 0o644
