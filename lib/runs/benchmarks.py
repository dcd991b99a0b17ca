"""Filling in the runs of a benchmark: the same store, executor and progress as for the rest of the study."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lib.errors import StudyError, require_one_of
from lib.methods.in_context_distillation import IN_CONTEXT_METHODS
from lib.methods.in_context_records import InContextRun
from lib.models.loading import quiet
from lib.runs import in_context_preflight
from lib.runs.execution import Sweep, collect, compute
from lib.runs.in_context_frames import METRICS, task_frame
from lib.runs.profile import Profile

# The notebooks of in-context learning distillation, and the benchmark that each is about.
NOTEBOOKS = {"11_crossfit": "crossfit", "12_lama": "lama"}


def fill_benchmark(profile: Profile, benchmark: str, methods: Sequence[str] | None = None) -> Sweep:
    """Compute the runs of a benchmark that are missing, keep those that are there, and return them all.

    Args:
        profile: the study's settings.
        benchmark: `crossfit` or `lama`.
        methods: the methods wanted, keys of `IN_CONTEXT_METHODS`; None for all.

    Raises:
        StudyError: the profile does not have the benchmark, or a setting cannot work and nothing was computed.
    """
    quiet()
    require_one_of("benchmark", benchmark, METRICS)
    for name in methods or ():
        require_one_of("methods", name, IN_CONTEXT_METHODS)
    planned = profile.in_context_runs(benchmark)
    if not planned:
        raise StudyError(f"in_context.{benchmark}: profile {profile.name} does not have it.")
    runs = [run for run in planned if methods is None or run.method in methods]
    if not runs:
        raise StudyError("methods: none is asked for.")
    compute(profile, runs, in_context_preflight.check)
    return replace(collect(profile, runs, task_frame), about=_about(planned, benchmark))


def _about(planned: Sequence[InContextRun], benchmark: str) -> str:
    models = {IN_CONTEXT_METHODS[run.method].teacher_answers: Path(run.model).name for run in planned}
    return f"{models[True]} teaches {models[False]} to learn in context, on {benchmark}."
