"""Kills and interrupts at random: nothing is lost, wrong, half-written or left running, and the next run goes on.

FEW_SHOT_KILLS is how many kills of the whole program are tried, and ten times as many of a sweep in one process.
"""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

import lib.runs.profile
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.runs.store import Store
from tests.support.clone import copy_of_the_study

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FEW_SHOT_KILLS", "1"))
METHODS = ("baseline", "icl", "pbft", "cd")
SWEEP = {"support_sizes": [4], "seeds": [0], "methods": list(METHODS)}
FORK = multiprocessing.get_context("fork")  # libraries are imported once


@pytest.fixture(scope="module")
def chance():
    """The same kills each time, unless more are asked for."""
    return random.Random(KILLS)


def numbers(profile):
    """What the stored results come to, without costs; None for those that are not there."""
    found = [Store(profile.folder).load(run) for run in profile.runs(METHODS)]
    return [result and replace(result.outcome, costs={}) for result in found]


def kept(folder):
    return {file: file.read_bytes() for name in ("runs", "soft_labels") for file in folder.glob(f"{name}/[!.]*")}


def nothing_is_lost(before, after):
    return {file: after.get(file) for file in before} == before


# A sweep in one process


def sweep_in_a_fork(profile):
    sweep = FORK.Process(target=fill, args=(profile,))
    sweep.start()
    return sweep


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A profile, what its sweep comes to, and how long it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", tmp_path_factory.mktemp("undisturbed"))
        profile, began = read_profile("smoke", SWEEP), time.monotonic()
        sweep_in_a_fork(profile).join()
        assert None not in numbers(profile)
        return profile, numbers(profile), time.monotonic() - began


@pytest.mark.parametrize("number", range(10 * KILLS))
def test_a_sweep_that_is_killed_at_any_moment_ends_as_an_undisturbed_one(
    undisturbed, chance, figures_folder, capfd, number
):
    profile, expected, seconds = undisturbed
    sweep = sweep_in_a_fork(profile)
    time.sleep(chance.uniform(0, seconds))
    sweep.kill()
    sweep.join()
    before = kept(profile.folder)
    assert all(found in (None, wanted) for found, wanted in zip(numbers(profile), expected, strict=True))
    resumed = sweep_in_a_fork(profile)
    resumed.join()
    assert resumed.exitcode == 0
    assert numbers(profile) == expected
    assert nothing_is_lost(before, kept(profile.folder))
    assert not list(profile.folder.glob("claims/*"))
    assert "warning" not in capfd.readouterr().err


# The whole program, with two workers and a page

CHANGES = [word for name, value in SWEEP.items() for word in ("--set", f"{name}={value}")]
WORDS = ["--smoke", "--only", "01", "--set", "workers=2", *CHANGES]
VICTIMS = {
    "main": [signal.SIGKILL, signal.SIGTERM, signal.SIGINT],
    "group": [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
    "worker": [signal.SIGKILL],
    "kernel": [signal.SIGKILL],
    "server": [signal.SIGKILL],  # of which kernels are forks
}


def start(clone):
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, "HF_HUB_OFFLINE": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(["./run_all.sh", *WORDS], cwd=clone, env=environment, start_new_session=True, **pipes)


def run(clone):
    program = start(clone)
    _, said = program.communicate()
    return program.returncode, said


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the study, what an undisturbed run of it comes to, and how long that takes."""
    folder, began = copy_of_the_study(tmp_path_factory.mktemp("clone")), time.monotonic()
    assert run(folder)[0] == 0
    return folder, results_in(folder), time.monotonic() - began


def results_in(clone):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.runs.profile, "FIGURES", clone / "figures")
        return numbers(read_profile("smoke", SWEEP))


def strike(program, victim, number):
    """Send the signal; returns the processes that there were. A worker, server or kernel is struck if there is one."""
    try:
        family = psutil.Process(program.pid).children(recursive=True)
        kinds = {"worker": "spawn_main", "kernel": "forkserver", "server": "forkserver"}
        targets = [child for child in family if kinds.get(victim, "-") in " ".join(child.cmdline())]
    except psutil.Error:  # it has ended
        return []
    if victim in ("main", "group"):
        (os.kill if victim == "main" else os.killpg)(program.pid, number)
    for target in targets[-1:] if victim == "kernel" else targets[:1]:
        target.send_signal(number)
    return family


def are_gone(processes, seconds=20):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", range(KILLS))
def test_the_program_that_is_struck_at_any_moment_ends_well_and_goes_on(clone, chance, number):
    folder, expected, seconds = clone
    smoke = folder / "figures" / "smoke"
    shutil.rmtree(smoke)
    victim = chance.choice([*VICTIMS])
    blow, moment = chance.choice(VICTIMS[victim]), chance.uniform(0, seconds)
    about = f"{victim} struck by {blow!r} after {moment:.1f} s of {seconds:.1f}"
    program = start(folder)
    time.sleep(moment)
    processes = strike(program, victim, blow)
    _, said = program.communicate(timeout=60 if victim in ("main", "group") else 10 * seconds)
    assert "Traceback" not in said, (about, said)
    assert are_gone(processes), about
    before = kept(smoke)
    status, said = run(folder)
    assert (status, said) == (0, ""), about
    assert results_in(folder) == expected, about
    assert nothing_is_lost(before, kept(smoke)), about
    assert not [*smoke.rglob(".writing-*"), *smoke.glob("claims/*"), *smoke.glob("failed/*")], about
    json.loads((smoke / "report" / "01_accuracy.ipynb").read_text())
    assert re.search("01_accuracy.ipynb", (smoke / "report" / "README.md").read_text()), about
    page = folder / "figures/book/site/figures/smoke/report/01_accuracy.html"
    assert page.read_text().rstrip().endswith("</html>"), about
