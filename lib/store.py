"""Results on disk: one file a cell, named by the cell's hash, whole or absent."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib.cells import Cell, Targets, key
from lib.costs import Cost
from lib.methods import Outcome, TeacherTargets

Record = dict[str, Any]


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

    def save(self, cell: Cell, outcome: Outcome, environment: Record) -> None:
        """Keep a cell's result, and forget that it ever failed."""
        record = {"cell": asdict(cell), "outcome": asdict(outcome), "environment": environment}
        write_json(self._file("cells", cell), {"key": key(cell), "refused": None, **record})
        self._file("failed", cell).unlink(missing_ok=True)

    def refuse(self, cell: Cell, reason: str) -> None:
        """Keep that a method does not apply to the cell's model."""
        write_json(self._file("cells", cell), {"key": key(cell), "refused": reason, "cell": asdict(cell)})

    def load(self, cell: Cell) -> Record | None:
        """The record of a cell, or None; a file that was cut short or altered counts as absent, with a warning."""
        file = self._file("cells", cell)
        record = read_json(file)
        if record is not None and record.get("key") != key(cell):
            _warn_cut_short(file)
            return None
        return record

    def save_targets(self, request: Targets, targets: TeacherTargets) -> None:
        """Keep a teacher's targets with their cost."""
        tensors = {"log_probs": targets.log_probs.contiguous(), "content_free": targets.content_free.contiguous()}
        notes = {"cost": json.dumps(asdict(targets.cost)), "request": json.dumps(asdict(request))}
        replace_file(self._file("targets", request, "safetensors"), lambda scratch: save_file(tensors, scratch, notes))
        self._file("failed", request).unlink(missing_ok=True)

    def load_targets(self, request: Targets) -> TeacherTargets | None:
        """A teacher's targets, or None where they are absent or cut short (with a warning)."""
        file = self._file("targets", request, "safetensors")
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="pt") as content:
                cost = Cost(**json.loads(content.metadata()["cost"]))
                return TeacherTargets(content.get_tensor("log_probs"), content.get_tensor("content_free"), cost)
        except SafetensorError:
            _warn_cut_short(file)
            return None

    def fail(self, job: Cell | Targets, reason: str) -> None:
        """Keep why a job failed; it is no result, and goes away when the job succeeds."""
        write_json(self._file("failed", job), {"key": key(job), "reason": reason, "job": asdict(job)})

    def failure(self, job: Cell | Targets) -> str | None:
        """Why a job failed last time, or None."""
        record = read_json(self._file("failed", job))
        return record["reason"] if record else None

    def forget_failures(self) -> None:
        """Let failed jobs be tried again."""
        for file in (self.folder / "failed").glob("*.json"):
            file.unlink()

    def _file(self, kind: str, job: Cell | Targets, suffix: str = "json") -> Path:
        return self.folder / kind / f"{key(job)}.{suffix}"


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
