"""Prompts: their text, and their token ids under tokenizers that split text differently."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lib.errors import StudyError
from lib.tasks.patterns import CONTENT_FREE_TEXTS, LABEL_WORDS, PATTERNS, fill
from lib.tasks.prompts import EncodedPrompts, answer_tokens, encode, first_tokens, prompt
from lib.tasks.task import Query

SHOWN = [
    ("The chef cooked soup.", "The chef cooked.", 0),
    ("Two boys play chess.", "The boys sleep.", 1),
]
ASKED = [
    ("The chef cooked rice.", "The chef cooked.", 0),
    ("The chef slept at noon.", "Nobody slept.", 1),
    ("An old dog – très vieux – sleeps.", "A dog sleeps.", 0),
    *((text, text, 0) for text in CONTENT_FREE_TEXTS),
]


def queries(name, pairs):
    return [
        Query(fill(PATTERNS[name], {"premise": premise, "hypothesis": hypothesis}), LABEL_WORDS[name], gold)
        for premise, hypothesis, gold in pairs
    ]


def prompts_of(name, shown=SHOWN):
    return [prompt(queries(name, shown), query) for query in queries(name, ASKED)]


CORPUS = [prompt(queries(name, SHOWN), query) + "\n\n" for name in PATTERNS for query in queries(name, SHOWN)] * 3
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
every_pattern = pytest.mark.parametrize("name", PATTERNS)


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
def test_prefix_and_suffix_are_the_tokens_of_the_whole(tokenizer, name, shown):
    texts = prompts_of(name, shown)
    encoded = encode(tokenizer, texts, 10_000)
    assert [encoded.prefix + suffix for suffix in encoded.suffixes] == [tokenizer(text)["input_ids"] for text in texts]
    assert [tokenizer.decode(encoded.prefix + s, skip_special_tokens=True) for s in encoded.suffixes] == texts


@every_tokenizer
@every_pattern
def test_the_prefix_is_as_long_as_it_can_be(tokenizer, name):
    suffixes = encode(tokenizer, prompts_of(name), 10_000).suffixes
    assert len({suffix[0] for suffix in suffixes}) > 1


@every_tokenizer
def test_demonstrations_are_in_the_shared_prefix(tokenizer):
    read = tokenizer.decode(encode(tokenizer, prompts_of("gpt-3"), 10_000).prefix)
    assert all(query.answered in read for query in queries("gpt-3", SHOWN))


@pytest.mark.parametrize("front", ["front", "front and newline runs"])
@pytest.mark.parametrize("shown", [[], SHOWN], ids=["alone", "after demonstrations"])
def test_a_token_that_stands_in_front_is_there_once(front, shown):
    tokenizer = TOKENIZERS[front]
    token = tokenizer("")["input_ids"][0]
    encoded = encode(tokenizer, prompts_of("gpt-3", shown), 10_000)
    for suffix in encoded.suffixes:
        whole = encoded.prefix + suffix
        assert whole[0] == token
        assert whole.count(token) == 1


@every_tokenizer
@pytest.mark.parametrize("copies", [1, 3])
def test_identical_prompts_leave_one_token_to_each_suffix(tokenizer, copies):
    text = prompts_of("gpt-3")[0]
    encoded = encode(tokenizer, [text] * copies, 10_000)
    assert encoded.suffixes == [tokenizer(text)["input_ids"][-1:]] * copies


@every_tokenizer
def test_a_prompt_that_begins_another_keeps_a_suffix(tokenizer):
    encoded = encode(tokenizer, ["Two boys play", "Two boys play chess."], 10_000)
    assert len(encoded.suffixes[0]) == 1
    assert len(encoded.suffixes[1]) > 1


def test_a_text_without_a_token_is_refused():
    with pytest.raises(StudyError, match=r"prompt: .*empty"):
        encode(TOKENIZERS["gpt2"], ["Two boys play", ""], 10_000)
    assert encode(TOKENIZERS["front"], ["Two boys play", ""], 10_000).suffixes[1]


def test_tokens_counts_the_prefix_once_and_every_suffix():
    assert EncodedPrompts([1, 2, 3], [[4], [5, 6], [7, 8, 9, 10]]).tokens == 3 + 1 + 2 + 4
    assert EncodedPrompts([], [[4], [5, 6]]).tokens == 3


@every_tokenizer
@pytest.mark.parametrize("room", [0, 3])
def test_a_prompt_that_does_not_fit_with_its_answer_is_refused_with_the_numbers(tokenizer, room):
    texts = prompts_of("gpt-3")
    longest = max(len(tokenizer(text)["input_ids"]) for text in texts)
    assert encode(tokenizer, texts, longest + room, room).suffixes
    with pytest.raises(StudyError, match=rf"prompt: {longest} tokens.* {longest + room - 1} positions") as caught:
        encode(tokenizer, texts, longest + room - 1, room)
    assert ("answer" in str(caught.value).split("positions")[0]) == (room > 0)


def test_the_prompt_that_does_not_fit_is_named_by_its_end():
    texts = ["Two boys.", "The chef cooked soup and rice for two boys at noon. Yes or No?\nanswer:"]
    with pytest.raises(StudyError, match=r"noon\. Yes or No\?\\nanswer:.*fewer demonstrations or shorter texts"):
        encode(TOKENIZERS["gpt2"], texts, 5)


@every_pattern
def test_a_demonstration_is_a_query_with_its_label_word(name):
    shown = queries(name, SHOWN)
    blocks = prompt(shown, shown[0]).split("\n\n")
    assert blocks == [*(f"{query.text} {LABEL_WORDS[name][query.gold]}" for query in shown), shown[0].text]


def test_the_gpt3_prompt_reads_as_the_paper_prints_it():
    text = prompt(queries("gpt-3", SHOWN[1:]), queries("gpt-3", ASKED)[0])
    assert text == (
        "Two boys play chess.\nquestion: The boys sleep. Yes or No?\nanswer: No\n\n"
        "The chef cooked rice.\nquestion: The chef cooked. Yes or No?\nanswer:"
    )


def test_the_label_of_a_query_is_never_shown():
    query = queries("minimal", ASKED)[0]
    shown, hidden = (prompt(queries("minimal", SHOWN), query._replace(gold=gold)) for gold in (0, 1))
    assert shown == hidden


WORDS = [("Yes", "No"), ("very much so", "No", "Yesterday"), ("Yes", "Yesterday")]


@every_tokenizer
@every_pattern
@pytest.mark.parametrize("words", WORDS)
def test_the_tokens_of_an_answer_are_what_follows_the_prompt(tokenizer, name, words):
    for text in prompts_of(name):
        before = tokenizer(text)["input_ids"]
        for word, tokens in zip(words, answer_tokens(tokenizer, text, words), strict=True):
            assert [*before, *tokens] == tokenizer(f"{text} {word}")["input_ids"]


@every_tokenizer
def test_answers_are_the_same_tokens_after_every_prompt_of_a_pattern(tokenizer):
    found = [answer_tokens(tokenizer, text, ("Yes", "very much so")) for text in prompts_of("gpt-3")]
    assert all(one == found[0] for one in found)


@every_tokenizer
def test_words_that_share_their_first_token_need_further_tokens(tokenizer):
    answers = answer_tokens(tokenizer, "answer:", ("Yes", "Yesterday"))
    assert answers[0][0] == answers[1][0]
    assert first_tokens(answers) is None


def test_words_that_share_only_their_space_need_further_tokens():
    answers = answer_tokens(byte_level(size=256), "answer:", ("Yes", "No"))
    assert [len(answer) for answer in answers] == [4, 3]
    assert first_tokens(answers) is None


@pytest.mark.parametrize(
    ("answers", "first"), [([[7], [3]], [7, 3]), ([[7, 1], [3, 1], [4]], [7, 3, 4]), ([[7, 1], [3], [7, 2]], None)]
)
def test_first_tokens_are_there_where_all_of_them_differ(answers, first):
    assert first_tokens(answers) == first


def test_two_answers_of_the_same_tokens_are_refused_with_both_tokenisations():
    lower = Tokenizer(models.WordLevel({"<unk>": 0, "answer": 1}, unk_token="<unk>"))
    lower.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=lower, unk_token="<unk>")
    with pytest.raises(StudyError, match=r"label_words: .*'Yes' = \['<unk>'\]; 'No' = \['<unk>'\]"):
        answer_tokens(tokenizer, "answer", ("Yes", "No"))


def test_a_word_that_merges_with_the_text_before_it_is_refused():
    bpe = Tokenizer(models.BPE())
    bpe.train_from_iterator(
        ["answer: Yes"] * 9, trainers.BpeTrainer(initial_alphabet=list("answer: YesNo?"), show_progress=False)
    )
    with pytest.raises(StudyError, match="label_words: 'Yes' merges"):
        answer_tokens(PreTrainedTokenizerFast(tokenizer_object=bpe), "answer:", ("Yes", "No"))


def test_a_tokenizer_that_ends_every_text_with_a_token_of_its_own_is_refused():
    ending = byte_level()
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A !", special_tokens=[("!", ending.convert_tokens_to_ids("!"))]
    )
    with pytest.raises(StudyError, match="label_words: 'Yes'"):
        answer_tokens(ending, "answer:", ("Yes", "No"))
