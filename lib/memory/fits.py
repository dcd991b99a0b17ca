"""Will a model, a method and a batch fit on a card? Answered from predicted peaks: no GPU, no weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from lib.errors import StudyError, require_one_of
from lib.memory.allocations import Peak
from lib.memory.architectures import random_model
from lib.memory.peaks import Prediction, peak_of
from lib.memory.predictions import predictions, setting
from lib.methods.table import METHODS, ON_TASKS
from lib.runs.profile import Profile

GIB = 2**30

# What CUDA and the workspaces of its libraries take beside tensors: assumed, it differs by card and driver.
CONTEXT_GIB = 0.75

# What lowers the peak of a phase, from what costs least to what costs most; each on top of those before it. First come
# settings that change no result, then those that do.
TEACHER = ({"eval_batch_size": 1}, {"teacher_memory": "streamed"}, {"teacher_dtype": "bfloat16"}, {"queries_a_pass": 4})
TRAINING = ({"accumulate": 4}, {"checkpointing": True})
ALL_WEIGHTS = ({"accumulate": 1, "optimizer_in_backward": True},)
FEW_WEIGHTS = ({"training_dtype": "bfloat16", "frozen_dtype": "bfloat16"},)
EVALUATION = ({"eval_batch_size": 1},)


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
    return prediction, Fit(phase, _needed(prediction[phase]), gpu)


def proposal(profile: Profile, method: str, size: int, gpu: float) -> tuple[dict[str, Any], Prediction]:
    """Settings under which every phase fits, or the leanest known where one does not, with their peaks."""
    changes: dict[str, Any] = {}
    prediction, _ = fit(profile, method, size, gpu)
    for phase in prediction:
        for further in _ladder(phase, method):
            if _needed(prediction[phase]) <= gpu:
                break
            changes |= further
            changed = setting(profile.changed(changes), method, size)
            prediction[phase] = peak_of(changed, phase)
    return changes, prediction


def _ladder(phase: str, method: str) -> Sequence[dict[str, Any]]:
    if phase == "training":
        return (*TRAINING, *(ALL_WEIGHTS if METHODS[method].tuning == "full" else FEW_WEIGHTS))
    asks_teacher = phase == "teacher" or METHODS[method].teacher_answers
    return TEACHER if asks_teacher else EVALUATION


def _needed(peak: Peak) -> float:
    """GiB, with CUDA's own share."""
    return peak.total / GIB + CONTEXT_GIB


def _as_options(changes: dict[str, Any]) -> str:
    return " ".join(f"--set {name}={str(value).lower()}" for name, value in changes.items())


def report(profile: Profile, method: str, size: int, gpu: float) -> str:
    """The answer in words and numbers; where it does not fit, the settings under which it does."""
    prediction, result = fit(profile, method, size, gpu)
    student = f"{method}: student {profile.student}, teacher {profile.teacher}, n = {size}"
    lines = [f"{student}. Predicted peaks, GiB:", "", *_lines(prediction)]
    verdict = "fits on" if result.fits else "does not fit on"
    lines += ["", f"It {verdict} {gpu:g} GiB: the {result.phase} needs {result.gib:.2f}, "]
    lines[-1] += f"of which {CONTEXT_GIB:g} are assumed for CUDA itself."
    return "\n".join(lines if result.fits else [*lines, "", *_proposed(profile, method, size, gpu)])


def _lines(prediction: Prediction) -> Iterator[str]:
    for phase, peak in prediction.items():
        parts = ", ".join(f"{name} {bytes_ / GIB:.2f}" for name, bytes_ in peak.parts.items() if bytes_ > GIB / 200)
        yield f"  {phase:<10} {peak.total / GIB:7.2f}   {parts}"
        yield f"  {'':<10} {'':7}   at {peak.place}"


def _proposed(profile: Profile, method: str, size: int, gpu: float) -> Iterator[str]:
    changes, prediction = proposal(profile, method, size, gpu)
    phase, highest = max(prediction.items(), key=lambda item: item[1].total)
    fits = _needed(highest) <= gpu
    yield f"It {'would fit' if fits else 'would not fit either'} with"
    yield from ("", f"  {_as_options(changes)}", "", *_lines(prediction))
    if changes.get("teacher_memory") == "streamed":
        yield from ("", _passes(profile.changed(changes)))
    if not fits:
        part = max(highest.parts, key=highest.parts.get)
        yield from (
            "",
            f"The {phase} needs {_needed(highest):.2f}, most of it {part}. A smaller model would help, or a",
        )
        yield "larger card; for the training also LoRA or BitFit, for the teacher fewer demonstrations."


def _passes(profile: Profile) -> str:
    model = random_model(profile.teacher, profile.teacher_dtype, "meta")
    size = sum(weight.nbytes for weight in model.parameters()) / GIB
    passes = 1 + -(-profile.pool_size // profile.queries_a_pass)
    return (
        f"The teacher's weights, {size:.1f} GiB, are read {passes} times for a pool of {profile.pool_size}: once for "
        f"the demonstrations, then for each {profile.queries_a_pass} queries (queries_a_pass)."
    )
