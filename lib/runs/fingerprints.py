"""Which files a result came from, so that replaced data or weights are noticed."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from lib.methods.records import InContextRun, PoolLabelling, Run, TunedTeacher
from lib.models.loading import files_of
from lib.paths import digest, locate
from lib.tasks.catalogue import EMBEDDED
from lib.tasks.rows import HUB
from lib.tasks.sources import file_of
from lib.tasks.task import Benchmark, Task

Sources = dict[str, str]  # what a result came from, to its digest


def fingerprint(job: Run | PoolLabelling | InContextRun | TunedTeacher) -> Sources:
    """The local data files and models of a job, each with its digest; what lies on the hub has none."""
    data = _of_benchmark(job) if isinstance(job, (InContextRun, TunedTeacher)) else _of_task(job.task)
    return data | {f"model {name}": found for name in _models(job) if (found := _of_model(name))}


def changed(then: Sources, now: Sources) -> list[str]:
    """What is another content now; what is not there now cannot be compared."""
    return [name for name, found in then.items() if name in now and now[name] != found]


def _models(job: Run | PoolLabelling | InContextRun | TunedTeacher) -> list[str]:
    """Names of the models that a job reads, those of what it needs first included."""
    own = job.teacher if isinstance(job, PoolLabelling) else job.model
    return [own, *(_models(job.needs) if job.needs else [])]


def _of_task(task: Task) -> Sources:
    local = [one for one in task.domains.values() if one.source not in EMBEDDED and not one.source.startswith(HUB)]
    return {f"data {one.name}": digest(file_of(one)) for one in local if locate(one.source).exists()}


def _of_benchmark(job: InContextRun | TunedTeacher) -> Sources:
    benchmark: Benchmark = job.benchmark if isinstance(job, InContextRun) else job.episodes.benchmark
    folders = [locate(name) for name in (benchmark.source, benchmark.tuning_source) if name]
    return {f"data {folder.name}": _of_files(folder.glob("*.jsonl")) for folder in folders if folder.is_dir()}


def _of_model(reference: str) -> str:
    return _of_files(files_of(reference))


def _of_files(files: Iterable[Path]) -> str:
    found = {file.name: digest(file) for file in files if not file.name.startswith((".", "README"))}
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16] if found else ""
