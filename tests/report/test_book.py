"""Pages: notebooks that do not run leave nothing behind, and the list of pages links what there is."""

import base64
import multiprocessing
import os
import signal
import threading
import time
from io import BytesIO

import nbformat
import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from lib.errors import StorageError, StudyError
from lib.report import book
from lib.report.kernels import Kernel
from lib.report.pages import draw_report
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


def notebook(folder, *cells, name="09_tried.ipynb"):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(made, folder / name)
    return folder / name


PARAMETERS = "profile = None\nmethods = []"
DEATHS = {
    "a kernel that dies": ("import os; os._exit(9)", "kernel died"),
    "a kernel that is killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "kernel died"),
    "a cell that takes too long": ("import time; time.sleep(600)", "page_timeout"),
}


@pytest.mark.parametrize("name", DEATHS)
def test_a_kernel_that_dies_or_takes_too_long_is_one_line_and_leaves_no_page(tmp_path, smoke_profile, name):
    cell, why = DEATHS[name]
    with pytest.raises(StudyError, match=rf"^09_tried.ipynb: .*{why}.*\Z"):
        book.draw(notebook(tmp_path, PARAMETERS, cell), smoke_profile.changed({"page_timeout": 20}), [])
    assert not list(smoke_profile.folder.rglob("*"))
    assert not kernels()


def test_a_figure_that_cannot_be_written_is_no_fault_of_its_page(tmp_path, smoke_profile):
    """It ends the whole report, as a page that cannot be written does."""
    cell = (
        f"from pathlib import Path; from lib.runs.files import write_text; write_text(Path({str(tmp_path)!r}), 'text')"
    )
    with pytest.raises(StorageError, match=f"^09_tried.ipynb: .*{tmp_path}"):
        book.draw(notebook(tmp_path, PARAMETERS, cell), smoke_profile, [])


@pytest.mark.parametrize("start", ["import os; os._exit(3)", "import time; time.sleep(600)"])
def test_a_kernel_that_dies_while_it_starts_or_does_not_start_is_one_line(tmp_path, smoke_profile, monkeypatch, start):
    """A kernel's own start-up file stands in for what keeps one from starting."""
    startup = tmp_path / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "start.py").write_text(start)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(book, "START_SECONDS", 15)
    with pytest.raises(StudyError, match=r"^09_tried.ipynb: .*\Z"):
        book.draw(notebook(tmp_path, PARAMETERS), smoke_profile, [])
    assert not kernels()


@pytest.mark.parametrize("length", [30, 85, 200])
def test_a_long_path_of_temporary_files_is_no_obstacle(tmp_path, smoke_profile, monkeypatch, length):
    folder = tmp_path / ("t" * length)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    book.draw(notebook(tmp_path, PARAMETERS, "print(6 * 7)"), smoke_profile, [])
    assert "42" in (smoke_profile.folder / "report" / "09_tried.ipynb").read_text()


def test_a_kernel_starts_where_no_folder_has_a_short_path(tmp_path, smoke_profile, monkeypatch):
    monkeypatch.setattr(book, "LONGEST_FOLDER", 0)
    book.draw(notebook(tmp_path, PARAMETERS, "print(6 * 7)"), smoke_profile, [])
    page = (smoke_profile.folder / "report" / "09_tried.ipynb").read_text()
    assert "42" in page and "eavesdropping" not in page


def kernels():
    found = [child for child in multiprocessing.active_children() if isinstance(child, Kernel)]
    return [kernel for kernel in found if kernel.is_alive()]


def test_an_interrupt_while_pages_are_drawn_ends_the_kernels_and_all_of_it_within_seconds(
    tmp_path, smoke_profile, monkeypatch
):
    began = tmp_path / "began"
    cells = PARAMETERS, f"import pathlib, time; pathlib.Path({str(began)!r}).touch(); time.sleep(600)"
    names = [f"0{number}_tried.ipynb" for number in (1, 2, 3)]
    monkeypatch.setattr(book, "figure_notebooks", lambda only: [notebook(tmp_path, *cells, name=one) for one in names])
    times = []

    def interrupt():
        while not began.exists():
            time.sleep(0.05)
        times.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        draw_report(smoke_profile.changed({"stored_only": True}), None)
    assert time.monotonic() - times[0] < 20
    assert not kernels()
    assert not list(smoke_profile.folder.rglob("0*"))


