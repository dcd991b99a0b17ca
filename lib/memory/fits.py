"""Will a model, a method and a batch fit on a card? Answered from predicted peaks: no GPU, no weights."""

from dataclasses import dataclass
from math import inf
from typing import Any

from lib.errors import StudyError, require_one_of
from lib.memory.peaks import Prediction
from lib.memory.predictions import predictions, setting
from lib.methods.table import METHODS, ON_TASKS
from lib.runs.profile import Profile

GIB = 2**30

# What CUDA and the workspaces of its libraries take beside tensors: assumed, it differs by card and driver.
CONTEXT_GIB = 0.75

# What lowers a peak: tried one at a time and then all together.
CHEAPER = {
    "eval_batch_size": 8,
    "teacher_dtype": "bfloat16",
    "training_dtype": "bfloat16",
    "checkpointing": True,
    "batch_size": 1,
}


@dataclass(frozen=True)
class Fit:
    """Whether something fits: the phase that needs most of all, and what that is in GiB, CUDA's own share included."""

    phase: str
    gib: float
    gpu: float

    @property
    def fits(self) -> bool:
        """Within the card's memory."""
        return self.gib <= self.gpu


def fit(profile: Profile, method: str, size: int, gpu: float) -> tuple[Prediction, Fit]:
    """The prediction for a method on a card of `gpu` GiB; all its phases must fit.

    Raises:
        StudyError: the card's size is not positive; a model is not known; the method does not apply to it.
    """
    require_one_of("method", method, ON_TASKS)
    if not 0 < gpu < inf:
        raise StudyError(f"gpu: {gpu:g} is no size of a card; give its memory in GiB, above 0.")
    (prediction,) = predictions([setting(profile.changed({"support_sizes": [size]}), method, size)])
    phase = max(prediction, key=lambda phase: prediction[phase].total)
    return prediction, Fit(phase, prediction[phase].total / GIB + CONTEXT_GIB, gpu)


def cheaper(profile: Profile, method: str, size: int, gpu: float) -> dict[str, Fit]:
    """What each change that lowers the peak comes to, by its option; then all of them together, then LoRA."""
    tried = {}
    for changes in [*({name: value} for name, value in CHEAPER.items()), CHEAPER]:
        tried[_as_options(changes)] = fit(profile.changed(changes), method, size, gpu)[1]
    if METHODS[method].tuning == "full":
        tried[f"--method {method}_lora"] = fit(profile, f"{method}_lora", size, gpu)[1]
    now = fit(profile, method, size, gpu)[1].gib
    return {option: result for option, result in tried.items() if result.gib < now - 0.005}


def _as_options(changes: dict[str, Any]) -> str:
    return " ".join(f"--set {name}={str(value).lower()}" for name, value in changes.items())


def report(profile: Profile, method: str, size: int, gpu: float) -> str:
    """The answer in words and numbers."""
    prediction, result = fit(profile, method, size, gpu)
    student = f"{method}: student {profile.student}, teacher {profile.teacher}, n = {size}"
    lines = [f"{student}. Predicted peaks, GiB:", ""]
    for phase, peak in prediction.items():
        parts = ", ".join(f"{name} {bytes_ / GIB:.2f}" for name, bytes_ in peak.parts.items() if bytes_ > GIB / 200)
        lines += [f"  {phase:<10} {peak.total / GIB:7.2f}   {parts}", f"  {'':<10} {'':7}   at {peak.place}"]
    verdict = "fits on" if result.fits else "does not fit on"
    lines += ["", f"It {verdict} {gpu:g} GiB: the {result.phase} needs {result.gib:.2f}, "]
    lines[-1] += f"of which {CONTEXT_GIB:g} are assumed for CUDA itself."
    if not result.fits:
        lines += ["", "What would lower the highest phase:", ""]
        for option, other in cheaper(profile, method, size, gpu).items():
            lines.append(f"  {other.gib:7.2f}  {'fits' if other.fits else '    '}  {option}")
    return "\n".join(lines)
