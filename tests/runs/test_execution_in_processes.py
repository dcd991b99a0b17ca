"""Sweeps in processes of their own or shared out to workers: the same scores, and a death costs its own run alone."""

import multiprocessing
import os

import pytest

import lib.runs.execution
import lib.runs.profile
from lib.runs.execution import execute, fill
from lib.runs.profile import read_profile

pytestmark = pytest.mark.slow

ONE_RUN = {"support_sizes": [4], "seeds": [0]}
SCORES = ("in_domain", "out_of_domain")


@pytest.fixture
def profile(smoke_profile):
    """The smoke profile at one support size and seed."""
    return read_profile("smoke", ONE_RUN)


def scores(frame):
    return frame[[name for name in frame if name.startswith(SCORES)]].to_dict("records")


def execute_but_die_at_icl(job, folder, isolated):
    """Note the process, and leave it at icl without a word, as the kernel ends one that takes too much memory.

    It is left at pbft as well, but the first time only.
    """
    (folder / "processes").mkdir(parents=True, exist_ok=True)
    (folder / "processes" / str(os.getpid())).touch()
    first = folder / "processes" / job.name.replace(" ", "_")
    method = getattr(job, "method", None)
    if multiprocessing.parent_process() and (method == "icl" or (method == "pbft" and not first.exists())):
        first.touch()
        os._exit(9)
    return execute(job, folder, isolated)


def process_ids(folder):
    return {int(file.name) for file in (folder / "processes").iterdir() if file.name.isdigit()}


@pytest.fixture(scope="module")
def isolated(tmp_path_factory):
    """A sweep of icl, whose process dies, and pbft_lora after it, each in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", tmp_path_factory.mktemp("isolated"))
        patch.setattr(lib.runs.execution, "execute", execute_but_die_at_icl)
        profile = read_profile("smoke", {**ONE_RUN, "isolate": True})
        return profile.folder, fill(profile, ["icl", "pbft_lora"])


def test_a_fresh_process_gives_the_same_scores(isolated, profile):
    _, apart = isolated
    assert scores(apart.results) == scores(fill(profile, ["pbft_lora"]).results)


def test_isolated_jobs_have_a_process_each(isolated):
    folder, _ = isolated
    assert len(process_ids(folder) - {os.getpid()}) == 4  # three tries of icl, and pbft_lora


def test_a_process_that_dies_fails_its_run_and_no_other(isolated):
    _, sweep = isolated
    assert list(sweep.failed) == ["icl n=4 seed=0"]
    assert "its process died" in sweep.failed["icl n=4 seed=0"]
    assert sweep.results.method.tolist() == ["pbft_lora"]


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory):
    """Two workers; one dies at icl, each time, and one at pbft, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", tmp_path_factory.mktemp("shared"))
        patch.setattr(lib.runs.execution, "execute", execute_but_die_at_icl)
        profile = read_profile("smoke", {**ONE_RUN, "workers": 2})
        return profile, fill(profile, ["baseline", "icl", "pbft", "cd", "cd_lora"])


def test_workers_give_the_scores_of_one_process(shared_out, profile):
    _, shared = shared_out
    methods = ["baseline", "pbft", "cd", "cd_lora"]
    assert shared.results.method.tolist() == methods
    assert scores(shared.results) == scores(fill(profile, methods).results)


def test_a_worker_that_dies_each_time_at_one_run_fails_it_and_one_that_dies_once_costs_nothing(shared_out):
    _, shared = shared_out
    assert list(shared.failed) == ["icl n=4 seed=0"]
    assert "its process died" in shared.failed["icl n=4 seed=0"]


def test_in_shared_processes_seconds_are_measured_and_no_peak(shared_out):
    _, shared = shared_out
    assert set(shared.results.peak_measured) == {"nothing"}
    assert shared.results.evaluation_rss.isna().all()
    assert shared.results.peak_gb.isna().all()
    assert (shared.results.evaluation_seconds > 0).all()
    assert (shared.results[shared.results.method == "cd"].method_seconds > 0).all()


def test_in_a_process_of_its_own_a_run_has_a_peak(isolated):
    _, sweep = isolated
    assert set(sweep.results.peak_measured) == {"rss"}
    assert (sweep.results.peak_gb >= 0).all()