FIGURE = """
from matplotlib import pyplot
pyplot.plot([0, 1], [0, 1])
pyplot.show()
"""


def test_a_page_drawn_again_is_the_same_file_and_tells_no_path_of_this_machine(tmp_path, smoke_profile):
    source = notebook(tmp_path, PARAMETERS, FIGURE)
    first, again = (book.draw(source, smoke_profile, []).read_text() for _ in range(2))
    assert first == again
    assert str(tmp_path) not in first


def test_a_figure_on_a_page_looks_as_it_was_drawn(tmp_path, smoke_profile, monkeypatch):
    source = notebook(tmp_path, PARAMETERS, FIGURE)
    kept = picture(book.draw(source, smoke_profile, []))
    monkeypatch.setattr(book, "_in_few_colours", lambda figure: figure)
    drawn = picture(book.draw(source, smoke_profile, []))
    assert kept.shape == drawn.shape
    assert np.abs(kept - drawn).mean() < 0.5  # of 255
    assert (kept[0, 0] == 255).all()


def picture(page):
    """[rows, columns, 3]: the figure of a page."""
    outputs = [output for cell in nbformat.read(page, as_version=4).cells for output in cell.get("outputs", [])]
    (png,) = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return np.asarray(Image.open(BytesIO(base64.b64decode(png))).convert("RGB")).astype(float)


def page(folder):
    folder.mkdir(parents=True)
    cells = [
        nbformat.v4.new_markdown_cell(text)
        for text in (
            "# Figure 1. Is it?\n\nYes.",
            "## Drawn\n\nSee *it*\nrise.\n\n| a | table |",
        )
    ]
    for name, alt in (("fig1", "Lines that rise"), ("fig1_growth", "Lines that grow")):
        metadata = {"mystnb": {"image": {"alt": alt}}}
        cells.append(nbformat.v4.new_code_cell(f'save("{name}")', metadata=metadata))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "01_accuracy.ipynb")


def shown(profile, failed):
    return MarkdownIt().render(book.write_index(profile, failed).read_text())


def test_the_list_of_pages_says_what_the_profile_is_and_has_its_pages_figures_and_failures(smoke_profile):
    page(smoke_profile.folder / "report")
    for name in ("fig1", "fig1_growth"):
        (smoke_profile.folder / f"{name}.png").touch()
    text = shown(smoke_profile, {"02_cost": "it broke"})
    assert smoke_profile.about in visible(text)
    assert '<a href="01_accuracy.ipynb">Figure 1. Is it?</a>' in text
    for name, alt in (("fig1", "Lines that rise"), ("fig1_growth", "Lines that grow")):
        assert f'<img src="../{name}.png" alt="{alt}" />\nSee <em>it</em> rise.</p>' in text
        assert f'<a href="../{name}.csv">' in text
    assert "02_cost: it broke" in visible(text)


def test_the_list_of_pages_shows_no_figure_that_was_not_drawn_and_no_failure_where_there_is_none(smoke_profile):
    page(smoke_profile.folder / "report")
    text = shown(smoke_profile, {})
    assert "<img" not in text
    assert "Not computed" not in text


def test_the_list_of_pages_shows_every_text_as_it_is(smoke_profile):
    profile = smoke_profile.model_copy(update={"about": HOSTILE})
    text = shown(profile, {HOSTILE: HOSTILE})
    assert runs_or_loads(text) == []
    assert visible(text).count(HOSTILE) == 3


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"cells": 3}'])
def test_a_page_that_is_no_notebook_is_named(smoke_profile, content):
    page(smoke_profile.folder / "report")
    (smoke_profile.folder / "report" / "02_cost.ipynb").write_text(content)
    with pytest.raises(StudyError, match=r"02_cost\.ipynb is not a notebook"):
        book.write_index(smoke_profile, {})
