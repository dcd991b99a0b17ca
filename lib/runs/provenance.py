"""What names a result, and which files it came from, so that replaced data or weights are noticed."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from lib.errors import StudyError
from lib.methods.records import PoolLabelling, Run, TunedTeacher
from lib.models.loading import files_of
from lib.models.training import EXECUTION
from lib.paths import SAMPLED, digest, locate, same
from lib.tasks.catalogue import EMBEDDED
from lib.tasks.rows import GITHUB, HUB
from lib.tasks.sources import file_of
from lib.tasks.task import Benchmark, Dataset, Task

# Raised when the code changes what a run's result would be, so that no stored result is mistaken for a new one.
REVISION = 1


def key(record: object, *further: object) -> str:
    """Sixteen hex digits that name a record's result; settings that are None or as by default do not count.

    Leaving them out lets a later option be added, with what was done before as its default, without renaming the
    results that exist. Fields of `EXECUTION` do not count either. `further` are records and values that the result
    depends on too.
    """
    content = json.dumps([REVISION, _said(record), *map(_said, further)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _said(value: Any) -> Any:  # noqa: ANN401 - a record, or what a field holds
    if isinstance(value, tuple):
        return [_said(inner) for inner in value]
    if not is_dataclass(value):
        return value
    held = {field: getattr(value, field.name) for field in fields(value) if field.metadata != EXECUTION}
    return {field.name: _said(inner) for field, inner in held.items() if inner is not None and inner != field.default}


Job = Run | PoolLabelling | TunedTeacher
Sources = dict[str, str]  # what a result came from, to its digest


def origins(job: Job) -> dict[str, Path]:
    """Where the local data and models of a job lie: a file or a folder each; what lies on the hub is left out.

    Names are those of `Sources`. Of two data of one name the second has its path for a name.
    """
    subject = job.episodes.benchmark if isinstance(job, TunedTeacher) else job.task
    found: dict[str, Path] = {}
    for path in _of_benchmark(subject, job) if isinstance(subject, Benchmark) else ():
        found[f"data {path if f'data {path.name}' in found else path.name}"] = path
    if isinstance(subject, Task):
        found = {f"data {data.name}": file for data in subject.domains.values() if (file := _file_of(data))}
    found |= {f"model {model}": locate(model) for model in models_of(job)}
    return {name: path for name, path in found.items() if path.exists()}


def fingerprint(job: Job) -> Sources:
    """The local data and models of a job, each with its digest; those that cannot be read have none."""
    contents = {}
    for name, place in origins(job).items():
        with suppress(OSError):
            contents[name] = _content(name, place)
    return {name: content for name, content in contents.items() if content}


def changed(then: Sources, now: Sources) -> list[str]:
    """What is another content now; what is not there now cannot be compared."""
    return [name for name, content in then.items() if name in now and not same(content, now[name])]


def models_of(job: Job) -> list[str]:
    """The models that a job reads, those of what it needs first included."""
    own = job.teacher if isinstance(job, PoolLabelling) else job.model
    return [own, *(models_of(job.needs) if job.needs else [])]


def _file_of(data: Dataset) -> Path | None:
    if data.source in EMBEDDED or data.source.startswith((HUB, GITHUB)):
        return None
    with suppress(StudyError):  # it is not there
        return file_of(data)
    return None


def _of_benchmark(benchmark: Benchmark, job: Job) -> list[Path]:
    """Folders of tasks, and files with what is tuned on and with plain text."""
    objective = job.in_context.objective if isinstance(job, Run) else None
    named = [benchmark.source, benchmark.tuning_source, benchmark.split, objective.lm_text if objective else ""]
    return [path for name in named if name and (path := locate(name)).exists()]


def _content(name: str, place: Path) -> str:
    if name.startswith("model "):
        return _of_files(files_of(str(place)), place if place.is_dir() else place.parent)
    return _of_files(place.glob("*.jsonl"), place) if place.is_dir() else digest(place)


def _of_files(files: Iterable[Path], folder: Path) -> str:
    """One digest of several, in the form of `lib.paths.digest`; their names in the folder are part of it."""
    whole = {os.path.relpath(file, folder): digest(file) for file in files if not file.name.startswith((".", "README"))}
    sampled = {name: one[:SAMPLED] for name, one in whole.items()}
    forms = [sampled] if sampled == whole else [sampled, whole]
    return "".join(hashlib.sha256(repr(sorted(one.items())).encode()).hexdigest()[:SAMPLED] for one in forms if one)
