"""Labelled rows from files, folders, the hub and the study itself, and what is said of rows that cannot be read."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from lib.errors import StudyError
from lib.paths import ROOT
from lib.tasks import smoke, world
from lib.tasks.catalogue import CLASSES, ON_THE_HUB, known
from lib.tasks.sources import CONFLICTING, REPEATED, queries
from lib.tasks.sources import read as read_rows
from lib.tasks.task import DROPPED, Dataset, Query, Task
from tests.support.github import folder_of, github

PAIR = "{premise} / {hypothesis}"
SENTIMENT = ("good", "so so", "bad")
REVIEWS = [
    {"text": "Fine, really.", "label": "good"},
    {"text": "Ça va – 好 🙂", "label": "so so"},
    {"text": 'They said "no".', "label": "bad"},
]


def pair(premise, label, **more):
    return {"premise": premise, "hypothesis": f"{premise}?", "label": label, **more}


def write(file, *records):
    """A file of records in the format of its name; a text stands in it as it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pd.DataFrame(list(records)).to_parquet(file)
    elif file.suffix == ".jsonl":
        lines = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in records]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        separator = "\t" if file.suffix == ".tsv" else ","
        pd.DataFrame(list(records)).to_csv(file, sep=separator, index=False, encoding="utf-8")
    return file


def write_text(file, text, encoding="utf-8"):
    file.write_text(text, encoding=encoding, newline="")
    return file


def read(dataset, split="train", classes=SENTIMENT, pattern="{text}"):
    """The queries of a dataset, with its classes as label words."""
    return queries(Task(pattern, classes, classes, dataset), dataset, split)


def reviews(file, **changes):
    """What is read of a file of reviews: (text, label)."""
    dataset = replace(Dataset("reviews", str(file)), **changes)
    return [(query.text, query.options[query.gold]) for query in read(dataset)]


def inferences(dataset, split="train"):
    """What is read of a dataset of natural language inference: (premise and hypothesis, label)."""
    return [(query.text, query.options[query.gold]) for query in read(dataset, split, CLASSES, PAIR)]


FORMATS = ["jsonl", "csv", "tsv", "parquet"]
every_format = pytest.mark.parametrize("suffix", FORMATS)


@every_format
def test_a_file_is_read_in_the_format_of_its_name(tmp_path, suffix):
    file = write(tmp_path / f"reviews.{suffix}", *REVIEWS)
    assert reviews(file) == [(one["text"], one["label"]) for one in REVIEWS]


@every_format
def test_a_folder_means_the_file_that_bears_the_datasets_name(tmp_path, suffix):
    write(tmp_path / f"reviews.{suffix}", *REVIEWS)
    write(tmp_path / f"others.{suffix}", {"text": "x", "label": "bad"})
    assert len(reviews(tmp_path)) == 3


@pytest.mark.parametrize("name", ["../reviews", "/reviews", "linked/reviews", "reviews\0"])
def test_the_name_of_a_dataset_leads_out_of_no_folder(tmp_path, name):
    write(tmp_path / "reviews.jsonl", *REVIEWS)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "linked").symlink_to(tmp_path)
    with pytest.raises(StudyError, match="Allowed: a name without folders") as refused:
        read(Dataset(name, str(tmp_path / "inner")))
    assert repr(name)[:-1] in str(refused.value)


def test_a_source_without_a_leading_slash_is_in_the_folder_of_the_study():
    with pytest.raises(StudyError, match="dataset: 'absent' is not in " + str(ROOT / "lib")):
        read(Dataset("absent", "lib"))


