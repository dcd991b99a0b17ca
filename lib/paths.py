"""Where the study lies, so that a relative path means the same everywhere; and what tells that a file was replaced."""

import hashlib
import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from lib.scratch import scratch_folder

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
FIGURES = ROOT / "figures"
WHOLE = 2**26  # bytes of a file that are all read for its digest each time; a larger one is read once
BLOCKS, BLOCK = 64, 2**16
SAMPLED = 16  # hex digits
DIGESTS = ROOT / ".digests"  # of large files, by their path, size and times


def locate(path: str) -> Path:
    """`path` as it is if absolute, otherwise from the root of the study."""
    return ROOT / os.path.expanduser(path)  # a user who is not known stays as written


def digest(file: Path) -> str:
    """Sixteen hex digits that another content would not have.

    Of a large file they are those of its size and of blocks of it, and sixteen more are of the whole. Older results
    have the first sixteen alone, so that `same` compares no more of them.
    """
    status = file.stat()
    return _digest(file.resolve(), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def same(then: str, now: str) -> bool:
    """Whether two digests are of one content, as far as the older of them tells."""
    return len(then) >= SAMPLED and now.startswith(then)


@cache
def _digest(file: Path, size: int, modified: int, changed: int) -> str:
    start = hashlib.sha256(str(size).encode())
    if size > WHOLE:
        return _of_blocks(file, size, start.copy()) + _remembered(file, (size, modified, changed), start)
    start.update(file.read_bytes())
    return start.hexdigest()[:SAMPLED]


def _of_blocks(file: Path, size: int, found: "hashlib._Hash") -> str:
    with file.open("rb") as content:
        for i in range(BLOCKS):
            content.seek(i * (size - BLOCK) // (BLOCKS - 1))
            found.update(content.read(BLOCK))
    return found.hexdigest()[:SAMPLED]


def _remembered(file: Path, state: tuple[int, ...], found: "hashlib._Hash") -> str:
    """Of the whole file, which takes .7 s a GB: read by one process, once, for all that come after it."""
    kept = DIGESTS / hashlib.sha256(repr((str(file), state)).encode()).hexdigest()
    with suppress(OSError, UnicodeError):
        if re.fullmatch(r"[0-9a-f]{16}", text := kept.read_text(encoding="utf-8")):
            return text
    with file.open("rb") as content:
        while block := content.read(2**20):
            found.update(block)
    text = found.hexdigest()[:SAMPLED]
    with suppress(OSError):  # a study that cannot be written reads the file again
        kept.parent.mkdir(exist_ok=True)
        with scratch_folder(kept.parent) as scratch:
            (scratch / kept.name).write_text(text, encoding="utf-8")
            os.replace(scratch / kept.name, kept)
    return text
