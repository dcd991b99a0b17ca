"""Texts of profiles, data and failures are shown as they are, wherever they become HTML, and nothing of them runs.

Cards of students are in tests/runs/test_export.py, the index in tests/report/test_book.py, whole pages in
tests/test_own_task.py.
"""

from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from lib.evidence import claims
from lib.paths import ROOT
from lib.runs.execution import Sweep
from lib.runs.variants import Variants
from tests.support.browser import HOSTILE, runs_or_loads, visible


def require_shown(html, times):
    assert runs_or_loads(html) == []
    assert visible(html).count(HOSTILE) == times, html


@pytest.fixture
def sweep(smoke_profile):
    profile = smoke_profile.model_copy(update={"about": HOSTILE})
    reasons = {HOSTILE: HOSTILE}
    return Sweep(profile, pd.DataFrame(), refused=reasons, failed=reasons, missing=[HOSTILE])


def test_a_sweep_shows_what_the_profile_says_of_itself_and_the_reasons_of_failures(sweep):
    require_shown(sweep._repr_html_(), 1 + 2 + 2)


def test_variants_show_what_failed_and_what_is_left_out(sweep):
    require_shown(Variants({HOSTILE: sweep}, {HOSTILE: HOSTILE})._repr_html_(), 2 + 3)


def test_claims_show_their_names_and_verdicts():
    numbers = {"effect": 0.1, "low": 0.0, "high": 0.2, "seeds": 3}
    judged = pd.DataFrame([{"claim": HOSTILE, "support_size": 4, "verdict": HOSTILE, **numbers}])
    require_shown(claims.details(judged, 4), 3)


def shown_by(name, marker, **defined):
    """What the cell of a notebook that holds a text shows."""
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    (cell,) = [cell.source for cell in cells if cell.cell_type == "code" and marker in cell.source]
    *before, last = cell.splitlines()
    exec("\n".join(before), defined)  # the study's own notebook
    return eval(last, defined)._repr_html_()


FRAMES = {
    "scale(": pd.DataFrame({"here": {"models": HOSTILE}, "the paper": {"models": HOSTILE}}),
    "left_out(": pd.Series({HOSTILE: HOSTILE}, name="left out because", dtype=object),
}


@pytest.mark.parametrize("notebook", ["11_crossfit.ipynb", "12_lama.ipynb"])
@pytest.mark.parametrize("function", FRAMES)
def test_tables_of_benchmarks_show_models_names_of_tasks_and_reasons(notebook, function):
    tables = SimpleNamespace(**{function[:-1]: lambda *_: FRAMES[function]})
    require_shown(shown_by(notebook, function, benchmark_tables=tables, sweep=None), 2)


def test_the_wide_table_of_ablations_shows_names_of_sets_and_variants():
    plain = pd.DataFrame([{"accuracy": 0.5, "domain": HOSTILE, "name": HOSTILE, "support_size": 4}])
    require_shown(shown_by("10_beyond.ipynb", "wide = ", plain=plain), 2)


def test_the_sentence_on_what_stands_shows_names_of_sets():
    stands = SimpleNamespace(what_stands=lambda *_: HOSTILE, choices_table=lambda *_: pd.DataFrame())
    pages = []
    defined = {"sensitivity": stands, "moved": None, "study": None, "display": pages.append}
    shown_by("09_sensitivity.ipynb", "what_stands", **defined)
    require_shown(pages[0]._repr_html_(), 1)
