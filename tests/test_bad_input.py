"""Bad input as a table: each row ends in one message and status 2, before anything is computed or written."""

import datetime
import gzip
import io
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet as pq

from lib import __main__
from lib.paths import PROFILES

SMOKE = yaml.safe_load((PROFILES / "smoke.yaml").read_text())["profile"]
TEXTS = ["a dog", "the tree", "a red house", "one bird", "the old man", "two cats", "a blue sea", "no rain"]
ROWS = [{"text": text, "label": ("good", "bad")[i % 2]} for i, text in enumerate(TEXTS)]
OWN = {
    "data": "{at}",
    "datasets": {"reviews": {"source": "{at}/reviews.csv"}},
    "in_domain": "reviews",
    "out_of_domain": [],
    "pattern": "{text}\nAnswer:",
    "label_words": {"good": "Yes", "bad": "No"},
    "support_sizes": [1],
    "pool_size": 1,
    "eval_limit": 4,
}


def csv(rows=ROWS, columns=("text", "label"), separator=","):
    """Rows as a separated file; no value holds the separator."""
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    return "".join(separator.join(line) + "\n" for line in lines)


def jsonl(*rows):
    """Rows as JSON lines; a text stands in it as it is."""
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def parquet(rows, **columns):
    """Rows as a parquet file, columns of them replaced by what pyarrow makes an array of."""
    held = {name: [row[name] for row in rows] for name in ("text", "label") if rows}
    return parquet_of(pa.table(held | columns))


