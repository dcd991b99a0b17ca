"""When a cache may stand for what was read: compared once a model, at the lengths at which it may fail."""

import copy
import math
import warnings

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel

from lib.errors import StudyError
from lib.models.cached_prompts import cache_serves
from lib.models.scoring import answer_log_probs, score_answers, tokens_read
from lib.tasks.prompts import EncodedPrompts
from tests.support.architectures import VOCABULARY, configuration, random_model

PROMPTS = EncodedPrompts([7, 3, 41, 12, 5, 1, 2], [[5, 9, 30], [17]])
ANSWERS = [[[11], [12, 13]]] * 2
HALF = [torch.float16, torch.bfloat16]


def ids(length):
    return [(7 * i + 3) % VOCABULARY for i in range(length)]


@pytest.fixture
def passes():
    """Counts the forward passes of a model."""

    def count(model):
        seen = []
        model.register_forward_pre_hook(lambda *_: seen.append(1))
        return seen

    return count


def test_a_model_is_tried_once_and_says_once_that_whole_prompts_are_read(passes):
    model = random_model("gpt")
    with pytest.warns(
        UserWarning, match="openai-gpt: whole prompts are read, and padded in training, which takes longer: its"
    ):
        assert not cache_serves(model, ids(20))
    seen = passes(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not cache_serves(model, ids(40))
    assert seen == []


def test_trying_a_model_costs_few_passes_over_few_tokens(passes):
    model = random_model("llama")
    read = []
    model.register_forward_pre_hook(lambda _, __, named: read.append(named["input_ids"].numel()), with_kwargs=True)
    assert cache_serves(model, ids(200))
    assert len(read) <= 4
    assert sum(read) <= 42


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("name", "serves"), [("llama", True), ("qwen2", True), ("opt", True), ("gpt", False)])
@pytest.mark.filterwarnings("ignore:.*whole prompts are read")
def test_rounding_is_no_difference_and_a_cache_that_is_ignored_is(dtype, name, serves):
    assert cache_serves(random_model(name).to(dtype), ids(20)) == serves


@pytest.mark.filterwarnings("ignore:.*whole prompts are read")
@pytest.mark.parametrize(("name", "reach"), [("phi3, longrope", 24), ("mistral, window", 7)])
def test_a_cache_serves_as_far_as_it_reaches(name, reach):
    config = configuration(name)
    model = random_model(name)
    if name == "mistral, window":  # long enough a window for the shortest comparison
        config.sliding_window, reach = 30, 29
        model = type(model)(config).eval()
    assert cache_serves(model, ids(reach))
    assert not cache_serves(model, ids(reach + 1))
    assert cache_serves(model, ids(reach))


@pytest.mark.filterwarnings("ignore:.*whole prompts are read")
def test_lengths_that_the_configuration_names_are_tried_where_prompts_are_as_long():
    config = configuration("gpt neo")
    config.window_size = 60
    torch.manual_seed(0)
    model = type(random_model("gpt neo"))(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    assert cache_serves(model, ids(50))
    assert not cache_serves(model, ids(80))


@pytest.mark.filterwarnings("ignore:.*whole prompts are read")
@pytest.mark.parametrize("prompts", [PROMPTS, EncodedPrompts([], PROMPTS.suffixes)])
def test_a_model_that_reads_what_stands_behind_the_prompt_is_refused(prompts):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    model = BertLMHeadModel(BertConfig(vocab_size=VOCABULARY, initializer_range=0.3, **sizes))
    with pytest.raises(StudyError, match=r"^model: bert lets what stands behind a prompt change"):
        score_answers(model, prompts, ANSWERS, 2)


def test_tokens_that_are_read_are_those_of_whole_prompts_where_nothing_is_shared():
    assert tokens_read(random_model("llama"), PROMPTS) == 7 + 3 + 1
    with pytest.warns(UserWarning, match="whole prompts are read"):
        assert tokens_read(random_model("gpt"), PROMPTS) == 10 + 8


@pytest.mark.filterwarnings("ignore:.*whole prompts are read")
@pytest.mark.parametrize("name", ["llama", "gpt", "mpt", "lfm2"])
def test_trying_a_model_leaves_training_as_it_was(name):
    model = random_model(name).train()
    prompts = [PROMPTS.prefix + suffix for suffix in PROMPTS.suffixes]
    state = copy.deepcopy(model.state_dict())
    before = torch.get_rng_state()
    cache_serves(model, ids(30))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    scores = torch.cat(answer_log_probs(model, prompts, ANSWERS))
    assert scores.requires_grad
    assert math.isfinite(scores.sum().item())


@pytest.mark.filterwarnings("ignore:.*whole prompts are read")
@pytest.mark.parametrize("name", ["gpt", "mpt", "lfm2", "phi3, longrope"])
def test_gradients_of_whole_prompts_are_those_of_plain_passes(name):
    model = random_model(name)
    prompts = [ids(27), ids(5)]
    found = torch.cat(answer_log_probs(model, prompts, ANSWERS)).sum()
    plain = [
        model(input_ids=torch.tensor([prompt + answer]), use_cache=False)
        .logits[0]
        .log_softmax(-1)[len(prompt) - 1 + i, token]
        for prompt in prompts
        for answer in ANSWERS[0]
        for i, token in enumerate(answer)
    ]
    torch.testing.assert_close(found, torch.stack(plain).sum())
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (found, torch.stack(plain).sum())]
    for one, other in zip(*gradients, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
