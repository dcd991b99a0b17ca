"""Runs of in-context learning distillation with changed settings."""

from dataclasses import replace
from typing import Any

from lib.methods.records import Run

OF_THE_RUN = ("seed", "model", "method", "task")


def changed(run: Run, **changes: Any) -> Run:
    """A run with other settings, of its own or of its part `in_context`."""
    own = {name: value for name, value in changes.items() if name in OF_THE_RUN}
    part = {name: value for name, value in changes.items() if name not in OF_THE_RUN}
    return replace(run, **own, in_context=replace(run.in_context, **part))
