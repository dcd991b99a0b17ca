"""What worker processes are given to do in tests; nothing of the study is imported, so that workers start at once."""

import os
import signal
import time
from pathlib import Path


def double(number: int) -> int:
    """Twice the number; for 13 an error, and at 666 the process is killed."""
    if number == 13:
        raise ValueError("thirteen")
    if number == 666:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def process_of(seconds: float) -> int:
    """The process that does this, after so many seconds."""
    time.sleep(seconds)
    return os.getpid()


def never_end(folder: str) -> None:
    """Name a file after this process, then wait for ever."""
    Path(folder, str(os.getpid())).touch()
    while True:
        time.sleep(60)


def ignore_signals_and_never_end(folder: str) -> None:
    """As `never_end`, in a process that no signal but a kill ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    never_end(folder)
