"""Data of one's own: csv files in words that the smoke profile's tokenizer knows, and settings that read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.browser import HOSTILE

# Of each class the last three words are evaluated.
THINGS = {
    "animal": "dog horse goat mouse owl crab lark whale eel pony",
    "plant": "oak rose fern moss lily palm tree reef seed coral",
    "time": "breakfast sunrise dew cockcrow toast alarm supper sunset dusk curfew",
}
EVALUATED = 3
PATTERN = "a {word}\nAnswer:"

# One token each; and two of the three that share their first.
WORDS = {"animal": "animal", "plant": "plant", "time": "morning"}
TWO_TOKEN_WORDS = {"animal": "small animal", "plant": "small plant", "time": "large animal"}


def write_csv(file: Path, header: str, rows: list[tuple[Any, ...]]) -> Path:
    """A csv file of these rows; no value holds a comma."""
    file.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return file


def things(folder: Path, label_words: Mapping[str, str] = WORDS, **changes: Any) -> dict[str, Any]:
    """Changes to the smoke profile: words of as many classes as there are label words, from a file in the folder."""
    rows = [
        (word, name, "test" if i >= len(words) - EVALUATED else "train")
        for name, words in ((name, THINGS[name].split()) for name in label_words)
        for i, word in enumerate(words)
    ]
    file = write_csv(folder / "things.csv", "word,class,split", rows)
    return {
        "datasets": {"things": {"source": str(file), "label": "class"}},
        "in_domain": "things",
        "out_of_domain": [],
        "pattern": PATTERN,
        "label_words": dict(label_words),
        **changes,
    }


def hostile_things(folder: Path, label_words: Mapping[str, str] = WORDS, **changes: Any) -> dict[str, Any]:
    """The same with texts that would do harm in a page: what the profile is, names of sets and classes, the queries."""
    plain = things(folder, label_words)
    named = {name: f"{name} {HOSTILE}" for name in label_words}
    return {
        **plain,
        "about": HOSTILE,
        "datasets": {HOSTILE: {**plain["datasets"]["things"], "labels": named}},
        "in_domain": HOSTILE,
        "pattern": f"{HOSTILE} {PATTERN}",
        "label_words": {named[name]: word for name, word in label_words.items()},
        **changes,
    }
