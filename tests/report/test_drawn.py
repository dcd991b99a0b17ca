"""A page stays where nothing that it follows from has changed, and is drawn again where anything has."""

import threading

import nbformat
import pytest

import lib.runs.execution
from lib.report import book, drawn
from lib.report.pages import draw_report
from lib.runs.execution import fill
from lib.runs.files import write_text

A_PAGE = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A page")]))


@pytest.fixture
def profile(smoke_profile):
    return smoke_profile.changed({"methods": ["baseline"], "support_sizes": [1], "seeds": [0]})


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """Notebooks that a test may edit."""
    made = {name: tmp_path / f"{name}.ipynb" for name in ("01_accuracy", "03_pbft_accuracy")}
    for name, copy in made.items():
        copy.write_bytes((book.NOTEBOOKS / f"{name}.ipynb").read_bytes())
    monkeypatch.setattr(book, "figure_notebooks", lambda only: list(made.values()))
    return made


@pytest.fixture
def executed(monkeypatch):
    """The names of the notebooks that are drawn; a text stands for each page, another for its figure."""
    names = []

    def draw(notebook, profile, methods):
        names.append(notebook.stem)
        write_text(profile.folder / "report" / notebook.name, A_PAGE)
        write_text(profile.folder / f"fig{notebook.stem[1]}.png", "a figure")

    monkeypatch.setattr(book, "draw", draw)
    return names


def drawn_by(profile, executed, only=None):
    executed.clear()
    draw_report(profile, only)
    return sorted(executed)


def test_a_second_run_draws_nothing_and_says_so(profile, copied, executed, capsys):
    assert drawn_by(profile, executed) == sorted(copied)
    assert drawn_by(profile, executed) == []
    assert "2 of 2 pages stay" in capsys.readouterr().out


def test_an_edited_notebook_is_drawn_again_and_no_other(profile, copied, executed):
    draw_report(profile, None)
    copied["01_accuracy"].write_text(copied["01_accuracy"].read_text().replace("fig1", "fig1 "))
    assert drawn_by(profile, executed) == ["01_accuracy"]


def test_pages_that_are_asked_for_and_all_with_anew_are_drawn_in_any_case(profile, copied, executed):
    draw_report(profile, None)
    assert drawn_by(profile, executed, ["01", "03"]) == sorted(copied)
    assert drawn_by(profile.changed({"anew": True}), executed) == sorted(copied)


def test_another_setting_and_a_further_result_draw_all_again(profile, copied, executed):
    draw_report(profile, None)
    assert drawn_by(profile.changed({"eval_batch_size": 3}), executed) == sorted(copied)
    draw_report(profile, None)
    fill(profile.changed({"seeds": [1], "methods": ["icl"]}))
    assert drawn_by(profile, executed) == sorted(copied)


@pytest.mark.parametrize("file", ["report/01_accuracy.ipynb", "fig1.png", "report/01_accuracy.json"])
@pytest.mark.parametrize("change", ["removed", "altered"])
def test_what_is_not_as_it_was_left_is_drawn_again(profile, copied, executed, file, change):
    draw_report(profile, None)
    place = profile.folder / file
    place.unlink() if change == "removed" else place.write_text("{")
    assert drawn_by(profile, executed) == ["01_accuracy"]


def test_other_code_draws_again(profile, copied, executed, monkeypatch, tmp_path):
    draw_report(profile, None)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "some.py").write_text("first = 1")
    monkeypatch.setattr(drawn, "ROOT", tmp_path)
    assert drawn_by(profile, executed) == sorted(copied)
    (tmp_path / "lib" / "some.py").write_text("second = 22")
    assert drawn_by(profile, executed) == sorted(copied)
    assert drawn_by(profile, executed) == []


def test_the_first_page_is_drawn_while_other_methods_are_computed_and_stays(
    smoke_profile, copied, executed, monkeypatch
):
    begun = threading.Event()

    def draw(*page, original=book.draw):
        original(*page)
        begun.set()

    def execute(job, *how, original=lib.runs.execution.execute):
        assert job.method == "baseline" or begun.wait(60)
        return original(job, *how)

    monkeypatch.setattr(book, "draw", draw)
    monkeypatch.setattr(lib.runs.execution, "execute", execute)
    here = {"methods": ["baseline", "pbft_bitfit"], "support_sizes": [1], "seeds": [0], "workers": 1, "isolate": False}
    profile = smoke_profile.changed(here)
    draw_report(profile, None)
    assert executed == ["01_accuracy", "03_pbft_accuracy"]
    assert drawn_by(profile, executed) == []
