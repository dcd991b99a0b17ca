"""What notebooks vary: the choices that the paper leaves unsaid, ingredients that it does not have, and controls.

All are changes to a profile by the variant's name, for `lib.runs.variants.fill_variants`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib.runs.execution import Sweep, fill
from lib.runs.profile import Profile, by_method
from lib.runs.variants import METHOD, first_seeds, selected
from lib.tasks.patterns import PATTERNS

CHOICES: dict[str, tuple[Any, ...]] = {
    "kl_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "temperature": (1.0, 2.0, 4.0),
    "pool_size": (0, 16, 64, 256),
    "ce_on": ("support", "pool"),
    "pool": ("train", "target", "both", "support"),
    "kl_over": ("labels", "vocabulary"),
    "pattern": tuple(PATTERNS),
}
RATES = (1 / 3, 1.0, 3.0)  # times the profile's own learning rate
CHOICE_SIZES, ABLATION_SIZES = (8,), (4, 12)

REFERENCES = ("baseline", "icl", "pbft", "teacher_icl")
PLAIN = "as in the paper"
LARGER = 4
SECOND = "second domain in the pool"  # what figures and tables call queries like the target's
TARGET, CALIBRATED, KL_ALONE = "second domain alone in the pool", "prior removed", "KL alone"
LABEL_FREE = f"{CALIBRATED}, {KL_ALONE}"
WHOLE, FOURFOLD = f"{SECOND}, in full", f"{SECOND}, fourfold"
TIMES = {WHOLE: 1, f"{SECOND}, doubled": 2, FOURFOLD: LARGER}
EVERYWHERE = f"{FOURFOLD}, {LABEL_FREE}"  # what is to beat ICL and PBFT at every support size
KINDS = ("subcases", "templates")
HALF = ", half the "
NO_DEMONSTRATIONS, SHUFFLED = "no demonstrations", "shuffled demonstration labels"
# By the size of the pools, in times the profile's own: the controls that a profile tries where it names none.
CONTROLS = {
    LARGER: (
        NO_DEMONSTRATIONS,
        SHUFFLED,
        "own teacher",
        "teacher's hard labels",
        "gold labels",
        "all of the first domain",
    ),
    1: ("70% of a class", "90% of a class"),
}


def profile_values(profile: Profile) -> dict[str, Any]:
    """What the profile itself says to each choice."""
    return {choice: getattr(profile, choice) for choice in CHOICES} | {"learning_rate": rate(profile)}


def rate(profile: Profile) -> float:
    """The learning rate of the distilled student."""
    return by_method(profile.learning_rate, METHOD)


def patterns(profile: Profile) -> tuple[str, ...]:
    """Those that a profile can choose from; none where there is one: in the world, and for a task of one's own."""
    return () if profile.data == "world" or profile.pattern not in PATTERNS else CHOICES["pattern"]


def candidates(profile: Profile) -> dict[tuple[str, Any], dict[str, Any]]:
    """(choice, value) to the change that makes it; the profile's own value is among each choice's.

    Raises:
        StudyError: the profile names a choice that is not known.
    """
    own = profile_values(profile)
    values = CHOICES | {"learning_rate": tuple(rate(profile) * factor for factor in RATES)}
    if not patterns(profile):
        del values["pattern"]
    settings = {"learning_rate": f"learning_rate.{METHOD}"}
    return {
        (choice, value): {settings.get(choice, choice): value}
        for choice, tried in selected("choices", profile.choices, values).items()
        for value in sorted({*tried, own[choice]}, key=str if isinstance(own[choice], str) else float)
    }


def choice_variants(profile: Profile) -> dict[str, dict[str, Any]]:
    """Every candidate, at one support size and on a few seeds."""
    here = first_seeds(profile, CHOICE_SIZES)
    return {name_of(*candidate): {**here, **change} for candidate, change in candidates(profile).items()}


def name_of(choice: str, value: object) -> str:
    """A variant's name."""
    return f"{choice} {value_text(value)}"


