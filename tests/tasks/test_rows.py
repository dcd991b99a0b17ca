"""Rows of files and of the hub: values as they stand there, the place of each row, and errors that name it."""

import json
from urllib.error import HTTPError

import pandas as pd
import pytest
from datasets.exceptions import DatasetNotFoundError

from lib.errors import StudyError
from lib.tasks import rows
from lib.tasks.rows import rows_of, rows_of_file, text_of, words_of
from lib.tasks.task import MissingTaskError
from tests.support.github import folder_of, github

LIKE_OTHER_VALUES = ["7", "007", "1.0", "True", "NA", "null", "None", "nan", "2021-01-01 00:00:00"]
separated = pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])


def write(folder, content, suffix="jsonl"):
    file = folder / f"rows.{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def lines(file):
    """(line, row) of each row that is read."""
    found = rows_of_file(file)
    assert all(where.startswith(f"{file}, line ") for where, _ in found)
    return [(int(where.rpartition(" ")[2]), row) for where, row in found]


def test_each_object_comes_with_its_line_and_blank_lines_count(tmp_path):
    file = write(tmp_path, '{"a": 1}\n\n  \t\n{"b": [2, null]}\n{}')
    assert lines(file) == [(1, {"a": 1}), (4, {"b": [2, None]}), (5, {})]


@separated
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_each_row_comes_with_the_line_on_which_it_begins(tmp_path, suffix, separator, line_break):
    text = ["text,label", '"one', "two", 'three",good', "", '"a ""b"", c",bad', "x,"]
    file = write(tmp_path, line_break.join(text).replace(",", separator), suffix)
    assert lines(file) == [
        (2, {"text": line_break.join(["one", "two", "three"]), "label": "good"}),
        (6, {"text": f'a "b"{separator} c', "label": "bad"}),
        (7, {"text": "x", "label": ""}),
    ]


def test_each_row_of_a_table_comes_with_its_number(tmp_path):
    file = tmp_path / "rows.parquet"
    records = [{"text": "NA", "label": 7, "made": None}, {"text": "1.0", "label": 0, "made": "by hand"}]
    pd.DataFrame(records).to_parquet(file)
    assert rows_of_file(file) == [(f"{file}, row {i}", record) for i, record in enumerate(records, start=1)]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_has_no_rows(tmp_path, content):
    assert rows_of_file(write(tmp_path, content)) == []


@pytest.mark.parametrize(
    "value", [7, 7.5, True, None, "7", "NA", "null", "None", "2021-01-01 00:00:00", ["a"], {"b": 1}]
)
def test_a_value_of_json_is_what_stands_in_the_file(tmp_path, value):
    records = [{"value": value}, {"value": 0.5}, {"value": "x"}, {}]
    file = write(tmp_path, "\n".join(map(json.dumps, records)))
    found = [row for _, row in rows_of_file(file)]
    assert found == records
    assert type(found[0]["value"]) is type(value)


@separated
@pytest.mark.parametrize(
    "value", ["7", "007", "1.0", "True", "NA", "null", "None", "nan", "2021-01-01 00:00:00", "", " "]
)
def test_a_separated_value_is_the_text_that_stands_in_the_file(tmp_path, suffix, separator, value):
    file = write(tmp_path, f"value{separator}more\n{value}{separator}x\n", suffix)
    assert lines(file) == [(2, {"value": value, "more": "x"})]


@pytest.mark.parametrize("text", ["Ça va – 好 🙂", "one\u2028two\u0085three\x0cfour", "  padded  "])
def test_a_text_is_read_as_it_was_written(tmp_path, text):
    line = json.dumps({"text": text}, ensure_ascii=False)
    assert lines(write(tmp_path, f"{line}\r\n{line}\r\n")) == [(1, {"text": text}), (2, {"text": text})]


@pytest.mark.parametrize(
    ("suffix", "content"), [("jsonl", '{"a": "x"}\n{"a": "y"}\n'), ("csv", "a\nx\ny\n"), ("tsv", "a\r\nx\r\ny\r\n")]
)
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, suffix, content):
    file = write(tmp_path, content.encode("utf-8-sig"), suffix)
    assert [row for _, row in rows_of_file(file)] == [{"a": "x"}, {"a": "y"}]


def test_a_file_is_read_anew_when_its_content_is_another(tmp_path):
    for text in ("one", "another"):
        assert lines(write(tmp_path, json.dumps({"text": text}))) == [(1, {"text": text})]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"a": oops}', r"not JSON .*column 7"),
        (b'{"a": 1} {"a": 2}', r"not JSON .*column 10"),
        (b'["a", "b"]', r"not an object"),
        (b"null", r"not an object"),
        (b'{"a": "caf\xe9"}', r"UTF-8.* position 10"),
        (b'{"a": ' + b"[" * 100_000, r"not JSON"),
        (b'{"a": ' + b"9" * 5_000 + b"}", r"not JSON"),
    ],
    ids=["no value", "two objects", "a list", "null", "latin-1", "nested deeply", "of many digits"],
)
def test_a_bad_line_is_refused_with_file_and_line(tmp_path, line, fault):
    file = write(tmp_path, b'{"a": 1}\n\n' + line + b'\n{"a": 1}\n')
    with pytest.raises(StudyError, match=rf"^{file}, line 3: .*{fault}"):
        rows_of_file(file)


