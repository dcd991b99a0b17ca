"""Stored results that answer items as a test says."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from lib.methods.evaluation import Evaluation, Outcome
from lib.methods.records import Run
from lib.models.cost import Cost
from lib.runs.profile import Profile, read_profile
from lib.runs.store import Result


@cache
def smoke() -> Profile:
    """The shipped smoke profile."""
    return read_profile("smoke")


def run_of(method: str, size: int = 4, seed: int = 0, profile: Profile | None = None) -> Run:
    """A method's run in the smoke profile, or another, at any support size and seed."""
    return replace((profile or smoke()).runs((method,))[0], support_size=size, seed=seed)


def stored(
    method: str,
    size: int,
    seed: int,
    answers: Sequence[int],
    gold: Sequence[int],
    profile: Profile | None = None,
    **outcome: Any,
) -> Result:
    """A result with the same items in all domains.

    Args:
        method: of the run, as are `size` and `seed`.
        size: support examples.
        seed: of the run.
        answers: a class for each item.
        gold: a class for each item.
        profile: whose task it is; the smoke profile's where none is given.
        outcome: what else it comes to; `held_out` as a digit for each item.
    """
    run = run_of(method, size, seed, profile)
    scores = np.eye(len(run.task.classes))[np.asarray(answers)] - 1
    return result(run, scores.tolist(), gold, **outcome)


def result(run: Run, log_probs: Sequence[Sequence[float]], gold: Sequence[int], **outcome: Any) -> Result:
    """A result with the same items in all domains, whose label log-probabilities are these."""
    classes = len(run.task.classes)
    held_out = [one == "1" for one in outcome.pop("held_out", "")]
    evaluation = Evaluation([int(one) for one in gold], [list(row) for row in log_probs], [1 / classes] * classes)
    phases = [*(["teacher"] if run.distillation else []), *(["training"] if run.training else []), "evaluation"]
    told = {"costs": {phase: Cost(1.0, 10) for phase in phases}, "trainable_parameters": 0, "losses": []} | outcome
    evaluations = dict.fromkeys(run.task.domains, evaluation)
    return Result(run, Outcome(evaluations=evaluations, held_out=held_out, **told), {"device": "a processor"})


def answering(gold: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Answers of two classes that are right where `right` says so."""
    return np.where(right, gold, 1 - gold)
