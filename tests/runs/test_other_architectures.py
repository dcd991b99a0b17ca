"""Studies whose models are of other kinds: what applies is computed and drawn, what does not is refused by name."""

import warnings

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, T5Config

from lib.errors import StudyError
from lib.memory.predictions import of_profile
from lib.models import random_models
from lib.report.accuracy_and_cost import accuracy_figure, cost_figure, drawn_costs
from lib.runs.execution import fill
from lib.runs.profile import read_profile
from tests.support.architectures import configuration

FEW = {"support_sizes": [4], "seeds": [0]}


def saved(folder, config):
    """A random model with the smoke profile's tokenizer; its vocabulary is filled up to 256."""
    config.vocab_size = 256
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    random_models.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def student(tmp_path):
    return lambda name: saved(tmp_path / "student", configuration(name))


@pytest.fixture
def study(figures_folder):
    return lambda changes: read_profile("smoke", FEW | changes)


@pytest.mark.usefixtures("close_figures")
def test_a_method_that_does_not_apply_is_refused_and_the_others_are_drawn(study, student):
    profile = study({"student": student("falcon mamba")})
    methods = ["baseline", "icl", "teacher_icl", "pbft", "pbft_lora", "cd"]
    with pytest.warns(UserWarning, match="whole prompts are read"):
        sweep = fill(profile, methods)
    assert set(sweep.results.method) == {"baseline", "icl", "teacher_icl", "pbft", "cd"}
    assert not sweep.failed
    assert list(sweep.refused) == ["pbft_lora"]
    assert sweep.refused["pbft_lora"].startswith("lora: ")
    notes = "\n".join(text.get_text() for text in accuracy_figure(sweep, "fig1").texts)
    assert "PBFT + LoRA: refused, the model takes no LoRA adapter" in notes


@pytest.mark.usefixtures("close_figures")
@pytest.mark.parametrize("name", ["gpt", "falcon mamba", "qwen2 moe"])
def test_what_cannot_be_predicted_is_named_and_the_rest_is_drawn(study, student, name):
    profile = study({"student": student(name)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sweep = fill(profile, ["icl", "teacher_icl"])
    costs = drawn_costs(sweep, of_profile(profile, ["icl", "teacher_icl"]))
    assert list(costs.failed) == ["memory of icl"]
    assert costs.failed["memory of icl"].startswith("memory: ")
    assert costs.results.set_index("method").memory_gb.isna().to_dict() == {"icl": True, "teacher_icl": False}
    assert "memory of icl: failed" in "\n".join(text.get_text() for text in cost_figure(costs, "fig2").texts)


def test_the_vocabulary_is_compared_where_one_tokenizer_has_models_of_unlike_widths(study, student):
    for roles in (("student", "teacher"), ("teacher", "student")):
        own = dict(zip(roles, (student("opt"), f"random-opt-{roles[1]}"), strict=True))
        sweep = fill(study({**own, "kl_over": "vocabulary", "name": f"wide_{roles[0]}"}), ["cd"])
        assert len(sweep.results) == 1
        assert not sweep.failed


@pytest.mark.parametrize("config", [BertConfig(), T5Config()], ids=["encoder", "encoder and decoder"])
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_model_that_does_not_read_from_left_to_right_is_refused_before_anything_is_computed(
    study, config, role, tmp_path, figures_folder
):
    config.save_pretrained(tmp_path / "model")
    random_models.tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(StudyError, match=rf"^model: '{tmp_path / 'model'}' is .*{config.model_type}"):
        fill(study({role: str(tmp_path / "model")}), ["icl", "cd"])
    assert not figures_folder.exists()


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [("hidden_size", -4, "-4"), ("ffn_dim", 48, "[48, 32]"), ("num_hidden_layers", 3, "layers.2")],
)
def test_weights_that_are_not_the_configurations_are_refused_before_anything_is_computed(
    study, student, key, value, named, figures_folder
):
    folder = student("opt")
    config = AutoConfig.from_pretrained(folder)
    setattr(config, key, value)
    config.save_pretrained(folder)
    with pytest.raises(StudyError) as caught:
        fill(study({"student": folder}), ["icl"])
    assert folder in str(caught.value)
    assert named in str(caught.value)
    assert not figures_folder.exists()
