"""Fixtures that several test files share; nothing here reaches the network or the repository's figures."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the test models are tiny: more threads only wait for each other

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

import lib.runs.profile
from lib.runs.profile import Profile, read_profile


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that no process is left with one of them when others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take the imported libraries out of garbage collection, which every measured phase asks for."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def close_figures() -> Iterator[None]:
    """No figure outlives its test."""
    from matplotlib import pyplot  # here, since few tests draw

    yield
    pyplot.close("all")


@pytest.fixture
def figures_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own in place of figures/."""
    folder = tmp_path / "figures"
    monkeypatch.setattr(lib.runs.profile, "FIGURES", folder)
    return folder


@pytest.fixture
def smoke_profile(figures_folder: Path) -> Profile:
    """The shipped smoke profile, writing into the test's own folder."""
    return read_profile("smoke")
