"""The tables of the page on memory: each option is a prediction of what it says, and a card holds what fits."""

import pandas as pd
import pytest

from lib.memory import predictions
from lib.memory.memory_questions import DECISIONS, DESCENT, against_pbft, decisions, descent, growth, largest
from lib.runs.profile import read_profile

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "KEPT", tmp_path_factory.mktemp("memory") / "predictions.json")
        yield


@pytest.fixture(scope="module")
def small():
    """A pair of random models in the paper's settings."""
    models = {"student": "random-opt-student", "teacher": "random-opt-teacher"}
    return read_profile("paper", {**models, "kl_over": "labels", "pool_size": 16})


@pytest.fixture(scope="module")
def decided(small):
    return decisions(small, 4).set_index(["decision", "option"]).peak_gb


def test_every_option_has_a_peak(decided):
    assert len(decided) == sum(map(len, DECISIONS.values()))
    assert decided.gt(0).all()


@pytest.mark.parametrize("decision", [name for name, phase in DECISIONS if phase != "evaluation"])
def test_options_go_from_the_dearest_down(decided, decision):
    peaks = decided[decision].tolist()
    assert peaks == sorted(peaks, reverse=True)


def test_readings_compare_with_pbft(small):
    table = against_pbft(small, 4)
    assert table["CD against PBFT"].tolist() == pytest.approx((table["CD, GB"] / table["PBFT, GB"] - 1).tolist())
    padded = "PBFT with logits of all positions, padded to 2,048 tokens, CD with neither"
    assert table.loc[padded, "PBFT, GB"] > table.loc["all as in the profile", "PBFT, GB"]
    assert table.loc[padded, "CD, GB"] == table.loc["all as in the profile", "CD, GB"]


def test_a_teacher_in_half_precision_lowers_cd_alone(small):
    """The teacher is so much larger than the student that its answers are CD's peak."""
    table = against_pbft(small.changed({"teacher": "facebook/opt-125m"}), 1)
    halves = [name for name in table.index if f"{name}; CD's teacher in bfloat16" in table.index]
    assert len(halves) == 2
    for name in halves:
        half, whole = table.loc[f"{name}; CD's teacher in bfloat16"], table.loc[name]
        assert half["PBFT, GB"] == whole["PBFT, GB"]
        assert half["CD, GB"] < 0.6 * whole["CD, GB"]


def test_each_further_decision_lowers_a_peak_and_raises_none(small):
    table = descent(small.changed({"pool_size": 64}), 4)
    assert list(table.index) == list(DESCENT)
    for phase in ("teacher, GB", "training, GB"):
        assert table[phase].is_monotonic_decreasing
    assert (table.diff().iloc[1:] < 0).any(axis=1).all()
    assert table["over PBFT"].is_monotonic_decreasing


def test_growth_takes_a_teacher_at_least_as_large_as_the_student():
    grown = growth(read_profile("paper"), ["pbft_bitfit"], 1)
    assert grown.peak_gb.is_monotonic_increasing
    assert grown.parameters.iloc[0] == pytest.approx(125e6, rel=0.01)


def test_the_largest_that_fits_leaves_room_for_cuda_itself():
    shape = {"method": "pbft", "phase": "training"}
    grown = pd.DataFrame(
        [
            {**shape, "student": "facebook/opt-125m", "parameters": 1.0, "peak_gb": 7.2 * 2**30 / 1e9},
            {**shape, "student": "facebook/opt-350m", "parameters": 2.0, "peak_gb": 7.9 * 2**30 / 1e9},
        ]
    )
    table = largest(grown, (4, 8, 16))
    assert table.loc["PBFT"].tolist() == ["none", "opt-125m", "opt-350m"]
