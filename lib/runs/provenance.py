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
from lib.tasks.few_shot import Benchmark
from lib.tasks.sources import HUB, file_of
from lib.tasks.task import Task

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
    told = [one for one in fields(value) if one.metadata != EXECUTION]
    held = {one.name: getattr(value, one.name) for one in told}
    unsaid = {one.name: one.default for one in told}
    return {name: _said(inner) for name, inner in held.items() if inner is not None and inner != unsaid[name]}


Sources = dict[str, str]  # what a result came from, to its digest


def fingerprint(job: Run | PoolLabelling | TunedTeacher) -> Sources:
    """The local data files and models of a job, each with its digest; what lies on the hub has none."""
    subject = job.episodes.benchmark if isinstance(job, TunedTeacher) else job.task
    data = _of_benchmark(subject) if isinstance(subject, Benchmark) else _of_task(subject)
    return data | {f"model {name}": found for name in _models(job) if (found := _of_model(name))}


def changed(then: Sources, now: Sources) -> list[str]:
    """What is another content now; what is not there now cannot be compared."""
    return [name for name, found in then.items() if name in now and now[name] != found]


def _models(job: Run | PoolLabelling | TunedTeacher) -> list[str]:
    """Names of the models that a job reads, those of what it needs first included."""
    own = job.teacher if isinstance(job, PoolLabelling) else job.model
    return [own, *(_models(job.needs) if job.needs else [])]


def _of_task(task: Task) -> Sources:
    local = [one for one in task.domains.values() if one.source not in EMBEDDED and not one.source.startswith(HUB)]
    return {f"data {one.name}": digest(file_of(one)) for one in local if locate(one.source).exists()}


def _of_benchmark(benchmark: Benchmark) -> Sources:
    folders = [locate(name) for name in (benchmark.source, benchmark.tuning_source) if name]
    return {f"data {folder.name}": _of_files(folder.glob("*.jsonl")) for folder in folders if folder.is_dir()}


def _of_model(reference: str) -> str:
    return _of_files(files_of(reference))


def _of_files(files: Iterable[Path]) -> str:
    found = {file.name: digest(file) for file in files if not file.name.startswith((".", "README"))}
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16] if found else ""
