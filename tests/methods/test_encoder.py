"""How one model reads prompts and answers: always the tokens of the whole text, and never more than it has room for."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from lib.errors import StudyError
from lib.methods import encoder
from lib.methods.encoder import PromptEncoder
from lib.methods.episodes import Episode, demonstrations_of
from lib.models import random_models
from lib.tasks import smoke
from lib.tasks.few_shot import task_set
from lib.tasks.patterns import PATTERNS
from lib.tasks.prompts import prompt
from lib.tasks.task import Benchmark, Query

BENCHMARKS = (Benchmark("crossfit", "embedded"), Benchmark("lama", "embedded", target_tasks=2))


def byte_level(corpus, front=None):
    """A byte-level BPE tokenizer of the texts' own, with a token that stands in front where one is named."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[front] if front else [],
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    if front:
        bpe.post_processor = processors.TemplateProcessing(single=f"{front} $A", special_tokens=[(front, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


TOKENIZERS = {
    "word level": random_models.tokenizer(),
    "byte level": byte_level([text for text in smoke.TEXTS if "\n" not in text]),
    "front": byte_level(smoke.TEXTS, front="<s>"),
}


def reading(monkeypatch, tokenizer=None, positions=512):
    """An encoder of some model with these positions, and this tokenizer in place of the random models'."""
    if tokenizer:
        monkeypatch.setattr(encoder, "load_tokenizer", lambda reference: tokenizer)
    monkeypatch.setattr(encoder, "load_config", lambda reference: LlamaConfig(max_position_embeddings=positions))
    return PromptEncoder("random-opt-student")


@pytest.fixture(params=TOKENIZERS)
def reader(request, monkeypatch):
    return reading(monkeypatch, TOKENIZERS[request.param])


def whole(encoded):
    return [encoded.prefix + suffix for suffix in encoded.suffixes]


def asked_of_embedded_tasks(k=2):
    sets = [task_set(benchmark, 0) for benchmark in BENCHMARKS]
    tasks = [task for found in sets for task in (*found.training, *found.targets)]
    return [
        Episode(demonstrations_of(task, k, 0, 0), query) for task in tasks for query in (*task.examples, *task.items)
    ]


@pytest.mark.parametrize("k", [0, 2])
def test_a_prompts_tokens_and_an_answers_are_those_of_the_text_with_its_answer(reader, k):
    episodes = asked_of_embedded_tasks(k)
    for episode, ids in zip(episodes, whole(reader.prompts(episodes)), strict=True):
        answers = reader.answers(episode.query)
        assert len(answers) == len(episode.query.options)
        for option, tokens in zip(episode.query.options, answers, strict=True):
            assert ids + tokens == reader.tokenizer(f"{episode.text} {option}")["input_ids"]


@pytest.mark.parametrize("words", [("Yes", "No"), ("small plant", "small animal"), ("sea", "in the sea", "in the sky")])
@pytest.mark.parametrize("k", [0, 3])
def test_queries_of_a_pattern_after_the_same_demonstrations_are_read_whole(reader, k, words):
    pairs = [row for rows in smoke.PAIRS["pairs"].values() for row in rows]
    asked = [
        Query(PATTERNS["gpt-3"].format(premise=row[0], hypothesis=row[1]), words, i % len(words))
        for i, row in enumerate(pairs)
    ]
    shown = asked[:k]
    for query, ids in zip(asked, whole(reader.encode(shown, asked)), strict=True):
        text = prompt(shown, query)
        assert ids == reader.tokenizer(text)["input_ids"]
        for word, tokens in zip(words, reader.answers(query), strict=True):
            assert ids + tokens == reader.tokenizer(f"{text} {word}")["input_ids"]


def test_the_same_demonstrations_for_all_are_each_queries_own(reader):
    queries = asked_of_embedded_tasks(0)[:5]
    shown = [one.query for one in asked_of_embedded_tasks(0)[5:8]]
    apart = reader.prompts([(shown, one.query) for one in queries])
    assert reader.encode(shown, [one.query for one in queries]) == apart


def test_a_query_alone_is_read_as_its_text(reader):
    for episode in asked_of_embedded_tasks(0):
        assert reader.ids(episode.query) == reader.tokenizer(episode.query.text)["input_ids"]
    assert whole(reader.encode([], [episode.query])) == [reader.ids(episode.query)]


def test_some_answers_are_of_several_tokens(reader):
    assert max(len(ids) for episode in asked_of_embedded_tasks(0) for ids in reader.answers(episode.query)) > 2


def test_a_prompt_fits_with_its_longest_answer_and_not_with_a_position_less(monkeypatch):
    shown = (Query("dog\nAnswer:", ("plant", "in the sea"), 0),)
    asked = [
        Episode(shown, Query("whale\nAnswer:", options, 0)) for options in [("plant", "tree"), ("in the sea", "sea")]
    ]
    (ids, _), longest = whole(PromptEncoder("random-opt-student").prompts(asked)), 3
    assert whole(reading(monkeypatch, positions=len(ids) + longest - 1).prompts(asked)) == [ids, ids]
    short = reading(monkeypatch, positions=len(ids) + longest - 2)
    with pytest.raises(StudyError, match=rf"^prompt: {len(ids)} tokens .*whale\\nAnswer:'.*demonstrations"):
        short.prompts(asked)
    assert whole(short.prompts(asked[:1])) == [ids]


@pytest.mark.parametrize("reference", random_models.WIDTHS)
def test_an_encoder_has_the_tokenizer_and_the_positions_of_its_model(reference):
    many = tuple(Query("dog\nAnswer:", ("animal", "plant"), 0) for _ in range(120))
    found = PromptEncoder(reference)
    assert found.tokenizer is random_models.tokenizer()
    with pytest.raises(StudyError, match=r"^prompt: .* 512 positions"):
        found.prompts([Episode(many, many[0])])


def test_a_plain_text_fits_as_many_tokens_as_there_are_positions(monkeypatch):
    text = "A dog sleeps under the table ."
    ids = random_models.tokenizer()(text)["input_ids"]
    reading(monkeypatch, positions=len(ids)).require_room(["dog", text])
    with pytest.raises(StudyError, match=f"^prompt: {len(ids)} tokens .* {len(ids) - 1} positions"):
        reading(monkeypatch, positions=len(ids) - 1).require_room(["dog", text])


def test_answers_that_the_tokenizer_does_not_tell_apart_are_refused():
    found = PromptEncoder("random-opt-student")
    with pytest.raises(StudyError, match=r"^label_words: .*'plant'.*'zebu'.*'yak'"):
        found.answers(Query("dog\nAnswer:", ("plant", "zebu", "yak"), 0))


def letters_and_pairs(text):
    """Reads a text in pairs of characters, so that a word of odd length takes the space after it."""
    return {"input_ids": [hash(text[i : i + 2]) for i in range(0, len(text), 2)]}


def with_an_end(text):
    return {"input_ids": [*text.encode(), -1]}


def without_new_words(text):
    return {"input_ids": [ord(text[0])]}


@pytest.mark.parametrize("tokenizer", [letters_and_pairs, with_an_end, without_new_words])
def test_an_answer_that_changes_the_tokens_before_it_is_refused(monkeypatch, tokenizer):
    found = reading(monkeypatch, tokenizer)
    with pytest.raises(StudyError, match=r"^label_words: 'yes' merges with the text before it .*'odd'"):
        found.answers(Query("even odd", ("yes", "no"), 0))


def test_an_answer_follows_the_last_word_of_its_own_query(monkeypatch):
    def last_words_too(text):
        head, _, tail = text.partition(" ")
        return {"input_ids": [*map(ord, head), *(ord(letter) + len(head) * 1000 for letter in tail)]}

    found = reading(monkeypatch, last_words_too)
    read = [found.answers(Query(text, ("ab", "c"), 0)) for text in ("a one", "a three", "b\none")]
    assert read == [[[n * 1000 + 97, n * 1000 + 98], [n * 1000 + 99]] for n in (3, 5, 3)]


def test_a_token_that_the_model_does_not_have_is_refused(monkeypatch):
    config = LlamaConfig(vocab_size=5, max_position_embeddings=512)
    monkeypatch.setattr(encoder, "load_config", lambda _: config)
    with pytest.raises(StudyError, match=r"random-opt-student: its tokenizer gives token \d+, and the model has 5 "):
        PromptEncoder("random-opt-student").encode([], [Query("a red house", ("Yes", "No"), 0)])
