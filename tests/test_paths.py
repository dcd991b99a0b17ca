"""Digests: another content has another one, wherever it differs; a large file is read whole once."""

import io
import os
from pathlib import Path

import pytest

import lib.paths
from lib.paths import ROOT, digest, locate, same

SIZE = 3_000_000
PLACES = [0, 1, 12_345, SIZE // 2, SIZE - 12_345, SIZE - 1]


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large, and a folder of its own for what is remembered of it."""
    monkeypatch.setattr(lib.paths, "WHOLE", 1000)
    monkeypatch.setattr(lib.paths, "BLOCK", 10)
    monkeypatch.setattr(lib.paths, "DIGESTS", tmp_path / "digests")
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(SIZE))
    return file


def change(file, place):
    """Another byte there; nothing else of the file changes, its time least of all."""
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    with file.open("r+b") as content:
        content.seek(place)
        content.write(b"1")
    os.utime(file, ns=times)


@pytest.mark.parametrize("place", PLACES)
def test_one_other_byte_of_a_large_file_is_another_digest(large, place):
    before = digest(large)
    change(large, place)
    assert not same(before, digest(large))


def test_equal_files_have_equal_digests_wherever_they_lie(large):
    copy = large.with_name("copy")
    copy.write_bytes(large.read_bytes())
    assert digest(copy) == digest(large)


def test_a_digest_of_samples_alone_tells_what_it_can(large):
    """As those of results that were stored before whole files were read."""
    older = digest(large)[:16]
    assert same(older, digest(large))
    change(large, 0)
    assert not same(older, digest(large))
    assert not same("", digest(large))


@pytest.fixture
def read_by_another_process(monkeypatch):
    """The digest as a process finds it that has met no file yet, and how many bytes it reads for it."""

    def found(file):
        read = []

        class Counted(io.FileIO):
            def read(self, size=-1):
                content = super().read(size)
                read.append(len(content))
                return content

        lib.paths._digest.cache_clear()
        plain = Path.open
        with monkeypatch.context() as patch:
            patch.setattr(
                Path,
                "open",
                lambda self, mode="r", *rest, **how: Counted(self) if mode == "rb" else plain(self, mode, *rest, **how),
            )
            return digest(file), sum(read)

    return found


def test_a_large_file_is_read_whole_once_for_all_processes(large, read_by_another_process):
    found, first = read_by_another_process(large)
    again, second = read_by_another_process(large)
    assert found == again == digest(large)
    assert second < 10_000 < SIZE <= first


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"not a digest", b"0" * 15])
def test_what_was_remembered_and_is_broken_is_found_anew(large, content, read_by_another_process):
    right, _ = read_by_another_process(large)
    (kept,) = lib.paths.DIGESTS.iterdir()
    kept.write_bytes(content)
    assert read_by_another_process(large)[0] == right
    assert kept.read_text() == right[16:]


def test_a_digest_needs_no_place_to_remember_it(large):
    lib.paths.DIGESTS.write_text("a file is in the way")
    assert len(digest(large)) == 32


def test_a_relative_path_is_one_from_the_root_and_home_is_the_users(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert locate("lib") == ROOT / "lib"
    assert locate("~/models") == Path("/home/somebody/models")
    assert locate("~nobody-here/models") == ROOT / "~nobody-here/models"
