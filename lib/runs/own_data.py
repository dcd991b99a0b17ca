"""From a file of one's own to a profile: the label column, what is held back, settings by the student's size."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import torch
import yaml

from lib.errors import StudyError, require_one_of, shown, unwritable
from lib.methods.examples import rows_by_length
from lib.models.loading import load_config, random_model
from lib.paths import PROFILES
from lib.runs.files import write_text
from lib.runs.profile import Profile, profile_names, read_profile
from lib.runs.yaml_text import parse
from lib.tasks.patterns import placeholders
from lib.tasks.rows import FORMATS, Located, rows_of_file
from lib.tasks.task import IN_DOMAIN, Dataset, Task

# The study's profiles whose students are of about a size, up to so many parameters. Their settings come from searches:
# figures/PROFILE/settings_search.csv, as the comments in each profile say.
SEARCHED = {"tiny": 1e7, "smollm2": 3e8, "qwen05": float("inf")}
OF_SIZE = ("learning_rate", "epochs", "batch_size")
HELD_BACK, POOL, SHOTS = 200, 512, 8  # rows, where nothing else is said; the first two at most
MOST_CLASSES = 20  # that a column which is taken for the label has
LABEL_NAMES = {"label", "class", "category", "sentiment", "stars", "rating", "target", "gold", "intent", "topic"}
WORDS_OF_A_TEXT = 3  # in the mean: a column with as many is taken for a text
TEMPLATE = Path(__file__).with_name("own_profile.yaml.jinja")


def data_file(data: str | Path) -> Path:
    """The file of labelled rows, named from where the command was given; `StudyError` where it is none."""
    if wrong := unwritable(str(data)):
        raise StudyError(f"data: {shown(str(data))} holds {wrong}, which no file's name has.")
    file = Path(data).expanduser().resolve()
    if not file.is_file():
        raise StudyError(f"data: {shown(str(data))} is no file. Allowed: a file ({', '.join(FORMATS)}).")
    require_one_of(f"data: {file.name}: its format", file.suffix, FORMATS)
    return file


def model_reference(reference: str | Path) -> str:
    """A model as profiles name it; a path is meant from where the command was given, if it is there."""
    path = Path(reference).expanduser()
    return str(path.resolve()) if path.exists() else str(reference)


def field_name(column: str) -> str:
    """A column's name as a pattern can have it in braces."""
    name = re.sub(r"\W+", "_", column).strip("_")
    return f"_{name}" if name[:1].isdigit() else name


def settings_of_size(student: str) -> dict[str, Any]:
    """Learning rates, epochs and batch size, from the profile of `SEARCHED` for the student's size."""
    size = random_model(student, load_config(student)).num_parameters()
    profile = read_profile(next(name for name, most in SEARCHED.items() if size <= most))
    return {key: getattr(profile, key) for key in OF_SIZE}


