"""Costs: a measured peak sees what was freed before its end; what is kept beside a measurement can be stored."""

import json
import platform
import time

import numpy as np
import peft
import psutil
import pytest
import torch
import transformers

from lib.models.cost import PhaseMeter, describe

MIB = 2**20


def resident():
    return psutil.Process().memory_info().rss


def allocate(mebibytes):
    return np.ones(mebibytes * MIB, dtype="uint8")


def test_a_peak_sees_an_allocation_that_is_freed_before_the_end():
    before = resident()
    with PhaseMeter("cpu").phase() as cost:
        block = allocate(200)
        time.sleep(0.05)  # several sampling intervals
        del block
    assert 195 * MIB < cost.rss < 260 * MIB
    assert resident() < before + 50 * MIB


def test_a_peak_of_no_time_at_all_is_what_is_resident():
    meter = PhaseMeter("cpu")
    weights = allocate(200)
    with meter.phase() as cost:
        pass
    assert cost.rss > 190 * MIB < weights.nbytes


def test_a_phase_on_the_cpu_fills_seconds_and_resident_memory_and_no_cuda_field():
    with PhaseMeter("cpu").phase() as cost:
        block = allocate(100)
        time.sleep(0.05)
        del block
    assert cost.seconds >= 0.05
    assert cost.rss > 90 * MIB
    assert cost.cuda_allocated is None is cost.cuda_reserved
    assert cost.tokens == 0


def test_a_peak_includes_what_was_allocated_before_the_phase():
    meter = PhaseMeter("cpu")
    weights = allocate(200)
    with meter.phase() as cost:
        time.sleep(0.05)
    assert cost.rss > 190 * MIB < weights.nbytes


def test_a_peak_leaves_out_what_was_there_before_the_meter():
    weights = allocate(200)
    with PhaseMeter("cpu").phase() as cost:
        time.sleep(0.05)
    assert cost.rss < 50 * MIB < weights.nbytes


def test_a_peak_leaves_out_what_was_freed_between_phases():
    meter = PhaseMeter("cpu")
    with meter.phase() as first:
        block = allocate(200)
        time.sleep(0.05)
    del block
    with meter.phase() as second:
        time.sleep(0.05)
    assert first.rss - second.rss > 150 * MIB


def test_a_phase_that_raises_is_measured_and_raises_on():
    with pytest.raises(KeyError, match="inside"), PhaseMeter("cpu").phase() as cost:
        raise KeyError("inside")
    assert cost.seconds > 0


def test_a_phase_in_a_shared_process_has_seconds_and_no_memory():
    with PhaseMeter("cpu", isolated=False).phase() as cost:
        torch.zeros(MIB, dtype=torch.uint8)
    assert cost.seconds > 0
    assert cost.rss is None is cost.cuda_allocated


def test_a_description_names_the_installed_libraries_and_python():
    described = describe("cpu")
    assert described["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (described["transformers"], described["peft"]) == (transformers.__version__, peft.__version__)
    assert described["python"] == platform.python_version()


def test_a_description_names_the_processor():
    assert describe("cpu")["device"].strip()


def test_a_description_follows_the_number_of_threads():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert describe("cpu")["threads"] == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_a_description_survives_json():
    assert json.loads(json.dumps(describe("cpu"))) == describe("cpu")
