"""What a phase of a run costs: seconds, peak memory over its start, tokens.

On CUDA the peak is the caching allocator's own record. On a CPU it is the resident set of a process of the run's
own, sampled by a thread; it includes what libraries keep for themselves, so it is coarser and never comparable to CUDA
numbers. In a process that many runs share the resident set says nothing of one run: there, memory is not measured,
and what is drawn is predicted.
"""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil
import torch

SAMPLE_SECONDS = 0.002


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


class ResidentPeak:
    """The highest resident set of this process, from `start` to `stop`, in bytes."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.highest = 0

    def start(self) -> None:
        """Begin sampling."""
        self._thread.start()

    def stop(self) -> int:
        """End sampling and return the peak."""
        self._done.set()
        self._thread.join()
        return max(self.highest, self._process.memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.highest = max(self.highest, self._process.memory_info().rss)


def warm_up(device: str) -> None:
    """Let libraries take their one-time memory (thread pools, cuBLAS workspaces) before anything is measured."""
    square = torch.ones(64, 64, device=device, requires_grad=True)
    (square @ square).sum().backward()


class PhaseMeter:
    """Measures phases against the memory in use when it was made, before any model is loaded.

    So a phase's peak includes the weights that it needs. A loader's own temporaries (unpacking, casting) are not the
    method's: the peak is watched only inside `phase`, as are the seconds.
    """

    def __init__(self, device: str, isolated: bool = True) -> None:
        """Begin; `isolated` says that this process is the run's alone, so that its resident set means something."""
        self._cuda = device == "cuda"
        self._isolated = isolated
        if self._cuda or isolated:
            gc.collect()  # what is garbage now must not be taken for the run's
        self._rss = psutil.Process().memory_info().rss
        if self._cuda:
            torch.cuda.empty_cache()
            self._allocated = torch.cuda.memory_allocated()
            self._reserved = torch.cuda.memory_reserved()

    @contextmanager
    def phase(self) -> Iterator[Cost]:
        """One phase; yields its cost, filled in at the end but for the tokens, which the caller counts."""
        cost = Cost()
        with ExitStack() as stack:
            if self._cuda:
                stack.enter_context(self._cuda_peak(cost))
            elif self._isolated:
                stack.enter_context(self._resident_peak(cost))
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
        peak = ResidentPeak()
        peak.start()
        try:
            yield
        finally:
            cost.rss = max(0, peak.stop() - self._rss)
