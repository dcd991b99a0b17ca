"""Results on disk: one file a run, named by the run's hash, whole or absent."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.methods.context_distillation import Outcome, TeacherTargets
from lib.methods.in_context_distillation import InContextOutcome, TunedWeights
from lib.methods.in_context_records import InContextRun, TunedTeacher
from lib.methods.records import Run, Targets
from lib.models.cost import Cost
from lib.runs.keys import key

Record = dict[str, Any]

Result = Run | InContextRun

Preparation = Targets | TunedTeacher

Job = Result | Preparation


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
    """The results, teacher targets and failures under one folder."""

    folder: Path

    def save(self, run: Result, outcome: Outcome | InContextOutcome, environment: Record) -> None:
        """Keep a run's result, and forget that it ever failed."""
        record = {"cell": asdict(run), "outcome": asdict(outcome), "environment": environment}
        write_json(self._file(run), {"key": key(run), "refused": None, **record})
        self._failure(run).unlink(missing_ok=True)

    def refuse(self, run: Result, reason: str) -> None:
        """Keep that a method does not apply to the run's model."""
        write_json(self._file(run), {"key": key(run), "refused": reason, "cell": asdict(run)})

    def load(self, run: Result) -> Record | None:
        """The record of a run, or None; a file that was cut short or altered counts as absent, with a warning."""
        file = self._file(run)
        record = read_json(file)
        if record is not None and record.get("key") != key(run):
            _warn_cut_short(file)
            return None
        return record

    def save_targets(self, request: Targets, targets: TeacherTargets) -> None:
        """Keep a teacher's targets with their cost."""
        tensors = {"log_probs": targets.log_probs, "content_free": targets.content_free}
        self._save_tensors(request, tensors, {"cost": asdict(targets.cost)})

    def load_targets(self, request: Targets) -> TeacherTargets | None:
        """A teacher's targets, or None where they are absent or cut short (with a warning)."""
        found = self._load_tensors(request)
        if found is None:
            return None
        tensors, notes = found
        return TeacherTargets(tensors["log_probs"], tensors["content_free"], _cost(notes))

    def save_weights(self, request: TunedTeacher, weights: TunedWeights) -> None:
        """Keep what was trained of a teacher, with the losses and the cost."""
        self._save_tensors(request, weights.parameters, {"cost": asdict(weights.cost), "losses": weights.losses})

    def load_weights(self, request: TunedTeacher) -> TunedWeights | None:
        """What was trained of a teacher, or None where it is absent or cut short (with a warning)."""
        found = self._load_tensors(request)
        if found is None:
            return None
        tensors, notes = found
        return TunedWeights(tensors, notes["losses"], _cost(notes))

    def _save_tensors(self, job: Preparation, tensors: dict[str, Tensor], notes: Record) -> None:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        texts = {name: json.dumps(note) for name, note in {**notes, "request": asdict(job)}.items()}
        replace_file(self._file(job, "safetensors"), lambda scratch: save_file(whole, scratch, texts))
        self._failure(job).unlink(missing_ok=True)

    def _load_tensors(self, job: Preparation) -> tuple[dict[str, Tensor], Record] | None:
        file = self._file(job, "safetensors")
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="pt") as content:
                notes = {name: json.loads(text) for name, text in content.metadata().items()}
                return {name: content.get_tensor(name) for name in content.keys()}, notes  # noqa: SIM118 - no mapping
        except SafetensorError:
            _warn_cut_short(file)
            return None

    def ready(self, job: Preparation) -> bool:
        """Whether a preparation is there and whole, by the sizes that its header says; its tensors are not read."""
        file = self._file(job, "safetensors")
        try:
            with safe_open(file, framework="pt"):
                return True
        except FileNotFoundError:
            return False
        except SafetensorError:
            _warn_cut_short(file)
            return False

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


def _cost(notes: Record) -> Cost:
    """A stored cost; measures that are no longer taken are left out."""
    known = {one.name for one in fields(Cost)}
    return Cost(**{name: value for name, value in notes["cost"].items() if name in known})


def read_json(file: Path) -> Record | None:
    """The object in a JSON file; None where it is absent, or cut short (with a warning)."""
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        record = None
    if not isinstance(record, dict):
        _warn_cut_short(file)
        return None
    return record


def _warn_cut_short(file: Path) -> None:
    print(f"warning: {file} is cut short or altered; it is computed again.", file=sys.stderr)
