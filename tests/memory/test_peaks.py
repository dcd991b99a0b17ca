"""Predicted peaks against what the CPU's allocator records while the study runs, and properties that they must have.

What kernels take beside tensors is recorded apart: it depends on the CPU's instructions, and nothing predicts it.
"""

import gc
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from lib.memory.allocations import PARTS, Allocations
from lib.memory.peaks import Setting, highest_phase, predict
from lib.memory.prompt_lengths import real_lengths, typical_lengths
from lib.methods import context_distillation
from lib.methods.table import ON_TASKS
from lib.models import random_models
from lib.models.cost import Cost
from lib.runs.profile import TRAINED, read_profile
from tests.support.allocator import recorded_by_allocator
from tests.support.own_data import TWO_TOKEN_WORDS, WORDS, things

TOLERANCE = 0.01
# Wide enough for a peak to be in one place or another as the settings have it; the head dominates where it is not kept
# from it. Dropout is on: the allocator of a CPU sees its mask.
SHAPES = {"teacher": (512, 4), "student": (384, 3)}
CONFIGURATIONS = [
    ("baseline", {}),
    ("icl", {"eval_batch_size": 3}),
    ("teacher_icl", {}),
    ("pbft", {}),
    ("pbft", {"logits": "all", "batch_size": 3}),
    ("pbft_lora", {"training_dtype": "bfloat16"}),
    ("pbft_bitfit", {"checkpointing": True, "logits": "all"}),
    ("cd", {"batch_size": 1}),
    ("cd", {"logits": "labels", "optimizer": "sgd"}),
    ("pbft", {"optimizer": "sgd"}),
    ("cd", {"optimizer": "sgd", "training_dtype": "bfloat16"}),
    ("pbft", {"optimizer": "sgd", "checkpointing": True}),
    ("cd", {"logits": "all", "training_dtype": "bfloat16", "kl_over": "vocabulary"}),
    ("cd", {"pool": "support", "kl_over": "vocabulary", "checkpointing": True}),
    ("cd_lora", {"logits": "all"}),
    ("cd_lora", {"checkpointing": True, "training_dtype": "bfloat16"}),
    ("cd_bitfit", {"ce_on": "pool"}),
    ("teacher_icl", {"teacher_dtype": "bfloat16"}),
    ("pbft", {"student_dtype": "bfloat16"}),
    ("icl", {"words": "three"}),
    ("cd", {"words": "three", "logits": "labels"}),
    ("teacher_icl", {"words": "three of two tokens"}),
    ("pbft", {"words": "three of two tokens", "batch_size": 3}),
    ("cd", {"words": "three of two tokens", "training_dtype": "bfloat16"}),
    ("cd_lora", {"words": "two of two tokens", "optimizer": "sgd"}),
    ("cd_bitfit", {"teacher_memory": "streamed", "queries_a_pass": 3}),
    ("teacher_icl", {"teacher_memory": "streamed", "queries_a_pass": 3}),
    ("pbft", {"optimizer_in_backward": True}),
    ("cd", {"optimizer_in_backward": True, "checkpointing": True, "logits": "labels", "optimizer": "sgd"}),
    ("cd", {"accumulate": 2}),
    ("pbft", {"accumulate": 2, "batch_size": 4}),
    ("cd_lora", {"frozen_dtype": "bfloat16", "training_dtype": "bfloat16"}),
    ("pbft_bitfit", {"frozen_dtype": "bfloat16", "training_dtype": "bfloat16", "accumulate": 2, "checkpointing": True}),
]
# Classes and label words of a task of one's own.
OWN_WORDS = {
    "three": WORDS,
    "three of two tokens": TWO_TOKEN_WORDS,
    "two of two tokens": {name: TWO_TOKEN_WORDS[name] for name in ("animal", "plant")},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two random models that share a tokenizer; the vocabulary is larger than the tokenizer's."""
    folders = {}
    for name, (width, layers) in SHAPES.items():
        torch.manual_seed(0)
        config = OPTConfig(
            vocab_size=8000,
            hidden_size=width,
            word_embed_proj_dim=width,
            ffn_dim=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=512,
        )
        folders[name] = str(tmp_path_factory.mktemp(name))
        OPTForCausalLM(config).bfloat16().save_pretrained(folders[name])  # what is streamed in float32 is converted
        random_models.tokenizer().save_pretrained(folders[name])
    return folders


@cache
def own_task(folder, words):
    """Settings that read it; the file is written once, since other processes read it."""
    place = Path(folder) / words
    place.mkdir()
    return things(place, OWN_WORDS[words])


def run_of(method, models, changes):
    changes = dict(changes)
    words = changes.pop("words", None)
    own = own_task(models["student"], words) if words else {}
    padded = {"padding_free": False, "fused": False}
    settings = {
        **models,
        **own,
        **padded,
        "support_sizes": [4],
        "seeds": [0],
        "pool_size": 2,
        "batch_size": 2,
        **changes,
    }
    (run,) = read_profile("smoke", settings).runs((method,))
    return run


class AllocatorMeter:
    """In place of the study's own: a phase's peak is the allocator's record of tensors, over all that live before."""

    def __init__(self, device, isolated):
        self.peaks = []

    @contextmanager
    def phase(self):
        storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in living_tensors()}
        with recorded_by_allocator() as record:
            yield (cost := Cost())
        cost.rss = sum(storages.values()) + record.tensors


