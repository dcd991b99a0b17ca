"""A profile with changes, several at a time: the same methods under each, computed as one list of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.errors import StudyError, require_one_of
from lib.runs import preflight
from lib.runs.execution import Sweep, as_paragraphs, fill_together
from lib.runs.profile import Profile
from lib.runs.provenance import key
from lib.runs.store import Store

METHOD = "cd"  # what notebooks try variants of
SEEDS = 5  # of a profile, that variants are tried on
NOT_STORED = "No result is stored."


@dataclass(frozen=True)
class Variants:
    """Results by the variant's name, and what could not be tried, with reasons."""

    sweeps: dict[str, Sweep] = field(repr=False)
    left_out: dict[str, str]

    @property
    def failed(self) -> dict[str, str]:
        """The runs that failed, with their variants' names and reasons."""
        by_variant = {name: sweep.failed for name, sweep in self.sweeps.items()}
        return {f"{name}: {run}": why for name, runs in by_variant.items() for run, why in runs.items()}

    def _repr_html_(self) -> str:
        lines = [f"{len(self.sweeps)} variants of profile {next(iter(self.sweeps.values())).profile.name}."]
        if missing := sum(len(sweep.missing) for sweep in self.sweeps.values()):
            lines.append(f"{missing} of their results are not computed yet and left out.")
        for reason in dict.fromkeys(self.left_out.values()):
            names = ", ".join(name for name, why in self.left_out.items() if why == reason)
            lines.append(f"Left out: {names}. {reason}")
        return as_paragraphs(lines + [f"Failed: {name}. {reason}" for name, reason in self.failed.items()])


def selected(key: str, names: Sequence[str] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the known that a profile names under a key, in their own order; all where it names none.

    Raises:
        StudyError: it names one that is not known.
    """
    for name in names or ():
        require_one_of(key, name, known)
    return {name: value for name, value in known.items() if name in (names or known)}


def first_seeds(profile: Profile, support_sizes: Sequence[int]) -> dict[str, Any]:
    """The change to a profile's first `SEEDS`, and to those of these sizes that it has (if it has none, to its own)."""
    sizes = [size for size in profile.support_sizes if size in support_sizes] or list(profile.support_sizes)
    return {"support_sizes": sizes, "seeds": list(profile.seeds[:SEEDS])}


@dataclass(frozen=True)
class Planned:
    """Variants that can work, by name, the methods that are run under each, and what was left out, with reasons."""

    profiles: dict[str, Profile]
    methods: Sequence[str]
    left_out: dict[str, str]

    @property
    def asked(self) -> list[tuple[Profile, Sequence[str]]]:
        """What `fill_together` is to fill."""
        return [(changed, self.methods) for changed in self.profiles.values()]


def fill_variants(profile: Profile, changes: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> Variants:
    """The results of `methods` under each variant; runs that are there are kept.

    Raises:
        StudyError: as for `plan_variants` and `gathered`.
    """
    planned = plan_variants(profile, changes, methods)
    return gathered(planned, fill_together(planned.asked))


def plan_variants(profile: Profile, changes: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> Planned:
    """The variants whose missing runs can be computed.

    One whose settings cannot work is left out: a pool larger than the data, a comparison that the vocabularies do not
    allow.

    Raises:
        StudyError: no variant can work.
    """
    profiles: dict[str, Profile] = {}
    left_out: dict[str, str] = {}
    for name, change in changes.items():
        try:
            changed = profile.changed(dict(change))
            if not profile.stored_only:
                _check(changed, methods)
            profiles[name] = changed
        except StudyError as error:
            left_out[name] = str(error)
    if not profiles:
        raise StudyError("\n".join(left_out.values()))
    return Planned(profiles, methods, left_out)


def gathered(planned: Planned, sweeps: Sequence[Sweep]) -> Variants:
    """Variants with their results, in the order of `planned`; under `stored_only` those that have one.

    Raises:
        StudyError: under `stored_only` there are no two to compare.
    """
    found, left_out = dict(zip(planned.profiles, sweeps, strict=True)), dict(planned.left_out)
    if next(iter(planned.profiles.values())).stored_only:
        left_out |= {name: NOT_STORED for name, sweep in found.items() if not sweep.stored}
        found = {name: sweep for name, sweep in found.items() if sweep.stored}
        if len({tuple(key(result.run) for result in sweep.stored) for sweep in found.values()}) < 2:
            raise StudyError("stored_only: there are no results of two variants to compare.")
    return Variants(found, left_out)


def _check(profile: Profile, methods: Sequence[str]) -> None:
    """Raise where a run that is not there could not be computed; what is there needs neither data nor models."""
    store = Store(profile.folder)
    missing = [run for run in profile.runs(tuple(methods)) if store.load(run) is None]
    if missing:
        preflight.check(missing)
