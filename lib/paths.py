"""Where the study lies, so that a relative path means the same in a notebook, a shell and a test."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NOTEBOOKS = ROOT / "notebooks"

PROFILES = NOTEBOOKS / "profiles"

FIGURES = ROOT / "figures"


def locate(path: str) -> Path:
    """`path` as it is if absolute, otherwise from the root of the study."""
    return ROOT / Path(path).expanduser()
