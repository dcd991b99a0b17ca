"""No file is loaded in a way that could run what it holds."""

import re

from lib.paths import ROOT

SOURCES = [*ROOT.glob("lib/**/*.py"), *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("tests/support/*.py")]
UNSAFE = re.compile(
    r"weights_only\s*=\s*False|trust_remote_code\s*=\s*True|\bpickle\.loads?\(|yaml\.(unsafe_|full_)?load\("
)
SAFE = {"lib/runs/yaml_text.py": "yaml.load("}  # by a loader that derives from the safe one


def test_nothing_is_loaded_in_a_way_that_can_run_what_is_in_it():
    found = {
        (path.relative_to(ROOT).as_posix(), match.group())
        for path in SOURCES
        for match in UNSAFE.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == {*SAFE.items()}
    assert UNSAFE.search("torch.load(file, weights_only = False)")
