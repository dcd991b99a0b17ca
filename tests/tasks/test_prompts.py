"""Prompts: their text, and their token ids under tokenizers that split text differently."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lib.errors import StudyError
from lib.tasks.prompts import (
    CONTENT_FREE,
    PATTERNS,
    EncodedPrompts,
    Pattern,
    encode,
    label_token_ids,
    label_words,
    prompt,
)
from lib.tasks.task import Example

SHOWN = [
    Example("The chef cooked soup.", "The chef cooked.", 0),
    Example("Two boys play chess.", "The boys sleep.", 1),
]
QUERIES = [
    Example("The chef cooked rice.", "The chef cooked.", 0),
    Example("The chef slept at noon.", "Nobody slept.", 1),
    Example("An old dog – très vieux – sleeps.", "A dog sleeps.", 0),
    *CONTENT_FREE,
]
CORPUS = [prompt(p, p.label_words, SHOWN, query) + "\n\n" for p in PATTERNS.values() for query in SHOWN] * 3
NEWLINE_RUNS = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(split=None, front=None, size=500):
    """A byte-level BPE tokenizer trained on the prompts, split as GPT-2 splits unless told otherwise."""
    bpe = Tokenizer(models.BPE())
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    own = [pre_tokenizers.Split(Regex(split), behavior="isolated")] if split else []
    bpe.pre_tokenizer = pre_tokenizers.Sequence([*own, as_bytes])
    bpe.decoder = decoders.ByteLevel()
    special = [front] if front else []
    bpe.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=as_bytes.alphabet(), special_tokens=special, show_progress=False
        ),
    )
    if front:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{front} $A", special_tokens=[(front, bpe.token_to_id(front))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


TOKENIZERS = {
    "gpt2": byte_level(),
    "newline runs": byte_level(NEWLINE_RUNS),
    "front": byte_level(front="</s>"),
    "front and newline runs": byte_level(NEWLINE_RUNS, front="<s>"),
}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
every_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)


def prompts_of(pattern, shown=SHOWN):
    return [prompt(pattern, pattern.label_words, shown, query) for query in QUERIES]


def test_the_tokenizers_disagree_on_a_blank_line():
    gpt2, runs = (
        TOKENIZERS[name].convert_ids_to_tokens(TOKENIZERS[name]("soup.\n\nTwo")["input_ids"])
        for name in ("gpt2", "newline runs")
    )
    assert "ĊĊ" not in gpt2
    assert "ĊĊ" in runs


@every_tokenizer
@every_pattern
@pytest.mark.parametrize("shown", [[], SHOWN], ids=["alone", "after demonstrations"])
def test_prefix_and_suffix_are_the_tokens_of_the_whole(tokenizer, pattern, shown):
    texts = prompts_of(pattern, shown)
    encoded = encode(tokenizer, texts, 10_000)
    assert [encoded.prefix + suffix for suffix in encoded.suffixes] == [tokenizer(text)["input_ids"] for text in texts]
    assert [tokenizer.decode(encoded.prefix + s, skip_special_tokens=True) for s in encoded.suffixes] == texts


@every_tokenizer
@every_pattern
def test_the_prefix_is_as_long_as_it_can_be(tokenizer, pattern):
    suffixes = encode(tokenizer, prompts_of(pattern), 10_000).suffixes
    assert len({suffix[0] for suffix in suffixes}) > 1


@every_tokenizer
def test_demonstrations_are_in_the_shared_prefix(tokenizer):
    pattern = PATTERNS["gpt-3"]
    read = tokenizer.decode(encode(tokenizer, prompts_of(pattern), 10_000).prefix)
    assert all(f"{pattern.query(row)} {pattern.label_words[row.label]}" in read for row in SHOWN)


@pytest.mark.parametrize("name", ["front", "front and newline runs"])
@pytest.mark.parametrize("shown", [[], SHOWN], ids=["alone", "after demonstrations"])
def test_a_token_that_stands_in_front_is_there_once(name, shown):
    tokenizer = TOKENIZERS[name]
    front = tokenizer("")["input_ids"][0]
    encoded = encode(tokenizer, prompts_of(PATTERNS["gpt-3"], shown), 10_000)
    for suffix in encoded.suffixes:
        whole = encoded.prefix + suffix
        assert whole[0] == front
        assert whole.count(front) == 1


@every_tokenizer
@pytest.mark.parametrize("copies", [1, 3])
def test_identical_prompts_leave_one_token_to_each_suffix(tokenizer, copies):
    text = prompts_of(PATTERNS["gpt-3"])[0]
    encoded = encode(tokenizer, [text] * copies, 10_000)
    assert encoded.suffixes == [tokenizer(text)["input_ids"][-1:]] * copies


@every_tokenizer
def test_a_prompt_that_begins_another_keeps_a_suffix(tokenizer):
    encoded = encode(tokenizer, ["Two boys play", "Two boys play chess."], 10_000)
    assert len(encoded.suffixes[0]) == 1
    assert len(encoded.suffixes[1]) > 1


def test_tokens_counts_the_prefix_once_and_every_suffix():
    assert EncodedPrompts([1, 2, 3], [[4], [5, 6], [7, 8, 9, 10]]).tokens == 3 + 1 + 2 + 4
    assert EncodedPrompts([], [[4], [5, 6]]).tokens == 3


@every_tokenizer
def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(tokenizer):
    texts = prompts_of(PATTERNS["gpt-3"])
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert encode(tokenizer, texts, max(lengths)).suffixes
    with pytest.raises(StudyError, match=rf"{max(lengths)} tokens do not fit the model's {max(lengths) - 1} positions"):
        encode(tokenizer, texts, max(lengths) - 1)


def test_the_prompt_that_does_not_fit_is_named_by_its_end():
    texts = ["Two boys.", "The chef cooked soup and rice for two boys at noon. Yes or No?\nanswer:"]
    with pytest.raises(StudyError, match=r"noon\. Yes or No\?\\nanswer:.*fewer demonstrations or shorter texts"):
        encode(TOKENIZERS["gpt2"], texts, 5)


@pytest.mark.parametrize("name", ["gpt-3", "eval-harness"])
def test_patterns_hold_real_newlines(name):
    assert len(PATTERNS[name].query(SHOWN[0]).splitlines()) == 3
    assert "\\" not in PATTERNS[name].template


@every_pattern
@pytest.mark.parametrize("query", [*QUERIES, Example(" padded ", " text \n", 0)])
def test_no_prompt_ends_in_a_space(pattern, query):
    for shown in ([], SHOWN):
        text = prompt(pattern, pattern.label_words, shown, query)
        assert text == text.rstrip()


@every_pattern
def test_premise_and_hypothesis_are_both_in_the_query_without_space_around_them(pattern):
    text = pattern.query(Example(" One {brace}. ", "\tTwo. ", 1))
    assert text == pattern.query(Example("One {brace}.", "Two.", 1))
    assert "One {brace}." in text
    assert "Two." in text


@every_pattern
def test_a_demonstration_is_a_query_with_its_label_word(pattern):
    blocks = prompt(pattern, pattern.label_words, SHOWN, SHOWN[0]).split("\n\n")
    answered = [f"{pattern.query(row)} {word}" for row, word in zip(SHOWN, pattern.label_words, strict=True)]
    assert blocks == [*answered, blocks[0].removesuffix(f" {pattern.label_words[0]}")]


def test_the_gpt3_prompt_reads_as_the_paper_prints_it():
    text = prompt(PATTERNS["gpt-3"], ("Yes", "No"), [SHOWN[1]], QUERIES[0])
    assert text == (
        "Two boys play chess.\nquestion: The boys sleep. Yes or No?\nanswer: No\n\n"
        "The chef cooked rice.\nquestion: The chef cooked. Yes or No?\nanswer:"
    )


def test_the_label_of_a_query_is_never_shown():
    shown, hidden = (prompt(PATTERNS["minimal"], ("Yes", "No"), SHOWN, QUERIES[0]._replace(label=i)) for i in (0, 1))
    assert shown == hidden


@every_tokenizer
@every_pattern
def test_label_tokens_are_what_follows_the_prompt(tokenizer, pattern):
    ids = label_token_ids(tokenizer, pattern, pattern.label_words)
    for text in prompts_of(pattern):
        before = tokenizer(text)["input_ids"]
        for word, token in zip(pattern.label_words, ids, strict=True):
            assert tokenizer(f"{text} {word}")["input_ids"][: len(before) + 1] == [*before, token]


@every_tokenizer
def test_words_that_share_their_first_token_are_refused_with_both_tokenisations(tokenizer):
    pattern = PATTERNS["gpt-3"]
    words = ("Yes", "Yesterday")
    first, second = (tokenizer.tokenize(f" {word}") for word in words)
    with pytest.raises(StudyError) as caught:
        label_token_ids(tokenizer, pattern, words)
    message = str(caught.value)
    assert message.startswith("label_words: each needs a first token of its own")
    assert f"'Yes' = {first}" in message
    assert f"'Yesterday' = {second}" in message


def test_words_that_share_only_their_space_are_refused():
    with pytest.raises(StudyError, match=r"label_words: .*'Yes' = \['Ġ', .*'No' = \['Ġ', "):
        label_token_ids(byte_level(size=256), PATTERNS["gpt-3"], ("Yes", "No"))


def test_a_word_that_merges_with_the_pattern_is_refused():
    bpe = Tokenizer(models.BPE())
    bpe.train_from_iterator(
        ["answer: Yes"] * 9, trainers.BpeTrainer(initial_alphabet=list("answer: YesNo?"), show_progress=False)
    )
    with pytest.raises(StudyError, match="label_words: 'Yes' merges with the text before it"):
        label_token_ids(
            PreTrainedTokenizerFast(tokenizer_object=bpe), Pattern("{hypothesis}answer:", ("Yes", "No")), ("Yes", "No")
        )


@pytest.mark.parametrize("words", [("Yes",), ("Yes", "Maybe", "No")])
def test_there_is_one_label_word_for_each_class(words):
    with pytest.raises(StudyError, match=rf"label_words: \['Yes'.*has {len(words)} words, but 2 classes need one each"):
        label_words(PATTERNS["gpt-3"], words)


def test_chosen_label_words_replace_the_patterns_own():
    assert label_words(PATTERNS["gpt-3"], ["true", "false"]) == ("true", "false")
    assert label_words(PATTERNS["gpt-3"], None) == ("Yes", "No")
    assert label_words(PATTERNS["eval-harness"], None) == ("True", "False")
