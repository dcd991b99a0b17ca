"""On a GPU: measures every configuration with random weights, keeps the record, and holds the predictions against it.

Not collected by default: `./run_all.sh test tests/gpu/measure.py`.
"""

from functools import partial

import pandas as pd
import pytest
import torch

from lib.memory.gpu_record import RECORD, configurations, read_record, rows
from lib.runs.files import replace_file

TOLERANCE = 0.05


@pytest.fixture(scope="module")
def record():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    made = []
    for name, setting in dict.fromkeys(configurations()):
        made.append(rows(name, setting))
        # as it grows, so that an interruption loses one configuration
        replace_file(RECORD, partial(pd.concat(made).to_csv, index=False))
    return read_record()


def test_measured_peaks_are_within_five_percent_of_the_predicted(record):
    compared = record.assign(ratio=record.cuda_allocated / record.predicted)
    far = compared[(compared.ratio - 1).abs() > TOLERANCE].sort_values("ratio")
    assert far.empty, far[["configuration", "method", "support_size", "phase", "ratio"]].to_string()


def test_reserved_memory_is_never_less_than_allocated(record):
    assert (record.cuda_reserved >= record.cuda_allocated).all()
