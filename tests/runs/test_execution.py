"""Sweeps: only what is missing is computed, one run's failure costs no other, and everything is accounted for."""

import multiprocessing
import re
import time

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

import lib.runs.execution
from lib.errors import StorageError, StudyError
from lib.methods.records import PoolLabelling, Run
from lib.models import random_models
from lib.runs.execution import execute, fill
from lib.runs.profile import read_profile
from lib.runs.provenance import key
from lib.runs.store import Store

ONE_RUN = {"support_sizes": [4], "seeds": [0]}
DIVERGING = {
    **ONE_RUN,
    "learning_rate": {"pbft": 1e30, "pbft_bitfit": 1e-3},
    "methods": ["pbft", "icl", "pbft_bitfit"],
}


@pytest.fixture
def profile(smoke_profile):
    """The smoke profile at one support size and seed."""
    return read_profile("smoke", ONE_RUN)


@pytest.fixture
def without_biases(tmp_path):
    """A tiny model without bias terms, in a folder."""
    config = LlamaConfig(
        vocab_size=len(random_models.tokenizer()),
        hidden_size=8,
        intermediate_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    random_models.tokenizer().save_pretrained(tmp_path / "llama")
    return str(tmp_path / "llama")


@pytest.fixture
def executed(monkeypatch):
    """The jobs that a sweep runs."""
    jobs = []

    def spy(job, folder, isolated):
        jobs.append(job)
        execute(job, folder, isolated)

    monkeypatch.setattr(lib.runs.execution, "execute", spy)
    return jobs


def test_a_second_sweep_computes_nothing_and_returns_the_same(profile, executed):
    first = fill(profile, ["icl", "cd"])
    assert len(executed) == 3
    second = fill(profile, ["icl", "cd"])
    assert len(executed) == 3
    assert second.results.equals(first.results)


def test_a_sweep_as_plain_text_names_its_profile_and_holds_no_results(profile):
    sweep = fill(profile, ["icl"])
    assert "name='smoke'" in repr(sweep)
    assert key(sweep.stored[0].run) not in repr(sweep)
    assert "label_log_probs" not in repr(sweep)


def test_a_wider_sweep_computes_only_what_is_new(profile, executed):
    fill(profile, ["icl"])
    fill(read_profile("smoke", {"support_sizes": [1, 4], "seeds": [0]}), ["baseline", "icl"])
    assert [(job.method, job.support_size) for job in executed] == [("icl", 4), ("baseline", 0), ("icl", 1)]


def test_a_teacher_is_asked_once_for_all_methods_of_a_support_set_and_before_them(profile, executed):
    fill(profile, ["cd", "cd_lora", "cd_bitfit"])
    assert [type(job) for job in executed] == [PoolLabelling, Run, Run, Run]


def test_what_is_stored_can_be_read_alone(smoke_profile, executed):
    """Neither data nor models are asked, however little is there."""
    fill(smoke_profile.changed({"seeds": [0]}), ["icl"])
    executed.clear()
    stored = smoke_profile.changed({"stored_only": True})
    sweep = fill(stored, ["icl", "pbft"])
    nothing = fill(stored.changed({"data": "nowhere", "student": "nobody"}), ["icl"])
    assert executed == []
    assert set(sweep.results.method) == {"icl"}
    assert sweep.results.seed.tolist() == [0, 0]
    left = [run for run in stored.runs(("icl", "pbft")) if (run.method, run.seed) != ("icl", 0)]
    assert sweep.missing == [run.name for run in left]
    assert "2 of 8 results: the others are not computed yet" in sweep._repr_html_()
    assert (len(nothing.results), len(nothing.missing)) == (0, 4)


def test_results_are_one_row_a_run_in_the_profiles_order(smoke_profile):
    sweep = fill(smoke_profile, ["baseline", "icl", "teacher_icl"])
    expected = [
        (run.method, run.support_size, run.seed) for run in smoke_profile.runs(("baseline", "icl", "teacher_icl"))
    ]
    assert list(sweep.results[["method", "support_size", "seed"]].itertuples(index=False, name=None)) == expected


@pytest.fixture
def diverged(smoke_profile):
    """A sweep one of whose runs has a learning rate that no model survives."""
    profile = read_profile("smoke", DIVERGING)
    return profile, fill(profile)


def test_a_loss_that_is_not_finite_fails_its_run_and_no_other(diverged):
    _, sweep = diverged
    assert list(sweep.failed) == ["pbft n=4 seed=0"]
    assert re.search(r"loss is (nan|inf) at step \d of 4 \(learning_rate 1e\+30", sweep.failed["pbft n=4 seed=0"])
    assert sweep.results.method.tolist() == ["icl", "pbft_bitfit"]


def test_a_failed_run_has_no_result_file(diverged):
    profile, _ = diverged
    (failed,) = profile.runs(("pbft",))
    assert not (profile.folder / "runs" / f"{key(failed)}.json").exists()
    assert len(list((profile.folder / "runs").iterdir())) == 2


def test_a_failed_run_is_tried_again_only_when_asked(diverged, executed):
    profile, first = diverged
    assert fill(profile).failed == first.failed
    assert executed == []
    Store(profile.folder).forget_failures()
    assert fill(profile).failed == first.failed
    assert [job.method for job in executed] == ["pbft"]


def test_a_run_that_succeeds_at_last_is_no_longer_failed(profile, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(lib.runs.execution.context_distillation, "run_method", lambda *_, **__: 1 / 0)
        assert fill(profile, ["icl"]).failed == {"icl n=4 seed=0": "ZeroDivisionError: division by zero"}
    Store(profile.folder).forget_failures()
    sweep = fill(profile, ["icl"])
    assert (sweep.failed, len(sweep.results)) == ({}, 1)


def test_a_store_that_cannot_be_written_ends_the_sweep_before_anything_is_computed(profile, monkeypatch):
    monkeypatch.setattr(
        lib.runs.execution.context_distillation, "run_method", lambda *_: pytest.fail("it was computed")
    )
    profile.folder.mkdir(parents=True)
    (profile.folder / "runs").write_text("")
    with pytest.raises(StorageError, match=str(profile.folder / "runs")):
        fill(profile, ["baseline", "icl"])


def compute_elsewhere(store, run, outcome, held):
    """Another run of the study, which has a run in hand for a second."""
    with store.claim(run):
        held.set()
        time.sleep(1)
        store.save(run, outcome, {"device": "elsewhere"}) if outcome else store.fail(run, "it failed elsewhere")


@pytest.mark.parametrize("comes_to_a_result", [True, False])
def test_what_another_run_of_the_study_has_in_hand_is_waited_for_and_not_computed_twice(profile, comes_to_a_result):
    store = Store(profile.folder)
    (run,) = profile.runs(("icl",))
    outcome = lib.runs.execution.context_distillation.run_method(run, None) if comes_to_a_result else None
    context = multiprocessing.get_context("fork")
    held = context.Event()
    other = context.Process(target=compute_elsewhere, args=(store, run, outcome, held))
    other.start()
    held.wait()
    sweep = fill(profile, ["baseline", "icl"])
    other.join()
    assert len(sweep.results) + len(sweep.failed) == 2
    if comes_to_a_result:
        assert dict(zip(sweep.results.method, sweep.results.device, strict=True))["icl"] == "elsewhere"
    else:
        assert sweep.failed == {"icl n=4 seed=0": "it failed elsewhere"}


def test_what_another_run_has_finished_since_is_not_computed_again(profile):
    store = Store(profile.folder)
    (run,) = profile.runs(("icl",))
    outcome = lib.runs.execution.context_distillation.run_method(run, None)
    store.save(run, outcome, {"device": "elsewhere"})
    assert execute(run, profile.folder, False)
    assert store.load(run).environment == {"device": "elsewhere"}


def test_a_teacher_that_fails_fails_the_runs_that_need_it_and_no_other(profile, monkeypatch):
    monkeypatch.setattr(lib.runs.execution.context_distillation, "ask_teacher", lambda *_, **__: 1 / 0)
    sweep = fill(profile, ["icl", "cd"])
    assert list(sweep.failed) == ["cd n=4 seed=0"]
    assert (
        "needs teacher's soft labels n=4 seed=0, which is missing: ZeroDivisionError" in sweep.failed["cd n=4 seed=0"]
    )
    assert sweep.results.method.tolist() == ["icl"]


def test_a_refused_method_is_named_with_its_reason_and_the_others_go_on(figures_folder, without_biases, executed):
    profile = read_profile("smoke", {**ONE_RUN, "student": without_biases})
    for _ in range(2):
        sweep = fill(profile, ["baseline", "pbft_bitfit"])
        assert list(sweep.refused) == ["pbft_bitfit"]
        assert "has no bias terms to train" in sweep.refused["pbft_bitfit"]
        assert sweep.results.method.tolist() == ["baseline"]
    assert [job.method for job in executed] == ["baseline"]


def test_a_sweep_of_refused_methods_alone_is_an_error(figures_folder, without_biases):
    profile = read_profile("smoke", {**ONE_RUN, "student": without_biases})
    with pytest.raises(StudyError, match=r"^bitfit: .* has no bias terms to train\. Set bitfit: add") as caught:
        fill(profile, ["pbft_bitfit", "cd_bitfit"])
    assert str(caught.value).count("no bias terms") == 1


def test_methods_that_the_profile_does_not_have_are_an_error(smoke_profile):
    with pytest.raises(StudyError, match=r"methods: 'pbtf' is not known\. Did you mean 'pbft'"):
        fill(smoke_profile, ["pbtf"])


@pytest.mark.parametrize(("seconds", "told"), [(0, [1, 2, 3]), (1000, [1, 3])])
def test_in_batch_mode_progress_is_plain_lines_and_not_too_many(profile, monkeypatch, capsys, seconds, told):
    monkeypatch.setenv("FEW_SHOT_BATCH", "1")
    monkeypatch.setattr(lib.runs.execution, "SECONDS_BETWEEN_LINES", seconds)
    fill(profile, ["baseline", "cd"])
    names = ["baseline n=0 seed=0", "teacher's soft labels n=4 seed=0", "cd n=4 seed=0"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(told)
    for i, line in zip(told, lines, strict=True):
        estimate = "" if i == 1 else r", about \d+ s left"
        assert re.fullmatch(rf"\[{i}/3\] {names[i - 1]}: \d+ s so far{estimate}", line)


def test_the_time_left_counts_on_as_many_runs_at_a_time_as_before(monkeypatch, capsys, profile):
    """Two workers finish a run each every 600 s: of ten runs, eight are left after the first two, in 2,400 s."""
    clock = iter([0.0, 599.0, 600.0])
    monkeypatch.setenv("FEW_SHOT_BATCH", "1")
    monkeypatch.setattr(lib.runs.execution, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(lib.runs.execution.time, "perf_counter", lambda: next(clock))
    lib.runs.execution.show_progress(iter(profile.runs()[:2]), 10)
    assert "600 s so far, about 40 min left" in capsys.readouterr().out


def test_without_batch_mode_nothing_is_printed_to_the_output(profile, monkeypatch, capsys):
    monkeypatch.delenv("FEW_SHOT_BATCH", raising=False)
    fill(profile, ["baseline"])
    assert capsys.readouterr().out == ""


def test_with_no_support_examples_the_teacher_answers_and_teaches_without_demonstrations(figures_folder):
    sweep = fill(read_profile("smoke", {"support_sizes": [0], "seeds": [0]}))
    assert sweep.failed == {}
    assert sweep.results.method.tolist() == ["baseline", "teacher_icl", "cd", "cd_lora", "cd_bitfit"]


def test_a_stored_result_says_what_it_was_computed_on(profile):
    fill(profile, ["baseline"])
    (run,) = profile.runs(("baseline",))
    result = Store(profile.folder).load(run)
    assert {"device", "torch", "threads"} <= set(result.environment)
    assert result.run == run


def test_methods_that_come_first_are_done_and_told_of_before_the_others_begin(profile):
    seen = []

    def look():
        store = Store(profile.folder)
        seen.append([run.method for run in profile.runs() if store.done(run)])

    fill(profile, ["baseline", "icl", "cd"], first=["cd"], first_done=look)
    assert seen == [["cd"]]
    fill(profile, ["baseline", "icl", "cd"], first=["cd"], first_done=look)
    assert len(seen) == 1  # nothing was computed
