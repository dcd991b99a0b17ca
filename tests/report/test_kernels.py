"""Kernels that are forks: what a notebook sees in one is what it would see in a kernel of its own program."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from lib.report.kernels import Kernels, end_kernels, servers

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")


def said(code, folder):
    """What a cell prints, run by a kernel in a folder."""
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(content, kernel_manager_class=Kernels, kernel_name="python3", resources=resources).execute()
    return "".join(output.text for output in content.cells[0].outputs)


def await_text(path):
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"nothing was written to {path}")


def program(code):
    """A program that says what a cell prints; in one of its own, since a program has one server for all its forks."""
    words = f"from tests.report.test_kernels import said; print(said({code!r}, '.'), end='')"
    return subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@linux
def test_the_libraries_are_there_before_the_first_cell():
    answer, _ = program("import sys; print({'torch', 'seaborn'} <= {*sys.modules})").communicate()
    assert answer == "True\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kernel_in_the_middle_of_a_cell_ends_with_the_program(tmp_path, number):
    note = tmp_path / "pid"
    started = program(f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    kernel = psutil.Process(int(await_text(note)))
    started.send_signal(number)
    kernel.wait(timeout=20)


@pytest.mark.parametrize("value", ["one", "two"])
def test_a_kernel_has_the_environment_and_the_folder_of_now(tmp_path, monkeypatch, value):
    monkeypatch.setenv("SAID_TO_THE_KERNEL", value)
    folder = tmp_path / value
    folder.mkdir()
    code = "import os; print(os.environ['SAID_TO_THE_KERNEL'], os.path.basename(os.getcwd()))"
    assert said(code, folder) == f"{value} {value}\n"


def test_processes_of_a_notebook_are_started_as_those_of_any_program(tmp_path):
    code = "import multiprocessing; print(multiprocessing.get_start_method())"
    plain = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert said(code, tmp_path) == plain.stdout


def test_two_kernels_share_no_state(tmp_path):
    code = "import pandas; print(hasattr(pandas, 'mark')); pandas.mark = True"
    assert [said(code, tmp_path), said(code, tmp_path)] == ["False\n"] * 2


def test_a_figure_is_shown_beneath_its_cell(tmp_path):
    content = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("from matplotlib import pyplot\npyplot.plot([0, 1]);\npyplot.show()")]
    )
    NotebookClient(content, kernel_manager_class=Kernels, kernel_name="python3").execute()
    assert any("image/png" in output.get("data", {}) for output in content.cells[0].outputs)


def test_no_process_is_left(tmp_path):
    pid = int(said("import os; print(os.getpid())", tmp_path))
    end_kernels()  # of which there are none any more
    assert pid != os.getpid()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_server_that_was_killed_is_replaced(tmp_path):
    said("print()", tmp_path)
    for child in servers():
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is left to be waited for where it was started
    assert said("print(6 * 7)", tmp_path) == "42\n"


@linux
def test_kernels_end_that_are_still_to_be_forked():
    code = """
import threading, time
from lib.report.kernels import end_kernels, servers
from tests.report.test_kernels import said

def draw():
    try:
        said("print()", ".")
    except Exception:
        print("ended")

thread = threading.Thread(target=draw)
thread.start()
while not servers():
    time.sleep(0.01)
while thread.is_alive():
    end_kernels()
    time.sleep(0.1)
print(servers())
"""
    words = [sys.executable, "-c", code]
    answer = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    assert answer.splitlines() == ["ended", "[]"]
