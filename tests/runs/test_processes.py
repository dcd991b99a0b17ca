"""Workers: what dies or takes too long costs itself alone, processes are used again, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lib.paths import ROOT
from lib.runs.processes import OutOfTime, WorkerDied, spread
from tests.support import work

PARENT = "import sys; from lib.runs.processes import spread; from tests.support import work; "


def outcomes(do, items, **options):
    return {item: done.exception() or done.result() for item, done in spread(do, items, **options)}


@pytest.mark.parametrize("fresh", [False, True])
def test_each_item_comes_back_with_what_it_came_to(fresh):
    assert outcomes(work.double, [1, 2, 3], workers=2, fresh=fresh) == {1: 2, 2: 4, 3: 6}


def test_nothing_to_do_starts_no_process():
    assert outcomes(work.double, [], workers=2) == {}


def test_an_error_is_the_items_own_and_the_worker_goes_on():
    found = outcomes(work.double, [13, 1, 2], workers=1)
    assert isinstance(found.pop(13), ValueError)
    assert found == {1: 2, 2: 4}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_costs_its_item_and_no_other(workers):
    found = outcomes(work.double, [1, 666, 2, 3, 4], workers=workers)
    assert isinstance(found.pop(666), WorkerDied)
    assert found == {1: 2, 2: 4, 3: 6, 4: 8}


def test_what_takes_too_long_is_ended_and_the_rest_goes_on():
    began = time.monotonic()
    found = outcomes(work.process_of, [0.1, 600, 0.2], workers=2, seconds=5)
    assert isinstance(found[600], OutOfTime)
    assert all(isinstance(found[seconds], int) for seconds in (0.1, 0.2))
    assert time.monotonic() - began < 60


def test_workers_are_used_again_and_no_more_are_started_than_asked_for():
    assert len({done.result() for _, done in spread(work.process_of, [0.01] * 6, 2)}) <= 2


def test_fresh_items_have_a_process_each():
    assert len({done.result() for _, done in spread(work.process_of, [0.01] * 3, 1, fresh=True)}) == 3


def wait_for(true, seconds=60):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    assert true()


def processes_in(folder):
    return {int(file.name) for file in folder.iterdir()}


def test_a_caller_that_stops_ends_the_workers():
    items = spread(work.process_of, [0.01, 600, 600], 2)
    next(items)
    workers = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    items.close()
    wait_for(lambda: not any(worker.is_running() for worker in workers), seconds=10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("do", [work.never_end, work.ignore_signals_and_never_end])
def test_workers_end_when_their_parent_is_gone(tmp_path, do, number):
    script = f"{PARENT} list(spread(work.{do.__name__}, [sys.argv[1]] * 2, 2))"
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    wait_for(lambda: len(processes_in(tmp_path)) == 2)
    os.kill(parent.pid, number)
    parent.wait()
    wait_for(lambda: not any(psutil.pid_exists(worker) for worker in processes_in(tmp_path)), seconds=10)
