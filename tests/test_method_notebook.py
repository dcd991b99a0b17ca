"""The notebook of the method in plain torch: what it reads off the models is what the study reads."""

import nbformat
import numpy as np
import pytest
import torch

from lib.paths import ROOT
from lib.runs.execution import fill
from tests.support.own_data import TWO_TOKEN_WORDS, WORDS, things


def run_until(name, **parameters):
    """What the notebook's cells define, up to the one that defines a name."""
    cells = nbformat.read(ROOT / "notebooks" / "13_method.ipynb", as_version=4).cells
    defined = {}
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        exec(cell.source, defined)  # the study's own notebook
        if "parameters" in cell.metadata.get("tags", []):
            defined |= parameters
        if name in defined:
            return defined
    raise AssertionError(f"no cell defines {name}")


@pytest.mark.parametrize("words", [WORDS, TWO_TOKEN_WORDS], ids=["one token a word", "two tokens a word"])
@pytest.mark.parametrize("method", ["baseline", "teacher_icl"])
def test_it_compares_label_words_as_the_study_does(smoke_profile, tmp_path, words, method):
    profile = smoke_profile.changed(things(tmp_path, words, seeds=[0], support_sizes=[3], pool_size=3))
    (result,) = fill(profile, [method]).stored
    stored = result.outcome.evaluations["in_domain"].label_log_probs
    defined = run_until("label_logits", profile=profile.model_dump(mode="json"), support_size=3)
    student = method == "baseline"
    name = profile.student if student else profile.teacher
    before = [] if student else defined["support"]
    texts = [defined["prompt"](before, item) for item in defined["items"]]
    with torch.no_grad():
        found = defined["label_logits"](defined["student" if student else "teacher"], name, texts)
    expected = torch.tensor(stored).log_softmax(-1)
    np.testing.assert_allclose(found.log_softmax(-1).numpy(), expected.numpy(), atol=1e-4)
    assert expected.exp().std(0).max() > 1e-4  # the items are told apart