def value_text(value: object) -> str:
    """A value as figures name it."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def ablations(profile: Profile) -> dict[str, dict[str, Any]]:
    """Each ablation's changes to a profile, one ingredient more at a time."""
    target, both, prior, alone = {"pool": "target"}, {"pool": "both"}, {"calibration": "pool"}, kl_alone(profile)
    return {
        PLAIN: {},
        "larger pool": {"pool_size": LARGER * profile.pool_size},
        CALIBRATED: prior,
        TARGET: target,
        f"{TARGET}, {CALIBRATED}": {**target, **prior},
        f"{TARGET}, fourfold, {CALIBRATED}": {**target, **prior, "pool_size": LARGER * profile.pool_size},
        f"{TARGET}, {KL_ALONE}": {**target, **alone},
        f"{TARGET}, {LABEL_FREE}": {**target, **prior, **alone},
        **held_out_controls(f"{TARGET}, {LABEL_FREE}", {**target, **prior, **alone}),
        f"{SECOND}, halved, {LABEL_FREE}": {**both, **prior, **alone},
        **{f"{name}, {LABEL_FREE}": both_in_full(profile, times) for name, times in TIMES.items()},
        f"{WHOLE}, {LABEL_FREE}, in four times the steps": {**both_in_full(profile, 1), **epochs(profile, LARGER)},
        **held_out_controls(EVERYWHERE, both_in_full(profile, TIMES[FOURFOLD])),
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


def held_out_controls(name: str, change: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """An ablation's controls: the same, with half of the subcases, or templates, kept out of the pool."""
    return {control_of(name, kind): {**change, "held_out": kind} for kind in KINDS}


def control_of(name: str, kind: str) -> str:
    """The name of an ablation's control."""
    return f"{name}{HALF}{kind} held out"


def ablation_variants(profile: Profile) -> dict[str, dict[str, Any]]:
    """The ablations, all or those that the profile names, on a few seeds and at two support sizes; at every size the
    paper's way, and the ablation that is to beat the rivals everywhere.

    Raises:
        StudyError: the profile names an ablation that is not known.
    """
    tried = selected("ablations", profile.ablations, ablations(profile))
    return {name: {**first_seeds(profile, _sizes(profile, name)), **change} for name, change in tried.items()}


def references(profile: Profile) -> Sweep:
    """The methods that ablations are compared with, at the same sizes and seeds."""
    return fill(profile.changed(first_seeds(profile, _sizes(profile, EVERYWHERE))), list(REFERENCES))


def everything_stored(profile: Profile) -> Sweep:
    """What is there of all of the profile's methods, and of those that work without demonstrations; none is run."""
    return fill(profile.changed({"support_sizes": sorted({0, *profile.support_sizes}), "stored_only": True}))


def _sizes(profile: Profile, name: str) -> Sequence[int]:
    """Without demonstrations there are no ICL and no PBFT to beat."""
    return [size for size in profile.support_sizes if size] if name in (PLAIN, EVERYWHERE) else ABLATION_SIZES


def control_variants(profile: Profile) -> dict[str, dict[str, Any]]:
    """What tells the context from the task, each at one support size on all seeds.

    A control's name is that of the student which it varies, its `reference`, a comma, and what it changes. References
    differ in their pools: so many times the profile's own from either domain, without gold labels in the loss and
    without the teacher's label prior; or all as in the paper.

    Raises:
        StudyError: the profile names a control that is not known.
    """
    here = {"support_sizes": _control_sizes(profile), "seeds": list(profile.seeds)}
    variants: dict[str, dict[str, Any]] = {}
    for times, names in (CONTROLS if profile.controls is None else profile.controls).items():
        reference, pool = queries_of_either(times * profile.pool_size), {**here, **both_in_full(profile, times)}
        variants[reference] = pool
        for name, change in selected("controls", names, _controls(profile)).items():
            variants[f"{reference}, {name}"] = {**pool, **change}
    return variants | {PLAIN: here, f"{PLAIN}, {NO_DEMONSTRATIONS}": {**here, "support_sizes": [0]}}


def queries_of_either(queries: int) -> str:
    """The name of a student with so many queries of either domain."""
    return f"{queries:,} + {queries:,} queries"


def reference_of(name: str, names: Iterable[str]) -> str | None:
    """Of the names of variants, that of the one which a control varies; None where it varies none of them."""
    return next((other for other in names if name.startswith(f"{other}, ")), None)


def _controls(profile: Profile) -> dict[str, dict[str, Any]]:
    """What each control changes."""
    others = len(profile.classes) - 1
    unbalanced = {
        f"{share:.0%} of a class": {"pool_shares": [share, *[round((1 - share) / others, 6)] * others]}
        for share in (0.7, 0.9)
    }
    return {
        NO_DEMONSTRATIONS: {"support_sizes": [0]},
        SHUFFLED: {"demonstration_labels": "shuffled"},
        "own teacher": {"teacher": profile.student, "teacher_dtype": profile.student_dtype},
        "teacher's hard labels": {"ce_on": "teacher", "kl_weight": 0.0},
        "gold labels": {"calibration": "none", "ce_on": "pool", "kl_weight": 0.0},
        "all of the first domain": {"pool": "train"},
        **unbalanced,
    }


def _control_sizes(profile: Profile) -> list[int]:
    """The first of the ablations' sizes that the profile has, or its own largest."""
    return [next((size for size in ABLATION_SIZES if size in profile.support_sizes), max(profile.support_sizes))]


CONTROLLED = ("teacher_icl", METHOD)  # the methods that controls are run for

# By notebook: the variants of a profile that it tries, and the methods.
VARIANTS = {
    "09_sensitivity": (choice_variants, [METHOD]),
    "10_beyond": (ablation_variants, [METHOD]),
    "14_context_or_task": (control_variants, CONTROLLED),
}
