"""Predicted peaks, kept: of a profile's methods beside its results, of any setting by all that it depends on.

A prediction takes seconds, a page of the study a hundred of them, so those of the study's pages come with it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from lib.errors import StudyError
from lib.memory.allocations import PARTS
from lib.memory.peaks import Prediction, Setting, highest_phase, predict
from lib.memory.prompt_lengths import FULL_SIZES, real_lengths, typical_lengths
from lib.methods.records import Run
from lib.models.cost import LIBRARIES
from lib.models.loading import quiet
from lib.paths import FIGURES, ROOT, digest
from lib.runs.files import read_json, read_table, warn_altered, write_csv, write_json
from lib.runs.profile import Profile
from lib.runs.provenance import key

SHIPPED = FIGURES / "memory" / "predictions.json"  # by `ship`
KEPT = FIGURES / "memory" / "own_predictions.json"  # on this machine

# What is walked, and what walks it: where a file there changes, so may every prediction, and none is kept.
WALKED = ("tasks", "models", "methods", "memory")

_PREDICTIONS = TypeAdapter(dict[str, Prediction])

# Settings that change a peak and not a result.
LEANER = ("teacher_memory", "queries_a_pass", "accumulate", "optimizer_in_backward")

# What `of_profile` has where nothing is predicted.
NO_PEAKS = pd.DataFrame(columns=["run", "method", "support_size", "phase", "highest_phase", "peak_gb", *PARTS, "place"])


def setting(profile: Profile, method: str, size: int, teacher_resident: bool = False) -> Setting:
    """A method of a profile at a support size and its first seed, with typical prompts.

    The lengths of other data than MNLI and HANS are read from the data.

    Raises:
        StudyError: the profile does not have the method at that size.
    """
    runs = profile.model_copy(update={"support_sizes": (size,), "seeds": profile.seeds[:1]}).runs((method,))
    if not runs:
        raise StudyError(f"method: {method} is not in profile {profile.name}, or not with {size} support examples.")
    known = {profile.in_domain, *profile.evaluated_elsewhere} <= set(FULL_SIZES)
    return Setting(runs[0], (typical_lengths if known else real_lengths)(runs[0]), teacher_resident)


def predictions(settings: Sequence[Setting]) -> list[Prediction]:
    """The prediction for each setting. One that neither came with the study nor was made before is made and kept."""
    quiet()
    shipped, kept = _read(SHIPPED), _read(KEPT)
    for one in dict.fromkeys(settings):
        if _name_of(one) not in shipped | kept:
            kept[_name_of(one)] = predict(one)
            _write(KEPT, kept)
    return [(shipped | kept)[_name_of(one)] for one in settings]


def ship() -> None:
    """Move what was predicted on this machine into the file that comes with the study."""
    _write(SHIPPED, _read(SHIPPED) | _read(KEPT))
    KEPT.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Prediction]:
    """Those in a file by name; none where other code made them."""
    record = read_json(file) or {}
    with suppress(ValidationError):
        made = _PREDICTIONS.validate_python(record.get("predictions", {}), extra="forbid")
        return made if record.get("walked") == [*walked()] else {}
    warn_altered(file)
    return {}


def _write(file: Path, made: dict[str, Prediction]) -> None:
    content = {name: {phase: asdict(peak) for phase, peak in parts.items()} for name, parts in made.items()}
    write_json(file, {"walked": [*walked()], "predictions": content})


def _name_of(one: Setting) -> str:
    return key(one, *_leaner(one.run))


def _leaner(run: Run) -> list[tuple[str, Any]]:
    """How the run is computed otherwise than by default, where that has no part in its key but changes its peaks."""
    records = [run, run.training, run.distillation and run.distillation.labelling]
    of_records = [(one, field) for one in records if one for field in fields(one) if field.name in LEANER]
    values = [(field.name, getattr(one, field.name), field.default) for one, field in of_records]
    return [(name, value) for name, value, default in values if value != default]


def _name(run: Run) -> str:
    return key(run, *_leaner(run))


@cache
def walked() -> tuple[str, ...]:
    """Digests of the code that a prediction walks, and the versions of the libraries under it."""
    files = sorted(file for folder in WALKED for file in (ROOT / "lib" / folder).glob("*.py"))
    return (*map(digest, files), *(version(name).partition("+")[0] for name in LIBRARIES))  # without the build


def frame(settings: Sequence[Setting]) -> pd.DataFrame:
    """One row a setting and phase: method, support_size, phase, highest_phase, peak_gb, its parts (10⁹ bytes), place.

    `highest_phase` marks the phase that is the highest of those that the method needs to come into being.
    """
    distinct = list(dict.fromkeys(settings))  # a method without demonstrations is one at all sizes
    made = zip(distinct, predictions(distinct), strict=True)
    return pd.DataFrame([row for one, prediction in made for row in _rows(one.run, prediction)])


def _rows(run: Run, prediction: Prediction) -> list[dict[str, Any]]:
    named, highest = {"method": run.method, "support_size": run.support_size}, highest_phase(prediction)
    return [
        {**named, "phase": phase, "highest_phase": phase == highest, **peak.gigabytes, "place": peak.place}
        for phase, peak in prediction.items()
    ]


def of_profile(profile: Profile, methods: Sequence[str]) -> pd.DataFrame:
    """The rows of `frame` for the first seed's runs of these methods, from `predicted.csv` in the profile's folder.

    What is missing there is predicted from the profile's own data and added, but for a profile with `stored_only`.
    Of what cannot be predicted there are no rows; `attrs["unavailable"]` has the reasons by method.
    """
    file = profile.folder / "predicted.csv"
    known = _table(file)
    runs = profile.model_copy(update={"seeds": profile.seeds[:1]}).runs(tuple(methods))
    missing = [run for run in runs if _name(run) not in set(known.run) and not profile.stored_only]
    new: list[dict[str, Any]] = []
    unavailable: dict[str, str] = {}
    for run in missing:
        try:
            new += _rows_from_data(run)
        except StudyError as error:  # the figures do without
            unavailable[run.method] = str(error)
    if new:
        write_csv(file, pd.DataFrame([*known.to_dict("records"), *new]))
        known = _table(file)
    wanted = known[known.run.isin([_name(run) for run in runs])].reset_index(drop=True)
    wanted.attrs["unavailable"] = unavailable
    return wanted


def _table(file: Path) -> pd.DataFrame:
    found = read_table(file, ["run", "method", "phase", "place"], ["support_size", "highest_phase", "peak_gb", *PARTS])
    return NO_PEAKS if found is None else found


def _rows_from_data(run: Run) -> list[dict[str, Any]]:
    return [{"run": _name(run), **row} for row in _rows(run, predict(Setting(run, real_lengths(run))))]
