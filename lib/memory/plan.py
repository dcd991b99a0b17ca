"""What a study will take before it starts: its runs, and the operations, the hours and the memory of each kind.

Nothing is run and no weights are read. Tokens are those that a run's own functions would read. Operations are 2 for
each weight and token that is read, and 6 for one that is trained on (Kaplan et al. 2020, arXiv 2001.08361, part 2.1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import pandas as pd
import psutil

from lib.errors import StudyError
from lib.memory.fits import CONTEXT_GIB, GIB
from lib.memory.limit import flops_a_second, weights_a_token
from lib.memory.peaks import Setting, questions, rows_of
from lib.memory.predictions import predictions, setting
from lib.methods.records import Run
from lib.methods.table import METHODS
from lib.models.training import batches
from lib.runs.ablations import VARIANTS
from lib.runs.profile import Profile

FORWARD, TRAINING, FROZEN = 2, 6, 4  # operations a weight and token; frozen weights have no gradients of their own
# Assumed: how many times the least that the operations take (page 16 measured 2.1 to 2.8 on a CPU), and what a step or
# a pass takes beside them (Python, and the start of kernels).
OVER_LEAST, SECONDS_A_STEP = 3.0, 0.03
LABELS = "teacher's soft labels"


@dataclass(frozen=True)
class Card:
    """What its maker says of a card: GiB, and 10¹² float32 operations a second without tensor cores."""

    gib: float
    teraflops: float


CARDS = {"T4": Card(16, 8.1), "L4": Card(24, 30.3), "A100": Card(80, 19.5), "H100": Card(80, 67.0)}


@dataclass(frozen=True)
class Work:
    """Floating-point operations, and the steps or passes that they are done in."""

    operations: float
    steps: int


def work_of(one: Setting) -> dict[str, Work]:
    """What each phase of a run does; padding and attention's own products are not counted."""
    run = one.run
    work = {}
    for phase, asked in questions(one).items():
        tokens = sum(prompts.prefix + sum(prompts.suffixes) for prompts in asked.prompts)
        passes = sum(ceil(len(prompts.suffixes) / asked.batch_size) for prompts in asked.prompts)
        work[phase] = Work(FORWARD * weights_a_token(asked.model) * tokens, passes)
    if run.training:
        steps = list(batches(*rows_of(one), run.training.batch_size, run.training.epochs, run.seed))
        tokens = sum(len(row.ids) for rows in steps for row in rows)
        each = (TRAINING if run.training.tuning == "full" else FROZEN) + FORWARD * run.training.checkpointing
        work["training"] = Work(each * weights_a_token(run.model) * tokens, len(steps) * run.training.accumulate)
    return work


def kinds(profiles: Sequence[Profile]) -> pd.DataFrame:
    """What the grids of some profiles are made of; soft labels that several students learn from are made once.

    A first seed stands for all.

    Returns:
        A row a kind, which is a method, of each student where there are several: `jobs`, `operations` and `steps` of
        all, `peak_gb` of the highest phase at the largest size.
    """
    seen: set[Any] = set()
    rows = [row for profile in profiles for row in _rows(profile, seen, len(profiles) > 1)]
    order = dict.fromkeys(row["kind"] for row in rows)
    totals = {"jobs": "sum", "operations": "sum", "steps": "sum", "peak_gb": "max"}
    return pd.DataFrame(rows).groupby("kind").agg(totals).loc[[*order]]


def _rows(profile: Profile, seen: set[Any], several: bool) -> Iterator[dict[str, Any]]:
    student = f" on {profile.student.rpartition('/')[2]}" if several else ""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in profile.runs():
        groups.setdefault((run.method, run.support_size), []).append(run)
    for (method, size), runs in groups.items():
        one = setting(profile, method, size)
        work = work_of(one)
        labels, new = {run.needs for run in runs if run.needs} - seen, {*runs} - seen
        seen |= labels | new
        peaks = _peaks(profile, one)
        teacher = work.pop("teacher", None)
        if labels:
            yield _row(LABELS, len(labels), [teacher], peaks.get("teacher"))
        if new:
            made = [peaks[phase] for phase in peaks if phase != "teacher"]
            yield _row(f"{METHODS[method].label}{student}", len(new), [*work.values()], max(made, default=None))


