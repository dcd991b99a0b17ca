"""Pages of a report: which a profile has, which are drawn, and what becomes of those that cannot be."""

import pytest

from lib.errors import StudyError
from lib.report import book
from lib.report.pages import draw_report, planned


@pytest.fixture
def drawn(monkeypatch):
    """The names of the notebooks that were to be drawn; none is executed."""
    names = []
    monkeypatch.setattr(book, "draw", lambda notebook, profile, methods: names.append(notebook.stem))
    return names


def test_a_page_has_the_methods_that_its_notebook_and_the_profile_name(smoke_profile):
    (page,) = planned(smoke_profile.changed({"methods": ["icl", "pbft"]}), ["01"])
    assert (page.name, page.methods) == ("01_accuracy", ["icl", "pbft"])


def test_pages_that_ask_models_are_not_among_those_of_stored_results(smoke_profile):
    asking = {"00_tour", "08_memory", "13_method"}
    assert asking <= {page.name for page in planned(smoke_profile, None)}
    assert not asking & {page.name for page in planned(smoke_profile.changed({"stored_only": True}), None)}


def test_pages_of_benchmarks_need_their_settings(smoke_profile):
    assert "11_crossfit" in {page.name for page in planned(smoke_profile, None)}
    with pytest.raises(StudyError, match="11_crossfit"):
        planned(smoke_profile.changed({"in_context": None}), ["11"])


def test_an_unknown_variant_is_refused_before_anything_is_computed(smoke_profile):
    with pytest.raises(StudyError, match="choices: 'poole'"):
        draw_report(smoke_profile.changed({"choices": ["poole"]}), ["01", "09"])
    assert not smoke_profile.folder.exists()


def test_pages_without_results_are_left_out_and_named_in_the_index(smoke_profile, drawn):
    index, failed, left_out = draw_report(smoke_profile.changed({"stored_only": True}), ["01", "09", "12"])
    assert (drawn, failed, set(left_out)) == ([], {}, {"01_accuracy", "09_sensitivity", "12_lama"})
    assert all(name in index.read_text() for name in left_out)


def test_a_page_that_cannot_be_drawn_has_its_reason_and_the_others_are_drawn(smoke_profile, drawn, monkeypatch):
    def draw(notebook, profile, methods):
        if notebook.stem == "03_pbft_accuracy":
            raise StudyError("on purpose")
        drawn.append(notebook.stem)

    monkeypatch.setattr(book, "draw", draw)
    profile = smoke_profile.changed({"methods": ["baseline", "pbft"], "support_sizes": [1], "seeds": [0]})
    _, failed, left_out = draw_report(profile, ["01", "03", "05"])
    assert (sorted(drawn), failed) == (["01_accuracy", "05_cd_accuracy"], {"03_pbft_accuracy": "on purpose"})
    assert not left_out
