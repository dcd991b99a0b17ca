"""A clean copy of the study, and its one command run there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lib.paths import ROOT

TRACKED = (
    *("lib", "notebooks", "tests"),
    *("run_all.sh", "environment.yml", "constraints.txt", "pyproject.toml", "LICENSE", "README.md"),
    "figures/memory/predictions.json",
)


def environment(**changes: str) -> dict[str, str]:
    """With this interpreter's environment as the active one."""
    return {**os.environ, "VIRTUAL_ENV": sys.prefix, "HF_HUB_OFFLINE": "1", **changes}


def run_all(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """run_all.sh in a clone, to its end."""
    command = ["./run_all.sh", *words]
    return subprocess.run(command, cwd=clone, env=environment(), text=True, capture_output=True, check=False)


def copy_of_the_study(folder: Path) -> Path:
    """The folder, with what a clone would hold and no result."""
    folder.mkdir(exist_ok=True)
    for name in TRACKED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.egg-info")
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(source, folder / name, **({"ignore": ignore} if source.is_dir() else {}))
    return folder
