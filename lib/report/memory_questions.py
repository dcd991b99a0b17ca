"""What the page on memory asks, each as a table of predictions: what saves, what a claim needs, what fits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from lib.memory.architectures import OPT, architecture
from lib.memory.peaks import PARTS, highest
from lib.memory.prompt_lengths import Prefixed
from lib.methods.table import METHODS
from lib.runs.fits import CONTEXT_GIB, GIB
from lib.runs.predictions import Setting, predictions, setting
from lib.runs.profile import TRAINED, Profile

CARDS = (8, 16, 24, 80, 141)

# What the context of OPT-sized models allows, and what public training code pads every prompt to.
FULL_WINDOW = 2048


@dataclass(frozen=True)
class Option:
    """One way of doing things: its name, a method, changes to the profile, and what profiles have no key for."""

    name: str
    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    teacher_resident: bool = False
    prefix_cache: bool = True
    padded: bool = False


# A decision, the phase in which it tells, and its options from the dearest that is common to the study's own.
DECISIONS: dict[tuple[str, str], tuple[Option, ...]] = {
    ("logits of CD's step", "training"): (
        Option("all positions", "cd", {"logits": "all"}),
        Option("last position", "cd"),
        Option("label words' columns", "cd", {"logits": "labels", "kl_over": "labels"}),
    ),
    ("the teacher, while CD trains", "training"): (
        Option("resident", "cd", teacher_resident=True),
        Option("freed", "cd"),
    ),
    ("what CD trains", "training"): (Option("all", "cd"), Option("LoRA", "cd_lora"), Option("BitFit", "cd_bitfit")),
    ("precision of CD's forward pass", "training"): (
        Option("float32", "cd"),
        Option("bfloat16", "cd", {"training_dtype": "bfloat16"}),
    ),
    ("activations of CD's step", "training"): (
        Option("kept", "cd"),
        Option("checkpointed", "cd", {"checkpointing": True}),
    ),
    ("CD's optimizer", "training"): (Option("AdamW", "cd"), Option("SGD", "cd", {"optimizer": "sgd"})),
    ("queries that the teacher answers at once", "teacher"): (
        Option("64", "cd", {"eval_batch_size": 64}),
        Option("8", "cd"),
        Option("1", "cd", {"eval_batch_size": 1}),
    ),
    ("the teacher's weights", "teacher"): (
        Option("float32", "cd"),
        Option("bfloat16", "cd", {"teacher_dtype": "bfloat16"}),
    ),
    ("demonstrations of the teacher's ICL", "evaluation"): (
        Option("read for each query", "teacher_icl", prefix_cache=False),
        Option("read once, cached", "teacher_icl"),
    ),
}


def decisions(profile: Profile, size: int = 12) -> pd.DataFrame:
    """Each decision's options: the peak of the phase in which it tells and its parts, GB; the rest is the profile's."""
    asked = [(name, phase, option) for (name, phase), options in DECISIONS.items() for option in options]
    found = predictions([_setting(profile, option, size) for _, _, option in asked])
    rows = [
        {"decision": name, "option": option.name, "phase": phase, "peak_gb": made[phase].total / 1e9}
        | {part: made[phase].parts[part] / 1e9 for part in PARTS}
        for (name, phase, option), made in zip(asked, found, strict=True)
    ]
    return pd.DataFrame(rows)


def _setting(profile: Profile, option: Option, size: int) -> Setting:
    one = setting(profile.changed(option.changes), option.method, size, option.teacher_resident)
    lengths = one.lengths
    if not option.prefix_cache:
        whole = tuple(Prefixed(0, tuple(asked.prefix + n for n in asked.suffixes)) for asked in lengths.evaluation)
        lengths = replace(lengths, evaluation=whole)
    if option.padded:
        filled = {name: (FULL_WINDOW,) * len(getattr(lengths, name)) for name in ("support", "pool")}
        lengths = replace(lengths, **filled)
    return replace(one, lengths=lengths)


@dataclass(frozen=True, eq=False)
class Reading:
    """A way to read "CD needs up to 60% less memory than PBFT": changes for either, and which phases count."""

    name: str
    pbft: dict[str, Any]
    cd: dict[str, Any]
    training_alone: bool = False
    padded_pbft: bool = False
    padded_cd: bool = False


def readings(teacher: str) -> tuple[Reading, ...]:
    """From the profile's own settings to those under which the claim holds."""
    small, everywhere = {"teacher_dtype": "bfloat16"}, {"logits": "all"}
    half = "CD's teacher in bfloat16"
    others = "PBFT with logits of all positions, padded to 2,048 tokens, CD with neither"
    larger = "PBFT of the teacher, not of the student"
    return (
        Reading("all as in the profile", {}, {}),
        Reading("CD's teacher answers 64 queries at once", {}, {"eval_batch_size": 64}),
        Reading(half, {}, small),
        Reading("CD's teacher not counted", {}, {}, training_alone=True),
        Reading(f"both with logits of all positions; {half}", everywhere, {**small, **everywhere}),
        Reading(
            f"both so, padded to 2,048 tokens; {half}",
            everywhere,
            {**small, **everywhere},
            padded_pbft=True,
            padded_cd=True,
        ),
        Reading(others, everywhere, {}, padded_pbft=True),
        Reading(f"{others}; {half}", everywhere, small, padded_pbft=True),
        Reading(larger, {"student": teacher}, {}),
        Reading(f"{larger}; {half}", {"student": teacher}, small),
    )


