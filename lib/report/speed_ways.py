"""What the page on speed compares: the study's ways, those of common libraries, and plain padded loops.

Each takes a run, prepares all that is not measured, and returns what is: a function that does it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainingArguments

from lib.methods.context_distillation import answers_of, objective, teacher_prompts
from lib.methods.encoder import encoder_of
from lib.methods.examples import examples_of
from lib.methods.records import Run
from lib.models.forward import last_logits, pad_right
from lib.models.loading import fastest_dtype, load_model
from lib.models.scoring import class_log_probs
from lib.models.training import TrainingRow, batches, make_optimizer, train, training_mode, training_step
from lib.tasks.prompts import EncodedPrompts, prompt
from lib.tasks.task import IN_DOMAIN

OURS = "this study"
BATCH = 8  # prompts at a time, of those who pad

# What a way comes to, by which ways are compared: the class of each query, or the loss of each step.
Result = list[float]


def icl_prompts(run: Run) -> tuple[EncodedPrompts, list[list[int]]]:
    """What ICL reads, and the label words' tokens."""
    encoder, examples = encoder_of(run.model), examples_of(run)
    return encoder.encode(examples.demonstrations, examples.evaluation[IN_DOMAIN]), answers_of(encoder, run.task)


def scored(run: Run, dtype: str = "float32") -> Callable[[], Result]:
    """ICL as the study scores it: the demonstrations read once."""
    model, (prompts, answers) = load_model(run.model, dtype, run.device), icl_prompts(run)
    return lambda: class_log_probs(model, prompts, answers, run.eval_batch_size).argmax(1).tolist()


def scored_by_loop(run: Run) -> Callable[[], Result]:
    """Whole prompts, padded to the longest of a batch, with logits at every position."""
    model, (prompts, answers) = load_model(run.model, "float32", run.device), icl_prompts(run)
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

    examples, encoder = examples_of(run), encoder_of(run.model)
    model = load_model(run.model, "float32", run.device)
    harness = HFLM(model, tokenizer=encoder.tokenizer, batch_size=BATCH, device=run.device)
    texts = [prompt(examples.demonstrations, query) for query in examples.evaluation[IN_DOMAIN]]
    words = run.task.label_words
    asked = [Instance("loglikelihood", {}, (text, f" {word}"), i) for text in texts for i, word in enumerate(words)]

    def score() -> Result:
        found = [log_prob for log_prob, _ in harness.loglikelihood(asked, disable_tqdm=True)]
        return np.reshape(found, (-1, len(words))).argmax(1).tolist()

    return score


def support_rows(run: Run) -> list[TrainingRow]:
    """What PBFT trains on."""
    encoder = encoder_of(run.model)
    return [TrainingRow(encoder.ids(query), None, query.gold) for query in examples_of(run).support]


def _student(run: Run) -> PreTrainedModel:
    return load_model(run.model, "float32", run.device).requires_grad_(True)


def fitted(run: Run, **how: bool) -> Callable[[], Result]:
    """PBFT as the study trains it."""
    model, rows = _student(run), support_rows(run)
    aim = objective(run, answers_of(encoder_of(run.model), run.task))
    return lambda: train(model, [], rows, aim, replace(run.training, **how), run.seed).losses


def fitted_by_trainer(run: Run) -> Callable[[], Result]:
    """The same loss under Hugging Face's `Trainer`, whose collator pads."""
    model, how = _student(run), run.training
    steps = list(batches([], support_rows(run), how.batch_size, how.epochs, run.seed))
    columns = [answer[0] for answer in answers_of(encoder_of(run.model), run.task)]
    losses: list[float] = []

    def collate(steps: list[list[TrainingRow]]) -> dict[str, torch.Tensor]:
        (rows,) = steps
        ids, mask = pad_right([row.ids for row in rows], torch.device("cpu"))
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row.label for row in rows])}

    class OverLabelWords(Trainer):
        def compute_loss(self, model: PreTrainedModel, inputs: dict, *_: Any, **__: Any) -> torch.Tensor:  # noqa: ANN401
            labels, last = inputs.pop("labels"), inputs["attention_mask"].sum(1) - 1
            logits = model(**inputs, use_cache=False).logits[torch.arange(len(labels)), last][:, columns]
            losses.append(torch.nn.functional.cross_entropy(logits, labels))
            return losses[-1]

        def _get_train_sampler(self, *_: Any) -> SequentialSampler:  # noqa: ANN401
            return SequentialSampler(steps)

    settings = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=1,  # an item is a step's rows, as the study draws them
        num_train_epochs=1,
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
    trainer = OverLabelWords(model, settings, collate, steps)

    def fit() -> Result:
        trainer.train()
        return [loss.item() for loss in losses]

    return fit


def pool_ids(run: Run) -> list[list[int]]:
    """The pool's queries, as CD's student reads them."""
    encoder = encoder_of(run.model)
    return [encoder.ids(query) for part in examples_of(run).pool for query in part]


def distilled(run: Run) -> Callable[[], Result]:
    """CD as the study does it: the teacher is asked once, and is gone when the student is trained."""
    labelling, student, pool = run.distillation.labelling, _student(run), pool_ids(run)
    teacher = [load_model(labelling.teacher, "float32", run.device)]
    encoder = encoder_of(labelling.teacher)
    (asked,), answers = teacher_prompts(labelling, encoder), answers_of(encoder, run.task)
    aim = objective(run, answers_of(encoder_of(run.model), run.task))

    def distil() -> Result:
        targets = class_log_probs(teacher.pop(), asked, answers, labelling.batch_size)
        rows = [TrainingRow(ids, target, None) for ids, target in zip(pool, targets, strict=False)]
        return train(student, rows, [], aim, run.training, run.seed).losses

    return distil


def distilled_by_loop(run: Run) -> Callable[[], Result]:
    """A loop with the loss of TRL's `GKDTrainer`: the teacher stays, and answers each batch as it comes."""
    from trl.experimental.gkd import GKDTrainer

    labelling, student, pool = run.distillation.labelling, _student(run), pool_ids(run)
    teacher, encoder = load_model(labelling.teacher, "float32", run.device), encoder_of(labelling.teacher)
    (asked,) = teacher_prompts(labelling, encoder)
    columns, other = ([a[0] for a in answers_of(one, run.task)] for one in (encoder_of(run.model), encoder))
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
