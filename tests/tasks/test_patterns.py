"""Patterns: the text that puts a row to a model, which columns it names, and what is refused of it."""

import pytest

from lib.errors import StudyError
from lib.tasks.patterns import CONTENT_FREE_TEXTS, LABEL_WORDS, PATTERNS, content_free, fill, placeholders
from lib.tasks.task import Dataset, Query, Task

every_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
PAIRS = [
    {"premise": "The chef cooked rice.", "hypothesis": "The chef cooked."},
    {"premise": " padded ", "hypothesis": " text \n"},
    *({"premise": text, "hypothesis": text} for text in CONTENT_FREE_TEXTS),
]


@pytest.mark.parametrize("name", ["gpt-3", "eval-harness"])
def test_patterns_hold_real_newlines(name):
    assert len(fill(PATTERNS[name], PAIRS[0]).splitlines()) == 3
    assert "\\" not in PATTERNS[name]


def test_every_known_pattern_has_two_words_of_its_own():
    assert LABEL_WORDS.keys() == PATTERNS.keys()
    assert all(len(set(words)) == 2 for words in LABEL_WORDS.values())


@every_pattern
@pytest.mark.parametrize("fields", PAIRS)
def test_no_query_ends_in_a_space(pattern, fields):
    text = fill(pattern, fields)
    assert text == text.rstrip()
    assert text


def test_an_empty_field_at_the_end_leaves_no_space_behind():
    assert fill("review: {text}\nrating: {more}", {"text": "Fine.", "more": " "}) == "review: Fine.\nrating:"


@every_pattern
def test_every_field_is_in_the_query_without_space_around_it(pattern):
    text = fill(pattern, {"premise": " One {brace}. ", "hypothesis": "\tTwo. "})
    assert text == fill(pattern, {"premise": "One {brace}.", "hypothesis": "Two."})
    assert "One {brace}." in text
    assert "Two." in text


def test_known_patterns_name_premise_and_hypothesis():
    assert {tuple(placeholders(pattern)) for pattern in PATTERNS.values()} == {("premise", "hypothesis")}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{text}", ["text"]),
        ("{title}: {text} ({title})\nSentiment:", ["title", "text"]),
        ("{{not}} {text} }}", ["text"]),
    ],
)
def test_placeholders_are_the_columns_named_in_their_order_each_once(pattern, names):
    assert placeholders(pattern) == names


def test_doubled_braces_are_text():
    assert fill("{{label}}: {text} {{}}", {"text": "Fine."}) == "{label}: Fine. {}"


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("Is it good?", r"\[\]"),
        ("{{text}}?", r"\[\]"),
        ("", r"\[\]"),
        ("{} or {text}?", r"\['', 'text'\]"),
        ("{0}?", r"\['0'\]"),
        ("{a column}?", r"\['a column'\]"),
        ("{text.upper}?", r"\['text\.upper'\]"),
        ("{text[0]}?", r"\['text\[0\]'\]"),
        ("{text:>9}?", r"\['text'\]"),
        ("{text: }?", r"\['text'\]"),
        ("{text!r}?", r"\['text'\]"),
    ],
)
def test_a_pattern_needs_a_column_and_no_more_in_each_pair_of_braces(pattern, named):
    with pytest.raises(StudyError, match=rf"pattern: .*column.*{named}") as caught:
        placeholders(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("pattern", ["{text", "text} {text}", "{text} }", "{te{xt}"])
def test_braces_that_do_not_match_are_refused(pattern):
    with pytest.raises(StudyError, match=r"pattern: .*brace") as caught:
        placeholders(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("end", [" ", "\n", "\t", ": \n"])
def test_a_pattern_that_ends_in_a_space_is_refused(end):
    with pytest.raises(StudyError, match=r"pattern: .*ends in a space"):
        placeholders("{text}" + end)


def test_content_free_queries_have_every_field_without_content_and_the_tasks_options():
    task = Task("{title} / {text}\nsentiment:", ("+", "0", "-"), ("good", "so so", "bad"), Dataset("own", "."))
    assert content_free(task) == [
        Query("N/A / N/A\nsentiment:", task.label_words, 0),
        Query("[MASK] / [MASK]\nsentiment:", task.label_words, 0),
        Query(" / \nsentiment:", task.label_words, 0),
    ]
