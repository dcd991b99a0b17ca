"""Exporting a distilled student: a folder that plain transformers loads, with a card that says how to ask it.

Results hold no weights. A student that was not kept when it was trained is trained again, from the same seed.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from lib.errors import StorageError, StudyError, require_one_of
from lib.methods.context_distillation import answers_of, ask_teacher, trained_student
from lib.methods.encoder import PromptEncoder
from lib.methods.examples import evaluation_items, support_of
from lib.methods.records import Run
from lib.methods.table import TRAINED
from lib.models.loading import DTYPES, let_others_read
from lib.models.random_models import WIDTHS
from lib.paths import locate
from lib.runs.files import require_writable
from lib.runs.profile import Profile
from lib.runs.provenance import key
from lib.runs.store import Result, Store
from lib.scratch import scratch_folder
from lib.tasks.patterns import content_free, placeholders
from lib.tasks.prompts import first_tokens
from lib.tasks.task import IN_DOMAIN

MADE_BY = "A student that was trained by the study of few-shot distillation"
CARD = Path(__file__).with_name("card.md.jinja")
# Half of float32's size. bfloat16, as small, rounds away much of what a low learning rate teaches: at 5e-5 weights move
# by less than its steps.
EXPORTED = "float16"
SAME = 1e-4  # probability: by so much two heads over one hidden state may differ in float32


def export(
    profile: Profile, method: str, size: int, seed: int, folder: Path | None = None, dtype: str = EXPORTED
) -> Path:
    """Train the student of one result again and save it with its tokenizer and its card; returns the folder.

    Args:
        profile: the study's settings; the result must be there.
        method: one that trains a student.
        size: support examples.
        seed: one of the profile's.
        folder: where to; by default `students/<method>_n<size>_seed<seed>` in the profile's folder. A student that was
            exported there is replaced, whole.
        dtype: of the saved weights; those of a run that was not computed in float32 keep its own.

    Raises:
        StudyError: no such result, the method trains nothing, plain transformers could not load the student, or the
            folder cannot be written or holds something else.
    """
    require_one_of("dtype", dtype, DTYPES)
    run = run_of(profile, method, size, seed)
    target = (folder or _students(profile.folder, run)).resolve()
    check_target(target)
    store = Store(profile.folder)
    result = store.load(run)
    if not isinstance(result, Result):
        raise StudyError(f"export: no result of {method} at n = {size}, seed {seed} in {profile.folder}; run it first.")
    save_student(_student(run, store, int(result.environment["threads"])), result, target, dtype)
    return target


def run_of(profile: Profile, method: str, size: int, seed: int) -> Run:
    """The run of a profile that trains a student; errors as `export`."""
    require_one_of("method", method, [name for name in profile.methods if name in TRAINED])
    require_one_of("support", size, profile.support_sizes)
    require_one_of("seed", seed, profile.seeds)
    runs = profile.model_copy(update={"support_sizes": (size,), "seeds": (seed,)}).runs((method,))
    if not runs:
        raise StudyError(f"support: {method} trains nothing with {size} support examples.")
    if runs[0].training.biases == "add":
        raise StudyError("export: a student with added biases is no model that plain transformers loads.")
    return runs[0]


def kept_folder(folder: Path, run: Run) -> Path:
    """Where the student of a run is kept when it is trained, in the folder of its profile."""
    return _students(folder, run, f"-{key(run)}")


def _students(folder: Path, run: Run, ending: str = "") -> Path:
    return folder / "students" / f"{run.method}_n{run.support_size}_seed{run.seed}{ending}"


def is_kept(folder: Path, result: Result) -> bool:
    """Whether a folder holds the student of this very result, also of equal data and models."""
    with suppress(OSError, ValueError, AttributeError):
        return json.loads((folder / "config.json").read_text()).get("few_shot", {}).get("result") == _name(result)
    return False


def _name(result: Result) -> str:
    return key(result.run, *sorted(result.sources.items()))


def check_target(target: Path) -> None:
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


def save_student(model: PreTrainedModel, result: Result, target: Path, dtype: str = EXPORTED) -> None:
    """Write the model of a result, its tokenizer and its card.

    The model is changed to `dtype` in place, or stays float32 where a weight is beyond it.

    `few_shot` of its configuration says how it is asked: the pattern, and the tokens that are compared for each class.
    """
    kept = DTYPES[dtype if result.run.dtype == "float32" else result.run.dtype]
    with _put_whole(target) as folder:
        classifies, size = _save_model(model, result, folder, kept), megabytes(folder)
        _card(result, classifies, dtype=str(model.dtype).removeprefix("torch."), size=size).save(folder / "README.md")


def copy_student(folder: Path, target: Path) -> None:
    """Copy an exported student to another folder; errors as `export`."""
    check_target(target)
    with _put_whole(target) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)


def megabytes(folder: Path) -> float:
    """Of a model's weights, in 10⁶ bytes."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6


