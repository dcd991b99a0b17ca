"""What a profile would take, before anything is computed: runs, peaks, hours, cards and money.

No weights are read. Typical lengths of MNLI and HANS come with the study. With a published OPT these data sets need
neither files nor network.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import pandas as pd

from lib.errors import RefusedMethod, StudyError
from lib.memory.allocations import Peak
from lib.memory.architectures import random_model
from lib.memory.fits import CONTEXT_GIB, GIB
from lib.memory.memory_questions import CARDS
from lib.memory.predictions import predictions, setting
from lib.methods.records import Run
from lib.methods.table import METHODS
from lib.models.loading import DTYPES, quiet
from lib.report import operations
from lib.report.limit import flops_a_second
from lib.report.operations import UTILISATION, Operations
from lib.runs.frames import METRICS
from lib.runs.profile import Profile
from lib.runs.provenance import Job
from lib.runs.store import Result, Store

# Operations a second of an A100's products, as its maker publishes them.
PUBLISHED = {"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12}

# Bytes that a weight, its gradient and the optimizer's state take where all weights are trained in float32.
TRAINED_BYTES = 16

Measured = dict[Job, tuple[str, float]]  # of a job that is stored: on which device, and its seconds


@dataclass(frozen=True)
class Kind:
    """Jobs of one method, or what their teacher is asked.

    Attributes:
        name, model: of its row in the plan.
        jobs: each with its operations.
        gib: the highest peak, CUDA's own share included.
        phase: that has this peak.
    """

    name: str
    model: str
    jobs: Mapping[Job, Operations]
    gib: float
    phase: str


def kinds_of(profile: Profile, left_out: dict[str, str]) -> Iterator[Kind]:
    """All that a profile's own task and its benchmarks take; what cannot be had is put into `left_out` with the reason.

    Raises:
        StudyError: a model is not known, a prompt does not fit it, or the data cannot be read.
    """
    for method in profile.methods:
        try:
            yield from _of_method(profile, method)
        except RefusedMethod as refusal:
            left_out[METHODS[method].label] = str(refusal)
    for benchmark in METRICS:
        try:
            yield from _of_benchmark(profile, benchmark)
        except StudyError as error:
            left_out[benchmark] = str(error)


def _of_method(profile: Profile, method: str) -> Iterator[Kind]:
    runs = profile.runs((method,))
    settings = {size: setting(profile, method, size) for size in sorted({run.support_size for run in runs})}
    if not settings:
        return
    (peaks,) = predictions([settings[max(settings)]])
    asked = peaks.pop("teacher", None)
    work = {size: operations.of_run(one) for size, one in settings.items()}
    jobs = {run: work[run.support_size] for run in runs}
    yield Kind(METHODS[method].label, runs[0].model, jobs, *_highest(peaks, profile.device))
    if asked:
        work = {size: operations.of_labelling(one) for size, one in settings.items()}
        jobs = {run.needs: work[run.support_size] for run in runs}
        yield Kind("soft labels", profile.teacher, jobs, *_highest({"teacher": asked}, profile.device))


def _highest(peaks: Mapping[str, Peak], device: str) -> tuple[float, str]:
    phase = max(peaks, key=lambda phase: peaks[phase].total)
    return peaks[phase].total / GIB + (CONTEXT_GIB if device == "cuda" else 0), phase


def _of_benchmark(profile: Profile, benchmark: str) -> Iterator[Kind]:
    runs = profile.in_context_runs(benchmark)
    likes = {(run.method, run.in_context.paradigm): run for run in reversed(runs)}  # those of the first seed
    work = {like: operations.of_run_in_context(run) for like, run in likes.items()}
    for method in dict.fromkeys(run.method for run in runs):
        jobs = {run: work[method, run.in_context.paradigm] for run in runs if run.method == method}
        one = next(iter(jobs))
        yield Kind(f"{benchmark}: {METHODS[method].label}", one.model, jobs, _weights(one), "weights alone")
    teachers = {run.needs: run for run in runs if run.needs}
    if teachers:
        jobs = {teacher: operations.of_tuned_teacher(teacher) for teacher in teachers}
        gib = _gib(next(iter(jobs)).model, TRAINED_BYTES)
        yield Kind(f"{benchmark}: tuned teachers", next(iter(jobs)).model, jobs, gib, "weights alone")


def _weights(run: Run) -> float:
    """Of the models of a run on a benchmark: at least so many GiB, as nothing predicts its activations."""
    whole = run.training and run.training.tuning == "full"
    taught_by = run.in_context.teacher if run.training else None
    own = _gib(run.model, TRAINED_BYTES if whole else DTYPES[run.dtype].itemsize)
    return own + (_gib(taught_by.model, DTYPES[taught_by.dtype].itemsize) if taught_by else 0)


def _gib(model: str, bytes_a_weight: int) -> float:
    return bytes_a_weight * random_model(model, "float32", "meta").num_parameters() / GIB


def measured(profile: Profile) -> Measured:
    """What stored results say of their runs, and of the teachers that these needed."""
    store, known = Store(profile.folder), Measured()
    for run in [*profile.runs(), *(run for benchmark in METRICS for run in profile.in_context_runs(benchmark))]:
        if isinstance(result := store.load(run), Result):
            costs, device = result.outcome.costs, str(result.environment["device"])
            known[run] = device, sum(cost.seconds for phase, cost in costs.items() if phase != "teacher")
            if run.needs:
                known[run.needs] = device, costs["teacher"].seconds
    return known


def rates(device: str) -> dict[str, float]:
    """Operations a second that are assumed: of an A100, or of this machine's processor whatever the data type."""
    found = PUBLISHED if device == "cuda" else dict.fromkeys(DTYPES, flops_a_second(device))
    return {dtype: UTILISATION * rate for dtype, rate in found.items()}


