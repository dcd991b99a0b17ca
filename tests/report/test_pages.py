"""Pages of a report: which a profile has, which are drawn, and what becomes of those that cannot be."""

from pathlib import Path

import papermill
import pytest

import lib.runs.execution
from lib.errors import StorageError, StudyError
from lib.report import book, pages
from lib.report.pages import draw_report, planned
from lib.runs.execution import fill
from lib.runs.store import Store


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
    asking = {"00_tour", "08_memory", "13_method", "17_explorer"}
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
    assert all(name in index.read_text().replace("\\_", "_") for name in left_out)


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


def test_all_pages_results_are_computed_as_one_list_with_one_total(smoke_profile, drawn, monkeypatch):
    totals = []

    def counted(finished, total):
        totals.append(total)
        assert len(list(finished)) == total

    monkeypatch.setattr(lib.runs.execution, "show_progress", counted)
    profile = smoke_profile.changed(
        {"methods": ["teacher_icl", "cd"], "support_sizes": [1], "seeds": [0], "workers": 1}
    )
    draw_report(profile.changed({"isolate": False}), ["01", "14"])
    assert {*drawn} == {"01_accuracy", "14_context_or_task"}
    results, soft_labels = (list((profile.folder / kind).iterdir()) for kind in ("runs", "soft_labels"))
    assert totals == [len(results) + len(soft_labels)]


def test_a_kernel_that_does_not_start_costs_its_page_alone(smoke_profile, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(papermill, "execute_notebook", refuse)
    profile = smoke_profile.changed({"methods": ["baseline"], "support_sizes": [1], "seeds": [0]})
    index, failed, _ = draw_report(profile, ["01", "02"])
    assert set(failed) == {"01_accuracy", "02_cost"}
    assert all("Kernel died" in why and "\n" not in why for why in failed.values())
    assert all(name in index.read_text().replace("\\_", "_") for name in failed)


@pytest.mark.parametrize("place", ["", "report"])
@pytest.mark.parametrize("obstacle", [Path.touch, lambda place: place.symlink_to("nowhere")])
@pytest.mark.parametrize("stored_only", [False, True])
def test_a_place_that_cannot_be_written_is_known_before_anything_is_computed(
    smoke_profile, drawn, monkeypatch, place, obstacle, stored_only
):
    monkeypatch.setattr(pages, "fill", lambda *_, **__: pytest.fail("computed"))
    blocked = smoke_profile.folder / place
    blocked.parent.mkdir(parents=True)
    obstacle(blocked)
    with pytest.raises(StorageError, match=str(blocked)):
        draw_report(smoke_profile.changed({"stored_only": stored_only}), ["01"])
    assert drawn == []


def test_a_store_that_is_read_alone_is_not_written(smoke_profile, drawn):
    """Figures and pages are."""
    profile = smoke_profile.changed({"methods": ["baseline"], "support_sizes": [1], "seeds": [0]})
    fill(profile)
    Store(profile.folder).fail(profile.runs()[0], "on purpose")
    before = {path: path.stat().st_mtime_ns for path in profile.folder.glob("*/*")}
    draw_report(profile.changed({"stored_only": True}), ["01"])
    after = {path: path.stat().st_mtime_ns for path in profile.folder.glob("*/*") if path.parent.name != "report"}
    assert after == before


@pytest.fixture
def without_facts(smoke_profile, tmp_path):
    return smoke_profile.changed(
        {
            "in_context.lama.source": str(tmp_path / "nowhere"),
            "methods": ["baseline"],
            "support_sizes": [1],
            "seeds": [0],
        }
    )


def test_data_of_a_benchmark_that_cannot_be_read_are_an_error_where_nothing_else_is_asked_for(without_facts, drawn):
    with pytest.raises(StudyError, match=r"in_context: the source '.*nowhere' is not a folder"):
        draw_report(without_facts, ["12"])
    assert not list(without_facts.folder.rglob("*"))


def test_data_of_a_benchmark_that_cannot_be_read_leave_the_rest_to_be_drawn(without_facts, drawn):
    index, _, left_out = draw_report(without_facts, ["01", "12"])
    assert (drawn, list(left_out)) == (["01_accuracy"], ["12_lama"])
    assert "nowhere" in index.read_text()
