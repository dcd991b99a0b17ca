"""Seconds and memory of this study's ways beside those of common libraries, on one model and one data set.

Every measurement has a process of its own, and those of one question take turns, so that what else the machine does
meets all alike. On a CPU seconds are those of the process's threads. Libraries that are not installed are left out.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.machinery import PathFinder
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from lib.memory.architectures import random_model
from lib.methods.context_distillation import answers_of, objective, teacher_prompts
from lib.methods.encoder import PromptEncoder
from lib.methods.examples import examples_of
from lib.methods.records import Run
from lib.models.cost import PhaseMeter, describe
from lib.models.forward import last_logits, pad_right
from lib.models.loading import fastest_dtype, load_model, quiet
from lib.models.scoring import class_log_probs
from lib.models.training import TrainingRow, batches, make_optimizer, train, training_mode, training_step
from lib.paths import FIGURES, ROOT
from lib.runs.files import write_csv
from lib.runs.profile import Profile
from lib.tasks.prompts import EncodedPrompts, prompt
from lib.tasks.task import IN_DOMAIN

RECORDS, PEERS = FIGURES / "speed", ROOT / ".peers"
OURS = "this study"
CLOSE = 1e-3  # by which losses may differ, of which rounding is the cause
BATCH = 8  # prompts at a time, of those who pad

# What a way comes to, by which ways are compared: the class of each query, or the loss of each step.
Result = list[float]


def _prompts(run: Run) -> tuple[EncodedPrompts, list[list[int]]]:
    encoder, examples = PromptEncoder(run.model), examples_of(run)
    return encoder.encode(examples.demonstrations, examples.evaluation[IN_DOMAIN]), answers_of(encoder, run.task)


def scored(run: Run, dtype: str = "float32") -> Callable[[], Result]:
    """ICL as the study scores it: the demonstrations read once."""
    model, (prompts, answers) = load_model(run.model, dtype, run.device), _prompts(run)
    return lambda: class_log_probs(model, prompts, answers, run.eval_batch_size).argmax(1).tolist()


def scored_by_loop(run: Run) -> Callable[[], Result]:
    """Whole prompts, padded to the longest of a batch, with logits at every position."""
    model, (prompts, answers) = load_model(run.model, "float32", run.device), _prompts(run)
    first, texts = [answer[0] for answer in answers], prompts.whole().suffixes

    @torch.no_grad()
    def score() -> Result:
        parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return torch.cat([last_logits(model, part, None, True)[:, first].argmax(1) for part in parts]).tolist()

    return score


def scored_by_harness(run: Run) -> Callable[[], Result]:
    """lm-evaluation-harness's `HFLM.loglikelihood`, as its multiple-choice tasks call it."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    examples, encoder = examples_of(run), PromptEncoder(run.model)
    model = load_model(run.model, "float32", run.device)
    harness = HFLM(model, tokenizer=encoder.tokenizer, batch_size=BATCH, device=run.device)
    texts = [prompt(examples.demonstrations, query) for query in examples.evaluation[IN_DOMAIN]]
    words = run.task.label_words
    asked = [Instance("loglikelihood", {}, (text, f" {word}"), i) for text in texts for i, word in enumerate(words)]

    def score() -> Result:
        found = [log_prob for log_prob, _ in harness.loglikelihood(asked, disable_tqdm=True)]
        return np.reshape(found, (-1, len(words))).argmax(1).tolist()

    return score


def _support(run: Run) -> list[TrainingRow]:
    encoder = PromptEncoder(run.model)
    return [TrainingRow(encoder.ids(query), None, query.gold) for query in examples_of(run).support]


def _student(run: Run) -> PreTrainedModel:
    return load_model(run.model, "float32", run.device).requires_grad_(True)


def fitted(run: Run, **how: bool) -> Callable[[], Result]:
    """PBFT as the study trains it."""
    model, rows = _student(run), _support(run)
    aim = objective(run, answers_of(PromptEncoder(run.model), run.task))
    return lambda: train(model, [], rows, aim, replace(run.training, **how), run.seed).losses


def fitted_by_trainer(run: Run) -> Callable[[], Result]:
    """The same loss under Hugging Face's `Trainer`, whose collator pads."""
    model, rows = _student(run), _support(run)
    columns = [answer[0] for answer in answers_of(PromptEncoder(run.model), run.task)]
    losses: list[float] = []

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids, mask = pad_right([one["input_ids"] for one in batch], torch.device("cpu"))
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([one["label"] for one in batch])}

    class OverLabelWords(Trainer):
        def compute_loss(self, model: PreTrainedModel, inputs: dict, *_: Any, **__: Any) -> torch.Tensor:  # noqa: ANN401
            labels, last = inputs.pop("labels"), inputs["attention_mask"].sum(1) - 1
            logits = model(**inputs, use_cache=False).logits[torch.arange(len(labels)), last][:, columns]
            losses.append(torch.nn.functional.cross_entropy(logits, labels))
            return losses[-1]

    settings = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=run.training.batch_size,
        num_train_epochs=run.training.epochs,
        learning_rate=run.training.learning_rate,
        lr_scheduler_type=run.training.schedule,
        max_grad_norm=0.0,
        use_cpu=run.device == "cpu",
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    data = [{"input_ids": row.ids, "label": row.label} for row in rows]
    trainer = OverLabelWords(model, settings, collate, data)

    def fit() -> Result:
        trainer.train()
        return [loss.item() for loss in losses]

    return fit