@every_format
def test_integer_labels_are_mapped_to_classes(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", *({"text": f"row {i}", "label": i} for i in (0, 1, 2, 1)))
    found = reviews(file, labels=(("0", "bad"), ("1", "so so"), ("2", "good")))
    assert [label for _, label in found] == ["bad", "so so", "good", "so so"]


@every_format
def test_rows_with_a_dropped_label_are_left_out(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", *({"text": f"row {i}", "label": i} for i in (0, 1, 2, 1)))
    assert reviews(file, labels=(("0", "bad"), ("1", DROPPED), ("2", "good"))) == [("row 0", "bad"), ("row 2", "good")]


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_truth_values_are_mapped_by_their_names(tmp_path, label):
    file = write(tmp_path / "a.jsonl", {"text": "x", "label": label})
    assert reviews(file, labels=(("True", "good"), ("False", "bad"))) == [("x", "good" if label else "bad")]


@every_format
def test_an_unknown_label_names_file_row_value_and_what_is_allowed(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", REVIEWS[0], {"text": "x", "label": "god"})
    where = "row 2" if suffix == "parquet" else "line 2" if suffix == "jsonl" else "line 3"
    with pytest.raises(StudyError, match=rf"a\.{suffix}, {where}, label: 'god' .*'good'.*good, so so, bad"):
        reviews(file)


def test_an_unknown_label_is_told_which_labels_are_mapped(tmp_path):
    file = write(tmp_path / "a.jsonl", {"text": "x", "label": 3})
    with pytest.raises(StudyError, match=r"line 1, label: '3' .*Allowed: 0, 1\."):
        reviews(file, labels=(("0", "bad"), ("1", DROPPED)))


@every_format
def test_a_column_of_another_name_is_the_label(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", {"text": "x", "label": "?", "rating": "bad"})
    assert reviews(file, label="rating") == [("x", "bad")]


@every_format
def test_columns_are_renamed_for_the_pattern(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", {"sentence 1": "x", "text": "y", "label": "bad"})
    assert reviews(file, columns=(("text", "sentence 1"),)) == [("x", "bad")]


@every_format
def test_only_rows_with_the_values_asked_for_are_read(tmp_path, suffix):
    records = [
        {"text": f"{stars} {language}", "label": "good", "stars": stars, "language": language}
        for stars in (1, 5)
        for language in ("fr", "en")
    ]
    file = write(tmp_path / f"a.{suffix}", *records)
    assert [text for text, _ in reviews(file, where=(("stars", "5"),))] == ["5 fr", "5 en"]
    assert [text for text, _ in reviews(file, where=(("stars", "5"), ("language", "en")))] == ["5 en"]


@every_format
def test_a_column_that_rows_are_chosen_by_must_be_there(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", *REVIEWS)
    with pytest.raises(StudyError, match=rf"a\.{suffix}, .*'stars'.*text, label"):
        reviews(file, where=(("stars", "5"),))


def test_rows_that_are_not_asked_for_may_have_any_label(tmp_path):
    file = write(tmp_path / "a.jsonl", {"text": "x", "label": "?", "use": "no"}, {**REVIEWS[0], "use": "yes"})
    assert reviews(file, where=(("use", "yes"),)) == [("Fine, really.", "good")]


@every_format
@pytest.mark.parametrize("column", ["text", "label"])
def test_a_missing_column_names_the_row_and_the_columns_that_are_there(tmp_path, suffix, column):
    file = write(tmp_path / f"a.{suffix}", {"review": "x", column: "good"})
    lacking = "label" if column == "text" else "text"
    with pytest.raises(StudyError, match=rf"a\.{suffix}, .*'{lacking}'.*review, {column}"):
        reviews(file)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("column", ["text", "label"])
@pytest.mark.parametrize("value", [None, ["a", "b"], {"a": "b"}])
def test_a_value_that_is_no_text_is_refused(tmp_path, suffix, column, value):
    file = write(tmp_path / f"a.{suffix}", {**REVIEWS[0], column: value})
    with pytest.raises(StudyError, match=rf"a\.{suffix}, (line|row) 1: .*'{column}'"):
        reviews(file)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_a_missing_value_beside_others_is_refused(tmp_path, suffix, column):
    file = write(tmp_path / f"a.{suffix}", REVIEWS[0], {**REVIEWS[1], column: None})
    with pytest.raises(StudyError, match=rf"a\.{suffix}, (line|row) 2: .*'{column}'"):
        reviews(file)


@every_format
def test_a_text_that_reads_like_a_missing_value_is_a_text(tmp_path, suffix):
    said = ["NA", "null", "nan", "None", "007", "1.0"]
    file = write(tmp_path / f"a.{suffix}", *({"text": text, "label": "good"} for text in said))
    assert [text for text, _ in reviews(file)] == said


def test_half_a_character_is_refused_with_the_line(tmp_path):
    file = write(tmp_path / "a.jsonl", REVIEWS[0], '{"text": "broken \\ud83d", "label": "good"}')
    with pytest.raises(StudyError, match=r"a\.jsonl, line 2: .*'text'.*surrogate"):
        reviews(file)


def test_both_halves_of_a_character_are_one(tmp_path):
    file = write(tmp_path / "a.jsonl", '{"text": "whole \\ud83d\\ude42", "label": "good"}')
    assert reviews(file) == [("whole 🙂", "good")]


@pytest.mark.parametrize("content", ["", "text,label\n"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    with pytest.raises(StudyError, match=r"data: reviews .*no row of the train split.*good"):
        reviews(write_text(tmp_path / "a.csv", content))


def test_a_file_of_another_format_is_refused_naming_those_that_are_read(tmp_path):
    with pytest.raises(StudyError, match=r"a\.xlsx: .*'\.xlsx' .*\.jsonl, \.csv, \.tsv, \.parquet"):
        reviews(write_text(tmp_path / "a.xlsx", "?"))


def test_a_dataset_that_is_not_in_the_folder_is_refused_naming_those_present(tmp_path):
    write(tmp_path / "mnli.jsonl", REVIEWS[0])
    write(tmp_path / "own.csv", REVIEWS[0])
    with pytest.raises(StudyError, match=r"dataset: 'reviews' .*Present: mnli\.jsonl, own\.csv"):
        reviews(tmp_path)


def test_a_source_that_is_not_there_is_refused_naming_it_and_what_is_allowed(tmp_path):
    with pytest.raises(StudyError, match=r"data: '.*absent' .*Allowed: hub, world, embedded, .*\.csv.*folder"):
        reviews(tmp_path / "absent")


@every_format
@pytest.mark.parametrize("name", ["validation_matched", "dev_matched", "validation", "dev", "test"])
def test_a_file_is_split_by_its_split_column(tmp_path, name, suffix):
    records = pair("a", "entailment", split="train"), pair("b", "contradiction", split=name)
    write(tmp_path / f"mnli.{suffix}", *records)
    assert inferences(known(str(tmp_path), "mnli")) == [("a / a?", "entailment")]
    assert inferences(known(str(tmp_path), "mnli"), "evaluation") == [("b / b?", "non-entailment")]


def test_one_evaluation_split_is_read_and_the_matched_one_preferred(tmp_path):
    names = ("test", "dev_mismatched", "dev_matched", "train")
    write(tmp_path / "mnli.jsonl", *(pair(name, "entailment", split=name) for name in names))
    assert inferences(known(str(tmp_path), "mnli"), "evaluation") == [("dev_matched / dev_matched?", "entailment")]


def test_a_datasets_own_names_of_column_and_splits_are_read(tmp_path):
    records = [{**REVIEWS[0], "part": "old"}, {**REVIEWS[1], "part": "new"}, {**REVIEWS[2], "part": "none"}]
    file = write(tmp_path / "a.jsonl", *records)
    dataset = Dataset("reviews", str(file), split="part", train=("older", "old"), evaluation=("new",))
    for split, place in (("train", 0), ("evaluation", 1)):
        assert [query.gold for query in read(dataset, split)] == [place]


@every_format
def test_a_file_without_splits_serves_both(tmp_path, suffix):
    write(tmp_path / f"own.{suffix}", pair("a", "entailment"), pair("b", "not_entailment"))
    own = known(str(tmp_path), "own")
    both = [("a / a?", "entailment"), ("b / b?", "non-entailment")]
    assert inferences(own, "train") == inferences(own, "evaluation") == both


def test_a_split_that_is_not_there_is_refused_naming_those_that_are(tmp_path):
    write(tmp_path / "mnli.jsonl", pair("a", "entailment", split="dev_matched"))
    with pytest.raises(StudyError, match=r"mnli\.jsonl: no train split.*\['dev_matched'\].*\['train'\]"):
        inferences(known(str(tmp_path), "mnli"))


@every_format
@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_a_split_that_only_some_rows_name_is_refused_with_the_first_that_does_not(tmp_path, suffix, split):
    lacking = pair("b", "entailment") if suffix == "jsonl" else pair("b", "entailment", split=None)
    write(tmp_path / f"own.{suffix}", pair("a", "entailment", split="train"), lacking, lacking)
    where = "line 3" if suffix in ("csv", "tsv") else "(line|row) 2"
    with pytest.raises(StudyError, match=rf"own\.{suffix}, {where}: no split.*\b2 lack"):
        inferences(known(str(tmp_path), "own"), split)


def test_queries_are_the_rows_under_the_tasks_pattern(tmp_path):
    records = [{**REVIEWS[0], "made by": "hand"}, REVIEWS[2]]
    dataset = Dataset("reviews", str(write(tmp_path / "a.jsonl", *records)), kind=("made by",))
    words = ("very good", "middling", "poor")
    assert queries(Task("{text}\nrating:", SENTIMENT, words, dataset), dataset, "train") == [
        Query("Fine, really.\nrating:", words, 0, ("hand",)),
        Query('They said "no".\nrating:', words, 2),
    ]


SAID_TWICE = [
    {"text": "first", "label": "good"},
    {"text": "second", "label": "good"},
    {"text": " second ", "label": "good"},
    {"text": "third", "label": "good"},
    {"text": "third  ", "label": "bad"},
]


@every_format
def test_a_text_with_two_labels_is_left_out_and_a_repeated_one_counted_with_their_places(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", *SAID_TWICE)
    dataset = Dataset("reviews", str(file))
    rows = read_rows(Task("{text}", SENTIMENT, SENTIMENT, dataset), dataset, "train")
    begins = {"jsonl": "line 1", "parquet": "row 1"}.get(suffix, "line 2").split()
    first, second, third, fourth, fifth = (f"{file}, {begins[0]} {int(begins[1]) + i}" for i in range(5))
    assert [query.text for query in rows.queries] == ["first", "second", "second"]
    assert rows.notes == {REPEATED: [third], CONFLICTING: [fourth, fifth]}
    assert rows.places == {"first": first, "second": second}


def test_texts_that_the_pattern_makes_equal_conflict(tmp_path):
    file = write(
        tmp_path / "a.jsonl", *({"text": "x", "other": i, "label": label} for i, label in enumerate(SENTIMENT))
    )
    dataset = Dataset("reviews", str(file))
    with pytest.raises(StudyError, match=rf"3 rows .*other labels.*{file}, line 1, 2, 3"):
        read(dataset)
    assert len(read(dataset, pattern="{text} {other}")) == 3


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_row_whose_fields_are_all_blank_is_left_out(tmp_path, blank):
    file = write(tmp_path / "a.jsonl", pair(blank, "entailment") | {"hypothesis": blank}, pair(blank, "entailment"))
    dataset = replace(known(str(tmp_path), "a"), source=str(file))
    assert len(inferences(dataset)) == 1


def test_white_space_around_a_field_and_a_label_is_left_out(tmp_path):
    file = write(tmp_path / "a.jsonl", {"text": " Ça va ", "label": " good "})
    assert reviews(file) == [("Ça va", "good")]


@pytest.mark.parametrize("split", ["train", "evaluation"])
@pytest.mark.parametrize(
    ("source", "name", "pairs"),
    [
        ("world", "annotated", world.examples),
        ("world", "overlap", world.examples),
        ("embedded", "pairs", lambda name, split: smoke.PAIRS[name][split]),
        ("embedded", "swaps", lambda name, split: smoke.PAIRS[name][split]),
    ],
)
def test_the_studys_own_pairs_are_a_source_like_any_other(source, name, pairs, split):
    expected = [(f"{one.premise} / {one.hypothesis}", CLASSES[one.label]) for one in pairs(name, split)]
    assert inferences(known(source, name), split) == expected


@pytest.mark.parametrize(("source", "name"), [("world", "annotated"), ("embedded", "pairs")])
def test_the_studys_own_pairs_do_not_serve_another_pattern_or_other_classes(source, name):
    with pytest.raises(StudyError, match=rf"{name}, .*'text'.*premise, hypothesis"):
        read(Dataset(name, source), classes=CLASSES)
    with pytest.raises(StudyError, match=rf"{name}, .*label: '(non-)?entailment' .*good, so so, bad"):
        read(Dataset(name, source), pattern=PAIR)


@pytest.mark.parametrize(("source", "present"), [("world", "annotated, overlap"), ("embedded", "pairs, swaps")])
def test_a_dataset_that_the_study_does_not_have_is_refused(source, present):
    with pytest.raises(StudyError, match=rf"dataset: 'snli' .*{present}"):
        inferences(Dataset("snli", source))


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


GLUE_CARD = """---
configs:
- config_name: cola
  data_files:
  - split: train
    path: cola/train-*
- config_name: mnli
  data_files:
  - split: train
    path: mnli/train-*
  - split: validation_matched
    path: mnli/validation_matched-*
  - split: validation_mismatched
    path: mnli/validation_mismatched-*
---
# A stand-in of the hub's shape
"""


def test_mnli_is_read_from_files_of_the_hubs_shape(tmp_path, hub_cache):
    glue = tmp_path / "glue"
    for split in ("train", "validation_matched", "validation_mismatched"):
        records = [{**pair(f"{split} {i}", label), "idx": i} for i, label in enumerate([0, 1, 2, 0])]
        write(glue / "mnli" / f"{split}-00000-of-00001.parquet", *records)
    write(glue / "cola" / "train-00000-of-00001.parquet", {"sentence": "A.", "label": 1, "idx": 0})
    (glue / "README.md").write_text(GLUE_CARD, encoding="utf-8")
    local = replace(ON_THE_HUB["mnli"], source=f"hub:{glue}", revision=None)
    for split, name in {"train": "train", "evaluation": "validation_matched"}.items():
        expected = [(0, "entailment"), (2, "non-entailment"), (3, "entailment")]
        assert inferences(local, split) == [(f"{name} {i} / {name} {i}?", label) for i, label in expected]


HEURISTICS = ["lexical_overlap", "subsequence", "constituent"]


def test_hans_is_read_from_its_authors_files(tmp_path, monkeypatch):
    hans = ON_THE_HUB["hans"]
    for split in ("train", "evaluation"):
        records = [
            {"gold_label": label, "sentence1": f"{split} {name} {label}", "sentence2": "-", "heuristic": name}
            | {"subcase": "swap", "template": "temp1", "sentence1_parse": "( )"}
            for name in HEURISTICS
            for label in ("entailment", "non-entailment")
        ]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder_of(hans.source, tmp_path) / getattr(hans, split)[0]).write_text(lines)
    with github(tmp_path, monkeypatch):
        for split in ("train", "evaluation"):
            expected = [
                Query(f"{split} lexical_overlap {label}", CLASSES, i, ("swap", "temp1"))
                for i, label in enumerate(("entailment", "non-entailment"))
            ]
            assert read(hans, split, CLASSES, "{premise}") == expected


def test_a_split_that_the_hub_does_not_have_is_refused_naming_those_that_are(tmp_path, hub_cache):
    write(tmp_path / "own" / "data" / "train.parquet", *REVIEWS)
    dataset = Dataset("reviews", f"hub:{tmp_path / 'own'}", evaluation=("held out",))
    assert len(read(dataset)) == 3
    with pytest.raises(StudyError, match=r"no evaluation split.*\['train'\].*\['held out'\]"):
        read(dataset, "evaluation")


def test_an_unknown_label_on_the_hub_names_split_and_row(tmp_path, hub_cache):
    write(tmp_path / "own" / "data" / "train.parquet", REVIEWS[0], {"text": "x", "label": "god"})
    with pytest.raises(StudyError, match=r"own, train, row 2, label: 'god'"):
        read(Dataset("reviews", f"hub:{tmp_path / 'own'}"))


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_an_unreachable_hub_is_one_clear_error(name, hub_cache, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    with pytest.raises(StudyError) as caught:
        inferences(ON_THE_HUB[name])
    message = str(caught.value)
    assert message.startswith("data: ")
    assert ON_THE_HUB[name].source.removeprefix("hub:") in message
    assert "network" in message and "folder" in message
    assert "\n" not in message