def against_pbft(profile: Profile, size: int = 12) -> pd.DataFrame:
    """For each reading of the claim: the peak of PBFT in GB, and by how much those of the CD methods differ from it."""
    variants = [name for name, method in METHODS.items() if method.distils]
    asked = {
        (reading, name): Option("", name, reading.cd, padded=reading.padded_cd)
        if name in variants
        else Option("", name, reading.pbft, padded=reading.padded_pbft)
        for reading in readings(profile.teacher)
        for name in ("pbft", *variants)
    }
    found = predictions([_setting(profile, option, size) for option in asked.values()])
    rows: dict[str, dict[str, float]] = {}
    for (reading, name), made in zip(asked, found, strict=True):
        alone = reading.training_alone and name in variants
        peak = (made["training"] if alone else highest(made)[1]).total / 1e9
        row = rows.setdefault(reading.name, {})
        row[f"{METHODS[name].label}, GB"] = peak
        if name in variants:
            row[f"{METHODS[name].label} against PBFT"] = peak / row["PBFT, GB"] - 1
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("reading")


def growth(profile: Profile, methods: Sequence[str] = TRAINED, size: int = 12) -> pd.DataFrame:
    """Peaks over the published OPT sizes: method, student, parameters, peak_gb, phase, over all phases that are run.

    The teacher is the profile's, or the student's own size where that is larger.
    """
    asked = [(name, student) for student in OPT for name in methods]
    found = predictions([setting(_grown(profile, student), name, size) for name, student in asked])
    rows = []
    for (name, student), made in zip(asked, found, strict=True):
        phase = max(made, key=lambda phase: made[phase].total)
        shape = {"student": student, "parameters": made["evaluation"].parts["parameters"] / 4}
        rows.append({"method": name, **shape, "peak_gb": made[phase].total / 1e9, "phase": phase})
    return pd.DataFrame(rows)


def _grown(profile: Profile, student: str) -> Profile:
    larger = max(student, profile.teacher, key=lambda name: architecture(name).hidden_size)
    return profile.changed({"student": student, "teacher": larger})


def largest(grown: pd.DataFrame, cards: Sequence[int] = CARDS) -> pd.DataFrame:
    """The largest student of `growth` that fits on each card (GiB, less what is assumed for CUDA itself), by method."""
    table = {}
    for card in cards:
        fitting = grown[grown.peak_gb * 1e9 / GIB + CONTEXT_GIB <= card]
        best = fitting.sort_values("parameters").groupby("method").student.last()
        names = {name: best.get(name, "none").rpartition("/")[2] for name in grown.method.unique()}
        table[f"{card} GiB"] = {METHODS[name].label: student for name, student in names.items()}
    return pd.DataFrame(table)
