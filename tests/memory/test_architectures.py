"""Architectures: the published sizes, and a clear word where one is not known."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from lib.errors import StudyError
from lib.memory.architectures import OPT, architecture

# Numbers of parameters as the published checkpoints hold them.
PUBLISHED = {
    "facebook/opt-125m": 125_239_296,
    "facebook/opt-350m": 331_196_416,
    "facebook/opt-1.3b": 1_315_758_080,
    "facebook/opt-2.7b": 2_651_596_800,
    "facebook/opt-6.7b": 6_658_473_984,
    "facebook/opt-13b": 12_853_473_280,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_a_published_opt_has_its_published_number_of_parameters(name, parameters):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_model_of_ones_own_is_known_by_its_folder(tmp_path):
    architecture("facebook/opt-350m").save_pretrained(tmp_path)
    assert architecture(str(tmp_path)).word_embed_proj_dim == 512


def test_an_unknown_model_is_an_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(StudyError, match=r"no folder.*Known without any file: facebook/opt-125m") as error:
        architecture(str(tmp_path / "nothing"))
    assert all(name in str(error.value) for name in OPT)