def own_profile(
    file: Path,
    text: str,
    label: str,
    words: Mapping[str, str],
    labels: Mapping[Any, str | None],
    own: Mapping[str, Any],
) -> Profile:
    """A profile for a file, with `own` settings and such as a first user needs; errors as `read_profile`."""
    columns = {field_name(name): name for name in columns_of(rows_of_file(file))}
    other = {name: columns[name] for name in placeholders(text) if columns.get(name, name) != name}
    dataset = {"source": str(file), "label": label, "labels": dict(labels), "columns": other}
    task = {"data": str(file), "datasets": {file.stem: dataset}, "in_domain": file.stem, "pattern": text}
    usual = {"device": _device(), "isolate": False, "too_long": "skip", "padding_free": True, "fused": True}
    return read_profile({**usual, **task, "label_words": dict(words), **own})


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def rows_held_back(profile: Profile, most: int, pool: int | None, search: bool) -> dict[str, Any]:
    """The changes by which a profile evaluates `most` rows at most, as many of each class, and learns from the others.

    A file without splits gives a third of its rarest class at most. For a search as many are kept again. A `pool` of
    None is of as many queries as there are, at most `POOL`. `StudyError` where a class has too few rows.
    """
    task, sets = profile.task(profile.seeds[0]), 2 if search else 1
    (train, _), (evaluated, long) = (rows_by_length(task, IN_DOMAIN, split) for split in ("train", "evaluation"))
    rarest, name = min((sum(row.gold == i for row in evaluated), name) for i, name in enumerate(task.classes))
    splits = has_splits(task)
    share = min(most // len(task.classes), (rarest if splits else rarest // 3) // sets)
    if share < 1:
        raise StudyError(
            f"held_back: {most}, but no row of {name} can be held back: {rarest} are there, and {len(long)} of all "
            f"rows are too long for the models beside {task.beside} others."
        )
    limit = share * len(task.classes)
    left = len({row.text for row in train}) - (0 if splits else limit * sets) - max(profile.support_sizes)
    return {"eval_limit": limit, "pool_size": max(1, min(POOL, left)) if pool is None else pool}


def has_splits(task: Task) -> bool:
    """Whether the rows of a file say themselves which of them are evaluated."""
    return any(record.get(task.in_domain.split) for _, record in rows_of_file(Path(task.in_domain.source)))


def columns_of(rows: list[Located]) -> list[str]:
    """The names of all columns, in order."""
    return list(dict.fromkeys(name for _, record in rows for name in record))


def write_profile(data: str, name: str, label: str | None, student: str, teacher: str) -> tuple[Path, str, str]:
    """Write a commented profile for a file; returns where, the label column, and how it was found.

    Raises:
        StudyError: there is such a profile, or no column is a label or a text.
    """
    read_profile("tiny", {"name": name})  # raises where it is no name of a profile
    file, target = data_file(data), PROFILES / f"{name}.yaml"
    if name in profile_names():
        raise StudyError(f"name: a profile {name!r} is there ({target}), and is not overwritten. Give another --name.")
    rows = rows_of_file(file)
    found, how = (label, "as --label says") if label else guessed_label(rows)
    require_one_of("label", found, columns_of(rows))
    counts = Counter("" if record.get(found) is None else str(record[found]).strip() for _, record in rows)
    blank, counts = counts.pop("", 0), dict(sorted(counts.items()))
    fields = {field_name(column): column for column in _text_columns(rows, found)}
    asked = field_name(found).replace("_", " ").capitalize()
    held = max(1, min(HELD_BACK // len(counts), min(counts.values()) // 3)) * len(counts)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["yaml"] = lambda text: yaml.safe_dump(
        str(text), default_style='"', allow_unicode=True, width=10**6
    ).strip()
    content = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        {"name": name, "file": file, "label": found, "how": how, "counts": counts, "blank": blank, "held": held},
        columns={field: column for field, column in fields.items() if field != column},
        pattern="\n".join([*(f"{{{field}}}" for field in fields), f"{asked}:"]),
        all_columns=", ".join(map(repr, columns_of(rows))),
        models={"student": model_reference(student), "teacher": model_reference(teacher)},
        device=_device(),
        shots=SHOTS,
        pool=max(1, min(POOL, len(rows) - blank - held - SHOTS)),
        rates={size: read_profile(size) for size in SEARCHED},
    )
    read_profile(parse(content, str(target))["profile"])  # what is written can be read
    write_text(target, content)
    return target, found, how


def guessed_label(rows: list[Located]) -> tuple[str, str]:
    """The column that is taken for the label, and why.

    Raises:
        StudyError: no column has from two to twenty values, each in two rows in the mean.
    """
    if not rows:
        raise StudyError("data: the file has no rows.")
    values = {name: {str(record.get(name)) for _, record in rows} for name in columns_of(rows) if name != Dataset.split}
    likely = {name: len(own) for name, own in values.items() if 2 <= len(own) <= min(MOST_CLASSES, len(rows) / 2)}
    if not likely:
        raise StudyError(f"label: no column has from 2 to {MOST_CLASSES} values. Say which it is with --label COLUMN.")
    for name in likely:
        if name.strip().lower().removesuffix("s") in {known.removesuffix("s") for known in LABEL_NAMES}:
            return name, f"guessed by its name; it has {likely[name]} values"
    fewest = min(likely, key=likely.get)
    return fewest, f"guessed, since it has the fewest values of all columns, {likely[fewest]}"


def _text_columns(rows: list[Located], label: str) -> list[str]:
    """The columns of running text; the longest where none has several words."""
    names = [name for name in columns_of(rows) if name not in (label, Dataset.split) and field_name(name)]
    if not names:
        raise StudyError(f"data: there is no column of texts beside the label {label!r}.")
    words = {name: sum(len(str(row.get(name) or "").split()) for _, row in rows) / len(rows) for name in names}
    return [name for name in names if words[name] >= WORDS_OF_A_TEXT] or [max(names, key=words.get)]
