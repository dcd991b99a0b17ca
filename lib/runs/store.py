"""Results on disk: one file a run, named by the run's hash, whole or absent."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.methods.context_distillation import SoftLabels
from lib.methods.evaluation import Outcome
from lib.methods.in_context_distillation import TunedWeights
from lib.methods.records import PoolLabelling, Run, TunedTeacher
from lib.models.cost import Cost
from lib.runs.provenance import Sources, changed, fingerprint, key

Record = dict[str, Any]
Preparation = PoolLabelling | TunedTeacher
Job = Run | Preparation


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


_RUN, _OUTCOME = TypeAdapter(Run), TypeAdapter(Outcome)
_REQUESTS = {kind: TypeAdapter(kind) for kind in (PoolLabelling, TunedTeacher)}


def replace_file(file: Path, write: Callable[[str], None]) -> None:
    """Write beside the file, then rename, so that a kill leaves the old file or the new one and no third."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
    os.close(handle)
    try:
        write(scratch)
        os.chmod(scratch, 0o644)
        os.replace(scratch, file)
    finally:
        Path(scratch).unlink(missing_ok=True)


def write_json(file: Path, record: Record) -> None:
    """Write a JSON file, whole or not at all."""
    text = json.dumps(record, allow_nan=False)
    replace_file(file, lambda scratch: Path(scratch).write_text(text, encoding="utf-8"))


@dataclass(frozen=True)
class Store:
    """The results, teachers' soft labels and failures under one folder."""

    folder: Path

    def save(self, run: Run, outcome: Outcome, environment: Record) -> None:
        """Keep a run's result, and forget that it ever failed."""
        content = {"run": asdict(run), "outcome": asdict(outcome), "environment": environment}
        self._write(run, {**content, "sources": fingerprint(run)})
        self._failure(run).unlink(missing_ok=True)

    def refuse(self, run: Run, reason: str) -> None:
        """Keep that a method does not apply to the run's model."""
        self._write(run, {"run": asdict(run), "refused": reason})

    def _write(self, run: Run, record: Record) -> None:
        record = {"key": key(run), **record}
        write_json(self._file(run), {**record, "checksum": checksum(record)})

    def load(self, run: Run) -> Result | Refusal | None:
        """What is stored of a run; a file that was cut short or altered counts as absent, with a warning."""
        file = self._file(run)
        record = read_json(file)
        if record is None:
            return None
        expected = record.pop("checksum", None)
        if record.get("key") != key(run) or expected != checksum(record):
            _warn_altered(file)
            return None
        if reason := record.get("refused"):
            return Refusal(run, reason)
        try:  # the stored run also says how its result was computed
            stored = _RUN.validate_python(record["run"], extra="forbid")
            outcome = _OUTCOME.validate_python(record["outcome"], extra="forbid")
            return Result(stored, outcome, record["environment"], record["sources"])
        except (ValidationError, KeyError):
            _warn_altered(file)
            return None

    def save_prepared(self, job: Preparation, prepared: SoftLabels | TunedWeights) -> None:
        """Keep a teacher's soft labels, or what was trained of a tuned teacher, with its cost."""
        notes: Record = {"cost": asdict(prepared.cost)}
        if isinstance(prepared, TunedWeights):
            self._save_tensors(job, prepared.parameters, notes | {"losses": prepared.losses})
        else:
            self._save_tensors(job, {"log_probs": prepared.log_probs, "content_free": prepared.content_free}, notes)

    def load_prepared(self, job: Preparation) -> SoftLabels | TunedWeights | None:
        """What `save_prepared` kept; None where it is absent, cut short or altered (with a warning)."""
        loaded = self._load_tensors(job)
        if loaded is None:
            return None
        tensors, notes = loaded
        cost = Cost(**notes["cost"])
        if isinstance(job, TunedTeacher):
            return TunedWeights(tensors, notes["losses"], cost)
        return SoftLabels(tensors["log_probs"], tensors["content_free"], cost)

    def _save_tensors(self, job: Preparation, tensors: dict[str, Tensor], notes: Record) -> None:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        notes = {**notes, "request": asdict(job), "sources": fingerprint(job)}
        texts = {name: json.dumps(note) for name, note in {**notes, "checksum": _of_tensors(whole, notes)}.items()}
        replace_file(self._file(job, "safetensors"), lambda scratch: save_file(whole, scratch, texts))
        self._failure(job).unlink(missing_ok=True)

    def _load_tensors(self, job: Preparation) -> tuple[dict[str, Tensor], Record] | None:
        file = self._file(job, "safetensors")
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="pt") as content:
                notes = {name: json.loads(text) for name, text in content.metadata().items()}
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
            whole = notes.pop("checksum", None) == _of_tensors(tensors, notes)
            if whole and key(_REQUESTS[type(job)].validate_python(notes["request"])) == key(job):
                return tensors, notes
        except (SafetensorError, AttributeError, ValueError, KeyError):  # no metadata, or not those of a preparation
            pass
        _warn_altered(file)
        return None

    def ready(self, job: Preparation) -> bool:
        """Whether a preparation is there, whole, and from the data and weights that are there now."""
        loaded = self._load_tensors(job)
        return loaded is not None and not changed(loaded[1]["sources"], fingerprint(job))

    def discard(self, run: Run) -> None:
        """Forget a run's result."""
        self._file(run).unlink(missing_ok=True)

    def fail(self, job: Job, reason: str) -> None:
        """Keep why a job failed; it is no result, and goes away when the job succeeds."""
        write_json(self._failure(job), {"key": key(job), "reason": reason, "job": asdict(job)})

    def failure(self, job: Job) -> str | None:
        """Why a job failed last time, or None."""
        record = read_json(self._failure(job))
        return record["reason"] if record else None

    def forget_failures(self) -> None:
        """Let failed jobs be tried again."""
        for file in (self.folder / "failed").glob("*.json"):
            file.unlink()

    def _file(self, job: Job, suffix: str = "json") -> Path:
        return self.folder / job.kept_in / f"{key(job)}.{suffix}"

    def _failure(self, job: Job) -> Path:
        return self.folder / "failed" / f"{key(job)}.json"


def checksum(record: Record) -> str:
    """Sixteen hex digits over the content of a record."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def _of_tensors(tensors: dict[str, Tensor], notes: Record) -> str:
    content = {name: hashlib.sha256(tensor.view(torch.uint8).numpy()).hexdigest() for name, tensor in tensors.items()}
    return checksum({"tensors": content, "notes": notes})


def read_json(file: Path) -> Record | None:
    """The object in a JSON file; None where it is absent, or cut short (with a warning)."""
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"), parse_constant=_not_a_number)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or no number where one should be
        record = None
    if not isinstance(record, dict):
        _warn_altered(file)
        return None
    return record


def _not_a_number(name: str) -> None:
    raise ValueError(f"{name} is no number that a record holds")


def _warn_altered(file: Path) -> None:
    print(f"warning: {file} is cut short or altered; it is computed again.", file=sys.stderr)
