"""What a phase of a run costs (seconds, peak memory, tokens), and on which machine and libraries it was measured.

On CUDA the peak is the caching allocator's own record. On a CPU it is the resident set of a process of the run's
own, sampled by a thread; it includes what libraries keep for themselves, so it is coarser and never comparable to CUDA
numbers. In a process that many runs share the resident set says nothing of one run: there, memory is not measured,
and what is drawn is predicted.
"""

import gc
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

SAMPLE_SECONDS = 0.002
LIBRARIES = ("torch", "transformers", "peft", "datasets")


@dataclass
class Cost:
    """One phase's cost. Peaks are bytes over the phase's start and None where that device was not measured.

    `tensors` is the sum of all tensors, counted: earlier results have it, and predictions have taken its place.
    """

    seconds: float = 0.0
    tokens: int = 0
    cuda_allocated: int | None = None
    cuda_reserved: int | None = None
    rss: int | None = None
    tensors: int | None = None


class PhaseMeter:
    """Measures phases against the memory in use when it was made, before any model is loaded.

    So a phase's peak includes the weights that it needs. A loader's own temporaries (unpacking, casting) are not the
    method's: the peak is watched only inside `phase`, as are the seconds.
    """

    def __init__(self, device: str, isolated: bool = True) -> None:
        """Begin; `isolated` says that this process is the run's alone, so that its resident set means something."""
        square = torch.ones(64, 64, device=device, requires_grad=True)
        (square @ square).sum().backward()  # libraries take their one-time memory now (thread pools, cuBLAS workspaces)
        self._cuda = device == "cuda"
        self._peak = self._cuda_peak if self._cuda else self._resident_peak if isolated else nullcontext
        if self._cuda or isolated:
            gc.collect()  # what is garbage now must not be taken for the run's
        self._process = psutil.Process()
        self._rss = self._process.memory_info().rss
        if self._cuda:
            torch.cuda.empty_cache()
            self._allocated = torch.cuda.memory_allocated()
            self._reserved = torch.cuda.memory_reserved()

    @contextmanager
    def phase(self) -> Iterator[Cost]:
        """One phase; yields its cost, filled in at the end but for the tokens, which the caller counts."""
        cost = Cost()
        with self._peak(cost):
            began = time.perf_counter()
            try:
                yield cost
                if self._cuda:
                    torch.cuda.synchronize()
            finally:
                cost.seconds = time.perf_counter() - began

    @contextmanager
    def _cuda_peak(self, cost: Cost) -> Iterator[None]:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield
        cost.cuda_allocated = torch.cuda.max_memory_allocated() - self._allocated
        cost.cuda_reserved = torch.cuda.max_memory_reserved() - self._reserved

    @contextmanager
    def _resident_peak(self, cost: Cost) -> Iterator[None]:
        gc.collect()
        cost.rss, done = 0, threading.Event()
        thread = threading.Thread(target=self._sample, args=(cost, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _sample(self, cost: Cost, done: threading.Event) -> None:
        """Keep the highest resident set in `cost` until `done` is set, and once more then."""
        last = False
        while not last:
            last = done.wait(SAMPLE_SECONDS)
            cost.rss = max(cost.rss, self._process.memory_info().rss - self._rss)


def describe(device: str) -> dict[str, str | int]:
    """What a measurement was made on: device, threads, Python and library versions, as a flat record."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    """The processor's name; Linux tells it only in a file."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