def living_tensors():
    return [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and one.device.type != "meta"]


def recorded_peaks(run):
    """The run as the study runs it; bytes by phase."""
    torch.set_num_threads(1)
    context_distillation.PhaseMeter = AllocatorMeter
    labelling = run.distillation.labelling if run.distillation else None
    answers = context_distillation.ask_teacher(labelling) if labelling else None
    outcome = context_distillation.run_method(run, answers)
    return {phase: cost.rss for phase, cost in outcome.costs.items()}


@pytest.fixture(scope="module")
def recorded(models):
    """Starts a process for each configuration and gives the futures of what they record."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.memory.test_peaks", "peft"])
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        yield [pool.submit(recorded_peaks, run_of(method, models, changes)) for method, changes in CONFIGURATIONS]


def predicted_peaks(run):
    return {phase: peak.total for phase, peak in predict(Setting(run, real_lengths(run))).items()}


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(CONFIGURATIONS)), ids=[f"{m} {c}" for m, c in CONFIGURATIONS])
def test_a_predicted_peak_is_the_one_that_the_allocator_records(at, models, recorded):
    method, changes = CONFIGURATIONS[at]
    assert predicted_peaks(run_of(method, models, changes)) == pytest.approx(recorded[at].result(), rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8000, 384), (384, 4 * 384)], ids=["head", "feed-forward layer"])
def test_a_prediction_that_forgets_the_bfloat16_copy_of_a_weight_fails_the_comparison(
    shape, models, recorded, monkeypatch
):
    method, changes = configuration = ("pbft_lora", {"training_dtype": "bfloat16"})
    count = Allocations.count

    def forget(mode, tensor, kind=None):
        forgotten = tensor.dtype == torch.bfloat16 and tensor.untyped_storage().nbytes() == 2 * math.prod(shape)
        return None if forgotten else count(mode, tensor, kind)

    monkeypatch.setattr(Allocations, "count", forget)
    at = CONFIGURATIONS.index(configuration)
    assert predicted_peaks(run_of(method, models, changes)) != pytest.approx(recorded[at].result(), rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("at", [at for at, (_, changes) in enumerate(CONFIGURATIONS) if "two" in str(changes)])
def test_a_prediction_that_reads_the_first_token_of_label_words_alone_is_farther_off_and_too_low(at, models, recorded):
    run = run_of(CONFIGURATIONS[at][0], models, CONFIGURATIONS[at][1])
    lengths = real_lengths(run)
    first_alone = replace(lengths, answers=tuple((place,) for place in range(len(lengths.answers))))
    too_low = predict(Setting(run, first_alone))["evaluation"].total
    there, predicted = recorded[at].result()["evaluation"], predicted_peaks(run)["evaluation"]
    assert too_low < there
    assert there - too_low > 2 * abs(there - predicted)


@pytest.mark.parametrize("method", ["cd", "pbft_lora"])
def test_a_peak_is_that_of_padded_batches_however_the_run_is_computed(method, models):
    plain, other = (run_of(method, models, {"padding_free": yes, "fused": yes}) for yes in (False, True))
    assert predicted_peaks(plain) == predicted_peaks(other)


def test_every_method_and_every_choice_is_among_the_configurations():
    assert {method for method, _ in CONFIGURATIONS} == set(ON_TASKS)
    trained = [changes for method, changes in CONFIGURATIONS if method in TRAINED]
    assert {changes.get("logits", "last") for changes in trained} == {"last", "all", "labels"}
    assert {changes.get("checkpointing", False) for changes in trained} == {False, True}
    assert {changes.get("training_dtype", "float32") for changes in trained} == {"float32", "bfloat16"}
    assert len({changes.get("batch_size", 2) for changes in trained}) > 1
    assert {changes.get("frozen_dtype", "float32") for changes in trained} == {"float32", "bfloat16"}
    assert {changes.get("optimizer_in_backward", False) for changes in trained} == {False, True}
    assert {changes.get("words") for changes in trained} == {None, *OWN_WORDS}


@cache
def at_true_scale(method, size=4, resident=False, **changes):
    """The prediction for a method of the paper's own pair, or with these changes."""
    settings = {"support_sizes": [size], "seeds": [0], "eval_batch_size": 8, **changes}
    (run,) = read_profile("paper", settings).runs((method,))
    return predict(Setting(run, typical_lengths(run), resident))


