"""The datasets that the study knows by name, and what of each is read."""

import json

import pytest

from lib.errors import StudyError
from lib.tasks.catalogue import CLASSES, ON_THE_HUB, known
from lib.tasks.sources import queries
from lib.tasks.task import Task

HEURISTICS = ["lexical_overlap", "subsequence", "constituent"]


def pair(premise, label, **more):
    return {"premise": premise, "hypothesis": f"{premise}?", "label": label, **more}


def read(folder, name, *records, split="train"):
    text = "\n".join(json.dumps(one) for one in records)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    dataset = known(str(folder), name)
    return queries(Task("{premise}", CLASSES, CLASSES, dataset), dataset, split)


def said(found):
    return [(query.text, query.options[query.gold]) for query in found]


@pytest.mark.parametrize("label", ["contradiction", "non-entailment", "not_entailment"])
def test_every_name_of_what_is_not_entailed_is_one_class(tmp_path, label):
    found = read(tmp_path, "own", pair("a", label), pair("b", "entailment"))
    assert said(found) == [("a", "non-entailment"), ("b", "entailment")]


def test_neutral_rows_are_dropped(tmp_path):
    labels = ["neutral", "entailment", "neutral", "contradiction"]
    found = read(tmp_path, "mnli", *(pair(str(i), label) for i, label in enumerate(labels)))
    assert said(found) == [("1", "entailment"), ("3", "non-entailment")]


def test_a_file_with_neutral_rows_only_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"mnli .*no row of the train split.*entailment"):
        read(tmp_path, "mnli", pair("a", "neutral"))


def test_a_label_that_is_none_of_them_is_refused_naming_all(tmp_path):
    with pytest.raises(StudyError, match=r"line 1, label: 'entailmen' .*'entailment'.*contradiction.*neutral"):
        read(tmp_path, "own", pair("a", "entailmen"))


def test_of_hans_only_lexical_overlap_is_read(tmp_path):
    found = read(tmp_path, "hans", *(pair(name, "non-entailment", heuristic=name) for name in HEURISTICS))
    assert said(found) == [("lexical_overlap", "non-entailment")]


def test_a_row_of_hans_tells_its_subcase_and_template_where_they_are_there(tmp_path):
    records = [
        pair("a", "entailment", heuristic="lexical_overlap", template="temp1", subcase="swap"),
        pair("b", "entailment", heuristic="lexical_overlap"),
    ]
    assert [query.kind for query in read(tmp_path, "hans", *records)] == [("swap", "temp1"), ()]


def test_a_row_of_hans_without_heuristic_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"hans\.jsonl, line 1: .*heuristic"):
        read(tmp_path, "hans", pair("a", "entailment"))


def test_other_datasets_are_read_whole_whatever_their_heuristic(tmp_path):
    found = read(tmp_path, "own", *(pair(name, "non-entailment", heuristic=name) for name in HEURISTICS))
    assert len(found) == 3
    assert {query.kind for query in found} == {()}


@pytest.mark.parametrize(
    ("source", "present"),
    [("world", "annotated, overlap"), ("embedded", "pairs, swaps"), ("hub", ", ".join(ON_THE_HUB))],
)
def test_an_unknown_dataset_is_refused_naming_the_known_ones(source, present):
    with pytest.raises(StudyError, match=rf"dataset: 'snli' .*{present}"):
        known(source, "snli")


def test_a_name_that_is_nearly_known_is_told_which():
    with pytest.raises(StudyError, match=r"dataset: 'overlapp' .*'overlap'"):
        known("world", "overlapp")
