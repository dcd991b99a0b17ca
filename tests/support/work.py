"""What workers are given to do in tests; nothing of the study is imported, so that workers start at once."""

import os
import signal
import time
from pathlib import Path
from typing import Any

RAISES, DIES, DIES_ONCE, HANGS, EATS, ELSEWHERE = 1013, 1666, 1667, 1600, 1900, 1404
MIB = 2**20


def act(job: Any, folder: Path) -> bool:
    """Note that a job was begun here, then do as its seed says, and leave a file."""
    first = f" {job.seed} " not in (folder / "begun").read_text() if (folder / "begun").exists() else True
    folder.mkdir(exist_ok=True)
    with (folder / "begun").open("a") as file:
        file.write(f"{job.kept_in} {job.seed} {os.getpid()}\n")
    if job.seed == RAISES:
        raise ValueError("thirteen")
    if job.seed == DIES or (job.seed == DIES_ONCE and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.seed == HANGS:
        time.sleep(600)
    if job.seed == EATS:
        eat()
    return job.seed != ELSEWHERE


def eat() -> None:
    """Take more memory, two GiB at most."""
    taken = []
    for _ in range(32):
        taken.append(b"x" * (64 * MIB))
        time.sleep(0.1)


def show_a_bar(job: Any, folder: Path) -> bool:
    """Show progress, as libraries do."""
    from tqdm.auto import tqdm  # here, as workers start at once

    return list(tqdm(range(2))) == [0, 1]


def pass_on(job: Any, folder: Path) -> bool:
    """Store a file that holds the names of those that were there."""
    there = sorted(file.name for file in folder.rglob("*") if file.is_file())
    (folder / job.kept_in).mkdir(parents=True, exist_ok=True)
    (folder / job.kept_in / f"{job.seed}.txt").write_text(" ".join(there))
    return True


def never_end(folder: str) -> None:
    """Name a file after this process, then wait for ever."""
    Path(folder, str(os.getpid())).touch()
    while True:
        time.sleep(60)


def ignore_signals_and_never_end(folder: str) -> None:
    """As `never_end`, in a process that no signal but a kill ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    never_end(folder)
