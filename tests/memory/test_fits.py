"""`run_all.sh fits`: an answer that follows from the prediction, suggestions that are true, and clear refusals."""

import sys

import pytest

from lib.__main__ import main
from lib.errors import RefusedMethod, StudyError
from lib.memory import predictions
from lib.memory.fits import CONTEXT_GIB, GIB, fit, proposal, report
from lib.runs.profile import read_profile


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path):
    monkeypatch.setattr(predictions, "KEPT", tmp_path / "predictions.json")


@pytest.fixture
def small():
    """The paper's settings on OPT-125M alone."""
    return read_profile("paper", {"teacher": "facebook/opt-125m"})


def test_it_fits_exactly_where_the_highest_phase_and_cudas_own_share_do(small):
    prediction, result = fit(small, "cd", 4, 24)
    need = max(peak.total for peak in prediction.values()) / GIB + CONTEXT_GIB
    assert result.gib == pytest.approx(need)
    assert fit(small, "cd", 4, need + 0.01)[1].fits
    assert not fit(small, "cd", 4, need - 0.01)[1].fits


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cd", "cd_bitfit"])
def test_what_is_proposed_fits_and_is_what_is_predicted_for_these_settings(small, method):
    gpu = 2.9 if method == "cd" else 1.6
    assert not fit(small, method, 4, gpu)[1].fits
    changes, peaks = proposal(small, method, 4, gpu)
    prediction, result = fit(small.changed(changes), method, 4, gpu)
    assert result.fits
    assert peaks == prediction


@pytest.mark.slow
def test_a_large_teacher_is_streamed_onto_a_small_card(small):
    changes, _ = proposal(small.changed({"teacher": "facebook/opt-6.7b"}), "cd_lora", 1, 8)
    assert changes["teacher_memory"] == "streamed"


def test_what_fits_needs_no_changes(small):
    assert proposal(small, "pbft", 4, 24)[0] == {}


def test_where_nothing_helps_the_report_says_what_holds_it_up(small):
    text = report(small, "icl", 1, 0.9)
    assert all(word in text for word in ("would not fit either", "The evaluation needs", "parameters"))


def test_the_report_names_phases_parts_places_and_the_verdict(small):
    text = report(small, "pbft", 4, 24)
    assert "It fits on 24 GiB" in text
    assert all(word in text for word in ("training", "evaluation", "optimizer state 0.93", "model.decoder.layers"))
    assert "would" not in text


@pytest.mark.parametrize("gpu", [0, -3, float("nan")])
def test_a_card_without_memory_is_refused(small, gpu):
    with pytest.raises(StudyError, match=r"gpu: .* is no size of a card"):
        fit(small, "cd", 4, gpu)


def test_bitfit_on_a_model_without_biases_is_refused(small, tmp_path):
    from transformers import LlamaConfig

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    LlamaConfig(**shape).save_pretrained(tmp_path)
    with pytest.raises(RefusedMethod, match=r"bitfit: .* has no bias terms"):
        fit(read_profile("paper", {"student": str(tmp_path), "kl_over": "labels"}), "cd_bitfit", 4, 24)


def test_prompts_longer_than_the_models_positions_are_refused(small):
    with pytest.raises(StudyError, match=r"prompt: \d+ tokens do not fit the 2048 positions of facebook/opt-125m"):
        fit(small, "icl", 60, 24)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpu", "24", "--method", "cd_lore"], "method: 'cd_lore' is not known. Did you mean 'cd_lora'?"),
        (["--gpu", "24", "--student", "./nothing"], "no folder"),
        (["--gpu", "24", "--set", "bach_size=2"], "Did you mean 'batch_size'?"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_message(monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, "argv", ["run_all.sh", "fits", *words])
    assert main() == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_command_ends_with_one_where_it_does_not_fit(monkeypatch, capsys):
    for gpu, status in (("24", 0), ("1", 1)):
        monkeypatch.setattr(sys, "argv", ["run_all.sh", "fits", "--gpu", gpu, "--method", "icl", "--support", "1"])
        assert main() == status
    assert "does not fit on 1 GiB" in capsys.readouterr().out
