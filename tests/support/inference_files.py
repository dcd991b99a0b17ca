"""Files of natural language inference in the layout that the study reads: MNLI with splits, HANS with kinds."""

import json
from pathlib import Path

ROWS = 2000
TRAIN = 400  # of MNLI's rows


def write_inference(folder: Path) -> None:
    """`mnli.jsonl` and `hans.jsonl`, each row of its own words, the classes in turn."""
    mnli = [_row(f"mnli {i}", i, "contradiction", split="train" if i < TRAIN else "dev_matched") for i in range(ROWS)]
    kinds = [{"subcase": f"subcase{i % 2}", "template": f"template{i % 8}"} for i in range(ROWS)]
    hans = [_row(f"hans {i}", i, "non-entailment", heuristic="lexical_overlap", **kinds[i]) for i in range(ROWS)]
    for name, rows in (("mnli", mnli), ("hans", hans)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


def _row(words: str, place: int, other: str, **columns: str) -> dict[str, str]:
    label = "entailment" if place % 2 else other
    return {"premise": f"premise of {words}", "hypothesis": f"hypothesis of {words}", "label": label, **columns}
