"""Peaks and seconds measured on a GPU with random weights beside what was predicted: the record, what is read off it.

Weights need no download and their values cost nothing, so the paper's pair can be measured on any GPU that holds it.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from lib.memory.architectures import random_model
from lib.memory.peaks import Questions, Setting, questions, rows_of
from lib.memory.predictions import frame, setting
from lib.methods.context_distillation import objective
from lib.methods.student import adapted
from lib.methods.table import TRAINED
from lib.models.cost import Cost, PhaseMeter, describe
from lib.models.streaming import load
from lib.models.training import train
from lib.paths import FIGURES
from lib.runs.files import read_table
from lib.runs.profile import read_profile

RECORD = FIGURES / "memory" / "gpu.csv"
PAPER = "paper"

# The choices whose savings are predicted, each measured with the largest support set.
VARIANTS = {
    "all logits": {"logits": "all"},
    "label columns": {"logits": "labels", "kl_over": "labels"},
    "checkpointing": {"checkpointing": True},
    "bfloat16": {"training_dtype": "bfloat16", "teacher_dtype": "bfloat16", "student_dtype": "bfloat16"},
    "sgd": {"optimizer": "sgd"},
    "batch of 1": {"batch_size": 1},
    "64 queries at once": {"eval_batch_size": 64},
    "streamed teacher": {"teacher_memory": "streamed"},
    "four parts a step": {"accumulate": 4},
    "updates in the backward pass": {"optimizer_in_backward": True},
    "frozen weights in bfloat16": {"training_dtype": "bfloat16", "frozen_dtype": "bfloat16"},
}

FEWER_ITEMS = {"eval_limit": 1000}  # the longest are among them, so that peaks are those of the full sets


def configurations(device: str = "cuda", **changes: Any) -> Iterator[tuple[str, Setting]]:  # noqa: ANN401
    """What is measured: all methods and sizes of the profile `paper`, then the variants of the trained methods."""
    plain = read_profile(PAPER, {"device": device, **FEWER_ITEMS, **changes})
    for size in plain.support_sizes:
        for method in plain.methods:
            yield PAPER, setting(plain, method, size)
    for name, variant in VARIANTS.items():
        changed = plain.changed(variant)
        for method in TRAINED:
            yield name, setting(changed, method, max(plain.support_sizes))


def measure(one: Setting) -> dict[str, Cost]:
    """Run each phase of a setting with random weights and prompts without content; what it cost, by phase."""
    meter = PhaseMeter(one.run.device, isolated=False)
    costs = {phase: _measure_asking(asked, meter) for phase, asked in questions(one).items()}
    return costs | ({"training": _measure_training(one, meter)} if one.run.training else {})


def _measure_asking(asked: Questions, meter: PhaseMeter) -> Cost:
    with TemporaryDirectory(prefix="random-") as folder:
        model = _streamed(asked, folder) if asked.streamed else random_model(asked.model, asked.dtype, asked.device)
        with meter.phase() as cost:
            asked.ask(model)
    return cost


def _streamed(asked: Questions, folder: str) -> PreTrainedModel:
    """From weights on the disk in float16, as OPT is published; a CPU maps what it need not convert."""
    random_model(asked.model, "float16").save_pretrained(folder)
    return load(folder, asked.dtype, asked.device, "streamed")


def _measure_training(one: Setting, meter: PhaseMeter) -> Cost:
    run, training = one.run, one.run.training
    model = random_model(run.model, training.frozen_dtype, run.device)
    with meter.phase() as cost:
        student = adapted(model, training, run.seed)
        aim = objective(run, one.lengths.answers)
        cost.tokens = train(student, *rows_of(one), aim, training, run.seed).tokens
    return cost


def rows(name: str, one: Setting) -> pd.DataFrame:
    """A row for each phase of a measured setting: what it cost, what was predicted (bytes), on what."""
    costs = pd.DataFrame([{"phase": phase, **asdict(cost)} for phase, cost in measure(one).items()])
    machine = {**describe(one.run.device), "driver": _driver(), "cuda": torch.version.cuda}
    predicted = frame([one]).assign(predicted=lambda rows: 1e9 * rows.peak_gb)
    about = predicted[["method", "support_size", "phase", "highest_phase", "predicted"]]
    return about.merge(costs, on="phase").assign(configuration=name, **machine)


def _driver() -> str:
    status, said = subprocess.getstatusoutput("nvidia-smi --query-gpu=driver_version --format=csv,noheader")
    return said.splitlines()[0] if status == 0 else "unknown"


def read_record() -> pd.DataFrame | None:
    """The record of a GPU, or None where none was made or it cannot be read (with a warning)."""
    return read_table(
        RECORD, ["configuration", "method"], ["support_size", "highest_phase", "predicted", "cuda_allocated"]
    )


def peaks_of(record: pd.DataFrame) -> pd.DataFrame:
    """The measured peaks of the highest phases of the profile `paper`: method, support_size, peak_gb."""
    shown = record[(record.configuration == PAPER) & record.highest_phase]
    return shown.assign(peak_gb=shown.cuda_allocated / 1e9)[["method", "support_size", "peak_gb"]].drop_duplicates()