def table(profiles: Sequence[Profile], left_out: dict[str, str]) -> pd.DataFrame:
    """One row a kind and model: model, jobs, stored, GiB, phase, seconds each, hours, hours left, how they are known.

    Profiles differ in their student; what several of them need counts once. Errors as for `kinds_of`.
    """
    together: dict[tuple[str, str], list[Kind]] = {}
    for kind in (kind for profile in profiles for kind in kinds_of(profile, left_out)):
        together.setdefault((kind.name, kind.model), []).append(kind)
    known = {job: said for profile in profiles for job, said in measured(profile).items()}
    speed = rates(profiles[0].device)
    return pd.DataFrame([_row(kinds, known, speed) for kinds in together.values()])


def _row(kinds: Sequence[Kind], known: Measured, speed: Mapping[str, float]) -> dict[str, object]:
    """Of alike kinds; jobs that are not stored take as many times what is predicted as those that are."""
    highest = max(kinds, key=lambda kind: kind.gib)
    works = {job: work for kind in kinds for job, work in kind.jobs.items()}
    predicted = {job: operations.seconds(work, speed) for job, work in works.items()}
    stored = {job: known[job] for job in predicted if job in known}
    spent = sum(seconds for _, seconds in stored.values())
    factor = spent / sum(predicted[job] for job in stored) if stored else 1.0
    left = factor * sum(seconds for job, seconds in predicted.items() if job not in stored)
    devices = ", ".join(sorted({device for device, _ in stored.values()}))
    return {
        "kind": highest.name,
        "model": highest.model.rpartition("/")[2],
        "jobs": len(predicted),
        "stored": len(stored),
        "GiB": highest.gib,
        "phase": highest.phase,
        "seconds each": (spent + left) / len(predicted),
        "hours": (spent + left) / 3600,
        "hours left": left / 3600,
        "seconds are": f"as on {devices}" if stored else "predicted",
    }


def report(profile: Profile, students: Sequence[str], gpu: float | None, price: float | None) -> str:
    """The plan in words and numbers.

    Args:
        profile: whose runs are planned.
        students: in place of the profile's; their teacher is asked once for all.
        gpu: a card's memory in GiB; None for the usual sizes.
        price: of an hour, in euros.

    Raises:
        StudyError: a price or a card's size that is none, or as for `kinds_of`.
    """
    for name, value in (("gpu", gpu), ("price", price)):
        if value is not None and not 0 < value < inf:
            raise StudyError(f"{name}: {value:g} is not possible; allowed is any number above 0.")
    quiet()
    left_out: dict[str, str] = {}
    profiles = [profile.changed({"student": student}) for student in students] or [profile]
    planned = table(profiles, left_out)
    counts = f"{planned.jobs.sum()} jobs, of which {planned.stored.sum()} are stored"
    shown = planned.to_string(float_format="{:.2f}".format, index=False, max_colwidth=40)
    lines = [f"Profile {profile.name}, {profile.device}: {counts}. Peaks are predicted.", "", shown, ""]
    lines += [f"Left out: {name}: {reason}" for name, reason in left_out.items()]
    return "\n".join([*lines, *_totals(planned, price), *_cards(planned, [gpu] if gpu else CARDS), _assumed(profile)])


def _totals(planned: pd.DataFrame, price: float | None) -> Iterator[str]:
    hours, left = planned.hours.sum(), planned["hours left"].sum()
    yield f"Hours: {hours:,.1f} in total, {left:,.1f} left to compute."
    if price is not None:
        yield f"Cost at {price:g} € an hour: {price * hours:,.0f} € in total, {price * left:,.0f} € left to compute."


def _cards(planned: pd.DataFrame, cards: Iterable[float]) -> Iterator[str]:
    for card in cards:
        names = planned[planned.GiB > card].apply(lambda row: f"{row.kind} ({row.model})", axis=1)
        yield f"{card:g} GiB: {'too small for ' + ', '.join(names) if len(names) else 'enough for all'}."


def _assumed(profile: Profile) -> str:
    whose = "an A100's published rate" if profile.device == "cuda" else "the rate of a product of matrices here, now"
    return (
        f"Predicted seconds: {operations.READ} operations a weight and token, {operations.TRAINED} in training, at "
        f"{UTILISATION:.0%} of {whose}. They are the least to expect: models are loaded beside that, and small models "
        "leave a GPU waiting for Python. A peak of 'weights alone' is the least there can be."
    )