@separated
@pytest.mark.parametrize("line", ["x", "x,y,good", "x,good,"])
@pytest.mark.parametrize("before", [[], ['"fi\nne",good', ""]], ids=["first", "second"])
def test_a_row_with_too_few_or_too_many_fields_is_refused(tmp_path, suffix, separator, line, before):
    file = write(tmp_path, "\n".join(["text,label", *before, line]).replace(",", separator), suffix)
    with pytest.raises(StudyError, match=rf"^{file}, line {5 if before else 2}: {line.count(',') + 1} fields.* 2"):
        rows_of_file(file)


@separated
@pytest.mark.parametrize("line", ['"open,good', '"closed" early,good'])
def test_quotes_that_do_not_match_are_refused_with_the_line(tmp_path, suffix, separator, line):
    file = write(tmp_path, f"text,label\nfine,good\n{line}\nmore,good\n".replace(",", separator), suffix)
    with pytest.raises(StudyError, match=rf"^{file}, line 3: .*quote"):
        rows_of_file(file)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, suffix):
    file = write(tmp_path, b"text\xff\xfe\n\xe9", suffix)
    with pytest.raises(StudyError, match=rf"^{file}: .*{suffix}") as caught:
        rows_of_file(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "text"), [("  two words \n", "  two words \n"), (7, "7"), (False, "False")])
def test_a_value_is_read_as_text(value, text):
    assert text_of({"input": value}, "input", "here") == text


def test_words_have_no_white_space_around_them():
    assert words_of({"input": "  two words \n"}, "input", "here") == "two words"


@pytest.mark.parametrize("row", [{"other": 1}, {"input": None}, {"input": ["a"]}, {"input": {}}])
@pytest.mark.parametrize("reader", [text_of, words_of])
def test_a_field_that_holds_no_text_is_refused_with_its_place(row, reader):
    with pytest.raises(StudyError, match=r"^t\.jsonl, line 4: .*input"):
        reader(row, "input", "t.jsonl, line 4")


@pytest.mark.parametrize("value", ["", " \n", 3, True])
def test_a_blank_text_or_a_number_has_no_words(value):
    with pytest.raises(StudyError, match=r"^t\.jsonl, line 4: input .*text"):
        words_of({"input": value}, "input", "t.jsonl, line 4")


LINES = [{"input": "one", "options": ["a", "b"]}, {"input": "two – 二", "options": ["c", "d"]}]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n\n".join(map(json.dumps, LINES)), encoding="utf-8")
    return tmp_path


def test_rows_of_a_folder_come_with_file_and_line(folder):
    file = folder / "t.jsonl"
    assert list(rows_of(str(folder), "t.jsonl")) == [(f"{file}, line 1", LINES[0]), (f"{file}, line 3", LINES[1])]


def test_a_relative_folder_is_one_of_the_studys(folder, monkeypatch):
    monkeypatch.setattr("lib.paths.ROOT", folder.parent)
    assert [row for _, row in rows_of(folder.name, "t.jsonl")] == LINES


def test_a_file_that_is_not_in_the_folder_is_a_missing_task(folder):
    with pytest.raises(MissingTaskError, match=rf"u\.jsonl.* {folder}$"):
        rows_of(str(folder), "u.jsonl")


def test_a_folder_that_is_not_there_is_refused_and_is_no_missing_task(folder):
    absent = folder / "absent"
    with pytest.raises(StudyError, match=rf"'{absent}' .*Allowed: .*hub:OWNER/NAME.*folder") as caught:
        rows_of(str(absent), "t.jsonl")
    assert not isinstance(caught.value, MissingTaskError)


def test_a_broken_line_is_refused_and_is_no_missing_task(folder):
    (folder / "t.jsonl").write_text('{"input": "one"}\n{"input"\n', encoding="utf-8")
    with pytest.raises(StudyError, match=r"t\.jsonl, line 2: not JSON") as caught:
        rows_of(str(folder), "t.jsonl")
    assert not isinstance(caught.value, MissingTaskError)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_rows_of_a_repository_are_those_of_its_file(folder, hub_cache):
    (folder / "u.jsonl").write_text('{"input": "another"}\n', encoding="utf-8")
    assert list(rows_of(f"hub:{folder}", "t.jsonl")) == [
        (f"{folder}/t.jsonl, line {number}", row) for number, row in enumerate(LINES, start=1)
    ]


