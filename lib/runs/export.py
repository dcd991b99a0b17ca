"""Keeping a distilled student: a folder that plain transformers loads, with a card that says where it comes from.

Results hold no weights, so the student is trained again, from the same seed.
"""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import StudyError, require_one_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lib.methods.records import Run
    from lib.runs.profile import Profile
    from lib.runs.store import Store

MADE_BY = "A student that was trained by the study of few-shot distillation"

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [few-shot, knowledge-distillation, context-distillation]
---
# {method} of {student}, n = {n}, seed {seed}

{made_by}: `{method}`, {support}.
It answers a query with nothing before it.

- student: `{student}`
- teacher: {teacher}
- data: `{source}`, in domain `{in_domain}`, out of domain `{out_of_domain}`
- prompt: pattern `{pattern}`, label words {words}; the answer is the likelier of the two as the next token
  (compare these two alone: what it may think of other words was not trained)

```text
{example}
```

| | accuracy | on entailment | on non-entailment | answers "entailment" |
|-|-|-|-|-|
{results}

Support set (gold labels):

{shots}

All settings:

```json
{settings}
```
"""


def keep(profile: "Profile", method: str, size: int, seed: int, folder: Path | None = None) -> Path:
    """Train the student of one result again and save it with its tokenizer and its card; returns the folder.

    Args:
        profile: the study's settings; the result must be there.
        method: one that trains a student.
        size: support examples.
        seed: one of the profile's.
        folder: where to; by default `students/<method>_n<size>_seed<seed>` in the profile's folder. A student that was
            kept there is replaced, whole.

    Raises:
        StudyError: no such result, the method trains nothing, plain transformers could not load the student, or the
            folder holds something else.
    """
    from lib.runs.store import Store

    run = _run(profile, method, size, seed)
    store = Store(profile.folder)
    record = store.load(run)
    if record is None or record["refused"]:
        raise StudyError(f"keep: no result of {method} at n = {size}, seed {seed} in {profile.folder}; run it first.")
    if run.training and run.training.biases == "add":
        raise StudyError("keep: a student with added biases is no model that plain transformers loads; keep another.")
    target = folder or profile.folder / "students" / f"{method}_n{size}_seed{seed}"
    _require_ours(target)
    _save(_student(run, store, record["environment"]["threads"]), run, record, target)
    return target


def _require_ours(target: Path) -> None:
    """Raise where something else than an earlier kept student would be replaced."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    card = target / "README.md"
    if not card.is_file() or MADE_BY not in card.read_text(encoding="utf-8", errors="replace"):
        raise StudyError(
            f"to: {str(target)!r} holds something else. Allowed: a new or empty folder, or a kept student."
        )


def _student(run: "Run", store: "Store", threads: int) -> "PreTrainedModel":
    """The student, trained again by as many threads; its teacher is asked again where its targets are not there."""
    import torch

    from lib.methods.context_distillation import teacher_targets, trained_student

    request = run.distillation.targets if run.distillation else None
    targets = store.load_targets(request) if request else None
    if request and targets is None:
        targets = teacher_targets(request, isolated=False)
    here = torch.get_num_threads()
    torch.set_num_threads(threads)  # sums in another order make another student, if slightly
    try:
        return trained_student(run, targets)
    finally:
        torch.set_num_threads(here)


def _save(model: "PreTrainedModel", run: "Run", record: dict[str, Any], target: Path) -> None:
    """Write the whole folder beside its place, then put it there."""
    from lib.models.loading import load_tokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".keeping-"))
    try:
        model.save_pretrained(scratch)
        load_tokenizer(run.model).save_pretrained(scratch)
        (scratch / "README.md").write_text(_card(run, record), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(profile: "Profile", method: str, size: int, seed: int) -> "Run":
    from lib.runs.profile import TRAINED

    require_one_of("method", method, [name for name in profile.methods if name in TRAINED])
    require_one_of("support", size, profile.support_sizes)
    require_one_of("seed", seed, profile.seeds)
    runs = profile.model_copy(update={"support_sizes": (size,), "seeds": (seed,)}).runs((method,))
    if not runs:
        raise StudyError(f"support: {method} trains nothing with {size} support examples.")
    return runs[0]


def _card(run: "Run", record: dict[str, Any]) -> str:
    from lib.methods.reading import evaluation_items, support_of
    from lib.tasks.prompts import PATTERNS, label_words, prompt

    pattern = PATTERNS[run.task.pattern]
    words = label_words(pattern, run.task.label_words)
    support = support_of(run)
    distillation = run.distillation
    pool = f"and the teacher's soft labels on {distillation.targets.pool_size} queries" if distillation else ""
    return CARD.format(
        made_by=MADE_BY,
        method=run.method,
        student=run.model,
        teacher=f"`{distillation.targets.teacher}`" if distillation else "none",
        n=run.support_size,
        seed=run.seed,
        support=f"from {run.support_size} labelled examples {pool}".strip(),
        source=run.task.source,
        in_domain=run.task.in_domain,
        out_of_domain=run.task.out_of_domain,
        pattern=run.task.pattern,
        words=" / ".join(f"`{word}`" for word in words),
        example=prompt(pattern, words, [], evaluation_items(run.task, run.task.in_domain)[0]),
        results="\n".join(_result(run, record, domain) for domain in ("in_domain", "out_of_domain")),
        shots="\n".join(f"- {pattern.query(row)!r} → `{words[row.label]}`" for row in support),
        settings=json.dumps(asdict(run), indent=2),
    )


def _result(run: "Run", record: dict[str, Any], domain: str) -> str:
    scores = record["outcome"][domain]["plain"]
    numbers = [scores["accuracy"], *scores["halves"], scores["shares"][0]]
    return f"| {getattr(run.task, domain)} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |"
