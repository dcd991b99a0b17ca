"""What may make context distillation better than the paper's: variants of a profile, one ingredient more at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lib.runs.execution import Sweep, fill
from lib.runs.profile import Profile, by_method
from lib.runs.variants import METHOD, chosen, few

KINDS = ("subcases", "templates")
HALF = ", half the "


def controls(name: str, idea: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """An idea's controls: its changes to a profile, with half of the subcases, or templates, kept out of the pool."""
    return {f"{name}{HALF}{kind} held out": {**idea, "held_out": kind} for kind in KINDS}


REFERENCES = ("baseline", "icl", "pbft", "teacher_icl")
PLAIN = "as in the paper"
LARGER = 4
TARGET, CALIBRATED, KL_ALONE = "target's pool", "prior removed", "KL alone"
LABEL_FREE = f"{CALIBRATED}, {KL_ALONE}"
WHOLE, FOURFOLD = "both pools in full", "both pools fourfold"
TIMES = {WHOLE: 1, "both pools doubled": 2, FOURFOLD: LARGER}
EVERYWHERE = f"{FOURFOLD}, {LABEL_FREE}"  # what is to beat ICL and PBFT at every support size
SIZES, SEEDS = (4, 12), 5


def ideas(profile: Profile) -> dict[str, dict[str, Any]]:
    """Each idea's changes to a profile, one ingredient more at a time."""
    target, both, prior, alone = {"pool": "target"}, {"pool": "both"}, {"calibration": "pool"}, kl_alone(profile)
    return {
        PLAIN: {},
        "larger pool": {"pool_size": LARGER * profile.pool_size},
        CALIBRATED: prior,
        "four orders": {"permutations": 4},
        "four sets": {"demonstration_sets": 4},
        "confidence": {"confidence": True},
        TARGET: target,
        f"{TARGET}, {CALIBRATED}": {**target, **prior},
        f"{TARGET}, {CALIBRATED}, four orders": {**target, **prior, "permutations": 4},
        f"{TARGET}, {CALIBRATED}, confidence": {**target, **prior, "confidence": True},
        f"{TARGET} fourfold, {CALIBRATED}": {**target, **prior, "pool_size": LARGER * profile.pool_size},
        f"{TARGET}, {KL_ALONE}": {**target, **alone},
        f"{TARGET}, {LABEL_FREE}": {**target, **prior, **alone},
        **controls(f"{TARGET}, {LABEL_FREE}", {**target, **prior, **alone}),
        f"both pools halved, {LABEL_FREE}": {**both, **prior, **alone},
        **{f"{name}, {LABEL_FREE}": both_in_full(profile, times) for name, times in TIMES.items()},
        f"{WHOLE}, {LABEL_FREE}, in four times the steps": {**both_in_full(profile, 1), **epochs(profile, LARGER)},
        **controls(EVERYWHERE, both_in_full(profile, TIMES[FOURFOLD])),
    }


def kl_alone(profile: Profile) -> dict[str, Any]:
    """No gold labels in the loss. A step's support rows, half as many as its queries, make room for further epochs."""
    return {"kl_weight": 1.0, **epochs(profile, 1.5)}


def both_in_full(profile: Profile, times: int) -> dict[str, Any]:
    """So many times the profile's pool from either domain, by KL alone, for the profile's own epochs."""
    return {"pool": "both", "calibration": "pool", "kl_weight": 1.0, "pool_size": 2 * times * profile.pool_size}


def epochs(profile: Profile, times: float) -> dict[str, int]:
    """So many times the profile's epochs, rounded up."""
    place = f"epochs.{METHOD}" if isinstance(profile.epochs, dict) else "epochs"
    return {place: math.ceil(times * by_method(profile.epochs, METHOD))}


def variants(profile: Profile) -> dict[str, dict[str, Any]]:
    """What is run: the ideas, all or those that the profile names, on a few seeds and at two support sizes; at every
    size the paper's way, and the idea that is to beat the rivals everywhere.

    Raises:
        StudyError: the profile names an idea that is not known.
    """
    tried = chosen("ideas", profile.ideas, ideas(profile))
    return {name: {**few(profile, _sizes(profile, name), SEEDS), **change} for name, change in tried.items()}


def references(profile: Profile) -> Sweep:
    """The methods that ideas are compared with, at the same sizes and seeds."""
    return fill(profile.changed(few(profile, _sizes(profile, EVERYWHERE), SEEDS)), list(REFERENCES))


def _sizes(profile: Profile, idea: str) -> Sequence[int]:
    """Without demonstrations there are no ICL and no PBFT to beat."""
    return [size for size in profile.support_sizes if size] if idea in (PLAIN, EVERYWHERE) else SIZES
