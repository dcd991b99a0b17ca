"""What the study is installed from and tested by: pins, constraints, licence, and the workflow that a fork runs."""

import re
import tomllib
from importlib.metadata import distribution

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.paths import ROOT


def test_constraints_hold_what_the_environment_pins():
    pins = {line.split()[1].lower() for line in (ROOT / "environment.yml").read_text().splitlines() if "==" in line}
    held = {line.split()[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert pins and not pins - held


def needed(name, extras=()):
    """The packages that an installed one needs here, directly or in turn, itself included."""
    found, left = {}, [(canonicalize_name(name), frozenset(extras))]
    while left:
        name, extras = left.pop()
        if extras <= found.get(name, set()) and name in found:
            continue
        found[name] = found.get(name, set()) | extras
        for text in distribution(name).requires or []:
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                left.append((canonicalize_name(one.name), frozenset(one.extras)))
    return {*found}


def test_constraints_hold_everything_that_is_needed_in_turn():
    """But the CUDA packages, which follow from the build of torch."""
    lines = [line.strip() for line in (ROOT / "environment.yml").read_text().splitlines()]
    pinned = [Requirement(line.split()[1]).name for line in lines if line.startswith("- ") and "==" in line]
    held = (Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in "#")
    left_out = {name for name in set().union(*map(needed, pinned)) if name.startswith(("nvidia", "cuda", "triton"))}
    assert set().union(*map(needed, pinned)) - left_out <= {canonicalize_name(one.name) for one in held}
    assert len(pinned) > 25


def test_conda_and_pip_are_both_given_the_constraints():
    (of_conda,) = [
        part["pip"]
        for part in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
        if isinstance(part, dict)
    ]
    assert of_conda[0] == "-c constraints.txt"
    assert '"${install[@]}" --quiet -c constraints.txt' in (ROOT / "run_all.sh").read_text()
    assert "--hash" not in (ROOT / "constraints.txt").read_text()  # machines have builds of torch of their own


def test_the_licence_is_in_the_metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / project["license-files"][0]).read_text()


def test_the_tests_run_for_a_fork_without_any_right_or_secret():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    workflow = yaml.safe_load(text)
    assert "pull_request" in workflow[True]  # YAML reads `on` so
    assert workflow["permissions"] == {"contents": "read"}
    assert "${{ secrets" not in text and "pull_request_target" not in text
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1]["run"] == "./run_all.sh test"
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions)
