"""At true size on a CPU: the allocator's peaks of PBFT and CD, whole and streamed, beside what was predicted.

Weights are random. Pool and items are few, since a peak is that of the largest batch. Seconds are those of the
process's threads. Not collected by default: `./run_all.sh test tests/cpu/measure.py`; `-k` chooses.
"""

import pandas as pd
import pytest

from lib.memory import gpu_record
from lib.memory.gpu_record import rows
from lib.memory.memory_questions import LEAN, LEAN_FEW, STREAMED
from lib.memory.predictions import setting
from lib.paths import FIGURES
from lib.runs.profile import read_profile
from tests.support.allocator import AllocatorMeter

RECORD = FIGURES / "memory" / "cpu.csv"
SIZE = 12
FEW = {"device": "cpu", "kl_over": "labels", "pool_size": 16, "epochs": 1, "eval_limit": 4, "seeds": [0]}
MEASURED = {
    "PBFT, plain": ("pbft", {}),
    "PBFT, lean": ("pbft", LEAN),
    "CD, lean, streamed": ("cd", LEAN | STREAMED),
    "CD + LoRA, lean, streamed": ("cd_lora", LEAN_FEW | STREAMED),
    "CD + BitFit, lean, streamed": ("cd_bitfit", LEAN_FEW | STREAMED),
    "CD, plain, whole": ("cd", {}),
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_peak_at_true_size_is_within_a_hundredth_of_the_predicted(name, monkeypatch):
    monkeypatch.setattr(gpu_record, "PhaseMeter", AllocatorMeter)
    method, changes = MEASURED[name]
    made = rows(name, setting(read_profile("paper", FEW | changes), method, SIZE))
    before = pd.read_csv(RECORD).query("configuration != @name") if RECORD.is_file() else None
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    kept = [
        "configuration",
        "method",
        "support_size",
        "phase",
        "highest_phase",
        "predicted",
        "rss",
        "seconds",
        "tokens",
    ]
    machine = ["device", "threads", "python", "torch", "transformers"]
    pd.concat([before, made[kept + machine]]).to_csv(RECORD, index=False)
    assert made.rss.tolist() == pytest.approx(made.predicted.tolist(), rel=0.01)
