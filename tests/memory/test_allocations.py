"""Counting tensors: against the CPU allocator's record, and on fake tensors as on real ones."""

import gc

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mod_tracker import ModTracker
from torch.profiler import ProfilerActivity, profile

from lib.memory.allocations import Allocations

MIB = 2**20


def layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))


def steps(model, count=3):
    """Training steps from nothing, so that gradients and optimizer state come into being."""
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(count):
        model(torch.ones(128, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def allocator_peak(work):
    """The highest sum of the CPU allocator's own records, bytes over the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    records = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(records, key=lambda event: event.start_ns())]
    return int(np.cumsum(sizes).max())


def test_counted_tensors_are_what_the_allocator_records():
    model = layers()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    with Allocations() as allocations:
        allocations.claim("parameters", model.parameters())
        steps(model)
    assert allocations.peak.total == pytest.approx(
        weights + allocator_peak(lambda: steps(layers())) - weights, rel=0.01
    )


def test_a_counted_storage_counts_once_and_until_it_is_freed():
    with Allocations() as allocations:
        block = torch.zeros(MIB, dtype=torch.uint8)
        views = [block.view(2, -1), block[10:]]
        assert allocations.peak.total == MIB
        del block, views
        torch.zeros(MIB // 2, dtype=torch.uint8)
    assert allocations.peak.total == MIB


def test_sizes_are_rounded_up_to_the_allocators_blocks():
    with Allocations(block=512) as allocations:
        blocks = [torch.zeros(1), torch.zeros(128), torch.zeros(129)]
    assert allocations.peak.total == 4 * 512 > sum(block.nbytes for block in blocks)


def test_kinds_sum_to_the_peak_and_a_claim_moves_a_tensor():
    with Allocations(vocabulary=7) as allocations:
        weight = torch.zeros(10, 3)
        allocations.claim("parameters", [weight])
        logits = torch.zeros(2, 7)
        hidden = torch.zeros(5)
    made = {"activations": hidden.nbytes, "parameters": weight.nbytes, "logits": logits.nbytes}
    assert {part: size for part, size in allocations.peak.parts.items() if size} == made
    assert sum(made.values()) == allocations.peak.total


def test_what_a_backward_pass_makes_is_temporary_until_it_is_claimed():
    model = layers()
    with Allocations() as allocations:
        allocations.claim("parameters", model.parameters())
        model(torch.ones(128, 64)).square().mean().backward()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert allocations.peak.parts["parameters"] == weights
    assert 0 < allocations.peak.parts["temporaries"] < allocations.peak.total


def test_the_place_of_the_peak_is_the_module_that_needs_most():
    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4096)

        def forward(self, inputs):
            return self.wide(self.narrow(inputs)).sum()

    with torch.no_grad(), ModTracker() as modules, Allocations(modules=modules) as allocations:
        Wide()(torch.ones(4, 8))
    assert allocations.peak.place == "wide"


def test_fake_tensors_count_as_real_ones():
    def peak(mode):
        with mode, Allocations() as allocations:
            steps(layers())
        gc.collect()
        return allocations.peak.total

    assert peak(FakeTensorMode()) == pytest.approx(peak(torch.enable_grad()), rel=0.01)
