"""run_all.sh: the environment that it makes or checks, bad input, and a kill."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.support.clone import copy_of_the_study, environment, run_all

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copy_of_the_study(tmp_path_factory.mktemp("clone"))


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    clone = copy_of_the_study(tmp_path)
    words = ["./run_all.sh", "--smoke", "--only", "02"]
    process = subprocess.Popen(words, cwd=clone, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL)
    runs = clone / "figures" / "smoke" / "runs"
    deadline = time.monotonic() + 120
    while len(list(runs.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.read_bytes() for path in runs.glob("*.json")}
    assert 2 <= len(kept) < 13
    assert run_all(clone, *words[1:]).returncode == 0
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert not list(runs.glob(".writing-*")) or len(list(runs.glob("*.json"))) == 13


def test_bad_input_ends_in_one_message(clone):
    ran = run_all(clone, "--set", "pool_sise=3")
    assert ran.returncode == 2
    assert "No --profile given: this is tiny" in ran.stdout
    assert re.fullmatch(r"error: profile key: 'pool_sise' is not known\. Did you mean 'pool_size'\?.*\n", ran.stderr)


def test_help_needs_no_environment(clone):
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    shown = subprocess.run(["./run_all.sh", "--help"], cwd=clone, env=bare, text=True, capture_output=True, check=True)
    assert all(option in shown.stdout for option in ("--profile", "--only", "--set", "--smoke", "run_all.sh test"))
    assert not (clone / ".venv").exists()


def test_an_active_environment_that_lacks_a_package_is_named(clone, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = environment(VIRTUAL_ENV=str(tmp_path / "bare"))
    ran = subprocess.run(["./run_all.sh"], cwd=clone, env=bare, text=True, capture_output=True, check=False)
    assert ran.returncode == 2
    assert "torch: 2.13.0 is pinned, not there" in ran.stderr


def test_conda_makes_the_environment_from_the_same_list_and_only_once(tmp_path):
    clone = copy_of_the_study(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    conda = tools / "conda"  # stands in for the real one: notes how it was called, and borrows this interpreter
    conda.write_text(
        f"""#!/bin/sh
echo "$@" >>{tmp_path}/calls
mkdir -p .conda/bin .conda/conda-meta
printf '#!/bin/sh\\nexec {sys.executable} "$@"\\n' >.conda/bin/python
chmod +x .conda/bin/python
"""
    )
    conda.chmod(0o755)
    alone = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    alone["PATH"] = f"{tools}:{alone['PATH']}"
    words = ["./run_all.sh", "--set", "pool_sise=3"]
    for _ in range(2):
        ran = subprocess.run(words, cwd=clone, env=alone, text=True, capture_output=True, check=False)
        assert (ran.returncode, "pool_sise" in ran.stderr) == (2, True), ran.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"env create --quiet --prefix {clone}/.conda --file environment.yml"]
