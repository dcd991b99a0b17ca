"""The tour's last cells in plain transformers say what the study's scorer says, of words of any number of tokens."""

import json

import pytest
import torch

from lib.models import random_models
from lib.models.scoring import class_log_probs
from lib.paths import NOTEBOOKS
from lib.tasks.prompts import EncodedPrompts, answer_tokens
from lib.tasks.task import Query

TEXT = "whale\nAnswer:"


def cell(beginning):
    cells = json.loads((NOTEBOOKS / "00_tour.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = [text for one in cells if (text := "".join(one["source"])).startswith(beginning)]
    return source


@pytest.mark.parametrize("words", [("animal", "plant"), ("in the sea", "in the sky"), ("in the sea", "plant")])
def test_the_exported_students_answer_is_that_of_the_study(words, tmp_path):
    model, tokenizer = random_models.model("random-opt-student"), random_models.tokenizer()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    *before, shown = cell("import torch\nfrom transformers").splitlines()
    names = {"folder": tmp_path, "query": Query(TEXT, words, 0)}
    exec("\n".join(before), names)
    found = eval(shown, names)
    prompt = EncodedPrompts([], [tokenizer(TEXT)["input_ids"]])
    expected = class_log_probs(model, prompt, answer_tokens(tokenizer, TEXT, words), 1).softmax(-1)[0]
    assert list(found) == list(words)
    assert list(found.values()) == pytest.approx(expected.tolist(), abs=2e-3)
    assert abs(found[words[0]] - 0.5) > 0.01
