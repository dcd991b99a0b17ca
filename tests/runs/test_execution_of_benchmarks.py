"""Filling a benchmark: only what is missing is computed, teachers first and once, and one failure costs no other."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import lib.runs.execution
import lib.runs.profile
from lib.errors import StudyError
from lib.evidence.claims import benchmark_effects, judge
from lib.methods.records import TunedTeacher
from lib.methods.table import ON_BENCHMARKS
from lib.paths import NOTEBOOKS as FOLDER
from lib.report.benchmark_tables import paper_layout
from lib.runs.execution import BENCHMARK_NOTEBOOKS, fill
from lib.runs.frames import seed_means
from lib.runs.profile import read_profile
from lib.runs.provenance import key
from lib.runs.store import Store

pytestmark = pytest.mark.slow

COSTS = ("seconds", "gb", "rss", "measured")
NEED_A_TEACHER = {"teacher_ict", "icl_d", "icl_d_lm"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The folder and the sweep of the smoke profile's CrossFit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", tmp_path_factory.mktemp("figures"))
        profile = read_profile("smoke")
        return profile.folder, fill(profile, benchmark="crossfit")


@pytest.fixture
def study(filled, smoke_profile):
    """The smoke profile with a copy of what was filled."""
    shutil.copytree(filled[0], smoke_profile.folder)
    return smoke_profile


@pytest.fixture
def asked_for(monkeypatch):
    """The jobs that a sweep would run; none of them is."""
    jobs = []
    monkeypatch.setattr(lib.runs.execution, "execute", lambda job, *_, **__: jobs.append(job))
    return jobs


@pytest.fixture
def executed(monkeypatch):
    """The jobs that a sweep runs."""
    jobs = []

    def spy(job, *rest, original=lib.runs.execution.execute, **named):
        jobs.append(job)
        original(job, *rest, **named)

    monkeypatch.setattr(lib.runs.execution, "execute", spy)
    return jobs


def run_of(profile, method, paradigm="meta", seed=0):
    runs = profile.in_context_runs("crossfit")
    (found,) = [run for run in runs if (run.method, run.in_context.paradigm, run.seed) == (method, paradigm, seed)]
    return found


def result_of(profile, run):
    return profile.folder / "runs" / f"{key(run)}.json"


def weights_of(profile, teacher):
    return profile.folder / "teachers" / f"{key(teacher)}.safetensors"


def written(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def scores(frame):
    return frame[[name for name in frame if not name.endswith(COSTS)]]


def test_nothing_of_the_smoke_profile_fails_and_all_of_it_has_results(filled):
    _, sweep = filled
    assert (sweep.failed, sweep.refused) == ({}, {})
    expected = [
        (run.method, run.in_context.paradigm or "none", run.seed, task, k)
        for run in sweep.profile.in_context_runs("crossfit")
        for task in ("times", "sizes")
        for k in run.in_context.demonstrations
    ]
    found = sweep.results.fillna({"paradigm": "none"})[["method", "paradigm", "seed", "task", "k"]]
    assert list(found.itertuples(index=False, name=None)) == expected


def test_a_second_fill_computes_nothing_and_returns_the_same(filled, study, executed):
    before = written(study.folder)
    again = fill(study, benchmark="crossfit")
    assert again.results.equals(filled[1].results)
    assert executed == []
    assert written(study.folder) == before
    assert len(before) == len(study.in_context_runs("crossfit")) + 4


def test_each_teacher_is_asked_for_once_and_before_what_needs_it(smoke_profile, asked_for):
    fill(smoke_profile, benchmark="crossfit")
    there = set()
    for job in asked_for:
        assert job.needs is None or job.needs in there
        there.add(job)
    assert len(asked_for) == len(there) == len(smoke_profile.in_context_runs("crossfit")) + 4


def test_without_methods_that_need_one_no_teacher_is_tuned(smoke_profile, asked_for):
    fill(smoke_profile, ["untuned", "ict", "teacher_untuned"], "lama")
    assert {job.method for job in asked_for} == {"untuned", "ict", "teacher_untuned"}


def test_a_changed_setting_computes_only_what_it_bears_on(study, asked_for):
    fill(study.changed({"in_context.lm_weight": 0.7}), benchmark="crossfit")
    assert [job.method for job in asked_for] == ["icl_d_lm"] * 4


def test_another_seed_computes_only_its_own(study, asked_for):
    fill(study.changed({"in_context.seeds": [0, 5]}), ["ict", "icl_d"], "crossfit")
    seeds = [job.episodes.seed if isinstance(job, TunedTeacher) else job.seed for job in asked_for]
    assert seeds == [5] * 6


def test_the_other_benchmark_is_filled_beside(study, asked_for):
    fill(study, benchmark="lama")
    names = {(job.episodes.benchmark if isinstance(job, TunedTeacher) else job.task).name for job in asked_for}
    assert names == {"lama"}


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file):
    file.write_bytes(b"")


@pytest.mark.parametrize(("damage", "warned"), [(cut_short, True), (emptied, True), (Path.unlink, False)])
def test_a_damaged_teacher_is_tuned_again_and_all_is_as_before(filled, study, executed, capsys, damage, warned):
    run = run_of(study, "icl_d")
    file, store = weights_of(study, run.in_context.teacher), Store(study.folder)
    weights = {name: values.clone() for name, values in store.load_prepared(run.in_context.teacher).parameters.items()}
    damage(file)
    result_of(study, run).unlink()
    others = {other: time for other, time in written(study.folder).items() if other != file}
    again = fill(study, benchmark="crossfit")
    assert executed == [run.in_context.teacher, run]
    assert scores(again.results).equals(scores(filled[1].results))
    restored = store.load_prepared(run.in_context.teacher).parameters
    assert all(weights[name].equal(values) for name, values in restored.items())
    assert others.items() <= written(study.folder).items()
    assert ("is cut short or altered" in capsys.readouterr().err) == warned


def test_a_stored_teacher_is_not_tuned_again_for_a_missing_result(filled, study, executed):
    run = run_of(study, "icl_d_lm", "multitask", 1)
    result_of(study, run).unlink()
    again = fill(study, benchmark="crossfit")
    assert executed == [run]
    assert scores(again.results).equals(scores(filled[1].results))


def test_a_teacher_that_nothing_missing_needs_is_not_tuned(study, executed):
    weights_of(study, run_of(study, "icl_d").needs).unlink()
    fill(study, benchmark="crossfit")
    assert executed == []


def test_a_result_that_is_cut_short_is_computed_again(filled, study, executed, capsys):
    run = run_of(study, "ict")
    cut_short(result_of(study, run))
    again = fill(study, benchmark="crossfit")
    assert executed == [run]
    assert scores(again.results).equals(scores(filled[1].results))
    assert "is cut short or altered" in capsys.readouterr().err


ONE_SEED = {"in_context.seeds": [0], "in_context.steps": 2}


def test_a_teacher_that_fails_fails_the_runs_that_need_it_and_no_other(smoke_profile, monkeypatch):
    profile = smoke_profile.changed(ONE_SEED)

    def fail_under_meta(request, *rest, original=lib.runs.execution.in_context_distillation.tune_teacher):
        return 1 / 0 if request.episodes.paradigm == "meta" else original(request, *rest)

    monkeypatch.setattr(lib.runs.execution.in_context_distillation, "tune_teacher", fail_under_meta)
    sweep = fill(profile, benchmark="crossfit")
    assert set(sweep.failed) == {f"crossfit meta {name} seed=0" for name in NEED_A_TEACHER}
    for reason in sweep.failed.values():
        assert (
            reason
            == "it needs crossfit meta tuned teacher seed=0, which is missing: ZeroDivisionError: division by zero"
        )
    under_meta = sweep.results[sweep.results.paradigm == "meta"]
    assert set(under_meta.method) == {"ict"}
    assert set(sweep.results[sweep.results.paradigm == "multitask"].method) == {"ict", *NEED_A_TEACHER}
    assert {"untuned", "teacher_untuned"} <= set(sweep.results.method)
    assert len(written(profile.folder / "teachers")) == 1


def test_what_failed_is_tried_again_only_when_failures_are_forgotten(smoke_profile, monkeypatch, executed):
    profile = smoke_profile.changed({**ONE_SEED, "in_context.paradigms": ["meta"]})
    with monkeypatch.context() as patch:
        patch.setattr(lib.runs.execution.in_context_distillation, "tune_teacher", lambda *_: 1 / 0)
        fill(profile, ["icl_d"], "crossfit")
    executed.clear()
    assert list(fill(profile, ["icl_d"], "crossfit").failed) == ["crossfit meta icl_d seed=0"]
    assert executed == []
    Store(profile.folder).forget_failures()
    sweep = fill(profile, ["icl_d"], "crossfit")
    assert (sweep.failed, set(sweep.results.method), len(executed)) == ({}, {"icl_d"}, 2)


def test_a_loss_that_is_not_finite_fails_its_run_and_no_other(smoke_profile):
    changes = {**ONE_SEED, "in_context.learning_rate": 1e30, "in_context.teacher_learning_rate": 1e-3}
    profile = smoke_profile.changed({**changes, "in_context.paradigms": ["meta"]})
    sweep = fill(profile, ["untuned", "teacher_ict", "ict"], "crossfit")
    assert list(sweep.failed) == ["crossfit meta ict seed=0"]
    assert "learning_rate 1e+30" in sweep.failed["crossfit meta ict seed=0"]
    assert set(sweep.results.method) == {"untuned", "teacher_ict"}


def test_a_process_of_its_own_reads_the_stored_teacher_and_gives_the_same_scores(filled, study):
    run = run_of(study, "icl_d_lm", "multitask")
    result_of(study, run).unlink()
    again = fill(study.changed({"isolate": True}), benchmark="crossfit")
    assert scores(again.results).equals(scores(filled[1].results))
    costs = Store(study.folder).load(run).outcome.costs
    assert all(costs[phase].rss is not None for phase in ("training", "evaluation"))


def test_methods_that_there_are_not_are_refused_with_the_nearest(smoke_profile):
    with pytest.raises(StudyError, match=r"methods: 'icld' is not known\. Did you mean 'icl_d'\?.*icl_d_lm"):
        fill(smoke_profile, ["ict", "icld"], "crossfit")
    assert not smoke_profile.folder.exists()


@pytest.mark.parametrize("changes", [{"in_context.lama": None}, {"in_context": None}])
def test_a_profile_without_the_benchmark_is_refused(smoke_profile, changes):
    with pytest.raises(StudyError, match=r"in_context\.lama: profile smoke does not have it"):
        fill(smoke_profile.changed(changes), benchmark="lama")
    assert not smoke_profile.folder.exists()


def test_a_stored_result_says_what_it_was_computed_on(filled, study):
    result = Store(study.folder).load(run_of(study, "icl_d"))
    assert {"device", "torch", "threads"} <= set(result.environment)
    assert (result.run.model, result.run.in_context.teacher.model) == ("random-opt-student", "random-opt-teacher")


def test_votes_are_paid_for_in_tokens_of_the_evaluation(filled):
    tokens = filled[1].results.groupby(["method", "paradigm"]).evaluation_tokens.mean()
    for method in ("ict", "icl_d", "teacher_ict"):
        assert 1.3 * tokens[method, "meta"] < tokens[method, "multitask"]


def test_students_of_a_paradigm_and_seed_share_their_teachers_cost(filled):
    taught = filled[1].results.dropna(subset="teacher_seconds")
    assert set(taught.method) == NEED_A_TEACHER
    assert (taught.groupby(["paradigm", "seed"]).teacher_seconds.nunique() == 1).all()
    assert taught.teacher_seconds.nunique() == 4


def test_two_seeds_make_a_table_and_no_verdict(filled):
    means = seed_means(filled[1].results)
    table = paper_layout(means, "crossfit", 2).drop(columns="without skill")
    assert table.shape == (2, len(ON_BENCHMARKS))
    assert table.map(lambda shown: "[" in shown).to_numpy().all()
    judged = judge(benchmark_effects(means, "crossfit"))
    assert set(judged.verdict) == {"cannot be told"}
    assert set(judged.support_size) == {0, 1, 2}
    assert np.isfinite(judged.effect).all()


def test_each_benchmark_has_a_notebook():
    assert sorted(BENCHMARK_NOTEBOOKS.values()) == ["crossfit", "lama"]
    assert all((FOLDER / f"{name}.ipynb").is_file() for name in BENCHMARK_NOTEBOOKS)
