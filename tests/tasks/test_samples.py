"""Reading the datasets, and the seeded samples drawn from them."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from lib.errors import StudyError
from lib.paths import ROOT
from lib.tasks.samples import evaluation_sample, query_pool, support_set
from lib.tasks.sources import HUB, from_folder, from_hub, load_examples
from lib.tasks.task import Example

TRAIN = [Example(f"Premise {i}.", f"Hypothesis {i}.", int(i % 3 == 0)) for i in range(120)]
SEEDS = [0, 1, 2, 17]


def texts(examples):
    return [example[:2] for example in examples]


def count(examples, label):
    return sum(example.label == label for example in examples)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [2, 4, 16, 32, 80])
def test_even_support_sets_are_balanced(size, seed):
    support = support_set(TRAIN, size, seed)
    assert [count(support, 0), count(support, 1)] == [size / 2, size / 2]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1, 3, 15, 31])
def test_odd_support_sets_differ_by_one(size, seed):
    support = support_set(TRAIN, size, seed)
    assert len(support) == size
    assert abs(count(support, 0) - count(support, 1)) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_support_sets_of_one_seed_are_nested(seed):
    largest = support_set(TRAIN, 64, seed)
    assert all(support_set(TRAIN, size, seed) == largest[:size] for size in range(1, 64))


def test_support_sets_hold_distinct_rows_of_the_train_split():
    support = support_set(TRAIN + TRAIN, 80, 0)
    assert len(set(support)) == 80
    assert set(support) <= set(TRAIN)


def test_support_sets_differ_over_seeds():
    assert len({tuple(support_set(TRAIN, 16, seed)) for seed in range(20)}) == 20


def test_the_class_shown_first_varies_over_seeds_and_pairs():
    labels = [example.label for seed in range(10) for example in support_set(TRAIN, 20, seed)[::2]]
    assert 30 < sum(labels) < 70


def test_a_one_example_support_set_may_be_of_either_class():
    assert {support_set(TRAIN, 1, seed)[0].label for seed in range(20)} == {0, 1}


def test_samples_are_the_same_in_every_process():
    code = (
        "from lib.tasks.samples import *;"
        "t = [Example(f'Premise {i}.', f'Hypothesis {i}.', int(i % 3 == 0)) for i in range(120)];"
        "s = support_set(t, 16, 3); print([s, query_pool(t, s, 16, 3), evaluation_sample(t, 16, 3)])"
    )
    support = support_set(TRAIN, 16, 3)
    here = [support, query_pool(TRAIN, support, 16, 3), evaluation_sample(TRAIN, 16, 3)]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == str(here)


def test_a_support_set_that_a_class_cannot_fill_is_refused():
    assert len(support_set(TRAIN, 80, 0)) == 80
    with pytest.raises(StudyError, match=r"support_sizes: 82 examples need 41 of each class.*only 40.*possible is 80"):
        support_set(TRAIN, 82, 0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1, 16, 60])
def test_pool_never_meets_the_support_set(size, seed):
    support = support_set(TRAIN, size, seed)
    pool = query_pool(TRAIN, support, len(TRAIN) - size, seed)
    assert set(texts(pool)).isdisjoint(texts(support))
    assert sorted(pool + support) == sorted(TRAIN)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    good = b'{"premise": "a", "hypothesis": "b", "label": "entailment"}\n'
    (tmp_path / "latin.jsonl").write_bytes(good + good.replace(b'"a"', b'"\xe9"'))
    with pytest.raises(StudyError, match=r"latin\.jsonl, line 2: not UTF-8"):
        from_folder(tmp_path, "latin", "train")


@pytest.mark.parametrize("seed", SEEDS)
def test_pool_never_repeats_a_support_text_under_another_label(seed):
    twice_labelled = TRAIN + [row._replace(label=1 - row.label) for row in TRAIN]
    support = support_set(twice_labelled, 40, seed)
    pool = texts(query_pool(twice_labelled, support, len(TRAIN) - len(support), seed))
    assert len(set(pool) | set(texts(support))) == len(TRAIN) == len(pool) + len(support)


@pytest.mark.parametrize("seed", SEEDS)
def test_pool_stays_the_same_over_support_sizes(seed):
    pools = {tuple(query_pool(TRAIN, support_set(TRAIN, size, seed), 30, seed)) for size in (1, 2, 5, 16, 32)}
    assert len(pools) == 1


@pytest.mark.parametrize("size", [1, 7, 64])
def test_pool_has_the_size_asked_for_without_repeats(size):
    pool = query_pool(TRAIN + TRAIN, support_set(TRAIN, 8, 0), size, 0)
    assert len(pool) == len(set(pool)) == size


def test_pools_differ_over_seeds():
    assert len({tuple(query_pool(TRAIN, [], 16, seed)) for seed in range(20)}) == 20


@pytest.mark.parametrize("seed", SEEDS)
def test_pool_does_not_depend_on_labels(seed):
    support = support_set(TRAIN, 16, seed)
    flipped = [row if row in support else row._replace(label=1 - row.label) for row in TRAIN]
    assert texts(query_pool(flipped, support, 40, seed)) == texts(query_pool(TRAIN, support, 40, seed))


def test_a_pool_larger_than_what_is_left_is_refused():
    support = support_set(TRAIN, 20, 0)
    with pytest.raises(StudyError, match=r"pool_size: 101 queries asked for, but 100 are left.*after 20 support"):
        query_pool(TRAIN, support, 101, 0)


@pytest.mark.parametrize("limit", [2, 20, 80])
def test_evaluation_sample_is_balanced_and_drawn_from_the_rows(limit):
    sample = evaluation_sample(TRAIN, limit, 0)
    assert [count(sample, 0), count(sample, 1)] == [limit / 2, limit / 2]
    assert len(set(sample)) == limit
    assert set(sample) <= set(TRAIN)


def test_evaluation_sample_follows_its_seed():
    assert evaluation_sample(TRAIN, 20, 5) == evaluation_sample(TRAIN, 20, 5)
    assert len({tuple(evaluation_sample(TRAIN, 20, seed)) for seed in range(10)}) == 10


def test_no_evaluation_limit_means_every_row_in_order():
    assert evaluation_sample(TRAIN, None, 3) == TRAIN


def test_an_evaluation_limit_that_a_class_cannot_fill_is_refused():
    with pytest.raises(StudyError, match=r"eval_limit: 82 needs 41 rows of non-entailment, but there are 40"):
        evaluation_sample(TRAIN, 82, 0)


def row(premise, label, **more):
    return {"premise": premise, "hypothesis": f"{premise}?", "label": label, **more}


def write(folder, dataset, *rows):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    (folder / f"{dataset}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["validation_matched", "dev_matched", "validation", "dev", "test"])
def test_a_folder_file_is_split_by_its_split_field(tmp_path, name):
    write(tmp_path, "mnli", row("a", "entailment", split="train"), row("b", "contradiction", split=name))
    assert from_folder(tmp_path, "mnli", "train") == [Example("a", "a?", 0)]
    assert from_folder(tmp_path, "mnli", "evaluation") == [Example("b", "b?", 1)]


def test_one_evaluation_split_is_read_and_the_matched_one_preferred(tmp_path):
    others = [row(name, "entailment", split=name) for name in ("test", "dev_mismatched", "dev_matched", "train")]
    assert from_folder(write(tmp_path, "mnli", *others), "mnli", "evaluation") == [
        Example("dev_matched", "dev_matched?", 0)
    ]


def test_a_file_without_splits_serves_both(tmp_path):
    write(tmp_path, "own", row("a", "entailment"), row("b", "not_entailment"))
    both = [Example("a", "a?", 0), Example("b", "b?", 1)]
    assert from_folder(tmp_path, "own", "train") == from_folder(tmp_path, "own", "evaluation") == both


def test_a_split_that_is_not_there_is_refused_naming_those_that_are(tmp_path):
    write(tmp_path, "mnli", row("a", "entailment", split="dev_matched"))
    with pytest.raises(StudyError, match=r"no train split\. Present: \['dev_matched'\]; read: \('train',\)"):
        from_folder(tmp_path, "mnli", "train")


def test_neutral_rows_are_dropped(tmp_path):
    write(tmp_path, "mnli", row("a", "neutral"), row("b", "entailment"), row("c", "neutral"), row("d", "contradiction"))
    assert from_folder(tmp_path, "mnli", "train") == [Example("b", "b?", 0), Example("d", "d?", 1)]


def test_a_file_with_neutral_rows_only_is_refused(tmp_path):
    write(tmp_path, "mnli", row("a", "neutral"))
    with pytest.raises(StudyError, match=r"mnli\.jsonl: no rows of the train split are entailment or its opposite"):
        from_folder(tmp_path, "mnli", "train")


HEURISTICS = ["lexical_overlap", "subsequence", "constituent"]


def test_of_hans_only_lexical_overlap_is_read(tmp_path):
    write(tmp_path, "hans", *[row(name, "non-entailment", heuristic=name) for name in HEURISTICS])
    assert from_folder(tmp_path, "hans", "evaluation") == [Example("lexical_overlap", "lexical_overlap?", 1)]


def test_other_datasets_are_read_whole_whatever_their_heuristic(tmp_path):
    write(tmp_path, "own", *[row(name, "non-entailment", heuristic=name) for name in HEURISTICS])
    assert len(from_folder(tmp_path, "own", "evaluation")) == 3


def test_blank_lines_are_passed_over_and_text_is_kept_as_it_is(tmp_path):
    write(tmp_path, "own", row(" Ça va – 好 ", "entailment"), "", row("b", "entailment"))
    assert from_folder(tmp_path, "own", "train")[0].premise == " Ça va – 好 "


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"premise": "a", ', r"not JSON \(.*column"),
        ('["a", "b"]', r"not an object"),
        ('{"premise": "a", "label": "entailment"}', r"no text in hypothesis; each line needs premise, hypothesis"),
        ('{"premise": "a", "hypothesis": null, "label": 0}', r"no text in hypothesis, label"),
        (
            '{"premise": "a", "hypothesis": "b", "label": "entailmen"}',
            r"label: 'entailmen' is not known\. Did you mean 'entailment'\? Allowed: .*contradiction.*neutral",
        ),
    ],
    ids=["broken", "not an object", "missing field", "no text", "unknown label"],
)
def test_a_bad_line_is_refused_with_file_and_line_number(tmp_path, line, message):
    write(tmp_path, "own", row("a", "entailment"), "", line, row("d", "entailment"))
    with pytest.raises(StudyError, match=r"own\.jsonl, line 3[:,] " + message):
        from_folder(tmp_path, "own", "train")


def test_a_hans_line_without_heuristic_is_refused(tmp_path):
    write(tmp_path, "hans", row("a", "entailment"))
    with pytest.raises(StudyError, match=r"hans\.jsonl, line 1: no text in heuristic; each line needs .*heuristic"):
        from_folder(tmp_path, "hans", "train")


def test_a_missing_file_is_refused_naming_those_present(tmp_path):
    write(write(tmp_path, "mnli", row("a", "entailment")), "own", row("a", "entailment"))
    with pytest.raises(StudyError, match=r"dataset: 'mnlii' is not in .*mnlii\.jsonl\. Present: mnli, own"):
        from_folder(tmp_path, "mnlii", "train")


def test_a_missing_folder_is_refused_naming_it_and_what_is_allowed(tmp_path):
    with pytest.raises(
        StudyError, match=r"data: '.*absent' is not a folder\. Allowed: hub, world, embedded, or a folder"
    ):
        from_folder(tmp_path / "absent", "mnli", "train")


def test_load_examples_reads_an_absolute_folder(tmp_path):
    write(tmp_path, "own", row("a", "entailment"))
    assert load_examples(str(tmp_path), "own", "train") == [Example("a", "a?", 0)]


@pytest.mark.parametrize("source", ["embedded", "hub"])
def test_an_unknown_dataset_is_refused_naming_the_known_ones(source):
    known = {"embedded": "pairs, swaps", "hub": "mnli, hans"}[source]
    with pytest.raises(StudyError, match=rf"dataset: 'snli' is not known\..*Allowed: {known}\."):
        load_examples(source, "snli", "train")


def test_embedded_pairs_cannot_be_changed_through_what_is_loaded():
    load_examples("embedded", "pairs", "train").clear()
    assert load_examples("embedded", "pairs", "train")


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


def write_parquet(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(file)


def test_mnli_is_read_from_files_of_the_hubs_shape(tmp_path, hub_cache):
    glue = tmp_path / "glue"
    for split in ("train", "validation_matched", "validation_mismatched"):
        rows = [{**row(f"{split} {i}", label), "idx": i} for i, label in enumerate([0, 1, 2, 0])]
        write_parquet(glue / "mnli" / f"{split}-00000-of-00001.parquet", rows)
    write_parquet(glue / "cola" / "train-00000-of-00001.parquet", [{"sentence": "A.", "label": 1, "idx": 0}])
    (glue / "README.md").write_text(GLUE_CARD, encoding="utf-8")
    local = replace(HUB["mnli"], name=str(glue), revision=None)
    for split, name in {"train": "train", "evaluation": "validation_matched"}.items():
        expected = [Example(f"{name} {i}", f"{name} {i}?", label) for i, label in [(0, 0), (2, 1), (3, 0)]]
        assert from_hub("mnli", local, split) == expected


def test_hans_is_read_from_its_parquet_conversion(tmp_path, hub_cache):
    for split in ("train", "validation"):
        rows = [
            row(f"{split} {name} {label}", label, heuristic=name, subcase="swap", template="temp1", parse_premise="( )")
            for name in HEURISTICS
            for label in (0, 1)
        ]
        write_parquet(tmp_path / "hans" / "plain_text" / split / "0000.parquet", rows)
    local = replace(HUB["hans"], name=str(tmp_path / "hans"), revision=None)
    for split, name in {"train": "train", "evaluation": "validation"}.items():
        read = from_hub("hans", local, split)
        assert read == [
            Example(f"{name} lexical_overlap {i}", f"{name} lexical_overlap {i}?", i, "swap", "temp1") for i in (0, 1)
        ]


@pytest.mark.parametrize("dataset", HUB)
def test_an_unreachable_hub_is_one_clear_error(dataset, hub_cache):
    with pytest.raises(StudyError) as caught:
        load_examples("hub", dataset, "train")
    message = str(caught.value)
    assert message.startswith(f"data: {HUB[dataset].name!r} could not be read from the hub")
    assert "Check the network, or set data to a folder of JSON lines." in message
    assert "\n" not in message
