"""What the page on speed measures: all ways come to the same, those whose library is lacking are left out."""

import numpy as np
import pandas as pd
import pytest

from lib.report import speed
from lib.report.limit import weights_a_token
from lib.report.speed_ways import OURS, WAYS
from lib.runs.profile import read_profile

FEW = {"eval_limit": 4, "pool_size": 2, "epochs": 2, "batch_size": 4, "learning_rate": 1e-4}


@pytest.fixture
def without_peers(monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "PEERS", tmp_path)
    monkeypatch.setattr(speed, "RECORDS", tmp_path)


@pytest.fixture
def here(monkeypatch):
    """Measured in this process, which saves the start of others."""
    monkeypatch.setattr(speed, "_apart", speed._measured)


def test_a_way_whose_library_is_not_there_is_left_out_with_one_line_that_says_how_to_get_it(
    without_peers, here, capsys
):
    table = speed.measure(read_profile("smoke", FEW), 4, repeats=1, questions=["ICL"])
    assert [*table.way] == [way for way in WAYS["ICL"] if way != "lm-evaluation-harness"]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"lm-evaluation-harness is left out: lm_eval is not installed. {speed.INSTALL}"]


def test_all_ways_come_to_the_same_and_the_study_is_measured_by_itself(without_peers, here):
    table = speed.measure(read_profile("smoke", FEW), 4, repeats=1)
    assert {*table.question} == {*WAYS}
    assert table.alike.all()
    assert (table[table.way == OURS].ahead == 1).all()
    assert (table[["seconds", "over_limit"]] > 0).all(axis=None)


def test_a_way_that_comes_to_something_else_is_not_alike(without_peers, here, monkeypatch):
    monkeypatch.setitem(WAYS["PBFT"], "a padded loop", lambda run: lambda: [0.1] * 2 * run.training.epochs)
    table = speed.measure(read_profile("smoke", FEW), 4, repeats=1, questions=["PBFT"]).set_index("way")
    assert table.alike[OURS]
    assert not table.alike["a padded loop"]


def test_seconds_and_peaks_are_medians_and_ways_take_turns(without_peers, monkeypatch):
    calls = []

    def measured(run, question, name):
        calls.append(name)
        return {"seconds": {OURS: 1.0}.get(name, 2.0 * len(calls)), "peak_gb": len(calls), "result": [0.0]}

    monkeypatch.setattr(speed, "_apart", measured)
    monkeypatch.setattr(speed, "_is_there", lambda name: name in (OURS, "a padded loop"))
    table = speed.measure(read_profile("smoke", FEW), 4, questions=["ICL"]).set_index("way")
    assert calls == [OURS, "a padded loop"] * 3
    assert table.peak_gb.tolist() == [3, 4]
    assert table.ahead["a padded loop"] == np.median([4.0, 8.0, 12.0])


def test_the_limit_counts_a_shared_token_once_and_a_trained_one_three_times(without_peers):
    profile = read_profile("smoke", FEW | {"support_sizes": [4], "seeds": [0]})
    icl, pbft, cd = (profile.runs((method,))[0] for method in ("icl", "pbft", "cd"))
    weights = weights_a_token(icl.model)
    assert speed._flops(icl) == 2 * weights * speed._tokens(icl)
    assert speed._flops(pbft) == 6 * weights * speed._tokens(pbft)
    assert speed._flops(cd) > 2 * weights_a_token(cd.needs.teacher)


def test_what_was_measured_is_kept_for_the_page(without_peers):
    table = pd.DataFrame({"way": [OURS], "seconds": [1.5]})
    speed.write_record("mine", table, "A busy machine.")
    pd.testing.assert_frame_equal(speed.records()["mine"], table.assign(about="A busy machine."))


@pytest.mark.slow
def test_a_measurement_has_a_process_of_its_own(without_peers):
    table = speed.measure(read_profile("smoke", FEW), 4, repeats=1, questions=["ICL"])
    assert (table.peak_gb > 0).all()
