"""What the paper leaves unsaid, one choice at a time from the profile's own settings."""

from typing import Any

from lib.runs.profile import Profile, by_method
from lib.runs.variants import METHOD, chosen, few
from lib.tasks.patterns import PATTERNS

KNOBS: dict[str, tuple[Any, ...]] = {
    "kl_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "temperature": (1.0, 2.0, 4.0),
    "pool_size": (0, 16, 64, 256),
    "ce_on": ("support", "pool"),
    "pool": ("train", "target", "both", "support"),
    "kl_over": ("labels", "vocabulary"),
    "pattern": tuple(PATTERNS),
}

RATES = (1 / 3, 1.0, 3.0)
SIZES, SEEDS = (8,), 5


def centre(profile: Profile) -> dict[str, Any]:
    """What the profile itself says to each choice."""
    return {knob: getattr(profile, knob) for knob in KNOBS} | {"learning_rate": rate(profile)}


def rate(profile: Profile) -> float:
    """The learning rate of the distilled student."""
    return by_method(profile.learning_rate, METHOD)


def candidates(profile: Profile) -> dict[tuple[str, Any], dict[str, Any]]:
    """(choice, value) to the change that makes it; the profile's own value is among each choice's.

    Raises:
        StudyError: the profile names a choice that is not known.
    """
    middle, values = centre(profile), {**KNOBS, "learning_rate": tuple(rate(profile) * factor for factor in RATES)}
    if profile.data == "world" or profile.pattern not in PATTERNS:
        values.pop("pattern")  # of the world the tokenizer knows one; a task of one's own has one
    values = chosen("choices", profile.choices, values)
    names = {"learning_rate": f"learning_rate.{METHOD}"}
    return {
        (knob, value): {names.get(knob, knob): value}
        for knob, tried in values.items()
        for value in sorted({*tried, middle[knob]}, key=str if isinstance(middle[knob], str) else float)
    }


def variants(profile: Profile) -> dict[str, dict[str, Any]]:
    """What is run: every candidate, at one support size and on a few seeds."""
    here = few(profile, SIZES, SEEDS)
    return {name_of(*candidate): {**here, **change} for candidate, change in candidates(profile).items()}


def name_of(choice: str, value: object) -> str:
    """A variant's name."""
    return f"{choice} {shown(value)}"


def shown(value: object) -> str:
    """A value as figures name it."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)
