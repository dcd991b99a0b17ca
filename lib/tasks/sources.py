"""Natural language inference as one table of (premise, hypothesis, label), from where it lies.

A source is `hub`, `world` (the controlled English of `lib.tasks.world`), `embedded` (the dozen pairs of
`lib.tasks.smoke`) or a folder of JSON lines, one file a dataset. Neutral rows are dropped: what is left is entailment
against the rest, as in Mosbach et al. 2023 (arXiv 2305.16938).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import load_dataset

from lib.errors import StudyError, first_line, require_one_of
from lib.paths import locate
from lib.tasks.json_lines import json_lines
from lib.tasks.task import Example, Split

LABELS = {"entailment": 0, "contradiction": 1, "non-entailment": 1, "not_entailment": 1, "neutral": None}

LOCAL_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "evaluation": ("validation_matched", "dev_matched", "validation", "dev", "test"),
}


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
        from lib.tasks import world

        return world.examples(dataset, split)
    if source == "embedded":
        from lib.tasks.smoke import PAIRS

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
