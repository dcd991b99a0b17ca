"""Peaks and seconds measured on a GPU with random weights beside what was predicted: the record, what is read off it.

Weights need no download and their values cost nothing, so the paper's pair can be measured on any GPU that holds it.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lib.memory.architectures import architecture
from lib.memory.peaks import highest, prompts_of, rows_of
from lib.methods.context_distillation import objective
from lib.methods.student import lora_config
from lib.models.cost import Cost, PhaseMeter, describe
from lib.models.loading import DTYPES
from lib.models.scoring import class_log_probs
from lib.models.training import train
from lib.models.tuning import adapt
from lib.paths import FIGURES
from lib.runs.predictions import Setting, predictions, setting
from lib.runs.profile import TRAINED, read_profile

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
    run, lengths, costs = one.run, one.lengths, {}
    meter = PhaseMeter(run.device, isolated=False)
    labelling = run.distillation.labelling if run.distillation else None
    if labelling:
        model = random_model(labelling.teacher, labelling.dtype, run.device)
        compared = None if labelling.kl_over == "vocabulary" else lengths.answers
        with meter.phase() as costs["teacher"]:
            for asked in lengths.teacher:
                class_log_probs(model, prompts_of(asked), compared, labelling.batch_size)
        del model
    if run.training:
        costs["training"] = _measure_training(one, meter)
    model = random_model(run.model, run.dtype, run.device)
    with meter.phase() as costs["evaluation"]:
        for asked in lengths.evaluation:
            class_log_probs(model, prompts_of(asked), lengths.answers, run.eval_batch_size)
    return costs


def _measure_training(one: Setting, meter: PhaseMeter) -> Cost:
    run, training = one.run, one.run.training
    model = random_model(run.model, "float32", run.device)
    with meter.phase() as cost:
        adapted = adapt(model, training.tuning, lora_config(training), training.biases)
        aim = objective(run, one.lengths.answers)
        cost.tokens = train(adapted, *rows_of(run, one.lengths), aim, training, run.seed).tokens
    return cost


def random_model(reference: str, dtype: str, device: str) -> PreTrainedModel:
    """A model of that architecture whose weights know nothing, frozen as a loaded one is."""
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(architecture(reference), dtype=DTYPES[dtype])
    return model.eval().requires_grad_(False)


def rows(name: str, one: Setting) -> list[dict[str, Any]]:
    """A row for each phase of a measured setting: what it cost, what was predicted, on what."""
    costs = measure(one)
    (predicted,) = predictions([one])
    about = {"configuration": name, "method": one.run.method, "support_size": one.run.support_size}
    machine = {**describe(one.run.device), "driver": _driver(), "cuda": torch.version.cuda, "peft": version("peft")}
    highest_phase = highest(predicted)[0]
    return [
        {**about, "phase": phase, "highest_phase": phase == highest_phase, **asdict(cost)}
        | {"predicted": predicted[phase].total, **machine}
        for phase, cost in costs.items()
    ]


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def read_record() -> pd.DataFrame | None:
    """The record of a GPU, or None where none was made."""
    return pd.read_csv(RECORD) if RECORD.is_file() else None


def peaks_of(record: pd.DataFrame) -> pd.DataFrame:
    """The measured peaks of the highest phases of the profile `paper`: method, support_size, peak_gb."""
    shown = record[(record.configuration == PAPER) & record.highest_phase]
    return shown.assign(peak_gb=shown.cuda_allocated / 1e9)[["method", "support_size", "peak_gb"]].drop_duplicates()


def against_predicted(record: pd.DataFrame) -> pd.DataFrame:
    """Rows of the record with `ratio`, measured (allocated) over predicted, the furthest from 1 first."""
    table = record.assign(ratio=record.cuda_allocated / record.predicted)
    return table.sort_values("ratio", key=lambda ratio: -(ratio - 1).abs())