@contextmanager
def _put_whole(target: Path) -> Iterator[Path]:
    """A folder to write to, beside the target, which it replaces when it is complete."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as scratch:
            student = scratch / "student"
            student.mkdir()
            yield student
            let_others_read(student)
            shutil.rmtree(target, ignore_errors=True)
            student.rename(target)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"to: {str(target)!r} cannot be written: {error}.") from error


def _save_model(model: PreTrainedModel, result: Result, folder: Path, dtype: torch.dtype) -> bool:
    """Write weights, configuration and tokenizer; returns whether a text-classification pipeline can ask it.

    For that the label words' rows of the vocabulary's head are saved once more, as the head of a classifier.
    """
    run, encoder = result.run, PromptEncoder(result.run.model)
    encoder.tokenizer.save_pretrained(folder)
    tokens = compared_tokens(encoder, run)
    named = dict(zip(run.task.classes, tokens, strict=True))
    model.config.few_shot = {"pattern": run.task.pattern, "label_tokens": named, "result": _name(result)}
    model.config.id2label = dict(enumerate(run.task.classes))
    model.config.label2id = {name: place for place, name in enumerate(run.task.classes)}
    head = _classifier_head(model, tokens, [encoder.ids(query) for query in content_free(run.task)])
    largest = max(weight.abs().max().item() for weight in model.parameters())
    model.to(dtype if largest <= torch.finfo(dtype).max else torch.float32)
    model.save_pretrained(
        folder, state_dict=model.state_dict() | {name: row.to(model.dtype) for name, row in head.items()}
    )
    return bool(head)


def compared_tokens(encoder: PromptEncoder, run: Run) -> list[list[int]]:
    """The tokens of each label word that are scored: its first where that tells them apart, else all."""
    answers = answers_of(encoder, run.task)
    return [[token] for token in first_tokens(answers) or []] or answers


@torch.no_grad()
def _classifier_head(model: PreTrainedModel, tokens: list[list[int]], prompts: list[list[int]]) -> dict[str, Any]:
    """The weight of a classifier's head that answers as the model; none where the architecture has no such head."""
    head = model.get_output_embeddings()
    if type(model.config) not in AutoModelForSequenceClassification._model_mapping or max(map(len, tokens)) > 1:
        return {}
    columns = [token for (token,) in tokens]
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(model.config).eval()
    if not isinstance(getattr(classifier, "score", None), torch.nn.Linear):
        return {}
    setattr(classifier, classifier.base_model_prefix, model.base_model)
    classifier.score.weight = torch.nn.Parameter(head.weight[columns])
    for ids in (torch.tensor([ids], device=model.device) for ids in prompts):
        said, wanted = classifier(ids).logits[0], model(ids).logits[0, -1, columns]
        if not torch.allclose(said.float().softmax(-1), wanted.float().softmax(-1), rtol=0, atol=SAME):
            return {}
    return {"score.weight": classifier.score.weight.detach().clone()}


def _card(result: Result, classifies: bool, **shown: object) -> ModelCard:
    run = result.run
    tags = ["few-shot", "knowledge-distillation", "context-distillation"]
    made_here = run.model in WIDTHS or locate(run.model).exists()
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification" if classifies else "text-generation",
        tags=tags,
        license=_licence(run.model) or "unknown",
        base_model=None if made_here else run.model,
    )
    return ModelCard.from_template(
        data,
        template_path=CARD,
        made_by=MADE_BY,
        plain=_plain,
        run=run,
        classes=run.task.classes,
        example=evaluation_items(run.task, IN_DOMAIN)[0].text,
        results={domain: one.scores() for domain, one in result.outcome.evaluations.items()},
        support=support_of(run),
        settings=json.dumps(asdict(run), indent=2),
        fields=placeholders(run.task.pattern),
        tokens=max(map(len, compared_tokens(PromptEncoder(run.model), run))),
        classifies=classifies,
        licence=data.license,
        **shown,
    )


def _licence(reference: str) -> str | None:
    """What the base model's own file or card says; None where it says nothing, or cannot be read here."""
    with suppress(Exception):  # a card of any form, or a hub that cannot be reached
        path = locate(reference)
        if path.is_file():
            return GGUFReader(path).fields["general.license"].contents()
        return ModelCard.load(path / "README.md" if path.is_dir() else reference).data.license
    return None


def _plain(text: str) -> str:
    """Markdown that shows a text as it is, within a line."""
    return re.sub(r"([\\`*_\[\]<>|&$~])", r"\\\1", " ".join(text.split()))
