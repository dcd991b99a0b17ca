"""A clean copy of the study, for tests that run all of it."""

import shutil
from pathlib import Path

from lib.paths import ROOT

TRACKED = (
    *("lib", "notebooks", "tests"),
    *("run_all.sh", "environment.yml", "constraints.txt", "pyproject.toml", "LICENSE", "README.md"),
)


def copy_of_the_study(folder: Path) -> Path:
    """Copy what a checkout has, without results, into a folder."""
    for name in TRACKED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.egg-info")
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name, **({"ignore": ignore} if source.is_dir() else {}))
    return folder
