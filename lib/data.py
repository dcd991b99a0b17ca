"""Natural language inference as one table of (premise, hypothesis, label), and the samples drawn from it.

A source is `hub`, `world` (the controlled English of `lib.world`), `embedded` (the dozen pairs of `lib.smoke`) or a
folder of JSON lines, one file a dataset. Neutral rows are dropped: what is left is entailment against the rest, as in
Mosbach et al. 2023 (arXiv 2305.16938).
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datasets import load_dataset

from lib.errors import StudyError, first_line, require_one_of
from lib.jsonl import json_lines
from lib.paths import locate

CLASSES = ("entailment", "non-entailment")
LABELS = {"entailment": 0, "contradiction": 1, "non-entailment": 1, "not_entailment": 1, "neutral": None}

Split = Literal["train", "evaluation"]
LOCAL_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "evaluation": ("validation_matched", "dev_matched", "validation", "dev", "test"),
}


class Example(NamedTuple):
    """One premise and hypothesis; `label` is 0 for entailment and 1 for its opposite.

    `subcase` and `template` say how HANS made the row, where the data tell; a template's name is its own only within
    its subcase.
    """

    premise: str
    hypothesis: str
    label: int
    subcase: str = ""
    template: str = ""


@dataclass(frozen=True)
class HubDataset:
    """Where a dataset lies on the Hugging Face hub; `labels` maps its class indices to ours, None drops a row."""

    name: str
    config: str | None
    revision: str | None
    splits: Mapping[Split, str]
    labels: Mapping[int, int | None]


# HANS is a script dataset on the hub, which `datasets` no longer runs; its parquet conversion has one unnamed config.
HUB = {
    "mnli": HubDataset(
        "nyu-mll/glue", "mnli", None, {"train": "train", "evaluation": "validation_matched"}, {0: 0, 1: None, 2: 1}
    ),
    "hans": HubDataset(
        "jhu-cogsci/hans",
        None,
        "refs/convert/parquet",
        {"train": "train", "evaluation": "validation"},
        {0: 0, 1: 1},
    ),
}


def load_examples(source: str, dataset: str, split: Split) -> list[Example]:
    """All rows of one split, in the order of the source.

    Args:
        source: `hub`, `world`, `embedded`, or a folder that holds `<dataset>.jsonl`.
        dataset: `mnli`, `hans`, or in a folder the name of any file there.
        split: `train` for support sets and pools, `evaluation` for scores.

    Raises:
        StudyError: unknown source or dataset, no network, a broken line (file and line number), or no rows.
    """
    if source == "world":
        from lib import world

        return world.examples(dataset, split)
    if source == "embedded":
        from lib.smoke import PAIRS

        require_one_of("dataset", dataset, PAIRS)
        return list(PAIRS[dataset][split])
    if source == "hub":
        require_one_of("dataset", dataset, HUB)
        return from_hub(dataset, HUB[dataset], split)
    return from_folder(locate(source), dataset, split)


def from_hub(dataset: str, hub: HubDataset, split: Split) -> list[Example]:
    """Rows of a hub dataset (or of a local folder of the same shape, where `hub.name` is a path)."""
    try:
        table = load_dataset(hub.name, hub.config, revision=hub.revision, split=hub.splits[split])
    except Exception as error:  # datasets raises many kinds for a hub that cannot be reached
        raise StudyError(
            f"data: {hub.name!r} could not be read from the hub ({first_line(error)}). Check the network, "
            "or set data to a folder of JSON lines."
        ) from error
    rows = (row for row in table if _kept(dataset, row))
    return [_example(row, label) for row in rows if (label := hub.labels[row["label"]]) is not None]


def _example(row: Mapping[str, Any], label: int) -> Example:
    return Example(row["premise"], row["hypothesis"], label, row.get("subcase", ""), row.get("template", ""))


def from_folder(folder: Path, dataset: str, split: Split) -> list[Example]:
    """Rows of `<folder>/<dataset>.jsonl`; a file without a `split` field serves both splits."""
    file = folder / f"{dataset}.jsonl"
    if not folder.is_dir():
        raise StudyError(
            f"data: {str(folder)!r} is not a folder. Allowed: hub, world, embedded, or a folder of JSON lines."
        )
    if not file.is_file():
        present = sorted(path.stem for path in folder.glob("*.jsonl"))
        raise StudyError(
            f"dataset: {dataset!r} is not in {folder}: no file {file.name}. Present: {', '.join(present)}."
        )
    rows = [row for row in _rows(file) if _kept(dataset, row)]
    named = {row["split"] for row in rows if "split" in row}
    if named:
        wanted = next((name for name in LOCAL_SPLITS[split] if name in named), None)
        if wanted is None:
            raise StudyError(f"{file}: no {split} split. Present: {sorted(named)}; read: {LOCAL_SPLITS[split]}.")
        rows = [row for row in rows if row.get("split") == wanted]
    examples = [_example(row, label) for row in rows if (label := LABELS[row["label"]]) is not None]
    if not examples:
        raise StudyError(f"{file}: no rows of the {split} split are entailment or its opposite.")
    return examples


def _kept(dataset: str, row: Mapping[str, Any]) -> bool:
    """Of HANS, the heuristic that the study evaluates; of everything else, all."""
    return dataset != "hans" or row["heuristic"] == "lexical_overlap"


def _rows(file: Path) -> list[dict[str, Any]]:
    """The lines of a file, each checked; errors name the line."""
    rows = json_lines(file)
    needed = ("premise", "hypothesis", "label") + (("heuristic",) if file.stem == "hans" else ())
    for number, row in rows:
        where = f"{file}, line {number}"
        if lacking := [key for key in needed if not isinstance(row.get(key), str)]:
            raise StudyError(f"{where}: no text in {', '.join(lacking)}; each line needs {', '.join(needed)}.")
        require_one_of(f"{where}, label", row["label"], LABELS)
    return [row for _, row in rows]


def _shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """A permutation of the examples with distinct texts; one seed gives one permutation on every machine."""
    distinct = list({example[:2]: example for example in examples}.values())
    random.Random(seed).shuffle(distinct)
    return distinct


def support_set(train: Sequence[Example], size: int, seed: int) -> list[Example]:
    """A balanced, shuffled support set of `size` examples; those of one seed are nested.

    Classes come in pairs whose inner order is random, so that every even prefix is balanced, no order of classes
    can be read off, and a curve over sizes only ever adds examples.

    Raises:
        StudyError: a class has too few rows.
    """
    draw = random.Random(seed)
    by_class = [
        [example for example in _shuffled(train, seed) if example.label == label] for label in range(len(CLASSES))
    ]
    rounds = -(-size // len(CLASSES))
    scarce = min(map(len, by_class))
    if rounds > scarce:
        raise StudyError(
            f"support_sizes: {size} examples need {rounds} of each class, but the train split has "
            f"only {scarce} of one; the largest possible is {scarce * len(CLASSES)}."
        )
    chosen: list[Example] = []
    for group in list(zip(*by_class, strict=False))[:rounds]:
        chosen += draw.sample(group, len(group))
    return chosen[:size]


def with_shuffled_labels(support: Sequence[Example]) -> list[Example]:
    """The same texts with labels that tell nothing of them: the i-th example of a class gets the i-th class after it.

    Each class's texts then carry every label about equally often, and each label is as frequent as before.
    """
    met: Counter[int] = Counter()
    shuffled = []
    for example in support:
        shuffled.append(example._replace(label=(example.label + met[example.label]) % len(CLASSES)))
        met[example.label] += 1
    return shuffled


def query_pool(
    train: Sequence[Example],
    support: Sequence[Example],
    size: int,
    seed: int,
    shares: Sequence[float] | None = None,
) -> list[Example]:
    """`size` queries from the end of the seed's permutation, never in the support set.

    Support sets come from the permutation's beginning, so the pool stays the same over support sizes
    (unless the train split is nearly used up).

    Args:
        train: rows to draw from.
        support: the support set.
        size: of the pool.
        seed: of the permutation.
        shares: of each class; None draws without looking at labels.

    Raises:
        StudyError: fewer rows than that are left, of the whole or of a class.
    """
    if shares is not None:
        of_class = [[row for row in train if row.label == label] for label in range(len(CLASSES))]
        counts = [round(size * share) for share in shares]
        return [
            row for rows, count in zip(of_class, counts, strict=True) for row in query_pool(rows, support, count, seed)
        ]
    taken = {example[:2] for example in support}
    left = [example for example in reversed(_shuffled(train, seed)) if example[:2] not in taken]
    if size > len(left):
        raise StudyError(
            f"pool_size: {size} queries asked for, but {len(left)} are left of the train split "
            f"after {len(support)} support examples."
        )
    return left[:size]


def evaluation_sample(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """Everything, or `limit` examples, as many of each class as of the other; the same for every method and seed.

    Raises:
        StudyError: a class has fewer than half of `limit` rows.
    """
    if limit is None:
        return list(examples)
    order = random.Random(seed).sample(range(len(examples)), len(examples))
    chosen: list[int] = []
    for label in range(len(CLASSES)):
        share = limit // len(CLASSES)
        of_class = [i for i in order if examples[i].label == label][:share]
        if len(of_class) < share:
            raise StudyError(
                f"eval_limit: {limit} needs {share} rows of {CLASSES[label]}, but there are {len(of_class)}."
            )
        chosen += of_class
    return [examples[i] for i in sorted(chosen)]


def held_out(examples: Sequence[Example], kind: str, seed: int) -> set[tuple[str, str]]:
    """The (subcase, template) pairs that a seed holds out: half of the `subcases`, or half of each one's `templates`.

    Of each class's subcases half are drawn (the smaller half where they are odd), so that what is left has both.
    A subcase of one template keeps it. `nothing` holds out nothing.

    Raises:
        StudyError: the data do not say of which subcase and template a row is.
    """
    if kind == "nothing":
        return set()
    if not all(row.subcase and row.template for row in examples):
        raise StudyError(f"held_out: {kind} need data that name each row's subcase and template, as HANS does.")
    draw = random.Random(f"held out {seed}")
    templates: dict[tuple[int, str], set[str]] = {}
    for row in examples:
        templates.setdefault((row.label, row.subcase), set()).add(row.template)
    if kind == "templates":
        return {
            (subcase, template)
            for (_, subcase), names in sorted(templates.items())
            for template in draw.sample(sorted(names), len(names) // 2)
        }
    chosen: list[tuple[int, str]] = []
    for label in range(len(CLASSES)):
        of_class = sorted(key for key in templates if key[0] == label)
        chosen += draw.sample(of_class, len(of_class) // 2)
    return {(subcase, template) for label, subcase in chosen for template in templates[label, subcase]}


def without_held_out(examples: Sequence[Example], kind: str, seed: int) -> list[Example]:
    """The rows whose subcase and template are not held out; errors as `held_out`."""
    away = held_out(examples, kind, seed)
    return [row for row in examples if (row.subcase, row.template) not in away]
