"""Kills: whatever ends a run, a result is whole or absent, and what is whole is kept."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import lib.runs.files
import lib.runs.profile
from lib.paths import ROOT
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from lib.runs.store import Store

pytestmark = pytest.mark.slow

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


def numbers(result):
    return replace(result.outcome, costs={})


def write_half_and_die(scratch):
    Path(scratch).write_text("hal")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_kill_in_the_middle_of_writing_leaves_the_old_file_or_none(tmp_path, before):
    file = tmp_path / "result.json"
    if before:
        file.write_text(before)
    writer = multiprocessing.get_context("fork").Process(
        target=lib.runs.files.replace_file, args=(file, write_half_and_die)
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
