"""The store: whatever ends a run, a result is whole or absent, and what is whole is kept."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import lib.runs.profile
import lib.runs.store
from lib.methods.context_distillation import SoftLabels
from lib.methods.in_context_distillation import TunedWeights
from lib.models.cost import Cost
from lib.paths import ROOT
from lib.runs.execution import fill
from lib.runs.keys import key
from lib.runs.profile import read_profile
from lib.runs.store import Store

SWEEP = {"support_sizes": [4]}
METHODS = ["baseline", "icl", "pbft", "cd", "cd_lora"]
RUN = f"""
import sys
from pathlib import Path
import lib.runs.profile
lib.runs.profile.FIGURES = Path(sys.argv[1])
from lib.runs.execution import fill
fill(lib.runs.profile.read_profile("smoke", {SWEEP}), {METHODS})
"""


@pytest.fixture(scope="module")
def baseline():
    """The baseline run of the smoke profile and its outcome."""
    (run,) = read_profile("smoke").runs(("baseline",))
    return run, run(run, None)


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


def numbers(record):
    return {name: value for name, value in record["outcome"].items() if name != "costs"}


def files(folder, kind="*"):
    return sorted(folder.glob(f"{kind}/*"))


def cut(file, kept):
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])


def some_soft_labels():
    return SoftLabels(torch.randn(2, 2), torch.randn(3, 2), Cost(1.5, 20, None, None, 300))


def teacher_of(profile):
    return next(run.teacher for run in profile.in_context_runs("crossfit") if run.teacher)


def some_weights(dtype=torch.float32):
    parameters = {"model.wide": torch.randn(3, 2, dtype=dtype).T, "model.bias": torch.zeros(5, dtype=dtype)}
    return TunedWeights(parameters, [0.75, 0.5], Cost(1.5, 20, None, None, None, 300))


def write_half_and_raise(scratch):
    Path(scratch).write_text("hal")
    raise OSError("the disk is full")


def write_half_and_die(scratch):
    Path(scratch).write_text("hal")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_write_that_raises_leaves_the_old_file_or_none_and_nothing_else(tmp_path, before):
    file = tmp_path / "runs" / "result.json"
    if before:
        file.parent.mkdir()
        file.write_text(before)
    with pytest.raises(OSError, match="the disk is full"):
        lib.runs.store.replace_file(file, write_half_and_raise)
    assert [path.read_text() for path in files(tmp_path)] == ([before] if before else [])


@pytest.mark.parametrize("before", [None, "old"])
def test_a_kill_in_the_middle_of_writing_leaves_the_old_file_or_none(tmp_path, before):
    file = tmp_path / "result.json"
    if before:
        file.write_text(before)
    writer = multiprocessing.get_context("fork").Process(
        target=lib.runs.store.replace_file, args=(file, write_half_and_die)
    )
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert (file.read_text() if file.exists() else None) == before


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A sweep killed once it has some results, then filled in: its profile, its folder, and what the kill left."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", RUN, str(folder)], env=environment, stderr=subprocess.DEVNULL)
    while child.poll() is None and len(list(folder.glob("smoke/runs/*.json"))) < 3:
        time.sleep(0.002)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("smoke/*/*") if not file.name.startswith(".")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", folder)
        profile = read_profile("smoke", SWEEP)
        fill(profile, METHODS)
        return profile, profile.folder, kept


def test_a_killed_sweep_is_finished_without_recomputing_what_was_there(resumed):
    profile, _, kept = resumed
    assert 3 <= len([file for file in kept if file.parent.name == "runs"]) < len(profile.runs(tuple(METHODS)))
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_a_killed_sweep_ends_with_the_numbers_of_an_uninterrupted_one(resumed, tmp_path, monkeypatch):
    profile, folder, _ = resumed
    monkeypatch.setattr(lib.runs.profile, "FIGURES", tmp_path)
    fill(profile, METHODS)
    for run in profile.runs(tuple(METHODS)):
        assert numbers(Store(folder).load(run)) == numbers(Store(profile.folder).load(run))


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
def test_targets_that_are_cut_short_are_computed_again_with_a_warning(filled, capsys, kept):
    profile, store, run, request = filled
    before, result = store.load_soft_labels(request).log_probs.clone(), store.load(run)
    file = store.folder / "soft_labels" / f"{key(request)}.safetensors"
    cut(file, kept)
    (store.folder / "runs" / f"{key(run)}.json").unlink()
    fill(profile, ["cd"])
    assert f"warning: {file} is cut short" in capsys.readouterr().err
    assert torch.equal(store.load_soft_labels(request).log_probs, before)
    assert numbers(store.load(run)) == numbers(result)


def test_a_result_under_another_runs_name_counts_as_absent_with_a_warning(store, baseline, capsys):
    run, outcome = baseline
    other = replace(run, seed=1)
    store.save(run, outcome, {})
    os.replace(store.folder / "runs" / f"{key(run)}.json", store.folder / "runs" / f"{key(other)}.json")
    assert store.load(other) is None
    assert "altered; it is computed again" in capsys.readouterr().err
    assert store.load(run) is None


def test_a_result_comes_back_as_it_was_saved(store, baseline):
    run, outcome = baseline
    store.save(run, outcome, {"device": "a processor"})
    record = store.load(run)
    assert record["outcome"] == asdict(outcome)
    assert record["environment"] == {"device": "a processor"}
    assert record["refused"] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_targets_come_back_as_they_were_saved(store, smoke_profile, dtype):
    request, targets = request_of(smoke_profile), some_soft_labels()
    targets = replace(targets, log_probs=targets.log_probs.to(dtype).T)
    store.save_soft_labels(request, targets)
    loaded = store.load_soft_labels(request)
    assert torch.equal(loaded.log_probs, targets.log_probs)
    assert torch.equal(loaded.content_free, targets.content_free)
    assert (loaded.log_probs.dtype, loaded.cost) == (dtype, targets.cost)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tuned_teacher_comes_back_as_it_was_saved(store, smoke_profile, dtype):
    request, weights = teacher_of(smoke_profile), some_weights(dtype)
    store.save_weights(request, weights)
    loaded = store.load_weights(request)
    assert loaded.parameters.keys() == weights.parameters.keys()
    assert all(torch.equal(values, loaded.parameters[name]) for name, values in weights.parameters.items())
    assert {values.dtype for values in loaded.parameters.values()} == {dtype}
    assert (loaded.losses, loaded.cost) == (weights.losses, weights.cost)


def test_a_tuned_teacher_is_loaded_for_its_own_settings_alone(store, smoke_profile):
    request = teacher_of(smoke_profile)
    store.save_weights(request, some_weights())
    assert store.load_weights(replace(request, model="another")) is None
    assert not store.ready(replace(request, episodes=replace(request.episodes, paradigm="multitask")))


def test_a_preparation_is_ready_once_it_is_there(store, smoke_profile):
    teacher, request = teacher_of(smoke_profile), request_of(smoke_profile)
    assert (store.ready(teacher), store.ready(request)) == (False, False)
    store.save_weights(teacher, some_weights())
    assert (store.ready(teacher), store.ready(request)) == (True, False)
    store.save_soft_labels(request, some_soft_labels())
    assert (store.ready(teacher), store.ready(request)) == (True, True)


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_tuned_teacher_that_is_cut_short_is_not_ready_and_counts_as_absent_with_a_warning(
    store, smoke_profile, capsys, kept
):
    request = teacher_of(smoke_profile)
    store.save_weights(request, some_weights())
    (file,) = files(store.folder)
    cut(file, kept)
    assert (store.ready(request), store.load_weights(request)) == (False, None)
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


def test_a_result_forgets_its_runs_failure(store, baseline):
    run, outcome = baseline
    other = replace(run, seed=1)
    for failed in (run, other):
        store.fail(failed, "out of memory")
    store.save(run, outcome, {})
    assert (store.failure(run), store.failure(other)) == (None, "out of memory")


def test_targets_forget_their_own_failure(store, smoke_profile):
    request = request_of(smoke_profile)
    store.fail(request, "out of memory")
    store.save_soft_labels(request, some_soft_labels())
    assert store.failure(request) is None


def test_a_tuned_teacher_forgets_its_own_failure(store, smoke_profile):
    request = teacher_of(smoke_profile)
    store.fail(request, "out of memory")
    assert (store.failure(request), store.ready(request)) == ("out of memory", False)
    store.save_weights(request, some_weights())
    assert store.failure(request) is None


def test_all_failures_can_be_forgotten(store, baseline, smoke_profile):
    jobs = [baseline[0], request_of(smoke_profile), teacher_of(smoke_profile), smoke_profile.in_context_runs("lama")[0]]
    for job in jobs:
        store.fail(job, "out of memory")
    store.forget_failures()
    assert [store.failure(job) for job in jobs] == [None] * 4


def test_a_refusal_is_kept_with_its_reason(store, baseline):
    store.refuse(baseline[0], "bitfit: no biases")
    assert store.load(baseline[0])["refused"] == "bitfit: no biases"


def test_an_empty_store_has_nothing_and_writes_nothing(store, baseline, smoke_profile):
    request, teacher = request_of(smoke_profile), teacher_of(smoke_profile)
    assert [store.load(baseline[0]), store.failure(baseline[0]), store.load_soft_labels(request)] == [None, None, None]
    assert (store.load_weights(teacher), store.ready(teacher)) == (None, False)
    store.forget_failures()
    assert list(store.folder.iterdir()) == []


def test_results_can_be_read_by_others(store, baseline):
    run, outcome = baseline
    store.save(run, outcome, {})
    (file,) = files(store.folder)
    assert file.stat().st_mode & 0o777 == 0o644
