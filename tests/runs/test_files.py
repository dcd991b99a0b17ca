"""Files: whole or absent whatever goes wrong, in one message that names the file; what cannot be read is absent."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from lib.errors import StorageError
from lib.runs.files import (
    read_json,
    read_table,
    remove,
    remove_scratch,
    replace_file,
    require_writable,
    write_csv,
    write_json,
    write_text,
)

WRITERS = {
    "text": lambda file: write_text(file, "new" * 100_000),
    "json": lambda file: write_json(file, {"new": [0] * 100_000}),
    "csv": lambda file: write_csv(file, pd.DataFrame({"new": range(100_000)})),
    "tensors": lambda file: replace_file(file, lambda scratch: save_file({"new": torch.zeros(100_000)}, scratch)),
}


@contextmanager
def full_disk():
    """No file may grow beyond 50,000 bytes, which a full disk comes to."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def everything_in(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("before", [None, b"old"])
def test_on_a_full_disk_the_old_file_stays_and_the_error_names_it(tmp_path, kind, before):
    file = tmp_path / "result"
    if before:
        file.write_bytes(before)
    with full_disk(), pytest.raises(StorageError, match=str(file)):
        WRITERS[kind](file)
    assert everything_in(tmp_path) == ({"result": before} if before else {})


def a_file(place):
    place.write_text("")


def a_dangling_link(place):
    place.symlink_to(place.parent / "nowhere")


def a_closed_folder(place):
    if os.getuid() == 0:
        pytest.skip("nothing is closed to root")
    place.mkdir(mode=0o500)


IN_THE_WAY = [(a_file, "no folder"), (a_dangling_link, "link"), (a_closed_folder, "denied")]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("obstacle", "why"), IN_THE_WAY)
@pytest.mark.parametrize("below", ["", "runs"])
def test_what_is_in_the_way_is_named(tmp_path, kind, obstacle, why, below):
    place = tmp_path / "figures"
    obstacle(place)
    with pytest.raises(StorageError, match=f"{place}.*{why}"):
        WRITERS[kind](place / below / "result")


@pytest.mark.parametrize(("obstacle", "why"), IN_THE_WAY)
def test_a_folder_that_cannot_be_written_is_known_beforehand(tmp_path, obstacle, why):
    obstacle(tmp_path / "figures")
    with pytest.raises(StorageError, match=why):
        require_writable(tmp_path / "figures" / "runs")


def test_a_full_disk_is_known_beforehand(tmp_path):
    with full_disk(), pytest.raises(StorageError):
        require_writable(tmp_path)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    require_writable(tmp_path)
    require_writable(tmp_path / "figures" / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_a_files_place_is_named(tmp_path):
    (tmp_path / "result").mkdir()
    with pytest.raises(StorageError, match=str(tmp_path / "result")):
        write_text(tmp_path / "result", "new")
    with pytest.raises(StorageError, match=str(tmp_path / "result")):
        remove(tmp_path / "result")


KILLED = """
import os, signal, sys
from pathlib import Path
from lib.runs.files import replace_file
replace_file(Path(sys.argv[1], "page.html"), lambda scratch: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_writer_leaves_is_removed_and_what_others_write_is_not(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "report")], check=False)
    left = everything_in(tmp_path)
    assert len(left) == 1

    def write(scratch):
        remove_scratch(tmp_path)
        assert [Path(scratch)] == list((tmp_path / "report").iterdir())

    replace_file(tmp_path / "report" / "page.html", write)
    assert [*everything_in(tmp_path)] == ["page.html"]


UNREADABLE = [b"", b"{", b"[]", b"\xff\xfe", b"\0" * 100, b'{"a": NaN}', b"3", b"[" * 100_000]


@pytest.mark.parametrize("content", UNREADABLE)
def test_json_that_cannot_be_read_is_absent_with_a_warning_that_names_it(tmp_path, content, capsys):
    file = tmp_path / "result.json"
    assert read_json(file) is None
    assert capsys.readouterr().err == ""
    file.write_bytes(content)
    assert read_json(file) is None
    assert capsys.readouterr().err.count(str(file)) == 1


@pytest.mark.parametrize("make", [Path.mkdir, lambda file: file.symlink_to(file)])
def test_what_is_no_file_is_absent_with_a_warning(tmp_path, make, capsys):
    make(tmp_path / "result")
    assert (read_json(tmp_path / "result"), read_table(tmp_path / "result", [], [])) == (None, None)
    assert capsys.readouterr().err.count(str(tmp_path / "result")) == 2


TABLE = "run,method,peak_gb\n0123456789012345,cd,1.5\n"


def test_a_table_comes_back_as_it_was_written(tmp_path):
    file = tmp_path / "table.csv"
    assert read_table(file, ["run"], ["peak_gb"]) is None
    file.write_text(TABLE)
    assert read_table(file, ["run", "method"], ["peak_gb"]).to_dict("list") == {
        "run": ["0123456789012345"],
        "method": ["cd"],
        "peak_gb": [1.5],
    }


BAD_TABLES = {
    "empty": "",
    "blank": "\n\n",
    "another column": TABLE.replace("peak_gb", "peak"),
    "no text column": TABLE.replace("method", "methods"),
    "not a number": TABLE.replace("1.5", "high"),
    "no number": TABLE.replace("1.5", ""),
    "NaN": TABLE.replace("1.5", "NaN"),
    "one field more": TABLE + "a,b,1,2\n",
    "an open quote": TABLE + '"a',
    "zeros": "\0" * 100,
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_cannot_be_read_is_absent_with_a_warning_that_names_it(tmp_path, name, capsys):
    file = tmp_path / "table.csv"
    file.write_text(BAD_TABLES[name])
    assert read_table(file, ["run", "method"], ["peak_gb"]) is None
    assert capsys.readouterr().err.count(str(file)) == 1
