"""Figures are whole or absent: picture, drawing and numbers."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from lib.errors import StorageError
from lib.report.figures import save_with

DRAWN = pd.DataFrame({"mean": [0.5, 1.0]})
KINDS = ("csv", "png", "svg")


@pytest.fixture
def figure(close_figures):
    """A line."""
    figure, axis = plt.subplots()
    axis.plot([0, 1])
    return figure


def test_a_figure_is_a_picture_a_drawing_and_its_numbers(figure, smoke_profile):
    save_with(figure, smoke_profile, "fig1", DRAWN)
    files = sorted(smoke_profile.folder.iterdir())
    assert [file.name for file in files] == [f"fig1.{kind}" for kind in KINDS]
    assert files[1].read_bytes().startswith(b"\x89PNG") and "<svg" in files[2].read_text()
    assert pd.read_csv(files[0])["mean"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_drawn_leaves_the_old_figure_and_nothing_half_written(figure, smoke_profile, monkeypatch, kind):
    save_with(figure, smoke_profile, "fig1", DRAWN)
    before = {file: file.read_bytes() for file in smoke_profile.folder.iterdir()}

    def write_half(file, *_, **__):
        with open(file, "w") as half:
            half.write("half")
        raise OSError("the disk is full")

    monkeypatch.setattr(figure, "savefig", write_half) if kind != "csv" else monkeypatch.setattr(
        pd.DataFrame, "to_csv", lambda table, file, **_: write_half(file)
    )
    with pytest.raises(StorageError, match="the disk is full"):
        save_with(figure, smoke_profile, "fig1", DRAWN)
    assert {file: file.read_bytes() for file in smoke_profile.folder.iterdir()} == before
