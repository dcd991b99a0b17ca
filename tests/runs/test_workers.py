"""Workers of a real cluster: what dies or takes too long costs itself alone, and each job comes back once."""

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client, Nanny, Scheduler, SpecCluster

from lib.errors import StudyError
from lib.runs.clusters import connected
from lib.runs.profile import read_profile
from lib.runs.workers import Workers, workers
from tests.support import work
from tests.support.stored import run_of

pytestmark = pytest.mark.slow


SECONDS = 300  # that a test may take on a machine with much else to do


@pytest.fixture(autouse=True)
def limit():
    """A test that hangs fails, and the others go on."""

    def late(*_):
        raise AssertionError(f"it took longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def client():
    """Two workers of this machine, for all tests."""
    with connected(None, 2, None, "cpu") as client:
        yield client


@pytest.fixture
def profile(figures_folder):
    """The smoke profile, whose folder is the test's own."""
    profile = read_profile("smoke", {"workers": 2})
    profile.folder.mkdir(parents=True)
    return profile


def runs(*seeds):
    return [run_of("icl", seed=seed) for seed in seeds]


def outcomes(client, profile, jobs, urgent=(), shared=True, do=work.act):
    spread = Workers(client, profile, profile.folder if shared else None)
    found = list(spread(do, jobs, urgent))
    assert len(found) == len({job for job, _ in found})
    return {job.seed: outcome for job, outcome in found}


def begun(profile):
    """Kind, seed and process of each beginning of a job, in order."""
    lines = (profile.folder / "begun").read_text().splitlines()
    return [(kind, int(seed), process) for kind, seed, process in (line.split() for line in lines)]


def times_begun(profile):
    return Counter(seed for _, seed, _ in begun(profile))


def test_each_job_is_done_once_and_comes_back_with_what_it_came_to(client, profile):
    found = outcomes(client, profile, runs(1, 2, 3, work.ELSEWHERE))
    assert found == {1: True, 2: True, 3: True, work.ELSEWHERE: False}
    assert times_begun(profile) == {1: 1, 2: 1, 3: 1, work.ELSEWHERE: 1}


def test_an_error_of_the_program_is_raised_here(client, profile):
    with pytest.raises(ValueError, match="thirteen"):
        outcomes(client, profile, runs(work.RAISES))


def test_what_is_needed_is_done_once_and_before_all_that_need_it(client, profile):
    taught = [replace(run_of("cd"), method=method) for method in ("cd", "cd_lora", "cd_bitfit")]
    found = list(Workers(client, profile, profile.folder)(work.act, [taught[0].needs, *taught], ()))
    assert {job for job, _ in found} == {taught[0].needs, *taught}
    assert [kind for kind, _, _ in begun(profile)] == ["soft_labels", "runs", "runs", "runs"]


def test_what_is_urgent_comes_first_and_what_others_need_comes_next(client, profile):
    needed = [replace(run_of("cd").needs, seed=seed) for seed in (50, 51)]
    jobs = [*runs(*range(40)), *needed]
    list(Workers(client, profile, profile.folder)(work.act, jobs, jobs[38:40]))
    first = [seed for _, seed, _ in begun(profile)]
    assert {38, 39} <= {*first[:8]}
    assert {50, 51} <= {*first[:12]}


def test_a_worker_that_dies_costs_its_job_another_try_and_no_other_job_anything(client, profile):
    found = outcomes(client, profile, runs(1, work.DIES_ONCE, 2, 3, 4))
    assert set(found.values()) == {True}
    assert times_begun(profile)[work.DIES_ONCE] == 2


def test_the_third_death_of_its_worker_fails_a_job_and_no_other(client, profile):
    found = outcomes(client, profile, runs(1, work.DIES, 2, 3, 4))
    assert "its process died" in found.pop(work.DIES)
    assert set(found.values()) == {True}
    assert times_begun(profile)[work.DIES] == 3


def test_what_needs_a_job_that_failed_is_done_after_it(client, profile):
    needed = replace(run_of("cd").needs, seed=work.DIES)
    part = replace(run_of("cd").distillation, labelling=needed)
    taught = replace(run_of("cd"), seed=1, distillation=part)
    found = outcomes(client, profile, [needed, taught])
    assert found[1] is True
    assert [kind for kind, _, _ in begun(profile)] == ["soft_labels"] * 3 + ["runs"]


def test_what_takes_too_long_is_ended_and_the_rest_goes_on(client, profile):
    limited = profile.changed({"run_timeout": 3})
    found = outcomes(client, limited, runs(1, work.HANGS, 2, 3))
    assert found.pop(work.HANGS) == "run_timeout: it took longer than 3 s."
    assert set(found.values()) == {True}
    assert times_begun(profile)[work.HANGS] == 1


def test_an_isolated_job_that_takes_too_long_has_a_fresh_process_after_it(profile):
    isolated = profile.changed({"workers": 1, "isolate": True, "run_timeout": 3})
    jobs = runs(1, work.HANGS, 2, 3)
    with workers(isolated, jobs) as spread:
        found = {job.seed: outcome for job, outcome in spread(work.act, jobs, ())}
    assert found.pop(work.HANGS) == "run_timeout: it took longer than 3 s."
    assert found == {1: True, 2: True, 3: True}
    assert len({process for _, _, process in begun(profile)}) == 4


def test_isolated_jobs_have_a_process_each_and_no_other_beside_them(profile):
    isolated, jobs = profile.changed({"workers": 1, "isolate": True}), runs(1, 2, work.DIES)
    with workers(isolated, jobs) as spread:
        found = {job.seed: outcome for job, outcome in spread(work.act, jobs, ())}
    assert "its process died" in found.pop(work.DIES)
    assert set(found.values()) == {True}
    assert len({process for _, _, process in begun(profile)}) == 5


def test_results_come_back_from_workers_that_do_not_see_the_store(client, profile):
    taught = replace(run_of("cd"), seed=2)
    outcomes(client, profile, [taught.needs, taught], shared=False, do=work.pass_on)
    assert (profile.folder / "soft_labels" / "0.txt").read_text() == ""
    assert (profile.folder / "runs" / "2.txt").read_text() == "0.txt"


def test_what_takes_more_memory_than_a_worker_may_fails_and_no_other(profile):
    limited = profile.changed({"workers": 2, "worker_memory": 1.0})
    with workers(limited, runs(1, work.EATS)) as spread:
        found = {job.seed: outcome for job, outcome in spread(work.act, runs(1, work.EATS, 2), ())}
    assert "worker_memory is 1 GiB" in found.pop(work.EATS)
    assert found == {1: True, 2: True}


def test_workers_leave_no_semaphore_of_the_system(profile):
    before = {*Path("/dev/shm").glob("sem.*")}
    with workers(profile, runs(1, 2)) as spread:
        assert dict(spread(work.show_a_bar, runs(1, 2), ())) == dict.fromkeys(runs(1, 2), True)
    assert not {*Path("/dev/shm").glob("sem.*")} - before


# A scheduler that runs already

HERE = {"host": "127.0.0.1", "port": 0}
SCHEDULER = {"cls": Scheduler, "options": HERE | {"dashboard_address": "127.0.0.1:0"}}
NANNY = {"cls": Nanny, "options": HERE | {"nthreads": 1, "memory_limit": 0}}


@pytest.fixture(scope="module")
def running():
    """A cluster that somebody else has started."""
    with SpecCluster(scheduler=SCHEDULER, workers={0: NANNY}) as cluster:
        yield cluster


def on(profile, cluster, jobs, **changes):
    changed = profile.changed({"workers": 1, "cluster": cluster, **changes})
    with workers(changed, jobs) as spread:
        return {job.seed: outcome for job, outcome in spread(work.act, jobs, ())}


def test_a_running_cluster_takes_the_jobs_and_goes_on_after_them(profile, running):
    address = running.scheduler_address
    assert on(profile, address, runs(1, 2)) == {1: True, 2: True}
    assert times_begun(profile) == {1: 1, 2: 1}
    with Client(address, set_as_default=False) as another:
        assert len(another.scheduler_info()["workers"]) == 1


def test_an_address_where_nobody_answers_is_one_message(profile, monkeypatch):
    monkeypatch.setattr("lib.runs.clusters.SECONDS_TO_CONNECT", 1)
    with pytest.raises(StudyError, match=r"^cluster: nobody answers at tcp://127\.0\.0\.1:9 .*dask scheduler"):
        on(profile, "tcp://127.0.0.1:9", runs(1))


def test_another_version_at_the_scheduler_is_one_message_with_both(profile, running, monkeypatch):
    versions = running.scheduler.versions

    def older():
        found = versions()
        return {**found, "packages": found["packages"] | {"distributed": "2021.1.0"}}

    monkeypatch.setitem(running.scheduler.handlers, "versions", lambda *_, **__: older())
    with pytest.raises(StudyError, match=r"^cluster: the scheduler has distributed 2021\.1\.0, and here is \d"):
        on(profile, running.scheduler_address, runs(1))


def test_a_worker_without_the_model_is_one_message(profile, running, monkeypatch, tmp_path):
    (tmp_path / "own-model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))  # the worker has another one
    with pytest.raises(StudyError, match=r"^cluster: worker tcp://\S+ lacks model ~/own-model\.$"):
        on(profile, running.scheduler_address, [replace(run_of("icl"), model="~/own-model")])


def test_a_scheduler_without_workers_is_one_message(profile, monkeypatch):
    monkeypatch.setattr("lib.runs.workers.SECONDS_FOR_A_WORKER", 1)
    expected = pytest.raises(StudyError, match=r"^cluster: the scheduler at \S+ has no worker")
    with SpecCluster(scheduler=SCHEDULER) as cluster, expected:
        on(profile, cluster.scheduler_address, runs(1))


def test_a_scheduler_that_is_lost_ends_the_command_in_one_message(profile):
    cluster = SpecCluster(scheduler=SCHEDULER, workers={0: NANNY})
    jobs = runs(1, work.HANGS)
    changed = profile.changed({"workers": 1, "cluster": cluster.scheduler_address})
    expected = pytest.raises(StudyError, match=r"^cluster: the scheduler is gone\. What was computed is kept")
    with expected, workers(changed, jobs) as spread:
        for _ in spread(work.act, jobs, ()):
            cluster.close()
    assert times_begun(profile)[1] == 1


def test_a_queueing_system_needs_its_package(profile):
    with pytest.raises(StudyError, match=r"^cluster: 'slurm' needs dask-jobqueue"):
        on(profile, "slurm", runs(1))


def test_a_cluster_that_is_not_known_is_refused_with_the_nearest(profile):
    with pytest.raises(StudyError, match=r"^cluster: 'slrum' is not known\. Did you mean 'slurm'"):
        on(profile, "slrum", runs(1))
