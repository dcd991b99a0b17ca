"""What is being written, under a name that tells by whom, so that what a killed process left can be removed."""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ALL = ".writing-*"


def prefix() -> str:
    """What the names of this process's unfinished files and folders begin with."""
    return f"{_of_this_machine()}{os.getpid()}-"


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A new folder in `place`, removed at the end; so are those that killed processes of this machine left there."""
    remove_abandoned(place.glob(ALL))
    with tempfile.TemporaryDirectory(dir=place, prefix=prefix()) as made:
        yield Path(made)


def remove_abandoned(found: Iterable[Path]) -> None:
    """Remove those files and folders whose process ran on this machine and is no more."""
    import psutil  # here, since --help is answered by a Python that has no packages

    ours = re.compile(re.escape(_of_this_machine()) + r"(\d+)-")
    for path in list(found):
        if not (named := ours.match(path.name)) or psutil.pid_exists(int(named[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another process removed it, or nothing can be removed there
                path.unlink()


def _of_this_machine() -> str:
    return f".writing-{platform.node()}-"
