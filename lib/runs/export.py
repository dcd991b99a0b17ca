"""Exporting a distilled student: a folder that plain transformers loads, with a card that says where it comes from.

Results hold no weights, so the student is trained again, from the same seed.
"""

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError
from transformers import PreTrainedModel

from lib.errors import StorageError, StudyError, require_one_of
from lib.methods.context_distillation import ask_teacher, trained_student
from lib.methods.examples import evaluation_items, support_of
from lib.methods.records import Run
from lib.methods.table import TRAINED
from lib.models.loading import let_others_read, load_tokenizer
from lib.runs.files import require_writable
from lib.runs.profile import Profile
from lib.runs.store import Result, Store
from lib.scratch import scratch_folder
from lib.tasks.task import IN_DOMAIN

MADE_BY = "A student that was trained by the study of few-shot distillation"
CARD = Path(__file__).with_name("card.md.jinja")


def export(profile: Profile, method: str, size: int, seed: int, folder: Path | None = None) -> Path:
    """Train the student of one result again and save it with its tokenizer and its card; returns the folder.

    Args:
        profile: the study's settings; the result must be there.
        method: one that trains a student.
        size: support examples.
        seed: one of the profile's.
        folder: where to; by default `students/<method>_n<size>_seed<seed>` in the profile's folder. A student that was
            exported there is replaced, whole.

    Raises:
        StudyError: no such result, the method trains nothing, plain transformers could not load the student, or the
            folder cannot be written or holds something else.
    """
    run = _run(profile, method, size, seed)
    target = (folder or profile.folder / "students" / f"{method}_n{size}_seed{seed}").resolve()
    _check_target(target)
    store = Store(profile.folder)
    result = store.load(run)
    if not isinstance(result, Result):
        raise StudyError(f"export: no result of {method} at n = {size}, seed {seed} in {profile.folder}; run it first.")
    if run.training and run.training.biases == "add":
        raise StudyError("export: a student with added biases is no model that plain transformers loads.")
    _save(_student(run, store, int(result.environment["threads"])), result, target)
    return target


def _run(profile: Profile, method: str, size: int, seed: int) -> Run:
    require_one_of("method", method, [name for name in profile.methods if name in TRAINED])
    require_one_of("support", size, profile.support_sizes)
    require_one_of("seed", seed, profile.seeds)
    runs = profile.model_copy(update={"support_sizes": (size,), "seeds": (seed,)}).runs((method,))
    if not runs:
        raise StudyError(f"support: {method} trains nothing with {size} support examples.")
    return runs[0]


def _check_target(target: Path) -> None:
    """Raise where nothing can be written, or something else than an earlier exported student would be replaced."""
    try:
        require_writable(target.parent)
        with suppress(FileNotFoundError):
            os.stat(target)  # a name can be too long
    except (StorageError, OSError) as error:
        raise StudyError(f"to: {str(target)!r}: {error}") from error
    if not os.path.exists(target) or (target.is_dir() and not any(target.iterdir())):
        return
    card = target / "README.md"
    if not card.is_file() or MADE_BY not in card.read_text(encoding="utf-8", errors="replace"):
        raise StudyError(
            f"to: {str(target)!r} holds something else. Allowed: a new or empty folder, or an exported student."
        )


def _student(run: Run, store: Store, threads: int) -> PreTrainedModel:
    """The student, trained again by as many threads; its teacher is asked again where its soft labels are not there."""
    soft_labels = run.needs and (store.load_prepared(run.needs) or ask_teacher(run.needs, isolated=False))
    here = torch.get_num_threads()
    torch.set_num_threads(threads)  # sums in another order make another student, if slightly
    try:
        return trained_student(run, soft_labels)
    finally:
        torch.set_num_threads(here)


def _save(model: PreTrainedModel, result: Result, target: Path) -> None:
    """Write the whole folder beside its place, then put it there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as scratch:
            student = scratch / "student"
            model.save_pretrained(student)
            load_tokenizer(result.run.model).save_pretrained(student)
            _card(result).save(student / "README.md")
            let_others_read(student)
            shutil.rmtree(target, ignore_errors=True)
            student.rename(target)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"to: {str(target)!r} cannot be written: {error}.") from error


def _card(result: Result) -> ModelCard:
    run = result.run
    tags = ["few-shot", "knowledge-distillation", "context-distillation"]
    return ModelCard.from_template(
        ModelCardData(library_name="transformers", pipeline_tag="text-generation", tags=tags),
        template_path=CARD,
        made_by=MADE_BY,
        plain=_plain,
        run=run,
        classes=run.task.classes,
        example=evaluation_items(run.task, IN_DOMAIN)[0].text,
        results={domain: one.scores() for domain, one in result.outcome.evaluations.items()},
        support=support_of(run),
        settings=json.dumps(asdict(run), indent=2),
    )


def _plain(text: str) -> str:
    """Markdown that shows a text as it is, within a line."""
    return re.sub(r"([\\`*_\[\]<>|&$~])", r"\\\1", " ".join(text.split()))
