"""Filling in the cells of a benchmark: the same store, executor and progress as for the rest of the study."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lib.errors import StudyError, require_one_of
from lib.methods.in_context_distillation import ICT_METHODS
from lib.methods.in_context_records import IctCell
from lib.models.loading import quiet
from lib.runs import in_context_preflight
from lib.runs.execution import Sweep, collect, compute
from lib.runs.in_context_frames import METRICS, task_frame
from lib.runs.profile import Profile

# The notebooks of in-context learning distillation, and the benchmark that each is about.
NOTEBOOKS = {"11_crossfit": "crossfit", "12_lama": "lama"}


def fill_benchmark(profile: Profile, benchmark: str, methods: Sequence[str] | None = None) -> Sweep:
    """Compute the cells of a benchmark that are missing, keep those that are there, and return them all.

    Args:
        profile: the study's settings.
        benchmark: `crossfit` or `lama`.
        methods: the methods wanted, keys of `ICT_METHODS`; None for all.

    Raises:
        StudyError: the profile does not have the benchmark, or a setting cannot work and nothing was computed.
    """
    quiet()
    require_one_of("benchmark", benchmark, METRICS)
    for name in methods or ():
        require_one_of("methods", name, ICT_METHODS)
    planned = profile.ict_cells(benchmark)
    if not planned:
        raise StudyError(f"in_context.{benchmark}: profile {profile.name} does not have it.")
    cells = [cell for cell in planned if methods is None or cell.method in methods]
    if not cells:
        raise StudyError("methods: none is asked for.")
    compute(profile, cells, in_context_preflight.check)
    return replace(collect(profile, cells, task_frame), about=_about(planned, benchmark))


def _about(planned: Sequence[IctCell], benchmark: str) -> str:
    models = {ICT_METHODS[cell.method].teacher_answers: Path(cell.model).name for cell in planned}
    return f"{models[True]} teaches {models[False]} to learn in context, on {benchmark}."
