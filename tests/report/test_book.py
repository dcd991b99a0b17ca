"""The report: notebooks that do not run leave nothing behind, and the index links what there is."""

import subprocess

import nbformat
import pytest

from lib.errors import StudyError
from lib.paths import ROOT
from lib.report import book
from tests.support.browser import HOSTILE, runs_or_loads, visible

pytestmark = pytest.mark.slow


def test_a_notebook_without_the_two_parameters_is_refused(tmp_path):
    cell = nbformat.v4.new_code_cell("profiel = 'smoke'", metadata={"tags": ["parameters"]})
    bare = nbformat.v4.new_notebook(cells=[cell])
    bare.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(bare, tmp_path / "08_bare.ipynb")
    with pytest.raises(StudyError, match=r"08_bare.ipynb: its parameters cell must set profile, methods"):
        book.methods_of(tmp_path / "08_bare.ipynb")


def test_a_notebook_that_raises_is_named_and_leaves_no_copy(tmp_path, smoke_profile):
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise ValueError('on purpose')")])
    broken.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(broken, tmp_path / "09_broken.ipynb")
    with pytest.raises(StudyError, match=r"09_broken.ipynb: ValueError: on purpose"):
        book.draw(tmp_path / "09_broken.ipynb", smoke_profile, [])
    assert not list(smoke_profile.folder.rglob("09_broken*"))


def page(folder, text="<h1>page</h1>"):
    folder.mkdir(parents=True)
    (folder / "01_accuracy.html").write_text(text)


def test_the_index_says_what_the_profile_is_and_links_its_pages_and_other_results(smoke_profile):
    page(smoke_profile.folder / "report")
    page(smoke_profile.folder.parent / "other" / "report")
    (smoke_profile.folder.parent / "other" / "report" / "index.html").touch()
    index = book.write_index(smoke_profile, failed={"02_cost": "it broke"})
    text = index.read_text()
    assert smoke_profile.about in text
    assert 'href="01_accuracy.html"' in text
    assert '<a href="../../other/report/index.html">other</a>' in text
    assert "02_cost: it broke" in text


def test_the_index_shows_every_text_as_it_is(smoke_profile):
    profile = smoke_profile.model_copy(update={"about": HOSTILE})
    text = book.write_index(profile, failed={HOSTILE: HOSTILE}).read_text()
    assert runs_or_loads(text) == []
    assert visible(text).count(HOSTILE) == 3


def test_an_index_without_other_results_speaks_of_none(smoke_profile):
    page(smoke_profile.folder / "report")
    book.write_index(smoke_profile, failed={})
    assert "Other results" not in book.write_index(smoke_profile, failed={}).read_text()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what is committed is known to git alone")
def test_no_committed_page_runs_a_script_or_loads_anything_from_a_network():
    listed = ["git", "ls-files", "figures/*/report/*.html"]
    pages = subprocess.run(listed, cwd=ROOT, text=True, capture_output=True, check=True).stdout.split()
    assert {page: found for page in pages if (found := runs_or_loads((ROOT / page).read_text()))} == {}
    assert len(pages) > 50
