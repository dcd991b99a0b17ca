"""Where the study lies, so that a relative path means the same everywhere; and what tells that a file was replaced."""

import hashlib
import os
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
FIGURES = ROOT / "figures"
WHOLE = 2**26  # bytes of a file that are all read for its digest; of a larger one, blocks from all over it
BLOCKS, BLOCK = 64, 2**16


def locate(path: str) -> Path:
    """`path` as it is if absolute, otherwise from the root of the study."""
    return ROOT / os.path.expanduser(path)  # a user who is not known stays as written


def digest(file: Path) -> str:
    """Sixteen hex digits that another content would not have; of large files, of their size and of blocks of them."""
    status = file.stat()
    return _digest(file, status.st_size, status.st_mtime_ns)


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    found = hashlib.sha256(str(size).encode())
    with file.open("rb") as content:
        if size <= WHOLE:
            found.update(content.read())
        else:
            for i in range(BLOCKS):
                content.seek(i * (size - BLOCK) // (BLOCKS - 1))
                found.update(content.read(BLOCK))
    return found.hexdigest()[:16]