def test_a_file_that_is_not_in_the_repository_is_a_missing_task(folder, hub_cache):
    with pytest.raises(MissingTaskError, match=r"u\.jsonl"):
        rows_of(f"hub:{folder}", "u.jsonl")


def test_a_hub_that_cannot_be_reached_is_one_clear_error_and_no_missing_task(hub_cache):
    with pytest.raises(StudyError, match=r"'hub:nobody/nothing' could not be read .*network") as caught:
        rows_of("hub:nobody/nothing", "t.jsonl")
    assert not isinstance(caught.value, MissingTaskError)
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_for_this_file_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(rows, "load_dataset", lambda name, config, **options: asked.append((name, options)) or [])
    assert list(rows_of("hub:owner/name", "t.jsonl")) == []
    assert asked == [("owner/name", {"data_files": "t.jsonl", "split": "train"})]


def test_the_hub_is_asked_for_a_commit_that_a_source_names(monkeypatch):
    asked = []
    monkeypatch.setattr(rows, "load_dataset", lambda name, config, **options: asked.append((name, options)) or [])
    assert list(rows_of(f"hub:owner/name@{'ab' * 20}", "t.jsonl")) == []
    assert asked == [("owner/name", {"data_files": "t.jsonl", "split": "train", "revision": "ab" * 20})]


def test_a_repository_that_is_not_there_is_no_missing_task(monkeypatch):
    def load(*_, **__):
        raise DatasetNotFoundError("no such thing")

    monkeypatch.setattr(rows, "load_dataset", load)
    with pytest.raises(StudyError, match=r"'hub:owner/nope' .*no such thing") as caught:
        rows_of("hub:owner/nope", "a.jsonl")
    assert not isinstance(caught.value, MissingTaskError)


REPOSITORY = f"github:owner/name@{'0a' * 20}/data/new"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Where a server has the files of a repository's folder."""
    with github(tmp_path, monkeypatch):
        yield folder_of(REPOSITORY, tmp_path)


def test_a_file_of_github_is_read_as_one_of_a_folder_and_downloaded_once(served):
    (served / "a.jsonl").write_text('{"a": "1"}\n\n{"a": "2"}\n')
    expected = [record for _, record in rows_of(str(served), "a.jsonl")]
    assert [record for _, record in rows_of(REPOSITORY, "a.jsonl")] == expected == [{"a": "1"}, {"a": "2"}]
    (served / "a.jsonl").unlink()
    assert [where.rpartition("/")[2] for where, _ in rows_of(REPOSITORY, "a.jsonl")] == [
        "a.jsonl, line 1",
        "a.jsonl, line 3",
    ]


def test_a_file_that_github_does_not_have_is_a_missing_task(served):
    with pytest.raises(MissingTaskError, match=r"no file b\.jsonl in github:owner/name@"):
        rows_of(REPOSITORY, "b.jsonl")


def test_a_server_in_trouble_is_no_missing_task(served, monkeypatch):
    def load(*_, **__):
        raise HTTPError("-", 503, "Service Unavailable", None, None)

    monkeypatch.setattr("torch.hub.download_url_to_file", load)
    with pytest.raises(StudyError, match=r"'github:owner/name@.*503.*network.*folder") as caught:
        rows_of(REPOSITORY, "a.jsonl")
    assert not isinstance(caught.value, MissingTaskError)


def test_nothing_is_downloaded_where_the_hub_is_off(served, monkeypatch):
    (served / "a.jsonl").write_text('{"a": "1"}\n')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StudyError, match="HF_HUB_OFFLINE is set"):
        rows_of(REPOSITORY, "a.jsonl")


@pytest.mark.parametrize("place", ["o/n", "o/n@main", f"o@{'0' * 40}", f"o/n@{'0' * 40}/../x", f"../n@{'0' * 40}", ""])
def test_a_repository_without_a_commit_or_that_leads_elsewhere_is_refused(place):
    with pytest.raises(StudyError, match=r"Allowed: github:OWNER/NAME@COMMIT/FOLDER") as refused:
        rows_of(f"github:{place}", "a.jsonl")
    assert repr(f"github:{place}") in str(refused.value)


@pytest.mark.parametrize("name", ["../t", "/etc/passwd", "linked/t", "a/../../t", "./t", "t\0"])
@pytest.mark.parametrize("source", ["folder", "hub"])
def test_the_name_of_a_file_leads_out_of_no_folder(folder, source, name):
    inner = folder / "inner"
    inner.mkdir()
    (inner / "linked").symlink_to(folder)
    with pytest.raises(StudyError, match="Allowed: a name without folders") as refused:
        rows_of(str(inner) if source == "folder" else f"hub:{inner}", f"{name}.jsonl")
    assert repr(f"{name}.jsonl") in str(refused.value)
