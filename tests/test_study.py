"""The whole study in the smoke profile, from a clean copy: one command, a second run, a kill, a fault."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest
import yaml

from lib.methods.table import ON_TASKS
from lib.paths import ROOT
from tests.support.own_data import TWO_TOKEN_WORDS, WORDS, things

pytestmark = pytest.mark.slow

TRACKED = (
    *("lib", "notebooks", "tests"),
    *("run_all.sh", "environment.yml", "constraints.txt", "pyproject.toml", "LICENSE", "README.md"),
)


def run_all(clone, *words, **options):
    """run_all.sh in a clone, with this test's environment as the active one."""
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        ["./run_all.sh", *words], cwd=clone, env=environment, text=True, capture_output=True, check=False, **options
    )


def copy_of_the_study(folder):
    for name in TRACKED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.egg-info")
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name, **({"ignore": ignore} if source.is_dir() else {}))
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copy_of_the_study(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def first_run(clone):
    return run_all(clone, "--smoke")


@pytest.fixture(scope="module")
def smoke(clone, first_run):
    return clone / "figures" / "smoke"


def test_one_command_ends_well_and_says_what_it_did(first_run):
    assert first_run.returncode == 0, first_run.stderr
    assert "figures/smoke/report/index.html" in first_run.stdout


def test_the_output_is_free_of_warnings_and_walls(first_run):
    assert "Warning" not in first_run.stdout + first_run.stderr
    assert len(first_run.stdout.splitlines()) < 60


NUMBERS = dict.fromkeys(range(1, 7), "mean") | {7: "effect", 8: "peak_gb", 9: "in_domain", 10: "accuracy"}


@pytest.mark.parametrize("number", NUMBERS)
def test_each_figure_is_there_as_picture_drawing_and_numbers(smoke, number):
    assert (smoke / f"fig{number}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (smoke / f"fig{number}.svg").read_text()
    assert not pd.read_csv(smoke / f"fig{number}.csv")[NUMBERS[number]].isna().any()


def test_every_notebook_is_executed_and_rendered(smoke):
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    rendered = sorted(path.stem for path in (smoke / "report").glob("[0-9]*.html"))
    assert rendered == [name for name in notebooks if name[:2].isdigit()]


def test_no_page_shows_an_error_or_an_empty_widget(smoke):
    for page in (smoke / "report").glob("[0-9]*.ipynb"):
        for cell in nbformat.read(page, as_version=4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error"
                assert output.get("name") != "stderr", (page.name, output.text)
                assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


OF_TUNING = """
candidates: {smoke: {meta: {untuned: [{}]}, multitask: {ict: [{in_context.steps: 1}, {in_context.steps: 2}]}}}
unreported: {smoke: {in_context.seeds: [9], in_context.crossfit.curve: []}}
"""


def test_the_notebook_that_searches_in_context_tuning_runs_on_the_smoke_profile(clone):
    words = ["-p", "profile", "smoke", "-y", OF_TUNING, "--cwd", "notebooks"]
    environment = {**os.environ, "PYTHONPATH": str(clone), "FEW_SHOT_BATCH": "1"}
    papermill = [sys.executable, "-m", "papermill", "notebooks/in_context_search.ipynb", "search.ipynb", *words]
    subprocess.run(papermill, cwd=clone, env=environment, capture_output=True, check=True)
    found = pd.read_csv(clone / "figures" / "smoke" / "in_context_search.csv")
    assert found.groupby("method").size().to_dict() == {"ict": 2, "untuned": 1}


def test_a_search_of_settings_draws_its_page_and_prints_lines_for_the_profile(clone):
    settings = ["eval_limit=2", "search.items=2", "search.seeds=[100, 101]", "methods=[icl, pbft, cd]"]
    words = ["search", "--profile", "smoke", *(word for setting in settings for word in ("--set", setting))]
    first, again = run_all(clone, *words), run_all(clone, *words)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr
    lines = yaml.safe_load(first.stdout.partition("Chosen:")[2])
    assert {*lines["learning_rate"]} == {*lines["epochs"]} == {"pbft", "cd"}
    assert again.stdout.partition("Page:")[2] == first.stdout.partition("Page:")[2]
    assert not re.search(r"^\[\d+/\d+\]", again.stdout, re.MULTILINE)
    found = pd.read_csv(clone / "figures" / "smoke" / "settings_search.csv")
    assert {*found.method} == {"icl", "pbft", "cd"}
    page = (clone / "figures" / "smoke" / "report" / "settings_search.html").read_text()
    assert "What was chosen" in page
    assert "<strong>Candidates</strong>" in page
    assert "of_pbft, of_cd" not in page


def test_the_index_links_every_page(smoke):
    links = re.findall(r'<h2><a href="([^"]+)"', (smoke / "report" / "index.html").read_text())
    assert links == sorted(path.name for path in (smoke / "report").glob("[0-9]*.html"))


def test_a_second_run_computes_nothing(clone, smoke):
    before = {path: path.stat().st_mtime_ns for path in (smoke / "runs").iterdir()}
    second = run_all(clone, "--smoke", "--only", "01")
    assert second.returncode == 0
    assert not re.search(r"^\[\d+/\d+\]", second.stdout, re.MULTILINE)
    assert before == {path: path.stat().st_mtime_ns for path in (smoke / "runs").iterdir()}


def test_the_index_of_a_run_of_one_notebook_names_the_page_that_no_run_has_drawn(clone, smoke, tmp_path):
    page = smoke / "report" / "03_pbft_accuracy.html"
    shutil.move(page, tmp_path)
    assert run_all(clone, "--smoke", "--stored", "--only", "01").returncode == 0
    shutil.move(tmp_path / page.name, page)
    named = (smoke / "report" / "index.html").read_text().partition("Not computed")[2]
    assert re.findall(r"<li>(.*?)</li>", named) == ["03_pbft_accuracy: not drawn yet"]


def test_what_is_stored_can_be_drawn_alone(clone, smoke):
    before = sorted((smoke / "runs").iterdir())
    changes = ["--set", "seeds=[0,9]", "--set", "in_context.seeds=[9]"]
    ran = run_all(clone, "--smoke", "--stored", "--only", "00,01,09,12", *changes)
    assert ran.returncode == 0, ran.stderr
    assert sorted(re.findall(r"Drew (\d\d)", ran.stdout)) == ["01", "09"]
    assert "Not drawn: 12_lama: none of its methods has a result" in ran.stdout
    assert sorted((smoke / "runs").iterdir()) == before
    assert "of 17 results: the others are not computed yet" in (smoke / "report" / "01_accuracy.html").read_text()


def test_a_failed_run_is_listed_and_the_rest_is_drawn(clone, smoke):
    changes = ["--set", "learning_rate.pbft=1.0e+30", "--set", "seeds=[7]"]
    ran = run_all(clone, "--smoke", "--only", "03", *changes)
    assert ran.returncode == 1
    assert re.search(r"FAILED pbft n=4 seed=7: loss is (nan|inf)", ran.stderr)
    assert "Traceback" not in ran.stderr
    assert "Drew 03_pbft_accuracy" in ran.stdout


@pytest.mark.parametrize(("words", "suffix"), [(WORDS, ".csv"), (TWO_TOKEN_WORDS, ".tsv")], ids=["csv", "tsv"])
def test_a_task_of_ones_own_runs_from_a_profile_alone(clone, tmp_path, words, suffix):
    chosen = dict(list(words.items())[: 3 if suffix == ".csv" else 2])
    settings = yaml.safe_load((clone / "notebooks" / "profiles" / "smoke.yaml").read_text())["profile"]
    settings |= things(tmp_path, chosen, name="own", seeds=[0], support_sizes=[len(chosen)], pool_size=3, epochs=1)
    if suffix == ".tsv":
        table = (tmp_path / "things.csv").read_text().replace(",", "\t")
        (tmp_path / "things.tsv").write_text(table)
        settings["datasets"]["things"]["source"] = str(tmp_path / "things.tsv")
    settings.pop("in_context")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"profile": settings}))
    ran = run_all(clone, "--profile", str(tmp_path / "own.yaml"), "--only", "01,02,03,04,05,06,07")
    assert ran.returncode == 0, ran.stderr
    folder = clone / "figures" / "own"
    assert all((folder / f"fig{number}.png").is_file() for number in range(1, 8))
    drawn = pd.read_csv(folder / "fig1.csv")
    assert {f"in_domain_accuracy_on_{name}" for name in chosen} <= set(drawn.quantity)
    assert {json.loads(file.read_text())["run"]["method"] for file in (folder / "runs").iterdir()} == set(ON_TASKS)
    shutil.rmtree(folder)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    clone = copy_of_the_study(tmp_path)
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, "HF_HUB_OFFLINE": "1"}
    words = ["./run_all.sh", "--smoke", "--only", "02"]
    process = subprocess.Popen(words, cwd=clone, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
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
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "bare")}
    ran = subprocess.run(["./run_all.sh"], cwd=clone, env=environment, text=True, capture_output=True, check=False)
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
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    words = ["./run_all.sh", "--set", "pool_sise=3"]
    for _ in range(2):
        ran = subprocess.run(words, cwd=clone, env=environment, text=True, capture_output=True, check=False)
        assert (ran.returncode, "pool_sise" in ran.stderr) == (2, True), ran.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"env create --quiet --prefix {clone}/.conda --file environment.yml"]


def test_committed_notebooks_carry_no_outputs():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs") and not cell.get("execution_count"), path.name