def _row(kind: str, jobs: int, work: Sequence[Work], peak: float | None) -> dict[str, Any]:
    operations, steps = (jobs * sum(getattr(one, name) for one in work) for name in ("operations", "steps"))
    return {"kind": kind, "jobs": jobs, "operations": operations, "steps": steps, "peak_gb": peak}


def _peaks(profile: Profile, one: Setting) -> dict[str, float]:
    """By phase, 10⁹ bytes; for the largest size alone, whose peaks are the highest."""
    if one.run.support_size not in (0, max(profile.support_sizes)):
        return {}
    (prediction,) = predictions([one])
    return {phase: peak.total / 1e9 for phase, peak in prediction.items()}


def hours(work: pd.DataFrame, teraflops: float) -> pd.Series:
    """Of each kind, on what does so many 10¹² operations a second."""
    return (work.operations * OVER_LEAST / (teraflops * 1e12) + work.steps * SECONDS_A_STEP) / 3600


def cards(work: pd.DataFrame, price: float | None) -> pd.DataFrame:
    """For each card, and for this machine's processor: GiB, hours, their price, and which kinds do not fit."""
    here = Card(psutil.virtual_memory().total / GIB, flops_a_second("cpu") / 1e12)
    rows = {}
    for name, card in (CARDS | {"this processor": here}).items():
        needed = work.peak_gb * 1e9 / GIB + (CONTEXT_GIB if name in CARDS else 0)
        total = hours(work, card.teraflops).sum()
        row = {"GiB": f"{card.gib:.0f}", "TFLOPS": f"{card.teraflops:.3g}", "hours": f"{total:.3g}"}
        if price is not None:
            row[f"at {price:g} an hour"] = f"{price * total:.3g}" if name in CARDS else ""
        rows[name] = row | {"too small for": ", ".join(work.index[needed > card.gib])}
    return pd.DataFrame(rows).T


def variants(profile: Profile) -> dict[str, int]:
    """By notebook that varies the profile, how many runs it adds to the grid."""
    counts, seen = {}, {*profile.runs()}
    for name, (of_profile, methods) in VARIANTS.items():
        asked = {run for change in of_profile(profile).values() for run in _runs(profile, change, methods)} - seen
        counts[name] = len(asked)
        seen |= asked
    return counts


def _runs(profile: Profile, change: dict[str, Any], methods: Sequence[str]) -> list[Run]:
    try:
        return profile.changed(dict(change)).runs(tuple(methods))
    except StudyError:  # settings that cannot work, which the notebook leaves out as well
        return []


def report(profiles: Sequence[Profile], price: float | None = None) -> str:
    """The plan in words and tables.

    Raises:
        StudyError: the price is no price; a model or its data are not known here.
    """
    if price is not None and not 0 <= price < inf:
        raise StudyError(f"price: {price:g} is none; give what an hour costs, 0 or more.")
    work = kinds(profiles)
    students = ", ".join(dict.fromkeys(profile.student for profile in profiles))
    lines = [
        f"{profiles[0].name}: {profiles[0].teacher} teaches {students}. Nothing was run: all numbers are predicted.",
        "",
        _table(work),
        "",
        cards(work, price).to_string(),
        "",
        f"Hours: {OVER_LEAST:g} times what operations take at least, {SECONDS_A_STEP:g} s a step; both are assumed.",
        "TFLOPS: the makers' figures for float32 without tensor cores; of this processor, measured now.",
        *_besides(profiles[0]),
    ]
    return "\n".join(lines)


def _table(work: pd.DataFrame) -> str:
    total = work.assign(share=work.operations / work.operations.sum())
    table = pd.DataFrame(
        {
            "jobs": total.jobs,
            "10^15 operations": total.operations.map(lambda value: f"{value / 1e15:.3g}"),
            "of all": total.share.map("{:.0%}".format),
            "steps": total.steps,
            "peak, GB": total.peak_gb.map("{:.3g}".format),
        }
    )
    return table.rename_axis(None).to_string()


def _besides(profile: Profile) -> Iterator[str]:
    """What the profile would run beyond its grid, which is counted and not costed."""
    counts = variants(profile) | {name: len(profile.in_context_runs(name)) for name in ("crossfit", "lama")}
    named = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
    if named:
        yield f"Not in these tables, but computed where their pages are drawn as well: runs: {named}."
