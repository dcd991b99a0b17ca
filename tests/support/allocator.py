"""What the CPU's allocator records while a piece of code runs: what tensors take, and what kernels take beside them."""

import gc
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.profiler import ProfilerActivity, profile

from lib.models.cost import Cost


class Change(NamedTuple):
    """One change of the sum of all allocations; `tensor` is the profiler's number of the tensor, None where none is."""

    when: int
    size: int
    tensor: int | None
    allocation: int
    within: Any


@dataclass
class Record:
    """The highest sums of the allocations that the profiler saw, in bytes.

    `tensors` leaves out what kernels take: memory that one operation takes and gives back, and no tensor owns. oneDNN
    takes such a workspace for products in bfloat16, for reordered weights and sums in float32. Its size depends on the
    kernel, so on the instructions that the CPU has; `kernels` is the largest of one operation. Files that are mapped
    are left out of both: no tensor and no operation owns them, and the system takes their pages back as it likes.
    """

    tensors: int = 0
    kernels: int = 0
    by_operation: dict[str, int] = field(default_factory=dict)


def living_bytes() -> int:
    """Of all tensors that there are now."""
    gc.collect()
    found = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and type(one) is not FakeTensor]
    storages = [one.untyped_storage() for one in found if not one.is_meta]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


class AllocatorMeter:
    """In place of the study's own: a phase's peak is the allocator's record of tensors, and what was made before it.

    Seconds are those of this process's threads, since the machine may be busy with others.
    """

    def __init__(self, device: str, isolated: bool) -> None:
        self._others = living_bytes()

    @contextmanager
    def phase(self) -> Iterator[Cost]:
        """One phase, as of `lib.models.cost.PhaseMeter`."""
        before = living_bytes() - self._others
        began = time.process_time()
        with recorded_by_allocator() as record:
            yield (cost := Cost())
            cost.seconds = time.process_time() - began
        cost.rss = before + record.tensors


@contextmanager
def recorded_by_allocator() -> Iterator[Record]:
    """Yields the record of what runs inside, filled in at the end."""
    record = Record()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=True) as profiler:
        yield record
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    changes = sorted((change for event in tree for change in _changes(event)), key=lambda change: change.when)
    changes = [change for change in changes if change.tensor is not None or change.within is not None]
    workspaces = _workspaces(changes)
    for change in changes:
        if change.allocation in workspaces and change.size > 0:
            name = change.within.name
            record.by_operation[name] = max(change.size, record.by_operation.get(name, 0))
    record.kernels = max(record.by_operation.values(), default=0)
    of_tensors = (change.size for change in changes if change.allocation not in workspaces)
    record.tensors = max(accumulate(of_tensors), default=0)


def _changes(event: Any, within: Any = None) -> Iterator[Change]:
    if event.tag == torch._C._profiler._EventType.Allocation:
        seen = event.extra_fields
        yield Change(event.start_time_ns, seen.alloc_size, seen.id, seen.allocation_id, within)
    for child in event.children:
        yield from _changes(child, event)


def _workspaces(changes: list[Change]) -> set[int]:
    """The allocations that are taken and given back directly within one operation, and are no tensor's."""
    by_allocation = defaultdict(list)
    for change in changes:
        by_allocation[change.allocation].append(change)
    return {
        allocation
        for allocation, (first, *rest) in by_allocation.items()
        if first.tensor is None and first.within is not None and [one.within for one in rest] == [first.within]
    }