def parquet_of(table, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def of_another_codec(name):
    """A file whose first column says that it is packed by a codec that Arrow does not have."""
    content = bytearray(parquet_of(pa.table({"text": TEXTS, "label": TEXTS}), write_statistics=False))
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    codec = content.index(b"text\x15\x02", footer) + 5  # after the column's name, as Thrift writes numbers
    content[codec] = {"LZO": 6, "60": 120}[name]
    return bytes(content)


def altered(content, at, count):
    return content[:at] + bytes(byte ^ 255 for byte in content[at : at + count]) + content[at + count :]


class Case(NamedTuple):
    """What is called and written, and words that the one message must contain."""

    words: tuple[str, ...]
    message: tuple[str, ...]
    files: Mapping[str, str | bytes] = MappingProxyType({})


def setting(change, *message):
    return Case(("--smoke", "--only", "01", "--set", change), message)


def profile(content, *message):
    return Case(("--profile", "{at}/mine.yaml", "--only", "01"), message, {"mine.yaml": content})


def own(*message, name="reviews.csv", content=None, files=None, dataset=None, **changes):
    """Data of one's own, a file of it replaced, and settings changed."""
    source = {"source": f"{{at}}/{name}", **(dataset or {})}
    settings = SMOKE | OWN | {"datasets": {"reviews": source}} | changes
    written = {"mine.yaml": yaml.safe_dump({"profile": settings}, sort_keys=False), "reviews.csv": csv()}
    if content is not None:
        written[name] = content
    return profile(written["mine.yaml"], *message)._replace(files=written | (files or {}))


def rows(content, *message, name="reviews.csv", **changes):
    return own(*message, name=name, content=content, **changes)


def parquet_rows(content, *message, **changes):
    return rows(content, *message, name="reviews.parquet", **changes)


def lines(content, *message, **changes):
    return rows(content, *message, name="reviews.jsonl", **changes)


def command(*words, message):
    return Case(words, message)


WHOLE = [
    "workers", "eval_seed", "eval_limit", "eval_batch_size", "pool_size", "calibration_pool", "epochs", "batch_size",
    "lora_rank", "lora_alpha", "in_context.steps", "in_context.votes", "in_context.batch_size", "in_context.options",
    "in_context.lm_batch", "in_context.lm_characters", "in_context.crossfit.items", "in_context.lama.target_tasks",
    "in_context.lama.demonstrations", "epochs.cd",
]  # fmt: skip
REAL = [
    "kl_weight", "temperature", "learning_rate", "warmup", "weight_decay", "lora_dropout", "learning_rate.cd",
    "in_context.learning_rate", "in_context.hard_start", "in_context.lm_weight",
]  # fmt: skip
LISTS = ["seeds", "support_sizes", "in_context.seeds", "in_context.crossfit.curve"]
HUGE = "9" * 23

NUMBERS = [
    *(setting(f"{key}={value}", key.rpartition(".")[2], value.strip("."))
      for key in WHOLE for value in (".nan", ".inf", "-1", "1.5", HUGE, "many")),
    *(setting(f"{key}={value}", key.rpartition(".")[2], shown)
      for key in WHOLE + REAL for value, shown in (("true", "True"), ("[1]", "[1]"), ("''", "''"), ("{a: 1}", "a"))),
    *(setting(f"{key}={value}", key.rpartition(".")[2], shown)
      for key in REAL
      for value, shown in ((".nan", "finite"), ("-.inf", "-inf"), ("-1", "-1"), ("1.0e+300", "1e+300"), ("x", "'x'"))),
    *(setting(f"{key}={value}", key.rpartition(".")[2], *shown)
      for key in LISTS
      for value, shown in (
          ("[-1]", ("-1",)), ("[true]", ("True", "whole number")), (f"[{HUGE}]", (HUGE,)), ("[1, 1]", ("1", "twice")),
          ("[.nan]", ("nan",)), ("3", ("3", "list")), ("[[1]]", ("[1]",)), ("['']", ("''",)), ("[null]", ("None",)),
          ("{a: 1}", ("list",)),
      )),
]  # fmt: skip

SETTINGS = [
    setting("seeds=[0", "--set", "seeds", "YAML"),
    setting("seeds={0", "--set", "seeds", "YAML"),
    setting("seeds='0", "--set", "seeds", "YAML"),
    setting("seeds=!!python/object:os.system [0]", "--set", "seeds", "YAML"),
    setting("seeds=" + "[" * 100_000, "--set", "seeds", "YAML"),
    setting("seeds=" + "9" * 5_000, "--set", "seeds"),
    setting("seeds=2021-99-99", "--set", "seeds", "YAML"),
    setting("seeds=*a", "--set", "seeds", "YAML"),
    setting("learning_rate={cd: 1, cd: 2}", "--set", "learning_rate", "cd", "twice"),
    setting("seeds=[]", "seeds", "[]", "1"),
    setting("methods=[]", "methods", "[]", "1"),
    setting("methods=cd", "methods", "'cd'", "list"),
    setting("methods=[cd, cd]", "methods", "cd", "twice"),
    setting("methods=[cd_lor]", "methods", "'cd_lor'", "Did you mean 'cd_lora'"),
    setting("methods=[1]", "methods", "1", "cd"),
    setting("methods=null", "methods", "None", "list"),
    setting("methods=['']", "methods", "''", "cd"),
    setting("label_words=Yes, No", "label_words", "'Yes, No'", "list", "mapping"),
    setting("label_words=[Yes, No]", "label_words", "quotes"),
    setting("label_words=['Yes']", "label_words", "Yes"),
    setting("label_words=['Yes', 'Yes']", "label_words", "Yes", "differ"),
    setting("label_words=['Yes', '']", "label_words", "''"),
    setting("label_words=['Yes', ' No']", "label_words", "' No'", "space"),
    setting("label_words=['Yes', 1]", "label_words", "1", "text"),
    setting("label_words=['Yes', null]", "label_words", "None", "text"),
    setting("label_words=['Yes', 'No', 'So']", "label_words", "So", "entailment"),
    setting("label_words={entailment: 'Yes'}", "label_words", "entailment", "two"),
    setting("label_words={'': 'Yes', b: 'No'}", "label_words", "''"),
    setting("label_words={1: 'Yes', 2: 'No'}", "label_words", "1", "text"),
    setting("label_words=['Yes', 'Yes sir']", "label_words", "'Yes'", "'Yes sir'", "begin"),
    setting("label_words=3", "label_words", "3", "list"),
    setting("name=" + "a" * 300, "name", "aaa", "100"),
    setting("name=''", "name", "''"),
    setting("name=a/b", "name", "'a/b'"),
    setting("name=5", "name", "5", "text"),
    setting('name="a\\0b"', "name"),
    setting("about=[1]", "about", "[1]", "text"),
    setting("student=''", "student", "''"),
    setting("student=3", "student", "3", "text"),
    setting("student=null", "student", "None", "text"),
    setting('student="a\\0b"', "student", "NUL"),
    setting('teacher="\\ud800"', "teacher"),
    setting("teacher=[a]", "teacher", "['a']", "text"),
    setting("teacher=~/no/such/folder", "model", "~/no/such/folder"),
    setting("teacher=~nobody-here/model", "model", "~nobody-here/model"),
    setting("device=gpu", "device", "'gpu'", "cuda"),
    setting("device=true", "device", "True", "cpu"),
    setting("student_dtype=float23", "student_dtype", "'float23'", "Did you mean 'float32'"),
    setting("isolate=maybe", "isolate", "'maybe'", "true or false"),
    setting("isolate=3", "isolate", "3", "true or false"),
    setting("padding_free=[true]", "padding_free", "true or false"),
    setting("schedule=linaer", "schedule", "'linaer'", "Did you mean 'linear'"),
    setting("optimizer=adam", "optimizer", "'adam'", "adamw"),
    setting("pool=trian", "pool", "'trian'", "Did you mean 'train'"),
    setting("pool=true", "pool", "True", "train"),
    setting("pool_size=50", "pool_size", "50"),
    setting("pool_shares=[0.5]", "pool_shares", "[0.5]", "2"),
    setting("pool_shares=[0.5, 0.6]", "pool_shares", "0.6", "sum to 1"),
    setting("pool_shares=[.nan, 1]", "pool_shares", "nan"),
    setting("calibration_pool=50", "calibration_pool", "50"),
    setting("reserved=[4]", "reserved.1", "missing"),
    setting("reserved=[3, 0]", "reserved", "3", "multiple"),
    setting("reserved=[100, 0]", "reserved", "100"),
    setting("reserved=[4, 0]", "reserved", "pairs"),
    setting("eval_limit=0", "eval_limit", "0", "greater than 1"),
    setting("eval_limit=1", "eval_limit", "1", "greater than 1"),
    setting("eval_limit=3", "eval_limit", "3", "multiple"),
    setting("eval_limit=1000", "eval_limit", "1000", "2"),
    setting("support_sizes=[100]", "support_sizes", "100", "6"),
    setting("data=''", "data", "''"),
    setting("data=3", "data", "3", "text"),
    setting("data=nowhere", "data", "'nowhere'", "folder"),
    setting("data=~/no/such/folder", "data", "~/no/such/folder"),
    setting("data=" + "a" * 5_000, "data", "aaa"),
    setting("data=hub", "dataset", "pairs", "mnli"),
    setting("in_domain=''", "in_domain", "''"),
    setting("in_domain=null", "in_domain", "None", "text"),
    setting("in_domain=[pairs]", "in_domain", "['pairs']", "text"),
    setting("in_domain=pair", "pair", "Did you mean 'pairs'"),
    setting("out_of_domain=swap", "swap", "Did you mean 'swaps'"),
    setting("out_of_domain=[swaps, swaps]", "out_of_domain", "swaps", "twice"),
    setting("out_of_domain=['']", "out_of_domain", "''"),
    setting("out_of_domain=3", "out_of_domain", "3", "list"),
    setting("out_of_domain={a: b}", "out_of_domain", "list"),
    setting("pattern=''", "pattern", "''"),
    setting("pattern=3", "pattern", "3", "text"),
    setting("pattern=gpt3", "pattern", "'gpt3'", "gpt-3"),
    setting("stored_only=2", "stored_only", "2", "true or false"),
    setting("too_long=cut", "too_long", "'cut'", "skip"),
    setting("choices=[kl_ovr]", "choices", "kl_ovr")._replace(words=("--smoke", "--set", "choices=[kl_ovr]")),
    setting("choices=kl_over", "choices", "'kl_over'", "list"),
    setting("lerning_rate=1", "lerning_rate", "Did you mean 'learning_rate'"),
    setting("=3", "''"),
    setting("seeds.0=3", "seeds.0", "learning_rate"),
    setting("epochs.cdd=3", "epochs", "'cdd'", "Did you mean 'cd'"),
    setting("epochs={cd: 3}", "epochs", "pbft"),
    setting("in_context=3", "in_context", "3", "mapping"),
    setting("in_context=[1]", "in_context", "[1]", "mapping"),
    setting("in_context.stepz=3", "in_context", "stepz", "Did you mean 'steps'"),
    setting("in_context.lama.itms=3", "in_context.lama", "itms", "Did you mean 'items'"),
    setting("in_context.lama=3", "in_context.lama", "3", "mapping"),
    setting("in_context.lama.source=''", "in_context.lama.source", "''"),
    setting("in_context.paradigms=[meta, meta]", "in_context.paradigms", "meta", "twice"),
    setting("in_context.paradigms=[mta]", "in_context.paradigms", "'mta'", "Did you mean 'meta'"),
    setting("in_context.crossfit.learning_rate={mta: 1}", "in_context.crossfit.learning_rate", "'mta'", "meta"),
    setting("datasets=[a]", "datasets", "['a']", "mapping"),
    setting("datasets=x", "datasets", "'x'", "mapping"),
    setting("datasets={pairs: 3}", "datasets.pairs", "3", "mapping"),
    setting("datasets={pairs: {sorce: x}}", "datasets.pairs", "sorce", "Did you mean 'source'"),
    setting("datasets={pairs: {labels: [a]}}", "datasets.pairs.labels", "['a']", "mapping"),
    setting("datasets={pairs: {labels: {a: [1]}}}", "datasets.pairs.labels.a", "[1]", "text"),
    setting("datasets={pairs: {labels: {1: entailment, '1': non-entailment}}}", "labels", "1", "twice"),
    setting("datasets={pairs: {labels: {a: nonsense}}}", "datasets.pairs.labels", "nonsense", "entailment"),
    setting("datasets={pairs: {columns: {premise: 3}}}", "datasets.pairs.columns.premise", "3", "text"),
    setting("datasets={pairs: {where: {a: [1]}}}", "datasets.pairs.where.a", "[1]"),
    setting("datasets={pairs: {train: train}}", "datasets.pairs.train", "'train'", "list"),
    setting("datasets={pairs: {train: [a, a]}}", "datasets.pairs.train", "a", "twice"),
    setting("datasets={pairs: {kind: 3}}", "datasets.pairs.kind", "3", "list"),
    setting("datasets={pairs: {label: ''}}", "datasets.pairs.label", "''"),
    setting("datasets={pairs: {source: ''}}", "datasets.pairs.source", "''"),
]

MINE = yaml.safe_dump({"profile": SMOKE})
PROFILE = [
    profile("", "mine.yaml", "profile"),
    profile("profile:", "mine.yaml", "profile"),
    profile("profile: []", "mine.yaml", "profile"),
    profile("profile: {}", "missing", "name", "student", "support_sizes"),
    profile("- a", "mine.yaml", "profile"),
    profile("name: x", "mine.yaml", "profile"),
    profile(MINE + "more: 1\n", "mine.yaml", "profile"),
    profile(MINE + "  name: again\n", "mine.yaml", "'name'", "twice"),
    profile(MINE + "profile: {}\n", "mine.yaml", "'profile'", "twice"),
    profile("profile: {name: [", "mine.yaml", "YAML"),
    profile("profile:\n\tname: x\n", "mine.yaml", "YAML"),
    profile("profile: " + "[" * 100_000, "mine.yaml", "YAML"),
    profile("profile: {seeds: " + "9" * 5_000 + "}", "mine.yaml", "YAML"),
    profile("profile: {? [1] : 2}", "mine.yaml", "YAML"),
    profile("profile: {1: 2}", "1"),
    profile(b"\x00\x01\x02\xff\xfe", "mine.yaml", "UTF-8"),
    profile(gzip.compress(MINE.encode()), "mine.yaml", "UTF-8"),
    profile("profile: {about: caf\xe9}".encode("latin-1"), "mine.yaml", "UTF-8"),
    profile(MINE.encode("utf-16"), "mine.yaml", "UTF-8"),
    profile("profile: {about: \0}", "mine.yaml", "YAML"),
    profile("--- {profile: {}}\n--- {profile: {}}\n", "mine.yaml", "YAML"),
    profile("profile: !!python/object/apply:os.system [ls]", "mine.yaml", "YAML"),
    profile(yaml.safe_dump({"profile": {k: v for k, v in SMOKE.items() if k != "student"}}), "student", "missing"),
    profile(yaml.safe_dump({"profile": SMOKE | {"in_context": {"seeds": [0]}}}), "in_context", "steps", "missing"),
    profile(yaml.safe_dump({"profile": SMOKE | {"sed": 3}}), "sed", "Did you mean 'seeds'"),
    profile(yaml.safe_dump({"profile": SMOKE | {"student": None, "kl_weight": 2}}), "student", "kl_weight"),
    command("--profile", "", message=("profile", "''")),
    command("--profile", " ", message=("profile", "' '")),
    command("--profile", ".", message=("profile", "'.'")),
    command("--profile", "smok", message=("profile", "'smok'", "Did you mean 'smoke'")),
    command("--profile", "{at}", message=("profile", "{at}")),
    command("--profile", "{at}/no.yaml", message=("profile", "{at}/no.yaml")),
    command("--profile", "~/no-such-profile.yaml", message=("profile", "~/no-such-profile.yaml")),
    command("--profile", "~nobody-here/x.yaml", message=("profile", "~nobody-here/x.yaml")),
    command("--profile", "a" * 5_000, message=("profile", "aaa")),
    command("--profile", "a\0b", message=("profile",)),
    Case(("--profile", "{at}/folder.yaml"), ("profile", "folder.yaml"), {"folder.yaml/x": ""}),
]

TWICE = '{"text": "a", "text": "b", "label": "good"}'
LONE = '{"text": "x \\ud83d", "label": "good"}'
DEEP = '{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "good"}'
SPLIT = [row | {"split": ("train", "train", "dev", "dev")[i % 4]} for i, row in enumerate(ROWS)]


def split_rows(*changes):
    """The rows with a split, the first of them changed."""
    return jsonl(*(row | (changes[i] if i < len(changes) else {}) for i, row in enumerate(SPLIT)))


GOOD = {"label": "good"}
ONE = [row | {"label": "good"} for row in ROWS]
DATA = [
    rows("", "reviews.csv", "no row"),
    rows("\n\n", "reviews.csv", "no row"),
    rows("text,label\n", "reviews.csv", "no row"),
    rows("", "reviews.jsonl", "no row", name="reviews.jsonl"),
    rows("text\tlabel\n", "reviews.tsv", "no row", name="reviews.tsv"),
    rows(parquet([]), "reviews.parquet", "no row", name="reviews.parquet"),
    rows(csv() + "x\n", "reviews.csv, line 10", "1 field", "2"),
    rows(csv() + "x,good,more\n", "reviews.csv, line 10", "3 fields", "2"),
    rows(csv() + '"x,good\n', "reviews.csv, line 10", "quote"),
    rows(csv(columns=("text", "label", "label")), "reviews.csv", "label", "twice"),
    rows(csv(separator=";"), "reviews.csv", "'text'", "text;label"),
    rows(csv(separator="\t"), "reviews.csv", "'text'"),
    rows(csv(), "reviews.tsv", "'text'", name="reviews.tsv"),
    rows(csv(columns=("txt", "label")), "reviews.csv", "'text'", "Did you mean 'txt'"),
    rows(csv(columns=("text", "labels")), "reviews.csv", "'label'", "Did you mean 'labels'"),
    rows(csv(columns=("text", "")), "reviews.csv", "no column 'label'"),
    rows(csv().encode("utf-16"), "reviews.csv", "UTF-8"),
    rows(csv().encode("utf-16-le"), "reviews.csv", "NUL"),
    rows(jsonl(*ROWS).encode("utf-16"), "reviews.jsonl", "UTF-8", name="reviews.jsonl"),
    rows((csv() + "caf\xe9,good\n").encode("latin-1"), "reviews.csv", "UTF-8"),
    rows(csv() + "a\0b,good\n", "reviews.csv, line 10", "NUL"),
    rows(jsonl(*ROWS, {"text": "a\0b", "label": "good"}), "reviews.jsonl, line 9", "NUL", name="reviews.jsonl"),
    rows(gzip.compress(csv().encode()), "reviews.csv", "UTF-8"),
    rows(parquet(ROWS), "reviews.csv", name="reviews.csv"),
    rows(parquet(ROWS), "reviews.jsonl", name="reviews.jsonl"),
    rows(csv(), "reviews.jsonl, line 1", "JSON", name="reviews.jsonl"),
    rows(json.dumps(ROWS), "reviews.jsonl, line 1", "object", name="reviews.jsonl"),
    rows(json.dumps(ROWS, indent=1), "reviews.jsonl, line 1", "JSON", name="reviews.jsonl"),
    rows(jsonl(*ROWS, LONE), "reviews.jsonl, line 9", "surrogate", name="reviews.jsonl"),
    rows(jsonl(*ROWS, DEEP), "reviews.jsonl, line 9", "JSON", name="reviews.jsonl"),
    rows(jsonl(*ROWS, f'{{"text": {"9" * 5_000}}}'), "reviews.jsonl, line 9", "JSON", name="reviews.jsonl"),
    rows(jsonl(*ROWS, TWICE), "line 9", "'text'", "twice", name="reviews.jsonl"),
    rows(jsonl(*ROWS, "null"), "reviews.jsonl, line 9", "object", name="reviews.jsonl"),
    rows(jsonl(*ROWS, {"text": "x"}), "reviews.jsonl, line 9", "no column 'label'", name="reviews.jsonl"),
    rows(jsonl(*ROWS, {"text": None, "label": "good"}), "line 9", "'text'", "null", name="reviews.jsonl"),
    rows(jsonl(*ROWS, {"text": ["x"], "label": "good"}), "line 9", "'text'", "list", name="reviews.jsonl"),
    rows(jsonl(*ROWS, {"text": "x", "label": {"a": 1}}), "line 9", "'label'", "mapping", name="reviews.jsonl"),
    rows(jsonl(*ROWS, {"text": "x", "label": 1}), "line 9", "'1'", "good, bad", "labels", name="reviews.jsonl"),
    rows(csv([*ROWS, {"text": "x", "label": "0"}]), "line 10", "'0'", "good, bad", "labels"),
    rows(csv([*ROWS, {"text": "x", "label": "godo"}]), "line 10", "'godo'", "Did you mean 'good'"),
    rows(csv([*ROWS, {"text": "x", "label": ""}]), "line 10", "''", "good, bad"),
    rows(csv([*ROWS, {"text": "x", "label": "Good"}]), "line 10", "'Good'", "Did you mean 'good'"),
    rows(split_rows({"split": ["train"]}), "line 1", "'split'", "list", name="reviews.jsonl"),
    rows(split_rows({}, {"split": None}), "line 2", "split", "1", name="reviews.jsonl"),
    rows(split_rows({}, {"split": ""}), "line 2", "split", "1", name="reviews.jsonl"),
    rows(split_rows({}, {"split": " "}), "line 2", "split", "1", name="reviews.jsonl"),
    rows(jsonl(*SPLIT, ROWS[0]), "line 9", "split", "1", name="reviews.jsonl"),
    rows(split_rows(*[{"split": "train"}] * 8), "evaluation", "'train'", "dev", name="reviews.jsonl"),
    rows(split_rows(*[{"split": "Train"}] * 8), "train", "'Train'", name="reviews.jsonl"),
    rows(csv([*ROWS, *(row | GOOD for row in ROWS)]), "8 rows", "other labels", "line 3, 5", "0"),
    rows(csv(), "'part'", dataset={"split": "part"}),
    rows(csv(ONE), "eval_limit", "2 rows of bad", "0"),
    rows(csv(ONE), "eval_limit", "none is left", eval_limit=None, methods=["baseline"]),
    rows(split_rows(*[GOOD, GOOD, {}, {}] * 2), "train", "0 of bad", name="reviews.jsonl", eval_limit=None),
    rows(split_rows(*[{}, {}, GOOD, GOOD] * 2), "evaluated", "one class", name="reviews.jsonl", eval_limit=None),
    rows(csv([row | {"text": "same"} for row in ROWS]), "reviews.csv", "8", "labels"),
    rows(csv([row | {"text": " "} for row in ROWS]), "reviews.csv", "8", "empty text"),
    rows(csv(), "no row", "where", "fr", dataset={"where": {"label": "fr"}}),
    rows(csv(), "'language'", "text, label", dataset={"where": {"language": "fr"}}),
    rows(csv(), "no row", "8", "null", dataset={"labels": {"good": None, "bad": None}}),
    rows(csv(), "'rating'", "text, label", dataset={"label": "rating"}),
    rows(csv(), "'review'", "text, label", dataset={"columns": {"text": "review"}}),
    rows(csv(), "eval_limit", "8", "none is left", eval_limit=None),
    rows(csv(), "support_sizes", "20", support_sizes=[20]),
    rows(csv(), "pool_size", "20", pool_size=20),
    rows(csv(), "pool_size", "18", pool_size=20, pool_shares=[0.9, 0.1]),
    rows(csv(), "calibration_pool", "20", calibration_pool=20),
    rows(csv(), "eval_limit", "7", "multiple", eval_limit=7),
    rows(csv(), "eval_limit", "20", "10 rows of", "4", eval_limit=20),
    rows(csv(), "held_out", "subcase", held_out="templates", pool="target", out_of_domain="reviews"),
    rows(csv(), "pool", "out-of-domain", pool="target"),
    rows(csv(), "pool", "out-of-domain", pool="both"),
    rows(csv(), "2 rows of soso", "0", label_words={"good": "Yes", "bad": "No", "soso": "Maybe"}, eval_limit=6),
    rows(split_rows(), "train", "0 of soso", name="reviews.jsonl", eval_limit=None,
         label_words={"good": "Yes", "bad": "No", "soso": "Maybe"}),
    rows(csv(), "'review'", "text, label", pattern="{review}\nAnswer:"),
    rows(csv(), "pattern", "'{text} '", "space", pattern="{text} "),
    rows(csv(), "pattern", "line break", pattern="{text}\n"),
    rows(csv(), "pattern", "'{text'", pattern="{text"),
    rows(csv(), "pattern", "'text}'", pattern="text}"),
    rows(csv(), "pattern", "'no braces'", pattern="no braces"),
    rows(csv(), "pattern", "'{}'", pattern="{}"),
    rows(csv(), "pattern", "'{0}'", pattern="{0}"),
    rows(csv(), "pattern", "'{text!r}'", pattern="{text!r}"),
    rows(csv(), "pattern", "'{text:>9}'", pattern="{text:>9}"),
    rows(csv(), "pattern", "'{text.upper}'", pattern="{text.upper}"),
    rows(csv(), "pattern", "'{{text}}'", pattern="{{text}}"),
    rows(csv(), "pattern", "label", "{label}", pattern="{text} {label}\nAnswer:"),
    rows(csv(), "label_words", "pattern", label_words=None),
    own("reviews.jsonl", "reviews.csv", name="reviews.jsonl"),
    own("nowhere/reviews.csv", name="nowhere/reviews.csv"),
    own("reviews.txt", "'.txt'", ".csv", name="reviews.txt", content=csv()),
    own("reviews.json", "'.json'", "Did you mean '.jsonl'", name="reviews.json", content=csv()),
    own("reviews.csv.gz", "'.gz'", ".csv", name="reviews.csv.gz", content=gzip.compress(csv().encode())),
    own("reviews", "other.csv", name="sub", files={"sub/other.csv": csv()}),
    own("reviews", "no data file", name="sub", files={"sub/README": ""}),
    own("reviews.csv or reviews.jsonl", name="sub", files={"sub/reviews.csv": csv(), "sub/reviews.jsonl": ""}),
    own("folder.csv", name="folder.csv", files={"folder.csv/x": ""}),
    own("'~nobody-here/reviews.csv'", dataset={"source": "~nobody-here/reviews.csv"}),
    own("aaa", dataset={"source": "a" * 300}),
    own("data", "NUL", dataset={"source": "a\0b"}),
    own("hub", "nobody-here/nothing", "network", dataset={"source": "hub:nobody-here/nothing"}),
    own("hub", "'hub:'", dataset={"source": "hub:"}),
    own("hub", "a/b/c/d", dataset={"source": "hub:a/b/c/d"}),
    own("data", "'../reviews'", in_domain="../reviews", data="{at}/sub", files={"sub/x.csv": ""}),
]  # fmt: skip

CANNOT = "reviews.parquet: could not be read as parquet"
NOT_WHOLE = "it is cut short, altered, encrypted, or of a kind that pyarrow does not read)"
NESTED = {"a mapping": [{"a": text} for text in TEXTS], "a list": [[text] for text in TEXTS], "null": [None] * 8}
OTHERS = {
    "1.5": [1.5] * 8, "True": [True] * 8, "3": [3] * 8, "2020-01-02": [datetime.date(2020, 1, 2)] * 8,
    "2020-01-02 03:04:00": [datetime.datetime(2020, 1, 2, 3, 4)] * 8, "01:02:00": [datetime.time(1, 2)] * 8,
}  # fmt: skip
TIMES = pa.array([2**50] * 8, type=pa.timestamp("ms"))  # in no year that Python has
NOT_UTF_8 = pa.Array.from_buffers(pa.string(), 8, pa.array([b"\xff\xfe"] * 8, type=pa.binary()).buffers())
PARQUET = [
    *(parquet_rows(content, CANNOT, NOT_WHOLE)
      for content in (
          b"", b"PAR1", b"PAR1PAR1", bytes(4096), csv(), jsonl(*ROWS), gzip.compress(parquet(ROWS)), b"ARROW1\0\0" * 99,
          parquet(ROWS)[:-1], parquet(ROWS)[:-4], parquet(ROWS)[:-20], parquet(ROWS)[:100], parquet(ROWS)[4:],
          b"PARE" + parquet(ROWS)[4:], b"XXXX" + parquet(ROWS)[4:], parquet(ROWS)[:-4] + b"PARE", parquet(ROWS) + b"\n",
          parquet(ROWS)[:-8] + b"\xff\xff\xff\x7fPAR1", parquet(ROWS)[:-8] + b"\0\0\0\0PAR1",
          altered(parquet(ROWS), 4, 20), altered(parquet(ROWS), len(parquet(ROWS)) - 60, 40),
          of_another_codec("LZO"), of_another_codec("60"),
          *(altered(parquet_of(pa.table({"text": TEXTS, "label": TEXTS}), compression=codec), 30, 20)
            for codec in ("snappy", "gzip", "zstd", "lz4", "brotli")),
          parquet(ROWS, text=TIMES), parquet(ROWS, text=NOT_UTF_8), parquet(ROWS, label=NOT_UTF_8),
      )),
    *(parquet_rows(parquet(ROWS, **{column: values}), "row 1", f"'{column}'", f"holds {held}", f"{wanted} is needed")
      for column, wanted in (("text", "a text"), ("label", "a label"))
      for held, values in [*NESTED.items(), ("bytes", [b"a"] * 8), ("nan, which is no number", [math.nan] * 8)]),
    *(parquet_rows(parquet(ROWS, label=values), "row 1, label", f"'{shown}'", "good, bad")
      for shown, values in OTHERS.items()),
    parquet_rows(parquet_of(pa.table({"text": TEXTS})), "row 1", "no column 'label'", "datasets.reviews.label"),
    parquet_rows(parquet_of(pa.table({"Text": TEXTS, "label": TEXTS})), "'text'", "Did you mean 'Text'"),
    parquet_rows(parquet_of(pa.table([TEXTS, TEXTS, TEXTS], names=["text", "label", "label"])), "'label'", "twice"),
    parquet_rows(parquet(ROWS, split=[["train"]] * 8), "row 1", "'split'", "list"),
    parquet_rows(parquet(ROWS, split=[1, 2] * 4), "train", "'1', '2'"),
    parquet_rows(parquet(ROWS, split=[None] * 7 + ["train"]), "row 1", "split", "7 lack it"),
    parquet_rows(parquet(ROWS, stars=[[1]] * 8), "row 1", "'stars'", "list", dataset={"where": {"stars": 1}}),
]  # fmt: skip

LABELS = [
    *(lines(jsonl(*(row | {"label": value} for row in ROWS)), "line 1", "'label'", f"holds {held}", "a label is needed")
      for held, value in (("null", None), ("a list", ["good"]), ("a mapping", {"name": "good"}))),
    *(lines(jsonl(*(row | {"label": value} for row in ROWS)), "line 1, label", shown, "good, bad", "reviews.labels")
      for shown, value in (("'0'", 0), ("'False'", False), ("'0.5'", 0.5), ("''", " "), ("'good.'", "good."))),
    *(lines(f'{{"text": "a", "label": {value}}}\n', "line 1", "'label'", shown, "no number", "a label")
      for shown, value in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-1e999"))),
    *(lines(f'{{"text": {value}, "label": "good"}}\n', "line 1", "'text'", shown, "no number")
      for shown, value in (("nan", "NaN"), ("inf", "1e999"), ("-inf", "-Infinity"))),
    *(rows(csv(columns=("text", name)), "no column 'label'", f"Did you mean '{name}'", "datasets.reviews.label")
      for name in ("Label", "LABEL", " label ", "labels")),
    lines(jsonl(*({"text": text} for text in TEXTS)), "no column 'label'", "datasets.reviews.label"),
    rows(csv(), "no column 'stars'", "text, label", "datasets.reviews.label", dataset={"label": "stars"}),
    rows(csv(), "{text}", "label", "gives it away", dataset={"label": "text"}),
    lines(jsonl(*(row | {"label": True} for row in ROWS)), "'True'", "Did you mean 'true'", "Allowed: true, false",
         dataset={"labels": {"true": "good", "false": "bad"}}),
    lines(jsonl(*ROWS) + '{"\\udc00": "a", "label": "good"}\n', "reviews.jsonl, line 9", "UTF-8"),
]  # fmt: skip

LONG = "word " * 600


def long_rows(which):
    """The rows with their splits; the texts of some of them are too long for the models."""
    return jsonl(*(row | {"text": f"{LONG if which(row) else ''}{row['text']}"} for row in SPLIT))


TOO_LONG = [
    *(lines(long_rows(lambda row: True), "too_long", "all 4 rows of the train split", "random-opt", too_long=beside)
      for beside in ("skip", 0, 3)),
    lines(long_rows(lambda row: row["split"] == "train"), "too_long", "all 4 rows of the train split", too_long="skip"),
    lines(long_rows(lambda row: row["split"] == "dev"), "too_long", "4 rows of the evaluation split", too_long="skip"),
    lines(long_rows(lambda row: row["label"] == "bad"), "2 rows are too long", "2 rows of bad", "0", too_long="skip"),
    rows(csv(), "too_long", "all 8 rows", "beside 5000 rows", too_long=5_000),
    rows(csv(), "too_long", "all 8 rows", pattern=LONG + "{text}", too_long="skip"),
    rows(csv(), "too_long", "all 8 rows", too_long="skip", label_words={"good": "Yes " * 500 + "a", "bad": "No"}),
    lines(long_rows(lambda row: True), "606 tokens", "512", "4 of 4 rows", "line", "too_long: skip"),
    rows(csv([*ROWS, {"text": "y" * 200_000, "label": "good"}]) + '"', "line 11", "quote"),
]  # fmt: skip

TASK = [
    {"input": f"text {i}", "output": ("red", "blue")[i % 2], "options": ["red", "blue"],
     "split": ("train", "test")[i % 4 // 2]}
    for i in range(16)
]  # fmt: skip
SIDES = '{"train": ["a"], "test": ["b"]}'
RELATIONS = [{"relation": name, "template": "[X] is in [Y] ."} for name in ("P1", "P2")]
FACTS = [{"sub_label": f"subject {i}", "obj_label": f"object {i % 4}"} for i in range(16)]


def benchmark(page, part, files, *message, **changes):
    """Files of a benchmark's tasks, and settings of it."""
    settings = SMOKE["in_context"] | {part: SMOKE["in_context"][part] | {"source": "{at}/tasks"} | changes}
    written = {f"tasks/{name}": content for name, content in files.items()}
    mine = yaml.safe_dump({"profile": SMOKE | {"in_context": settings}}, sort_keys=False)
    return profile(mine, *message)._replace(
        words=("--profile", "{at}/mine.yaml", "--only", page), files=written | {"mine.yaml": mine}
    )


def crossfit(content, *message, split=SIDES):
    files = {"a.jsonl": content, "b.jsonl": content, "split.json": split}
    return benchmark("11", "crossfit", files, *message, split="{at}/tasks/split.json")


def task_row(*message, **changes):
    """Rows of a CrossFit task, the last of them changed."""
    return crossfit(jsonl(*TASK, TASK[0] | changes), "b.jsonl, line 17", *message)


def lama(relations, facts, *message):
    files = {"relations.jsonl": relations, "P1.jsonl": facts, "P2.jsonl": facts}
    return benchmark("12", "lama", files, *message)


def sides(split, *message):
    return crossfit(jsonl(*TASK), *message, split=split)


BENCHMARKS = [
    crossfit("", "no task to tune on", "b: 0 examples"),
    crossfit("x", "b.jsonl, line 1", "JSON"),
    task_row("input", "''", input=""),
    task_row("'input'", "null", input=None),
    task_row("'input'", "mapping", input={"a": 1}),
    task_row("input", "3", input=3),
    task_row("'input'", "NUL", input="a\0"),
    task_row("'input'", "surrogate", input="\ud800"),
    task_row("'green'", "options", output="green"),
    task_row("['red']", "options", output=["red"]),
    task_row("options", "'red'", options="red"),
    task_row("options", "two texts", options=["red"]),
    task_row("options", "different", options=["red", " red"]),
    task_row("options", "texts", options=["red", None]),
    task_row("'options'", "NUL", options=["red", "blue\0"]),
    task_row("'options'", "surrogate", options=["red", "\ud800"]),
    crossfit(jsonl(*(row | {"split": "train"} for row in TASK)), "no task to evaluate", "b: 0 items"),
    crossfit(jsonl(*(row | {"split": ["test"]} for row in TASK)), "no task to evaluate", "b: 0 items"),
    sides("{}", "crossfit.split", "train"),
    sides("x", "crossfit.split", "JSON"),
    sides(b"\xff", "crossfit.split", "JSON"),
    sides("[" * 100_000, "crossfit.split", "JSON"),
    sides('{"train": "a", "test": ["b"]}', "crossfit.split", "train"),
    sides('{"train": [1], "test": ["b"]}', "crossfit.split", "train"),
    sides('{"train": [], "test": []}', "no task to tune on", "None is named"),
    sides('{"train": ["a"], "test": ["a"]}', "a would be both"),
    sides('{"train": ["c"], "test": ["b"]}', "no task to tune on", "no file c.jsonl"),
    sides(json.dumps({"train": [f"c{i}" for i in range(400)], "test": ["b"]}), "no file c4.jsonl", "395 more"),
    sides(json.dumps({"train": ["c" * 300], "test": ["b"]}), "no task to tune on", "no file ccc"),
    *(sides(json.dumps({"train": [name], "test": ["b"]}), repr(f"{name}.jsonl"), "folders")
      for name in ("../b", "/etc/passwd", "{at}/tasks/b", "a\0")),
    lama("", jsonl(*FACTS), "no task to tune on", "None is named"),
    lama("x", jsonl(*FACTS), "relations.jsonl, line 1", "JSON"),
    lama(jsonl({"relation": "P1"}), jsonl(*FACTS), "relations.jsonl, line 1", "no column 'template'"),
    lama(jsonl({"relation": 1, "template": "[X] [Y]"}), jsonl(*FACTS), "line 1", "relation", "1"),
    lama(jsonl({"relation": "P1", "template": "[X]"}), jsonl(*FACTS), "P1", "does not end in the object"),
    lama(jsonl(*RELATIONS, {"relation": "P1", "template": "[X] has [Y]"}), jsonl(*FACTS), "line 3", "P1", "[X] has [Y]",
         "[X] is in [Y] ."),
    lama(jsonl(*RELATIONS, {"relation": "../P1", "template": "[X] [Y]"}), jsonl(*FACTS), "'../P1.jsonl'", "folders"),
    lama(jsonl(*RELATIONS), "", "no task to tune on", "P1: 0 different objects"),
    lama(jsonl(*RELATIONS), "x", "line 1", "JSON"),
    lama(jsonl(*RELATIONS), jsonl(FACTS[0], {"sub_label": "a"}), "line 2", "no column 'obj_label'"),
    *(lama(jsonl(*RELATIONS), jsonl(FACTS[0], FACTS[0] | {"obj_label": value}), "line 2", "obj_label", shown)
      for shown, value in (("null", None), ("list", ["a"]), ("3", 3), ("' '", " "), ("NUL", "\0"),
                           ("surrogate", "\ud800"))),
    lama(jsonl(*RELATIONS), jsonl(*(fact | {"obj_label": "same"} for fact in FACTS)), "P1: 1 different objects"),
    *(Case(("--smoke", "--only", "12", "--set", f"in_context.lama.{key}=nowhere"), ("in_context", "'nowhere'"))
      for key in ("source", "tuning_source")),
    Case(("--smoke", "--only", "12", "--set", "in_context.lama.source=hub"), ("OptiPrompt", "network")),
    Case(("--smoke", "--only", "11", "--set", "in_context.lm_text=nowhere"), ("lm_text", "'nowhere'")),
    Case(("--smoke", "--only", "11", "--set", "in_context.student=./nowhere"), ("model", "nowhere")),
    Case(("--smoke", "--only", "11,12", "--set", "in_context.teacher=./nowhere"), ("model", "nowhere")),
]  # fmt: skip

COMMANDS = [
    command("--smoke", "--only", "77", message=("only", "77", "01")),
    command("--smoke", "--only", "", message=("only", "''", "01")),
    command("--smoke", "--only", "1", message=("only", "1", "01")),
    command("--smoke", "--only", "01,,05", message=("only", "''", "01")),
    command("--smoke", "--only", "01_accuracy", message=("only", "01_accuracy", "01")),
    command("--set", "seeds", message=("--set", "KEY=VALUE")),
    command("--smoke", "--profile", "tiny", message=("--profile", "--smoke")),
    command("--smoke", "extra", message=("extra",)),
    command("--sedes", message=("--sedes",)),
    *(
        command("fits", "--gpu", value, "--profile", "smoke", message=("gpu", shown))
        for value, shown in [("nan", "nan"), ("inf", "inf"), ("-1", "-1"), ("0", "0"), ("x", "'x'"), ("1e400", "inf")]
    ),
    *(
        command("fits", "--gpu", "8", "--profile", "smoke", "--support", value, message=("support", shown))
        for value, shown in [("-1", "-1"), ("x", "'x'"), ("1.5", "1.5"), (HUGE, "9999")]
    ),
    command("fits", "--gpu", "8", "--profile", "smoke", "--support", "1000", message=("support", "1000")),
    command("fits", "--gpu", "8", "--profile", "smoke", "--method", "cdd", message=("method", "'cdd'", "cd")),
    command("fits", "--gpu", "8", "--profile", "smoke", "--method", "", message=("method", "''", "cd")),
    command("fits", "--gpu", "8", "--profile", "smoke", "--student", "", message=("student", "''")),
    command("fits", "--gpu", "8", "--profile", "smoke", "--support", "4", "--teacher", "./x", message=("no folder",)),
    command("fits", "--gpu", "8", "--profile", "", message=("profile", "''")),
    command("fits", "--gpu", "8", "--set", "seeds=[0", message=("--set", "seeds")),
    command("fits", message=("--gpu",)),
    *(
        command("plan", "--profile", "smoke", f"--{name}", value, message=(name, shown))
        for name in ("gpu", "price")
        for value, shown in [("nan", "nan"), ("inf", "inf"), ("-1", "-1"), ("0", "0"), ("x", "'x'")]
    ),
    command("plan", "--profile", "smoke", "--student", "./x", message=("no folder",)),
    command("plan", "--profile", "", message=("profile", "''")),
    command("export", "--profile", "smoke", "--method", "icl", message=("method", "'icl'", "cd")),
    command("export", "--profile", "smoke", "--support", "-1", message=("support", "-1", "1, 4")),
    command("export", "--profile", "smoke", "--support", "2", message=("support", "2", "1, 4")),
    command("export", "--profile", "smoke", "--support", "1", "--seed", "9", message=("seed", "9", "0, 1")),
    command("export", "--profile", "smoke", "--support", "1", "--seed", "-1", message=("seed", "-1", "0, 1")),
    command("export", "--profile", "smoke", "--support", "1", message=("no result", "cd")),
    command("export", "--profile", "smoke", "--support", "1", "--to", "", message=("to", "something else")),
    Case(("export", "--profile", "smoke", "--support", "1", "--to", "{at}"), ("to", "something else"), {"x": ""}),
    command("export", "--profile", "", message=("profile", "''")),
]  # fmt: skip

CASES = [*NUMBERS, *SETTINGS, *PROFILE, *DATA, *PARQUET, *LABELS, *TOO_LONG, *BENCHMARKS, *COMMANDS]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """The status of `run_all.sh` with a row's words, in this process, and what it says of errors."""
    figures = tmp_path / "figures"
    monkeypatch.setattr("lib.runs.profile.FIGURES", figures)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for variable in ("FEW_SHOT_BATCH", "PYTHONPATH"):
        monkeypatch.setenv(variable, "")

    def compute(*_):
        raise AssertionError("the input was accepted, and computing began")

    monkeypatch.setattr("lib.runs.execution.show_progress", compute)

    def placed(text):
        return text.replace("{at}", str(tmp_path))

    def call(case):
        for name, content in case.files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else placed(content).encode())
        monkeypatch.setattr("sys.argv", ["run_all.sh", *map(placed, case.words)])
        try:
            status = __main__.main()
        except SystemExit as ended:  # argparse
            status = ended.code
        said = capsys.readouterr().err
        assert not list(figures.rglob("*")), "something was written"
        return status, said, [word for word in map(placed, case.message) if word not in said]

    return call


def label(case):
    return " ".join([*case.words, *case.message])[:90].replace("\0", "0")


@pytest.mark.parametrize("case", CASES, ids=label)
def test_bad_input_ends_in_one_message(case, run):
    status, said, lacking = run(case)
    assert status == 2
    assert not lacking, said
    assert "Traceback" not in said
    assert len(said) < 3_000 and len(said.splitlines()) <= 12, said


def test_the_same_rows_without_a_fault_are_accepted(run):
    with pytest.raises(AssertionError, match="computing began"):
        run(own())
