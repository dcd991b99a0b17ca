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
    return copy_of_the_study(tmp_path_factory.mktemp("a clone"))


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    clone = copy_of_the_study(tmp_path / "a clone")
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


def test_bad_input_ends_in_one_message_wherever_it_is_run(clone):
    words = [str(clone / "run_all.sh"), "--set", "pool_sise=3"]
    ran = subprocess.run(words, cwd="/", env=environment(), text=True, capture_output=True, check=False)
    assert ran.returncode == 2
    assert "No --profile given: this is tiny" in ran.stdout
    assert re.fullmatch(r"error: profile key: 'pool_sise' is not known\. Did you mean 'pool_size'\?.*\n", ran.stderr)


def test_a_profile_s_path_is_one_from_where_the_command_is_given(clone, tmp_path):
    (tmp_path / "lib").mkdir()  # as a project of one's own may have
    (tmp_path / "lib" / "__main__.py").write_text("raise SystemExit('another lib')")
    (tmp_path / "my.yaml").write_text("profile: {nonsense: 1}")
    for path in ("my.yaml", "./my.yaml", "~/my.yaml"):
        words = [str(clone / "run_all.sh"), "--profile", path]
        env = environment(HOME=str(tmp_path))
        ran = subprocess.run(words, cwd=tmp_path, env=env, text=True, capture_output=True, check=False)
        assert (ran.returncode, "nonsense" in ran.stderr) == (2, True), ran.stderr


def shell(clone, *words, **changes):
    """The script where no environment is active; the path of its programs is that of the test unless it is changed."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | changes
    return subprocess.run(["./run_all.sh", *words], cwd=clone, env=env, text=True, capture_output=True, check=False)


def program(file, text):
    """A program that stands in for a real one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def without_conda(tools):
    """A path of the tools, and of the system's programs but conda."""
    return f"{tools}:/usr/bin:/bin"


def test_help_needs_no_environment(clone):
    shown = shell(clone, "--help")
    assert all(option in shown.stdout for option in ("--profile", "--only", "--set", "--smoke", "run_all.sh test"))
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_a_python_of_another_version_is_no_python(clone, tmp_path, words):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        program(tmp_path / name, "exit 1")
    ran = shell(clone, *words, PATH=without_conda(tmp_path))
    assert ran.returncode == 2
    assert re.match(r"error: Python 3\.11, 3\.12 or 3\.13 .*python3\.11", ran.stderr)


def test_an_active_environment_that_lacks_a_package_is_named(clone, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    ran = shell(clone, VIRTUAL_ENV=str(tmp_path / "bare"))
    assert ran.returncode == 2
    assert "torch: 2.13.0 is pinned, not there" in ran.stderr


def test_an_active_environment_that_is_gone_is_named(clone, tmp_path):
    ran = shell(clone, VIRTUAL_ENV=str(tmp_path / "gone"))
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: the active environment {tmp_path / 'gone'} ")


# As a real one, it makes .venv/bin/python; which installs what is listed, unless the network is down.
PYTHON = """
echo "python3 $@" >>{calls}
[ "$2" = venv ] || exit 0
mkdir -p .venv/bin
cp {inner} .venv/bin/python
"""
INNER = """
echo "inner $@" >>{calls}
case "$*" in *" install "*) [ ! -e {down} ] || {{ echo "no route to host" >&2; exit 1; }} ;; esac
"""


def test_an_environment_whose_making_failed_is_finished_by_the_next_run_and_made_once(tmp_path):
    clone = copy_of_the_study(tmp_path / "a clone")
    names = {"calls": tmp_path / "calls", "inner": tmp_path / "inner", "down": tmp_path / "down"}
    program(names["inner"], INNER.format(**names))
    program(tmp_path / "tools" / "python3", PYTHON.format(**names))
    names["down"].touch()
    first = shell(clone, "--smoke", PATH=without_conda(tmp_path / "tools"))
    assert first.returncode == 2
    assert "no route to host\nerror: pip could not make the environment" in first.stderr
    names["down"].unlink()
    for _ in range(2):
        assert shell(clone, "--smoke", PATH=without_conda(tmp_path / "tools")).returncode == 0
    calls = names["calls"].read_text().splitlines()
    assert [call for call in calls if " venv " in call] == ["python3 -m venv --clear .venv"]
    assert len([call for call in calls if call.startswith("inner -m pip install")]) == 2
    assert [call for call in calls if "lib" in call] == ["inner -P -m lib --smoke"] * 2


def test_uv_installs_the_same_list_where_it_is_there(tmp_path):
    clone = copy_of_the_study(tmp_path / "clone")
    names = {"calls": tmp_path / "calls", "inner": tmp_path / "inner", "down": tmp_path / "down"}
    program(names["inner"], INNER.format(**names))
    program(tmp_path / "tools" / "python3", PYTHON.format(**names))
    program(tmp_path / "tools" / "uv", f'echo "uv $@" >>{names["calls"]}')
    assert shell(clone, "--smoke", PATH=without_conda(tmp_path / "tools")).returncode == 0
    (install,) = [call for call in names["calls"].read_text().splitlines() if " install " in call]
    assert install.startswith("uv pip install --python .venv/bin/python ")
    assert install.endswith("-c constraints.txt -r .venv/requirements.txt")


def test_conda_makes_the_environment_from_the_same_list_and_only_once(tmp_path):
    clone = copy_of_the_study(tmp_path / "a clone")
    program(tmp_path / "python", 'echo "ran $@"')
    made = f'mkdir -p .conda/bin .conda/conda-meta; cp "{tmp_path}/python" .conda/bin/python'
    program(tmp_path / "tools" / "conda", f'echo "$@" >>"{tmp_path}/calls"; {made}')
    for _ in range(2):
        ran = shell(clone, "--smoke", PATH=without_conda(tmp_path / "tools"))
        assert ran.stdout.splitlines()[-1] == "ran -P -m lib --smoke"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"env create --quiet --prefix {clone}/.conda --file environment.yml"]