def peak_of(method, phase="training", **settings):
    return at_true_scale(method, **settings)[phase].total


@pytest.mark.parametrize("method", ON_TASKS)
def test_the_parts_sum_to_the_peak(method):
    for peak in at_true_scale(method).values():
        assert sum(peak.parts.values()) == peak.total
        assert set(peak.parts) == set(PARTS)
        assert all(size >= 0 for size in peak.parts.values())
        assert peak.place


def test_weights_are_those_of_the_published_sizes():
    prediction = at_true_scale("cd")
    assert prediction["teacher"].parts["parameters"] == pytest.approx(4 * 1_315_758_080, rel=1e-3)
    assert prediction["training"].parts["parameters"] == pytest.approx(4 * 125_239_296, rel=1e-3)
    assert prediction["training"].parts["optimizer state"] == pytest.approx(8 * 125_239_296, rel=1e-3)


@pytest.mark.slow
def test_more_support_examples_never_lower_the_teachers_peak():
    peaks = [peak_of("cd_bitfit", "teacher", size=size) for size in (1, 4, 12)]
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[-1]


@pytest.mark.parametrize("kind", ["pbft", "cd"])
def test_bitfit_needs_no_more_for_gradients_and_states_than_lora_and_lora_no_more_than_full(kind):
    def trained(method):
        parts = at_true_scale(method)["training"].parts
        return parts["gradients"] + parts["optimizer state"]

    assert 0 < trained(f"{kind}_bitfit") <= trained(f"{kind}_lora") <= trained(kind)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cd", "cd_bitfit"])
def test_freeing_the_teacher_never_raises_the_peak_of_training(method):
    kept, freed = (at_true_scale(method, resident=resident)["training"] for resident in (True, False))
    assert freed.total < kept.total - 4e9
    assert freed.parts["teacher's parameters"] == 0 < kept.parts["teacher's parameters"]


@pytest.mark.slow
def test_each_choice_saves():
    peaks = [peak_of("pbft_bitfit", size=8, kl_over="labels", logits=logits) for logits in ("labels", "last", "all")]
    assert peaks == sorted(peaks)
    assert peak_of("cd_bitfit", checkpointing=True) < peak_of("cd_bitfit")
    assert peak_of("cd_bitfit", training_dtype="bfloat16") < peak_of("cd_bitfit")
    assert peak_of("pbft", optimizer="sgd") < peak_of("pbft")


def test_the_highest_peak_is_of_the_phases_that_make_the_student():
    assert highest_phase(at_true_scale("cd")) == "teacher"
    assert highest_phase(at_true_scale("pbft")) == "training"
    assert highest_phase(at_true_scale("icl")) == "evaluation"
