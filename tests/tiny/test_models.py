"""The world's tokenizer knows every word of the world, and its models are what plain transformers loads."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXForCausalLM

from lib.tasks import world
from lib.tasks.patterns import PATTERNS, fill
from lib.tasks.prompts import SEPARATOR, answer_tokens, first_tokens, prompt
from lib.tasks.task import Query
from lib.tiny.models import VERDICTS, config, tokenizer


@pytest.fixture(scope="module")
def queries():
    pairs = [pair for dataset in world.DATASETS for pair in world.examples(dataset, "evaluation")]
    return [Query(fill(PATTERNS["minimal"], pair._asdict()), ("apple", "bear"), pair.label) for pair in pairs]


def test_every_word_of_the_world_is_one_known_token(queries):
    texts = [prompt(queries[i : i + 2], queries[i]) for i in range(500)]
    for ids in tokenizer()(texts)["input_ids"]:
        assert tokenizer().unk_token_id not in ids
    verbs = [form for verb in world.VERBS for form in (verb.base, verb.past)]
    for words in (world.PEOPLE, verbs, world.ADJECTIVES, world.PLACES, world.LABEL_WORDS, VERDICTS):
        assert all(len(tokenizer()(word)["input_ids"]) == 1 for word in words)


def test_tokens_are_the_words_in_order_with_the_blank_line_between_demonstrations():
    text = f"The tall baker did not praise the pilot. ? apple{SEPARATOR}Who ?"
    tokens = tokenizer().convert_ids_to_tokens(tokenizer()(text)["input_ids"])
    assert tokens == [
        "the",
        "tall",
        "baker",
        "did",
        "not",
        "praise",
        "the",
        "pilot",
        ".",
        "?",
        "apple",
        "\n\n",
        "who",
        "?",
    ]


def test_what_the_world_does_not_know_is_unknown():
    assert set(tokenizer()("N/A [MASK]")["input_ids"]) == {tokenizer().unk_token_id}


def test_every_two_label_words_can_be_told_apart():
    ids = first_tokens(answer_tokens(tokenizer(), "Who ?", world.LABEL_WORDS))
    assert len(set(ids)) == len(world.LABEL_WORDS)


def test_a_saved_model_and_tokenizer_are_loaded_by_plain_transformers(tmp_path, queries):
    model = GPTNeoXForCausalLM(config(16, 2, 2)).eval()
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    inputs = AutoTokenizer.from_pretrained(tmp_path)(queries[0].text, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == tokenizer()(queries[0].text)["input_ids"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_the_models_have_biases_to_tune():
    names = [name for name, _ in GPTNeoXForCausalLM(config(16, 2, 2)).named_parameters()]
    assert {"attention.dense.bias", "mlp.dense_4h_to_h.bias"} <= {name.split("layers.1.")[-1] for name in names}
