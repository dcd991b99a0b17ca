"""The measurement of tests/gpu, tried where there is no GPU, and what is read off its record."""

import pandas as pd
import pytest
from transformers import OPTConfig

from lib.memory import gpu_record, predictions
from lib.memory.gpu_record import PAPER, VARIANTS, configurations, peaks_of, read_record, rows
from lib.methods.table import ON_TASKS
from lib.models import random_models
from tests.support.allocator import AllocatorMeter

SMALL = {
    "kl_over": "labels",
    "pool_size": 16,
    "epochs": 1,
    "seeds": [0],
    "support_sizes": [4, 8],
    "eval_limit": 20,
    "eval_batch_size": 4,
}


@pytest.fixture
def kept(monkeypatch, tmp_path):
    monkeypatch.setattr(predictions, "KEPT", tmp_path / "predictions.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two models without weights, wide enough for what kernels take to be next to nothing."""
    folders = {}
    for name, (width, layers) in {"teacher": (512, 4), "student": (384, 3)}.items():
        shape = {"hidden_size": width, "word_embed_proj_dim": width, "ffn_dim": 4 * width, "num_hidden_layers": layers}
        folders[name] = str(tmp_path_factory.mktemp(name))
        config = OPTConfig(vocab_size=8000, num_attention_heads=2, max_position_embeddings=2048, **shape)
        config.save_pretrained(folders[name])
        random_models.tokenizer().save_pretrained(folders[name])
    return folders


def test_every_method_size_and_variant_is_measured():
    found = list(configurations())
    plain = [one.run for name, one in found if name == PAPER]
    assert {run.method for run in plain} == set(ON_TASKS)
    assert {run.support_size for run in plain} == {0, 1, 4, 8, 12}
    assert {name for name, _ in found} == {PAPER, *VARIANTS}
    assert all(one.run.device == "cuda" for _, one in found)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [PAPER, "all logits", "checkpointing", "batch of 1", "streamed teacher"])
def test_a_measurement_with_random_weights_costs_what_was_predicted(kept, models, monkeypatch, variant):
    monkeypatch.setattr(gpu_record, "PhaseMeter", AllocatorMeter)
    chosen = [
        one for name, one in configurations("cpu", **SMALL, **models) if name == variant and one.run.method == "cd"
    ][-1]
    measured = rows(variant, chosen).to_dict("records")
    assert [row["phase"] for row in measured] == ["teacher", "training", "evaluation"]
    for row in measured:
        assert row["rss"] == pytest.approx(row["predicted"], rel=0.01)
        assert row["seconds"] > 0
    assert sum(row["highest_phase"] for row in measured) == 1


def record():
    shared = {"configuration": PAPER, "support_size": 4, "highest_phase": True}
    return pd.DataFrame(
        [
            {**shared, "method": "pbft", "cuda_allocated": 2e9, "predicted": 2.1e9},
            {**shared, "method": "cd", "cuda_allocated": 8e9, "predicted": 6e9},
            {**shared, "method": "cd", "highest_phase": False, "cuda_allocated": 3e9, "predicted": 3e9},
            {**shared, "method": "cd", "configuration": "sgd", "cuda_allocated": 1e9, "predicted": 1e9},
        ]
    )


def test_figures_draw_the_phase_that_counts_in_the_papers_configuration():
    assert peaks_of(record()).set_index("method").peak_gb.to_dict() == {"pbft": 2.0, "cd": 8.0}


def test_without_a_record_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_record, "RECORD", tmp_path / "gpu.csv")
    assert read_record() is None
    record().to_csv(tmp_path / "gpu.csv", index=False)
    assert len(read_record()) == 4
