"""Counting tensors: how many bytes all of them take together, of what kind they are, and where the highest sum stands.

It works on real tensors and on fake ones, which have shapes and no values, so a peak can be known without the memory.
"""

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from torch.distributed._tools.mod_tracker import ModTracker

# What a peak is made of, from what stays longest to what goes soonest.
PARTS = ("parameters", "teacher's parameters", "gradients", "optimizer state", "activations", "logits", "temporaries")

CUDA_BLOCK = 512  # the caching allocator hands out multiples of this many bytes

# Where a dispatch mode is on, autograd sums gradients, and fills new tensors of zeros, out of place, and so holds a
# tensor more than it does without one. Fake tensors have no values to lose, so for them it is done in place, as without
# a mode (which leaves views alone).
IN_PLACE = {
    torch.ops.aten.add.Tensor: torch.ops.aten.add_.Tensor,
    torch.ops.aten.index_add.default: torch.ops.aten.index_add_.default,
    torch.ops.aten.index_put.default: torch.ops.aten.index_put_.default,
    torch.ops.aten.scatter_add.default: torch.ops.aten.scatter_add_.default,
}


@dataclass(frozen=True)
class Peak:
    """The highest sum of all tensors, in bytes; what it is made of, by `PARTS`; the module where it stands."""

    total: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    place: str = ""

    @property
    def gigabytes(self) -> dict[str, float]:
        """`peak_gb` and each part, in 10⁹ bytes, as the columns of a table."""
        return {"peak_gb": self.total / 1e9} | {part: size / 1e9 for part, size in self.parts.items()}


@dataclass(slots=True)
class _Storage:
    """One storage that is alive; the weak reference takes it out of the count when it is freed."""

    reference: weakref.ref
    size: int
    kind: str


class Allocations(TorchDispatchMode):
    """Counts what operations return while the mode is on; `peak` is the highest sum of all tensors alive, in bytes.

    Storages are counted once however many tensors share them, those on `meta` not at all. What a kernel needs inside
    itself is not seen.

    Attributes:
        stage: what is under way outside of modules, such as the optimizer's step; whoever begins it says so here.
        peak: so far. A tensor is of the kind that `claim` gave it; otherwise of `logits` where its last dimension is
            the vocabulary, of `temporaries` where a backward pass or a stage made it, else of `activations`.
    """

    def __init__(self, vocabulary: int | None = None, block: int = 1, modules: "ModTracker | None" = None) -> None:
        """Start from nothing.

        Args:
            vocabulary: the width by which logits are known; None calls nothing logits.
            block: sizes are rounded up to multiples of it, as an allocator does.
            modules: which modules are under way, by which the peak is placed.
        """
        super().__init__()
        self._alive: dict[int, _Storage] = {}
        self._now = Counter(dict.fromkeys(PARTS, 0))
        self._vocabulary, self._block, self._modules = vocabulary, block, modules
        self.stage, self.peak = "", Peak()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # noqa: ANN001, ANN204 - torch's signature
        """Run the operation and count what it returns."""
        if operation in IN_PLACE and _by_autograd() and isinstance(args[0], FakeTensor) and not args[0]._is_view():
            operation = IN_PLACE[operation]
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta":
                self.count(leaf)
        return result

    def claim(self, kind: str, tensors: Iterable[torch.Tensor]) -> None:
        """Say of what kind these tensors are; those not seen before are counted from now on."""
        for tensor in (one for one in tensors if one.device.type != "meta"):
            storage = self.count(tensor, kind)
            self._now[storage.kind] -= storage.size
            self._now[kind] += storage.size
            storage.kind = kind

    def count(self, tensor: torch.Tensor, kind: str | None = None) -> _Storage:
        """Count the tensor's storage until it is freed, unless it is counted already."""
        storage = tensor.untyped_storage()
        name = id(storage)
        if name in self._alive:
            return self._alive[name]

        def forget(_: weakref.ref) -> None:
            dead = self._alive.pop(name)
            self._now[dead.kind] -= dead.size

        size = -(-storage.nbytes() // self._block) * self._block
        entry = self._alive[name] = _Storage(weakref.ref(storage, forget), size, kind or self._kind(tensor))
        self._now[entry.kind] += size
        if self._now.total() > self.peak.total:
            self.peak = Peak(self._now.total(), dict(self._now), self._place())
        return entry

    def _kind(self, tensor: torch.Tensor) -> str:
        if self._vocabulary and tensor.ndim and tensor.shape[-1] == self._vocabulary:
            return "logits"
        return "temporaries" if _in_backward() or self.stage else "activations"

    def _place(self) -> str:
        parents = self._modules.parents - {"Global"} if self._modules else ()
        module = max(sorted(parents), key=len, default="")
        module = module.partition(".")[2] or module  # without the model's class, unless that is all
        stage = self.stage or ("backward" if _in_backward() else "")
        return f"{module} ({stage})" if module and stage else module or stage


def _by_autograd() -> bool:
    """In a backward pass, and not in a forward pass that is run again there."""
    return _in_backward() and not torch.is_grad_enabled()


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1  # what torch's own trackers ask
