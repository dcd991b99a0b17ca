"""Errors that name what was wrong and what is allowed."""

import pytest

from lib.errors import NonFiniteLossError, RefusedMethod, StudyError, first_line, require_one_of, unwritable


def test_an_allowed_value_passes():
    require_one_of("pattern", "gpt-3", ["minimal", "gpt-3"])


def test_an_unknown_value_is_refused_with_its_key_and_all_choices():
    with pytest.raises(StudyError, match=r"^pattern: 'zzz' is not known\. Allowed: minimal, gpt-3\.$"):
        require_one_of("pattern", "zzz", ["minimal", "gpt-3"])


def test_a_misspelt_value_is_answered_with_the_nearest_choice():
    with pytest.raises(StudyError, match=r"'minmal'.*Did you mean 'minimal'\?.*minimal, gpt-3"):
        require_one_of("pattern", "minmal", ["minimal", "gpt-3"])


def test_choices_need_not_be_text():
    require_one_of("size", 4, iter([1, 4]))
    with pytest.raises(StudyError, match=r"size: 3 is not known.*Allowed: 1, 4\."):
        require_one_of("size", 3, iter([1, 4]))


@pytest.mark.parametrize("kind", [RefusedMethod, NonFiniteLossError])
def test_every_kind_of_error_is_a_study_error(kind):
    assert issubclass(kind, StudyError)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such file\nat line 3"), "no such file"),
        (ValueError("invalid 'hidden_size':\n    ValueError: it must be positive.\nSee above."),
         "invalid 'hidden_size': ValueError: it must be positive."),
        (ValueError("one of:\n(1) a file,\n(2) a folder\nmore"), "one of: (1) a file, (2) a folder"),
        (ValueError("one of:"), "one of:"),
        (KeyError("nope"), "nothing is known under 'nope'"),
        (ValueError(""), "ValueError"),
    ],
)  # fmt: skip
def test_what_a_library_says_is_one_line_that_is_not_cut_off(error, said):
    assert first_line(error) == said


@pytest.mark.parametrize(("text", "wrong"), [("é 你", ""), ("", ""), ("a\0", "NUL"), ("a\ud800", "surrogate")])
def test_a_text_that_no_file_takes_is_told(text, wrong):
    assert wrong in unwritable(text)
    assert bool(unwritable(text)) == bool(wrong)
