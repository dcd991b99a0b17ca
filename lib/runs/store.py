"""Results on disk: one file a run, named by the run's hash, whole or absent."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.methods.context_distillation import SoftLabels
from lib.methods.evaluation import Outcome
from lib.methods.in_context_distillation import TunedWeights
from lib.methods.records import PoolLabelling, Run, TunedTeacher
from lib.models.cost import Cost
from lib.runs.files import Record, read_json, remove, replace_file, require_writable, warn_altered, write_json
from lib.runs.provenance import Job, Sources, changed, fingerprint, key

Preparation = PoolLabelling | TunedTeacher
Files = dict[str, bytes]  # by their path in a store's folder


@dataclass(frozen=True)
class Result:
    """What a run came to, as it was stored: computed on and with `environment`, from the files that `sources` names."""

    run: Run
    outcome: Outcome
    environment: dict[str, str | int]
    sources: Sources = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """That a method does not apply to the run's model, and why."""

    run: Run
    reason: str


_RESULT = TypeAdapter(Result)
_OUTCOME = TypeAdapter(Outcome)  # dataclasses.asdict copies each number by itself, which took a twentieth of a run
_REQUESTS = {kind: TypeAdapter(kind) for kind in (PoolLabelling, TunedTeacher)}


@dataclass(frozen=True)
class Store:
    """The results, teachers' soft labels and failures under one folder."""

    folder: Path
    warn: Callable[[Path], None] = warn_altered

    def save(self, run: Run, outcome: Outcome, environment: Record) -> None:
        """Keep a run's result, and forget that it ever failed."""
        content = {"run": asdict(run), "outcome": _OUTCOME.dump_python(outcome), "environment": environment}
        self._write(run, {**content, "sources": fingerprint(run)})
        remove(self._failure(run))

    def refuse(self, run: Run, reason: str) -> None:
        """Keep that a method does not apply to the run's model."""
        self._write(run, {"run": asdict(run), "refused": reason})

    def _write(self, run: Run, record: Record) -> None:
        record = {"key": key(run), **record}
        write_json(self._file(run), {**record, "checksum": checksum(record)})

    def load(self, run: Run) -> Result | Refusal | None:
        """What is stored of a run; a file that was cut short or altered counts as absent, with a warning."""
        record = read_json(self._file(run), self.warn)
        if record is None:
            return None
        expected = record.pop("checksum", None)
        if record.pop("key", None) == key(run) and expected == checksum(record | {"key": key(run)}):
            if isinstance(reason := record.get("refused"), str):
                return Refusal(run, reason)
            with suppress(ValidationError):  # the stored run also says how its result was computed
                return _RESULT.validate_python(record, extra="forbid")
        self.warn(self._file(run))
        return None

    def save_prepared(self, job: Preparation, prepared: SoftLabels | TunedWeights) -> None:
        """Keep a teacher's soft labels, or what was trained of a tuned teacher, with its cost."""
        notes: Record = {"cost": asdict(prepared.cost)}
        if isinstance(prepared, TunedWeights):
            self._save_tensors(job, prepared.parameters, notes | {"losses": prepared.losses})
        else:
            self._save_tensors(job, {"log_probs": prepared.log_probs, "content_free": prepared.content_free}, notes)

    def load_prepared(self, job: Preparation) -> SoftLabels | TunedWeights | None:
        """What `save_prepared` kept; None where it is absent, cut short or altered (with a warning), or out of date.

        It is out of date where the data or weights that it came from are others now.
        """
        file = self._file(job, "safetensors")
        if not os.path.isfile(file):
            return None
        try:
            with safe_open(file, framework="pt") as content:
                notes = {name: json.loads(text) for name, text in content.metadata().items()}
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
            if notes.pop("checksum", None) == _of_tensors(tensors, notes):
                request = _REQUESTS[type(job)].validate_python(notes["request"])
                prepared = _prepared(job, tensors, notes)
                if key(request) == key(job) and prepared:
                    return None if changed(notes["sources"], fingerprint(job)) else prepared
        # what a file without metadata, or with those of something else, runs into
        except (OSError, SafetensorError, AttributeError, TypeError, ValueError, KeyError):
            pass
        self.warn(file)
        return None

    def _save_tensors(self, job: Preparation, tensors: dict[str, Tensor], notes: Record) -> None:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        notes = {**notes, "request": asdict(job), "sources": fingerprint(job)}
        texts = {name: json.dumps(note) for name, note in {**notes, "checksum": _of_tensors(whole, notes)}.items()}
        replace_file(self._file(job, "safetensors"), lambda scratch: save_file(whole, scratch, texts))
        remove(self._failure(job))

    def ready(self, job: Preparation) -> bool:
        """Whether a preparation is there, whole, and from the data and weights that are there now."""
        return self.load_prepared(job) is not None

    def done(self, job: Job) -> bool:
        """Whether a run has a result, or a preparation is there, whole and up to date; without warnings."""
        quiet = replace(self, warn=lambda file: None)
        return (quiet.load(job) if isinstance(job, Run) else quiet.load_prepared(job)) is not None

    @contextmanager
    def claim(self, job: Job) -> Iterator[bool]:
        """Keep other runs of the study from computing a job; False where one of them has it in hand.

        The claim ends with the process that made it, however that ends.

        Raises:
            StorageError: what the job comes to could not be stored.
        """
        require_writable(self.folder / job.kept_in)  # before anything is computed
        lock = FileLock(self.folder / "claims" / key(job))
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        try:
            yield True
        finally:
            remove(Path(lock.lock_file))
            lock.release()

    def claimed(self, job: Job) -> bool:
        """Whether a run of the study has a job in hand."""
        with self.claim(job) as ours:
            return not ours

    def files_of(self, job: Preparation) -> Files:
        """What there is of a preparation, or why it failed, for a store that is elsewhere."""
        files = [file for file in (self._file(job, "safetensors"), self._failure(job)) if file.is_file()]
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files}

    def files_beside(self, known: Files) -> Files:
        """All files but those that are known, and claims."""
        found = {str(file.relative_to(self.folder)): file for file in self.folder.rglob("*") if file.is_file()}
        return {name: file.read_bytes() for name, file in found.items() if name not in known and "claims/" not in name}

    def take(self, files: Files) -> None:
        """Store files of a store that is elsewhere; errors as `replace_file`."""
        for name, content in files.items():
            replace_file(self.folder / name, lambda scratch, content=content: Path(scratch).write_bytes(content))

    def discard(self, run: Run) -> None:
        """Forget a run's result."""
        remove(self._file(run))

    def fail(self, job: Job, reason: str) -> None:
        """Keep why a job failed; it is no result, and goes away when the job succeeds."""
        write_json(self._failure(job), {"key": key(job), "reason": reason, "job": asdict(job)})

    def failure(self, job: Job) -> str | None:
        """Why a job failed last time, or None."""
        record = read_json(self._failure(job), self.warn)
        if record is None or isinstance(reason := record.get("reason"), str):
            return record and reason
        self.warn(self._failure(job))
        return None

    def forget_failures(self) -> None:
        """Let failed jobs be tried again."""
        for file in (self.folder / "failed").glob("*.json"):
            remove(file)

    def _file(self, job: Job, suffix: str = "json") -> Path:
        return self.folder / job.kept_in / f"{key(job)}.{suffix}"

    def _failure(self, job: Job) -> Path:
        return self.folder / "failed" / f"{key(job)}.json"


def checksum(record: Record) -> str:
    """Sixteen hex digits over the content of a record."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def _of_tensors(tensors: dict[str, Tensor], notes: Record) -> str:
    bytes_of = {name: tensor.reshape(-1).view(torch.uint8).numpy() for name, tensor in tensors.items()}
    content = {name: hashlib.sha256(one).hexdigest() for name, one in bytes_of.items()}
    return checksum({"tensors": content, "notes": notes})


def _prepared(job: Preparation, tensors: dict[str, Tensor], notes: Record) -> SoftLabels | TunedWeights | None:
    """What the tensors of a file are; None where they have not the shape that the job asks for."""
    cost = Cost(**notes["cost"])
    if isinstance(job, TunedTeacher):
        return TunedWeights(tensors, notes["losses"], cost)
    labels = SoftLabels(tensors["log_probs"], tensors["content_free"], cost)
    columns = (len(job.task.classes),) if job.kl_over == "labels" else labels.log_probs.shape[1:]
    right = labels.log_probs.shape == (job.pool_size, *columns) and labels.content_free.shape[1:] == columns
    numbers = labels.log_probs.is_floating_point() and labels.log_probs.isfinite().all()
    return labels if right and numbers else None
