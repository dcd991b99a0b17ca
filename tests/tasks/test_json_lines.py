"""JSON lines with the number of each line, and errors that name file, line and fault."""

import json

import pytest

from lib.errors import StudyError
from lib.tasks.json_lines import json_lines


def write(tmp_path, content):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return file


def test_each_object_comes_with_its_line_number_and_blank_lines_count(tmp_path):
    file = write(tmp_path, '{"a": 1}\n\n  \t\n{"b": [2, null]}\n{}')
    assert json_lines(file) == [(1, {"a": 1}), (4, {"b": [2, None]}), (5, {})]


def test_an_empty_file_has_no_rows(tmp_path):
    assert json_lines(write(tmp_path, "")) == json_lines(write(tmp_path, "\n \n")) == []


@pytest.mark.parametrize("text", ["Ça va – 好 🙂", "one\u2028two\u0085three\x0cfour", "  padded  "])
def test_a_text_is_read_as_it_was_written(tmp_path, text):
    line = json.dumps({"text": text}, ensure_ascii=False)
    assert json_lines(write(tmp_path, f"{line}\n{line}\n")) == [(1, {"text": text}), (2, {"text": text})]


def test_windows_line_ends_are_read(tmp_path):
    assert json_lines(write(tmp_path, '{"a": 1}\r\n\r\n{"b": 2}\r\n')) == [(1, {"a": 1}), (3, {"b": 2})]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"a": oops}', r"not JSON \(Expecting value at column 7\)\."),
        (b'{"a": 1} {"a": 2}', r"not JSON \(Extra data at column 10\)\."),
        (b'["a", "b"]', r"not an object\."),
        (b"null", r"not an object\."),
        (b'{"a": "caf\xe9"}', r"not UTF-8 \(.+ at byte 10\)\."),
    ],
    ids=["no value", "two objects", "a list", "null", "latin-1"],
)
def test_a_bad_line_is_refused_with_file_and_line_number(tmp_path, line, fault):
    file = write(tmp_path, b'{"a": 1}\n\n' + line + b'\n{"a": 1}\n')
    with pytest.raises(StudyError, match=r"rows\.jsonl, line 3: " + fault) as caught:
        json_lines(file)
    assert str(file) in str(caught.value)


def test_a_byte_order_mark_before_the_first_line_is_accepted(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')
    assert json_lines(file) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5_000], ids=["nested deeply", "of many digits"])
def test_what_no_parser_reads_is_named_by_its_line(tmp_path, value):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n{"a": ' + value)
    with pytest.raises(StudyError, match=r"rows\.jsonl, line 2"):
        json_lines(file)