def _pool(run: Run) -> list[list[int]]:
    encoder = PromptEncoder(run.model)
    return [encoder.ids(query) for part in examples_of(run).pool for query in part]


def distilled(run: Run) -> Callable[[], Result]:
    """CD as the study does it: the teacher is asked once, and is gone when the student is trained."""
    labelling, student, pool = run.distillation.labelling, _student(run), _pool(run)
    teacher = [load_model(labelling.teacher, "float32", run.device)]
    encoder = PromptEncoder(labelling.teacher)
    (asked,), answers = teacher_prompts(labelling, encoder), answers_of(encoder, run.task)
    aim = objective(run, answers_of(PromptEncoder(run.model), run.task))

    def distil() -> Result:
        targets = class_log_probs(teacher.pop(), asked, answers, labelling.batch_size)
        rows = [TrainingRow(ids, target, None) for ids, target in zip(pool, targets, strict=False)]
        return train(student, rows, [], aim, run.training, run.seed).losses

    return distil


def distilled_by_loop(run: Run) -> Callable[[], Result]:
    """A loop with the loss of TRL's `GKDTrainer`: the teacher stays, and answers each batch as it comes."""
    from trl.experimental.gkd import GKDTrainer

    labelling, student, pool = run.distillation.labelling, _student(run), _pool(run)
    teacher, encoder = load_model(labelling.teacher, "float32", run.device), PromptEncoder(labelling.teacher)
    (asked,) = teacher_prompts(labelling, encoder)
    columns, other = ([a[0] for a in answers_of(one, run.task)] for one in (PromptEncoder(run.model), encoder))
    settings = replace(run.training, fused=False)
    rows = [TrainingRow([i], None, None) for i in range(len(pool))]  # in the order of the study's steps

    def loss_of(step: list[int]) -> torch.Tensor:
        with torch.no_grad():
            told = last_logits(teacher, [asked.prefix + asked.suffixes[i] for i in step], None, True)[:, other]
        own = last_logits(student, [pool[i] for i in step], None, True)[:, columns]
        return GKDTrainer.generalized_jsd_loss(own, told, beta=0.0)

    def distil() -> Result:
        optimizer = make_optimizer(student, settings, run.device)
        steps = batches(rows, [], settings.batch_size, settings.epochs, run.seed)
        with training_mode(student, settings, optimizer):
            return [
                training_step(student, [partial(loss_of, [row.ids[0] for row in step])], settings, optimizer).item()
                for step in steps
            ]

    return distil


# By question: the ways that are compared, the study's first.
WAYS: dict[str, dict[str, Callable[[Run], Callable[[], Result]]]] = {
    "ICL": {OURS: scored, "lm-evaluation-harness": scored_by_harness, "a padded loop": scored_by_loop},
    "PBFT": {
        OURS: fitted,
        "Hugging Face Trainer": fitted_by_trainer,
        "a padded loop": partial(fitted, padding_free=False, fused=False),
    },
    "CD": {OURS: distilled, "a loop with TRL's GKD loss": distilled_by_loop},
}
if fastest_dtype("cpu") == "bfloat16":
    WAYS["ICL"]["this study, bfloat16"] = partial(scored, dtype="bfloat16")
METHODS = {"ICL": "icl", "PBFT": "pbft", "CD": "cd"}
NEEDS = {"lm-evaluation-harness": "lm_eval", "a loop with TRL's GKD loss": "trl"}
INSTALL = "python -m pip install --no-deps --target .peers -r notebooks/speed_peers.txt"
# What all ways can do alike: a step of the teacher's targets alone, at a constant rate.
ALIKE = {"kl_weight": 1.0, "kl_over": "labels", "calibration": "none", "schedule": "constant", "warmup": 0.0}


def measure(profile: Profile, size: int, repeats: int = 3, questions: Sequence[str] = tuple(WAYS)) -> pd.DataFrame:
    """One row a way: what it costs, in the median, at `size` demonstrations.

    Columns: `seconds`; `peak_gb`, over the process's start, weights included; `ahead`, how many times the study's
    seconds it takes; `over_limit`, its seconds over those of 2 FLOPs a weight and unshared token, 6 in training, at the
    measured rate of a matrix product; `alike`, whether it comes to the study's classes, or losses but for rounding.
    """
    alike = ALIKE | {"methods": [*METHODS.values()], "support_sizes": [size], "seeds": profile.seeds[:1]}
    changed, rate = profile.changed(alike), _flops_a_second(profile.device)
    rows = [row for question in questions for row in _rows(changed, question, repeats, rate)]
    return pd.DataFrame(rows).assign(model=profile.student, demonstrations=size, **describe(profile.device))


