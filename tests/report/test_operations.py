"""Operations of runs: counted by torch itself, and by the tokens that runs say they read."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.memory.architectures import random_model
from lib.memory.peaks import Setting
from lib.memory.prompt_lengths import real_lengths
from lib.methods.context_distillation import ask_teacher, run_method
from lib.methods.in_context_distillation import tune_teacher
from lib.report import operations
from lib.report.limit import weights_a_token
from lib.runs.profile import read_profile


@pytest.fixture(scope="module")
def smoke():
    return read_profile("smoke", {"support_sizes": [4], "seeds": [1]})


def setting(profile, method):
    (run,) = profile.runs((method,))
    return Setting(run, real_lengths(run))


@pytest.mark.parametrize(("trained", "expected"), [(False, operations.READ), (True, operations.TRAINED)])
def test_torch_counts_as_many_operations_a_weight_and_token(trained, expected):
    decoder = random_model("facebook/opt-125m", "float32", "meta").model.decoder.requires_grad_(trained)
    ids = torch.zeros(2, 50, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        hidden = decoder(input_ids=ids, use_cache=False).last_hidden_state
        if trained:
            hidden.sum().backward()
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    products = sum(count for name, count in counts.items() if name in ("aten.addmm", "aten.mm"))
    assert products / ids.numel() / weights_a_token("facebook/opt-125m") == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("method", ["icl", "pbft", "cd"])
def test_tokens_are_those_that_a_run_says_it_read(smoke, method):
    one = setting(smoke, method)
    soft_labels = ask_teacher(one.run.needs, False) if one.run.needs else None
    costs = run_method(one.run, soft_labels, False).costs
    tokens = operations.READ * costs["evaluation"].tokens
    tokens += operations.TRAINED * costs["training"].tokens if "training" in costs else 0
    assert operations.of_run(one).total() == tokens * weights_a_token(one.run.model)
    if soft_labels:
        asked = operations.READ * soft_labels.cost.tokens * weights_a_token(smoke.teacher)
        assert operations.of_labelling(one).total() == asked


def test_tokens_of_episodes_are_estimated_from_their_characters(smoke):
    run = next(run for run in smoke.in_context_runs("lama") if run.method == "icl_d")
    said = tune_teacher(run.needs, False).cost.tokens
    estimated = operations.of_tuned_teacher(run.needs).total() / operations.TRAINED / weights_a_token(run.needs.model)
    assert 0.5 < estimated / said < 2
    assert operations.of_run_in_context(run).total() > operations.of_tuned_teacher(run.needs).total() / 3


def test_plain_text_is_work_of_its_own(smoke):
    with_text, without = (
        next(run for run in smoke.in_context_runs("lama") if run.method == name) for name in ("icl_d_lm", "icl_d")
    )
    more = operations.of_run_in_context(with_text).total() - operations.of_run_in_context(without).total()
    tokens = 4 * 2 * 200 / 4  # steps, texts of each, characters of each, characters a token
    weights = 6 * weights_a_token(smoke.student) + 2 * weights_a_token(smoke.teacher)
    assert more == pytest.approx(tokens * weights)


def test_seconds_are_added_up_by_data_type():
    work = operations.Operations({"float32": 100, "bfloat16": 100})
    assert operations.seconds(work, {"float32": 10, "bfloat16": 50}) == 12
