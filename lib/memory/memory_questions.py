"""What the page on memory asks, each as a table of predictions: what saves, what a claim needs, what fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from lib.memory.architectures import OPT, architecture
from lib.memory.fits import CONTEXT_GIB, GIB
from lib.memory.peaks import Prediction, Setting, highest_phase
from lib.memory.predictions import predictions, setting
from lib.memory.prompt_lengths import Prefixed
from lib.methods.table import METHODS, TRAINED
from lib.runs.profile import Profile

CARDS = (8, 16, 24, 80, 141)

# What the context of OPT-sized models allows, and what public training code pads every prompt to.
FULL_WINDOW = 2048


def resident_teacher(one: Setting) -> Setting:
    """The teacher stays in memory while the student trains."""
    return replace(one, teacher_resident=True)


def without_prefix_cache(one: Setting) -> Setting:
    """The demonstrations are read again for each query that is evaluated."""
    whole = (Prefixed(0, tuple(asked.prefix + n for n in asked.suffixes)) for asked in one.lengths.evaluation)
    return replace(one, lengths=replace(one.lengths, evaluation=tuple(whole)))


def padded(one: Setting) -> Setting:
    """Every prompt of the training fills the context window."""
    filled = {name: (FULL_WINDOW,) * len(getattr(one.lengths, name)) for name in ("support", "pool")}
    return replace(one, lengths=replace(one.lengths, **filled))


@dataclass(frozen=True)
class Option:
    """One way of doing things.

    Attributes:
        method: a key of `METHODS`.
        changes: to the profile.
        further: changes to the setting, for what profiles have no key for.
        training_alone: the other phases that the method needs do not count.
    """

    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    further: Callable[[Setting], Setting] = lambda one: one
    training_alone: bool = False


# A decision, the phase in which it tells, and its options from the dearest that is common to the study's own.
DECISIONS: dict[tuple[str, str], dict[str, Option]] = {
    ("logits of CD's step", "training"): {
        "all positions": Option("cd", {"logits": "all"}),
        "last position": Option("cd"),
        "label words' columns": Option("cd", {"logits": "labels", "kl_over": "labels"}),
    },
    ("the teacher, while CD trains", "training"): {
        "resident": Option("cd", further=resident_teacher),
        "freed": Option("cd"),
    },
    ("what CD trains", "training"): {"all": Option("cd"), "LoRA": Option("cd_lora"), "BitFit": Option("cd_bitfit")},
    ("precision of CD's forward pass", "training"): {
        "float32": Option("cd"),
        "bfloat16": Option("cd", {"training_dtype": "bfloat16"}),
    },
    ("activations of CD's step", "training"): {
        "kept": Option("cd"),
        "checkpointed": Option("cd", {"checkpointing": True}),
    },
    ("CD's optimizer", "training"): {"AdamW": Option("cd"), "SGD": Option("cd", {"optimizer": "sgd"})},
    ("queries that the teacher answers at once", "teacher"): {
        "64": Option("cd", {"eval_batch_size": 64}),
        "8": Option("cd"),
        "1": Option("cd", {"eval_batch_size": 1}),
    },
    ("the teacher's weights", "teacher"): {
        "float32": Option("cd"),
        "bfloat16": Option("cd", {"teacher_dtype": "bfloat16"}),
    },
    ("demonstrations of the teacher's ICL", "evaluation"): {
        "read for each query": Option("teacher_icl", further=without_prefix_cache),
        "read once, cached": Option("teacher_icl"),
    },
}


# A student's step and a teacher's phase at their leanest; where few weights are trained, the others can be halved.
LABELS_ALONE = {"kl_over": "labels", "logits": "labels"}
LEAN = {**LABELS_ALONE, "checkpointing": True, "optimizer_in_backward": True}
LEAN_FEW = {
    **LABELS_ALONE,
    "checkpointing": True,
    "accumulate": 4,
    "training_dtype": "bfloat16",
    "frozen_dtype": "bfloat16",
}
STREAMED = {"teacher_memory": "streamed", "queries_a_pass": 4}
LEAN_TEACHER = {"teacher_memory": "streamed", "queries_a_pass": 2, "teacher_dtype": "bfloat16"}

# From what public code does down to the leanest; each row is the one before it with one more decision.
DESCENT = {
    "logits of all positions, 64 queries at once": Option("cd", {"logits": "all", "eval_batch_size": 64}),
    "logits of the last position": Option("cd", {"eval_batch_size": 64}),
    "8 queries at once": Option("cd"),
    "the teacher streamed, 4 queries a pass": Option("cd", STREAMED),
    "the head for the label words alone": Option("cd", STREAMED | LABELS_ALONE),
    "activations checkpointed": Option("cd", STREAMED | LABELS_ALONE | {"checkpointing": True}),
    "weights updated in the backward pass": Option("cd", STREAMED | LEAN),
    "the teacher in bfloat16, 2 queries a pass": Option("cd", LEAN_TEACHER | LEAN),
    "LoRA": Option("cd_lora", LEAN_TEACHER | LEAN),
    "frozen weights in bfloat16, a step in four parts": Option("cd_lora", LEAN_TEACHER | LEAN_FEW),
}


def descent(profile: Profile, size: int = 12) -> pd.DataFrame:
    """Each row of `DESCENT`: peaks of CD's phases in GB, and the higher one over that of PBFT as the profile has it."""
    pbft, *made = _predicted(profile, [Option("pbft"), *DESCENT.values()], size)
    plain = pbft["training"].total
    rows = [
        {
            **{f"{phase}, GB": peaks[phase].total / 1e9 for phase in ("teacher", "training")},
            "over PBFT": peaks[highest_phase(peaks)].total / plain,
        }
        for peaks in made
    ]
    return pd.DataFrame(rows, index=pd.Index(DESCENT, name="with"))


