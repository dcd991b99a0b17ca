"""Few-shot distillation for language models: the parts that the notebooks are written with, and `distil`."""

from typing import Any


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: what a module lacks is looked for here
    """`from lib import distil` imports torch and the rest when it is asked for, so that `lib.paths` stays light."""
    if name == "distil":
        from lib.own_task import distil

        return distil
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
