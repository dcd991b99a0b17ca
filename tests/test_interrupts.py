"""Signals and a closed output: the program ends within seconds, in one message, and leaves no process behind."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from lib.paths import ROOT

# The program with its work replaced: two workers that never end by themselves.
PROGRAM = """
import sys, time
from distributed import as_completed
from lib import __main__
from lib.runs import clusters
from tests.support import work

def work_for_ever():
    with clusters.connected(None, 2, None, "cpu") as client:
        working = [client.submit(work.{do}, folder, key=str(i)) for i in range(2)]
        list(as_completed(working, loop=client.loop))

def figures(options):
    {body}

if __name__ == "__main__":
    __main__.figures = figures
    folder, sys.argv = sys.argv[1], ["run_all.sh"]
    __main__.run()
"""
WORKING = "work_for_ever()"
SLOW_TO_END = """
    try:
        work_for_ever()
    finally:
        print("ending", flush=True)
        time.sleep(600)
"""


def start(body, folder, do="never_end", **pipes):
    words = [sys.executable, "-c", PROGRAM.format(body=body, do=do), str(folder)]
    return subprocess.Popen(words, cwd=ROOT, text=True, stderr=subprocess.PIPE, **pipes)


def workers_of(folder):
    return [int(file.name) for file in folder.iterdir()]


def started(body, folder, **options):
    program = start(body, folder, **options)
    while len(workers_of(folder)) < 2:
        assert program.poll() is None, program.stderr.read()
        time.sleep(0.05)
    return program


def none_is_left(folder):
    end = time.monotonic() + 10
    while any(psutil.pid_exists(worker) for worker in workers_of(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(psutil.pid_exists(worker) for worker in workers_of(folder))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
@pytest.mark.parametrize("do", ["never_end", "ignore_signals_and_never_end"])
def test_no_process_outlives_a_program_that_is_killed(tmp_path, do, number):
    program = started(WORKING, tmp_path, do=do)
    family = psutil.Process(program.pid).children(recursive=True)
    program.send_signal(number)
    program.wait(timeout=30)
    assert none_is_left(tmp_path)
    assert not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_program_alone_ends_it_and_its_workers_in_one_message(tmp_path, number):
    program = started(WORKING, tmp_path)
    program.send_signal(number)
    _, said = program.communicate(timeout=30)
    assert program.returncode == 130
    assert said.strip() == "Interrupted. What was computed is kept; the same command goes on from there."
    assert none_is_left(tmp_path)


def test_a_second_signal_ends_it_at_once(tmp_path):
    program = started(SLOW_TO_END, tmp_path, stdout=subprocess.PIPE)
    program.send_signal(signal.SIGINT)
    while program.stdout.readline() != "ending\n":
        pass
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=30)
    assert (program.returncode, said) == (130, "")
    assert none_is_left(tmp_path)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_that_nobody_reads_any_more_ends_it_quietly(tmp_path, lines):
    program = start(
        f"[print('a line', flush=True) for _ in range({lines})]; time.sleep(1); print(1)", tmp_path, stdout=-1
    )
    program.stdout.readline()
    program.stdout.close()
    assert program.wait(timeout=30) in (0, 141)
    assert program.stderr.read() == ""


def test_an_output_on_a_full_disk_ends_in_one_message(tmp_path):
    with open("/dev/full", "w") as full:
        program = start("print('a line', flush=True)", tmp_path, stdout=full)
        _, said = program.communicate(timeout=30)
    assert program.returncode == 2
    assert said.startswith("error: ") and said.count("\n") == 1
