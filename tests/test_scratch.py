"""Folders of what is being written: gone at the end, or at the next start after a kill; those in use stay."""

import os
import platform
import signal
import subprocess
import sys

import pytest

from lib.scratch import prefix, remove_abandoned, scratch_folder

HELD = """
import sys, time
from pathlib import Path
from lib.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as made:
    (made / "inner").mkdir()
    (made / "inner" / "half").write_text("hal")
    print("began", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has a folder in hand."""
    process = subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "began\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_is_gone_at_its_end_whatever_happened_in_it(tmp_path):
    with pytest.raises(ValueError, match="on purpose"), scratch_folder(tmp_path) as made:
        (made / "half").write_text("hal")
        raise ValueError("on purpose")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert len(list(tmp_path.iterdir())) == 1
    with scratch_folder(tmp_path) as made:
        assert list(tmp_path.iterdir()) == [made]


def test_what_another_process_has_in_hand_stays(tmp_path, other):
    (held,) = tmp_path.iterdir()
    with scratch_folder(tmp_path) as made:
        assert {*tmp_path.iterdir()} == {held, made}
    assert (held / "inner" / "half").read_text() == "hal"


def test_what_this_process_another_machine_and_the_user_have_stays(tmp_path):
    gone = 2**22 + 1  # above the largest number that Linux gives to a process
    mine = [tmp_path / f"{prefix()}x", tmp_path / f".writing-{platform.node()}x-{gone}-x", tmp_path / ".writing-mine"]
    left = tmp_path / f".writing-{platform.node()}-{gone}-x"
    for path in (*mine, left):
        path.write_text("text")
    remove_abandoned([*tmp_path.iterdir(), tmp_path / f".writing-{platform.node()}-{gone}-absent"])
    assert {*tmp_path.iterdir()} == {*mine}