def _predicted(profile: Profile, options: Sequence[Option], size: int) -> list[Prediction]:
    return predictions(
        [option.further(setting(profile.changed(option.changes), option.method, size)) for option in options]
    )


def decisions(profile: Profile, size: int = 12) -> pd.DataFrame:
    """Each decision's options: the peak of the phase in which it tells and its parts, GB; the rest is the profile's."""
    asked = [(*decision, name, option) for decision, options in DECISIONS.items() for name, option in options.items()]
    made = _predicted(profile, [option for *_, option in asked], size)
    rows = [
        {"decision": decision, "option": name, "phase": phase, **peaks[phase].gigabytes}
        for (decision, phase, name, _), peaks in zip(asked, made, strict=True)
    ]
    return pd.DataFrame(rows)


def readings(teacher: str) -> dict[str, tuple[Option, Option]]:
    """PBFT and CD under each way to read "CD needs up to 60% less memory than PBFT".

    They go from the profile's own settings to those under which the claim holds.
    """
    pbft, cd, half = Option("pbft"), Option("cd"), Option("cd", {"teacher_dtype": "bfloat16"})
    everywhere = {"logits": "all"}
    all_logits, filled = Option("pbft", everywhere), Option("pbft", everywhere, padded)
    half_logits = Option("cd", half.changes | everywhere)
    larger = Option("pbft", {"student": teacher})
    in_half = "CD's teacher in bfloat16"
    others = "PBFT with logits of all positions, padded to 2,048 tokens, CD with neither"
    lean, lean_pbft = Option("cd", LEAN | LEAN_TEACHER), Option("pbft", LEAN)
    of_teacher = "PBFT of the teacher, not of the student"
    return {
        "all as in the profile": (pbft, cd),
        "CD's teacher answers 64 queries at once": (pbft, Option("cd", {"eval_batch_size": 64})),
        in_half: (pbft, half),
        "CD's teacher not counted": (pbft, Option("cd", training_alone=True)),
        f"both with logits of all positions; {in_half}": (all_logits, half_logits),
        f"both so, padded to 2,048 tokens; {in_half}": (filled, replace(half_logits, further=padded)),
        others: (filled, cd),
        f"{others}; {in_half}": (filled, half),
        of_teacher: (larger, cd),
        f"{of_teacher}; {in_half}": (larger, half),
        "PBFT as in the profile, CD at its leanest, its teacher streamed": (pbft, lean),
        "both at their leanest, CD's teacher streamed": (lean_pbft, lean),
    }


def against_pbft(profile: Profile, size: int = 12) -> pd.DataFrame:
    """For each reading of the claim: the peak of PBFT in GB, and by how much those of the CD methods differ from it."""
    distilled = [name for name in TRAINED if METHODS[name].distils]
    asked = {
        (reading, name): pbft if name == "pbft" else replace(cd, method=name)
        for reading, (pbft, cd) in readings(profile.teacher).items()
        for name in ("pbft", *distilled)
    }
    options = list(asked.values())
    peaks = [
        made["training" if option.training_alone else highest_phase(made)].total / 1e9
        for option, made in zip(options, _predicted(profile, options, size), strict=True)
    ]
    index = pd.MultiIndex.from_tuples(asked, names=["reading", "method"])
    by_method = pd.Series(peaks, index).unstack("method", sort=False)
    columns = {"PBFT, GB": by_method.pbft}
    for name in distilled:
        label = METHODS[name].label
        columns[f"{label}, GB"] = by_method[name]
        columns[f"{label} against PBFT"] = by_method[name] / by_method.pbft - 1
    return pd.DataFrame(columns)


def growth(profile: Profile, methods: Sequence[str] = TRAINED, size: int = 12) -> pd.DataFrame:
    """Peaks over the published OPT sizes: method, student, parameters, peak_gb, phase, over all phases that are run.

    The teacher is the profile's, or the student's own size where that is larger.
    """
    asked = [Option(name, _models(profile, student)) for student in OPT for name in methods]
    rows = []
    for option, made in zip(asked, _predicted(profile, asked, size), strict=True):
        phase = max(made, key=lambda phase: made[phase].total)
        shape = {"student": option.changes["student"], "parameters": made["evaluation"].parts["parameters"] / 4}
        rows.append({"method": option.method, **shape, "peak_gb": made[phase].total / 1e9, "phase": phase})
    return pd.DataFrame(rows)


def _models(profile: Profile, student: str) -> dict[str, str]:
    return {
        "student": student,
        "teacher": max(student, profile.teacher, key=lambda name: architecture(name).hidden_size),
    }


def largest(grown: pd.DataFrame, cards: Sequence[int] = CARDS) -> pd.DataFrame:
    """The largest student of `growth` that fits on each card (GiB, less what is assumed for CUDA itself), by method."""
    table = {}
    for card in cards:
        fitting = grown[grown.peak_gb * 1e9 / GIB + CONTEXT_GIB <= card]
        best = fitting.sort_values("parameters").groupby("method").student.last()
        names = {name: best.get(name, "none").rpartition("/")[2] for name in grown.method.unique()}
        table[f"{card} GiB"] = {METHODS[name].label: student for name, student in names.items()}
    return pd.DataFrame(table)
