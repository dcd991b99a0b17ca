"""What a page was drawn from: where nothing of it has changed, the page need not be executed again."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib.paths import FIGURES, PROFILES, ROOT, digest
from lib.runs.files import read_json, write_json
from lib.runs.profile import Profile

PINNED = ("environment.yml", "constraints.txt")  # the libraries' versions
RESULTS = ("runs", "soft_labels", "teachers", "failed")


def sources(notebook: Path, profile: Profile, methods: list[str]) -> str:
    """Sixteen hex digits over what a page is made by: notebook, parameters, code and the libraries' versions."""
    return _hashed([profile.model_dump(mode="json"), methods, *_contents([notebook, *_code()])])


def origin(sources: str, profile: Profile) -> str:
    """Sixteen hex digits over all that a page follows from: its sources, results and measurements.

    Data and models of one's own are not among them: a result whose data have changed is refused where it is filled in.
    """
    return _hashed([sources, *_contents(_results(profile))])


def _hashed(content: list[object]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _contents(files: Iterable[Path]) -> list[tuple[str, str]]:
    return [(str(file), digest(file)) for file in files]


def note(notebook: Path, profile: Profile, origin: str) -> None:
    """Keep what a page was drawn from, and which files drawing it has left; errors as `write_json`."""
    write_json(_record(notebook, profile), {"origin": origin, "left": _left(notebook, profile)})


def is_current(notebook: Path, profile: Profile, origin: str) -> bool:
    """Whether a page was drawn from the same, and it and its figures are as they were left."""
    record = read_json(_record(notebook, profile)) or {}
    left = _left(notebook, profile)
    return record == {"origin": origin, "left": left} and notebook.name in left


def _code() -> Iterator[Path]:
    yield from (ROOT / name for name in PINNED if (ROOT / name).is_file())
    yield from sorted(file for file in (ROOT / "lib").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    yield from sorted(PROFILES.glob("*"))  # a page may read another profile


def _results(profile: Profile) -> Iterator[Path]:
    yield from sorted([*(FIGURES / "memory").glob("*.csv"), *profile.folder.glob("predicted.csv")])
    for name in RESULTS:
        yield from sorted(profile.folder.glob(f"{name}/[!.]*"))


def _left(notebook: Path, profile: Profile) -> dict[str, str]:
    """The page, and figures and tables with its number, each with its digest."""
    number = notebook.stem[:2].lstrip("0") or "0"
    found = [profile.folder / "report" / notebook.name, *profile.folder.glob(f"fig{number}[._]*")]
    return {file.name: digest(file) for file in sorted(found) if file.is_file()}


def _record(notebook: Path, profile: Profile) -> Path:
    return profile.folder / "report" / f"{notebook.stem}.json"
