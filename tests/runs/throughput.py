"""What the scheduler costs a run, in milliseconds: runs that sleep, on workers of this machine.

    python tests/runs/throughput.py [RUNS] [WORKERS] [SECONDS]

Prints how long it takes beyond the sleep, for each run, and how busy the workers are. No test: times vary.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import lib.runs.profile
from lib.runs.workers import workers


def sleep(job: object, folder: Path) -> bool:
    """As a run of so many seconds, which uses no processor."""
    time.sleep(float(os.environ["SECONDS"]))
    return True


def main() -> None:
    """Measure once."""
    count, at_a_time, seconds = (float(given) for given in [*sys.argv[1:], *("500", "8", "0.5")[len(sys.argv) - 1 :]])
    os.environ["SECONDS"] = str(seconds)
    with tempfile.TemporaryDirectory() as folder:
        lib.runs.profile.FIGURES = Path(folder)
        profile = lib.runs.profile.read_profile("smoke", {"workers": int(at_a_time)})
        first = profile.runs(("icl",))[0]
        jobs = [replace(first, seed=seed) for seed in range(int(count) + int(at_a_time))]
        with workers(profile, jobs) as spread:
            list(spread(sleep, jobs[int(count) :], ()))  # workers import what they need
            began, used = time.monotonic(), time.process_time()
            list(spread(sleep, jobs[: int(count)], ()))
            took, used = time.monotonic() - began, time.process_time() - used
    least = count * seconds / at_a_time
    print(f"{count:g} runs of {seconds:g} s on {at_a_time:g} workers: {took:.1f} s, where {least:.1f} s is the least;")
    print(f"{1000 * (took - least) / count:.1f} ms a run beyond the sleep, workers {least / took:.0%} busy;")
    print(f"scheduler and client used {1000 * used / count:.1f} ms of processor a run.")


if __name__ == "__main__":
    main()
