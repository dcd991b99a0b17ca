"""The whole study in the smoke profile, from a clean copy: one command, a second run, what is stored, a fault."""

import re
import shutil
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
import yaml

from lib.paths import ROOT
from tests.support.browser import article, runs_or_loads
from tests.support.clone import copy_of_the_study, environment, run_all

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copy_of_the_study(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def first_run(clone):
    return run_all(clone, "--smoke")


@pytest.fixture(scope="module")
def smoke(clone, first_run):
    return clone / "figures" / "smoke"


@pytest.fixture
def book(clone, smoke):
    """The profile's pages in the book."""
    return clone / "figures" / "book" / "site" / "figures" / "smoke" / "report"


def test_one_command_ends_well_and_says_what_it_did(first_run):
    assert first_run.returncode == 0, first_run.stderr
    assert "figures/smoke/report/README.md" in first_run.stdout
    assert "figures/book/site/index.html" in first_run.stdout


def test_it_says_at_once_what_it_will_do_and_where_the_first_figure_will_be(first_run):
    assert "up to 18 pages drawn, first figures/smoke/fig1.png." in first_run.stdout.splitlines()[0]


def test_the_output_is_free_of_warnings_and_walls(first_run):
    assert "Warning" not in first_run.stdout + first_run.stderr
    assert len(first_run.stdout.splitlines()) < 60


NUMBERS = dict.fromkeys(range(1, 7), "mean") | {7: "effect", 8: "peak_gb", 9: "accuracy", 10: "accuracy"}


@pytest.mark.parametrize("number", NUMBERS)
def test_each_figure_is_there_as_picture_drawing_and_numbers(smoke, number):
    assert (smoke / f"fig{number}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (smoke / f"fig{number}.svg").read_text()
    assert not pd.read_csv(smoke / f"fig{number}.csv")[NUMBERS[number]].isna().any()


def test_every_notebook_is_executed(smoke):
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    executed = sorted(path.stem for path in (smoke / "report").glob("[0-9]*.ipynb"))
    assert executed == [name for name in notebooks if name[:2].isdigit()]


def test_no_page_shows_an_error_or_an_empty_widget(smoke):
    for page in (smoke / "report").glob("[0-9]*.ipynb"):
        for cell in nbformat.read(page, as_version=4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error"
                assert output.get("name") != "stderr", (page.name, output.text)
                assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def test_no_page_of_the_book_runs_a_script_of_a_notebook_or_loads_anything_from_a_network(smoke, book):
    assert len(list(book.glob("[0-9]*.html"))) == len(list((smoke / "report").glob("[0-9]*.ipynb")))
    for page in book.glob("*.html"):
        assert runs_or_loads(article(page.read_text())) == [], page.name


OF_TUNING = """
candidates: {smoke: {meta: {untuned: [{}]}, multitask: {ict: [{in_context.steps: 1}, {in_context.steps: 2}]}}}
unreported: {smoke: {in_context.seeds: [9], in_context.crossfit.curve: []}}
"""


def test_the_notebook_that_searches_in_context_tuning_runs_on_the_smoke_profile(clone):
    words = ["-p", "profile", "smoke", "-y", OF_TUNING, "--cwd", "notebooks"]
    command = [sys.executable, "-m", "papermill", "notebooks/in_context_search.ipynb", "search.ipynb", *words]
    own = environment(PYTHONPATH=str(clone), FEW_SHOT_BATCH="1")
    subprocess.run(command, cwd=clone, env=own, capture_output=True, check=True)
    found = pd.read_csv(clone / "figures" / "smoke" / "in_context_search.csv")
    assert found.groupby("method").size().to_dict() == {"ict": 2, "untuned": 1}


def test_a_search_of_settings_draws_its_page_and_prints_lines_for_the_profile(clone, book):
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
    page = article((book / "settings_search.html").read_text())
    assert "What was chosen" in page
    assert "<strong>Candidates</strong>" in page
    assert "of_pbft, of_cd" not in page


def test_the_index_links_every_page(smoke):
    links = re.findall(r"^## \[.*\]\((\d.*)\)$", (smoke / "report" / "README.md").read_text(), re.MULTILINE)
    assert links == sorted(path.name for path in (smoke / "report").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def second_run(smoke, clone, tmp_path_factory):
    """One page drawn again while another is away: what the command says, the files of results before, and the index."""
    before = {path: path.stat().st_mtime_ns for path in (smoke / "runs").iterdir()}
    page = smoke / "report" / "03_pbft_accuracy.ipynb"
    away = shutil.move(page, tmp_path_factory.mktemp("away"))
    ran = run_all(clone, "--smoke", "--only", "01")
    shutil.move(away, page)
    return ran, before, (smoke / "report" / "README.md").read_text()


def test_a_second_run_computes_nothing(second_run, smoke):
    ran, before, _ = second_run
    assert ran.returncode == 0
    assert not re.search(r"^\[\d+/\d+\]", ran.stdout, re.MULTILINE)
    assert before == {path: path.stat().st_mtime_ns for path in (smoke / "runs").iterdir()}


def test_the_index_of_a_run_of_one_notebook_names_the_page_that_no_run_has_drawn(second_run):
    named = second_run[2].partition("Not computed")[2]
    assert re.findall(r"^- (.*)$", named, re.MULTILINE) == [r"03\_pbft\_accuracy: not drawn yet"]


def test_what_is_stored_can_be_drawn_alone(clone, smoke):
    before = sorted((smoke / "runs").iterdir())
    changes = ["--set", "seeds=[0,9]", "--set", "in_context.seeds=[9]"]
    ran = run_all(clone, "--smoke", "--stored", "--only", "00,01,09,12", *changes)
    assert ran.returncode == 0, ran.stderr
    assert sorted(re.findall(r"Drew (\d\d)", ran.stdout)) == ["01", "09"]
    assert "Not drawn: 12_lama: none of its methods has a result" in ran.stdout
    assert sorted((smoke / "runs").iterdir()) == before
    assert "of 17 results: the others are not computed yet" in (smoke / "report" / "01_accuracy.ipynb").read_text()


def test_a_failed_run_is_listed_and_the_rest_is_drawn(clone, smoke):
    changes = ["--set", "learning_rate.pbft=1.0e+30", "--set", "seeds=[7]"]
    ran = run_all(clone, "--smoke", "--only", "03", *changes)
    assert ran.returncode == 1
    assert re.search(r"FAILED pbft n=4 seed=7: loss is (nan|inf)", ran.stderr)
    assert "Traceback" not in ran.stderr
    assert "Drew 03_pbft_accuracy" in ran.stdout


def test_committed_notebooks_carry_no_outputs():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs") and not cell.get("execution_count"), path.name
