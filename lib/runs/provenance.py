"""What names a result, and which files it came from, so that replaced data or weights are noticed."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from lib.methods.records import PoolLabelling, Run, TunedTeacher
from lib.models.loading import files_of
from lib.models.training import EXECUTION
from lib.paths import digest, locate
from lib.tasks.catalogue import EMBEDDED
from lib.tasks.rows import HUB
from lib.tasks.sources import file_of
from lib.tasks.task import Benchmark, Task

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


Sources = dict[str, str]  # what a result came from, to its digest


def fingerprint(job: Run | PoolLabelling | TunedTeacher) -> Sources:
    """The local data files and models of a job, each with its digest; what lies on the hub has none."""
    subject = job.episodes.benchmark if isinstance(job, TunedTeacher) else job.task
    data = _of_benchmark(subject) if isinstance(subject, Benchmark) else _of_task(subject)
    return data | {f"model {name}": content for name in _models(job) if (content := _of_files(files_of(name)))}


def changed(then: Sources, now: Sources) -> list[str]:
    """What is another content now; what is not there now cannot be compared."""
    return [name for name, content in then.items() if name in now and now[name] != content]


def _models(job: Run | PoolLabelling | TunedTeacher) -> list[str]:
    """Names of the models that a job reads, those of what it needs first included."""
    own = job.teacher if isinstance(job, PoolLabelling) else job.model
    return [own, *(_models(job.needs) if job.needs else [])]


def _of_task(task: Task) -> Sources:
    local = [data for data in task.domains.values() if data.source not in EMBEDDED and not data.source.startswith(HUB)]
    return {f"data {data.name}": digest(file_of(data)) for data in local if locate(data.source).exists()}


def _of_benchmark(benchmark: Benchmark) -> Sources:
    folders = [locate(name) for name in (benchmark.source, benchmark.tuning_source) if name]
    return {f"data {folder.name}": _of_files(folder.glob("*.jsonl")) for folder in folders if folder.is_dir()}


def _of_files(files: Iterable[Path]) -> str:
    digests = {file.name: digest(file) for file in files if not file.name.startswith((".", "README"))}
    return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:16] if digests else ""