def _rows(profile: Profile, question: str, repeats: int, rate: float) -> Iterator[dict[str, Any]]:
    (run,) = profile.runs((METHODS[question],))
    names = [name for name in WAYS[question] if _is_there(name)]
    found = pd.DataFrame([{"way": name} | _apart(run, question, name) for _ in range(repeats) for name in names])
    costs = found.groupby("way", sort=False)[["seconds", "peak_gb"]].median()
    results = found.groupby("way", sort=False).result.first()
    for name in names:
        seconds, peak = costs.loc[name]
        ours, theirs = results[OURS], results[name]
        yield {
            "question": question,
            "way": name,
            "seconds": seconds,
            "ahead": seconds / costs.seconds[OURS],
            "peak_gb": peak,
            "over_limit": seconds * rate / _flops(run),
            "alike": len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=CLOSE),
            "unshared_tokens": _tokens(run),
        }


def _is_there(name: str) -> bool:
    """Whether a way's library is installed; where not, a line says how it would be."""
    there = name not in NEEDS or PathFinder.find_spec(NEEDS[name], [*sys.path, str(PEERS)]) is not None
    if not there:
        print(f"{name} is left out: {NEEDS[name]} is not installed. {INSTALL}")
    return there


def _apart(run: Run, question: str, name: str) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_measured, run, question, name).result()


def _measured(run: Run, question: str, name: str) -> dict[str, Any]:
    quiet()
    sys.path.append(str(PEERS))
    meter = PhaseMeter(run.device)
    way = WAYS[question][name](run)
    began = time.process_time()
    with meter.phase() as cost:
        result = way()
    on_cpu = run.device == "cpu"
    peak = cost.rss if on_cpu else cost.cuda_allocated
    return {
        "seconds": time.process_time() - began if on_cpu else cost.seconds,
        "peak_gb": peak / 1e9,
        "result": result,
    }


def _flops_a_second(device: str, size: int = 1536) -> float:
    """Of products of two float32 matrices, the best of five, by the seconds in which ways are measured."""
    matrix, best = torch.ones(size, size, device=device), float("inf")
    for _ in range(5):
        began = time.process_time() if device == "cpu" else time.perf_counter()
        (matrix @ matrix).sum().item()
        best = min(best, (time.process_time() if device == "cpu" else time.perf_counter()) - began)
    return 2 * size**3 / best


def _tokens(run: Run) -> int:
    """Tokens that must be read once: shared demonstrations once, what is trained on once an epoch."""
    if run.distillation:
        (asked,) = teacher_prompts(run.distillation.labelling, PromptEncoder(run.distillation.labelling.teacher))
        return asked.tokens + run.training.epochs * sum(map(len, _pool(run)))
    return run.training.epochs * sum(len(row.ids) for row in _support(run)) if run.training else _prompts(run)[0].tokens


def _flops(run: Run) -> float:
    if run.distillation:
        trained = run.training.epochs * sum(map(len, _pool(run)))
        return 6 * _weights(run.model) * trained + 2 * _weights(run.needs.teacher) * (_tokens(run) - trained)
    return (6 if run.training else 2) * _weights(run.model) * _tokens(run)


def _weights(model: str) -> int:
    """Those that each token meets: all but the vocabulary's, which one position of a prompt does."""
    made = random_model(model, "float32", "meta")
    return sum(one.numel() for one in made.parameters()) - made.get_input_embeddings().weight.numel()


def growth(profile: Profile, sizes: Sequence[int], pools: Sequence[int]) -> pd.DataFrame:
    """One measurement a way of ICL after so many demonstrations, and of CD with so many queries in its pool."""
    by_size = [measure(profile, size, 1, ["ICL"]) for size in sizes]
    by_pool = [measure(profile.changed({"pool_size": pool}), sizes[0], 1, ["CD"]).assign(pool=pool) for pool in pools]
    return pd.concat([*by_size, *by_pool], ignore_index=True)


def write_record(name: str, measured: pd.DataFrame, grown: pd.DataFrame) -> None:
    """Keep what was measured for the page."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    write_csv(RECORDS / f"{name}.csv", measured)
    write_csv(RECORDS / f"{name}_growth.csv", grown)


def records() -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """By name, what was measured, and how it grows."""
    files = sorted(file for file in RECORDS.glob("*.csv") if not file.stem.endswith("_growth"))
    return {file.stem: (pd.read_csv(file), pd.read_csv(file.with_name(f"{file.stem}_growth.csv"))) for file in files}
