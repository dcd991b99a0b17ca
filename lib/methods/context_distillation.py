"""The nine methods, each a short recipe over the same parts: who answers, with what in its prompt, trained on what."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from lib.errors import StudyError
from lib.methods.calibration import calibrated, confidence
from lib.methods.evaluation import Evaluation, evaluate
from lib.methods.reading import (
    Reader,
    calibration_prompts,
    evaluation_items,
    evaluation_prompts,
    held_out_items,
    pool_parts,
    support_of,
    teacher_prompts,
)
from lib.methods.records import Distillation, Run, Targets
from lib.models.cost import Cost, PhaseMeter, warm_up
from lib.models.loading import DTYPES, load_model
from lib.models.scoring import next_token_log_probs
from lib.models.training import Objective, Training, TrainingRow, train
from lib.models.tuning import Tuning, adapt, merged, trainable_parameters
from lib.tasks.prompts import CONTENT_FREE

if TYPE_CHECKING:
    from peft import LoraConfig


@dataclass(frozen=True)
class Method:
    """What sets a method apart.

    Attributes:
        label: its name in figures.
        teacher_answers: the teacher is evaluated, not the student.
        demonstrations: the evaluated model reads the support set in its prompt.
        tuning: what of the student is trained, None for nothing.
        distils: the student learns from the teacher's soft labels on a pool of queries.
    """

    label: str
    teacher_answers: bool = False
    demonstrations: bool = False
    tuning: Tuning | None = None
    distils: bool = False

    @property
    def reads_support(self) -> bool:
        """Its result depends on the support set."""
        return self.demonstrations or self.tuning is not None


METHODS = {
    "baseline": Method("Baseline"),
    "icl": Method("ICL", demonstrations=True),
    "teacher_icl": Method("Teacher ICL", teacher_answers=True, demonstrations=True),
    "pbft": Method("PBFT", tuning="full"),
    "pbft_lora": Method("PBFT + LoRA", tuning="lora"),
    "pbft_bitfit": Method("PBFT + BitFit", tuning="bitfit"),
    "cd": Method("CD", tuning="full", distils=True),
    "cd_lora": Method("CD + LoRA", tuning="lora", distils=True),
    "cd_bitfit": Method("CD + BitFit", tuning="bitfit", distils=True),
}


_TRAINED = [name for name, method in METHODS.items() if method.tuning]


@dataclass(frozen=True)
class TeacherTargets:
    """A teacher's raw log-probabilities on its pool, with what they cost to compute.

    `log_probs` is [pool, classes] over the label words or [pool, vocabulary]; `content_free` is the same of the
    content-free inputs, [3, columns], so that a later question can calibrate without the teacher.
    """

    log_probs: torch.Tensor
    content_free: torch.Tensor
    cost: Cost


@dataclass(frozen=True)
class Outcome:
    """What running a run gives: scores in and out of domain, the cost of each phase, and the training's course.

    `held_out` is a digit for each item out of domain, 1 where the pool was kept free of its kind; empty where the pool
    holds all kinds. `pool_label_log_probs` are, by domain, those of the evaluated model on unlabelled queries [pool,
    classes]; empty where it was not asked.
    """

    in_domain: Evaluation
    out_of_domain: Evaluation
    costs: dict[str, Cost]
    trainable_parameters: int
    losses: list[float]
    held_out: str = ""
    pool_label_log_probs: dict[str, list[list[float]]] = field(default_factory=dict)


def run_method(run: Run, targets: TeacherTargets | None, isolated: bool = True) -> Outcome:
    """Run one run: train the student if the method trains, then evaluate in and out of domain.

    Args:
        run: what to run.
        targets: the teacher's soft labels for methods that distil, None for the others.
        isolated: this process runs nothing else, so that its resident memory is the run's.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss or score is not finite.
    """
    warm_up(run.device)
    meter = PhaseMeter(run.device, isolated)
    costs = {"teacher": targets.cost} if targets else {}
    weights = "float32" if run.training else run.dtype  # trained weights stay float32 until they are scored
    model = load_model(run.model, weights, run.device)
    reader = Reader(run.model, run.task)
    trainable, losses = 0, []
    if run.training:
        with meter.phase() as costs["training"]:
            model, losses = _train(run, run.training, model, reader, targets, costs["training"])
        trainable = trainable_parameters(model)
        model = merged(model).to(DTYPES[run.dtype])
    with meter.phase() as costs["evaluation"]:
        in_domain = _evaluate(run, model, reader, run.task.in_domain, costs["evaluation"])
        out_of_domain = _evaluate(run, model, reader, run.task.out_of_domain, costs["evaluation"])
    pool = {}
    if run.calibration_pool:
        with meter.phase() as costs["calibration"]:
            pool = _ask_unlabelled(run, model, reader, costs["calibration"])
    return Outcome(in_domain, out_of_domain, costs, trainable, losses, _held_out(run), pool)


def _held_out(run: Run) -> str:
    if run.distillation is None or run.distillation.targets.held_out == "nothing":
        return ""
    return "".join(str(int(away)) for away in held_out_items(run.distillation.targets))


def trained_student(run: Run, targets: TeacherTargets | None) -> PreTrainedModel:
    """The student of a run that trains one, as `run` scores it: an adapter is merged, weights are in the run's dtype.

    Raises:
        StudyError: the run trains nothing, or as for `run`.
    """
    if run.training is None:
        raise StudyError(f"method: {run.method} trains no student. Allowed: {', '.join(_TRAINED)}.")
    model = load_model(run.model, "float32", run.device)
    trained, _ = _train(run, run.training, model, Reader(run.model, run.task), targets, Cost())
    return merged(trained).to(DTYPES[run.dtype])


def teacher_targets(request: Targets, isolated: bool = True) -> TeacherTargets:
    """Ask the teacher, which reads the demonstrations, about every query of the pool; `isolated` as for `run`.

    Raises:
        StudyError: a setting does not fit the data or the model, or a score is not finite.
    """
    warm_up(request.device)
    meter = PhaseMeter(request.device, isolated)
    model = load_model(request.teacher, request.dtype, request.device)
    reader = Reader(request.teacher, request.task)
    columns = None if request.kl_over == "vocabulary" else reader.label_columns
    with meter.phase() as cost:
        asked = teacher_prompts(request, reader)
        answers = [next_token_log_probs(model, prompts, columns, request.batch_size) for prompts in asked]
        cost.tokens = sum(prompts.tokens for prompts in asked)
    last = len(CONTENT_FREE)
    contexts = request.orders * request.demonstration_sets
    log_probs = _mean_over_contexts(torch.cat([answer[:-last] for answer in answers]), contexts)
    content_free = torch.stack([answer[-last:] for answer in answers]).mean(0)
    _require_finite(log_probs, request.teacher)
    return TeacherTargets(log_probs, content_free, cost)


def _mean_over_contexts(log_probs: torch.Tensor, contexts: int) -> torch.Tensor:
    """The log of the mean probability over contexts: [contexts · pool, columns], one by one, to [pool, columns]."""
    by_context = log_probs.unflatten(0, (contexts, -1))
    return by_context.logsumexp(0) - math.log(contexts)


def _train(
    run: Run, training: Training, model: PreTrainedModel, reader: Reader, targets: TeacherTargets | None, cost: Cost
) -> tuple[torch.nn.Module, list[float]]:
    support = [TrainingRow(reader.ids(row), None, row.label) for row in support_of(run)]
    pool: list[TrainingRow] = []
    if run.distillation:
        pool = _pool_rows(run.distillation, reader, targets)
        support = support if trains_on_support(run.distillation) else []
    student = adapted(model, training, run.seed)
    log = train(student, pool, support, objective(run, training, reader.label_columns), training, run.seed)
    cost.tokens = log.tokens
    return student, log.losses


def adapted(model: PreTrainedModel, training: Training, seed: int) -> torch.nn.Module:
    """The model with what `training` trains made trainable, in place; the seed is that of new random weights."""
    torch.manual_seed(seed)  # a LoRA adapter starts from random weights
    return adapt(model, training.tuning, lora_config(training), training.biases)


def trains_on_support(distillation: Distillation) -> bool:
    """Whether the gold labels of the support set have a part in the loss."""
    return distillation.ce_on == "support" and distillation.kl_weight < 1


def objective(run: Run, training: Training, label_columns: list[int]) -> Objective:
    """What a run's student minimises; without a teacher, cross-entropy alone."""
    distillation = run.distillation
    return Objective(
        kl_weight=distillation.kl_weight if distillation else 0.0,
        temperature=distillation.temperature if distillation else 1.0,
        label_columns=label_columns,
        kl_over_vocabulary=distillation is not None and distillation.targets.kl_over == "vocabulary",
        logits=training.logits,
        padding_free=training.padding_free,
    )


def _pool_rows(distillation: Distillation, reader: Reader, targets: TeacherTargets) -> list[TrainingRow]:
    """The student's view of the pool; gold labels are read only where the profile puts CE on the pool."""
    parts = pool_parts(distillation.targets)
    queries = [query for part in parts for query in part]
    by_domain = targets.log_probs.split([len(part) for part in parts])  # each has a label prior of its own
    how = distillation.calibration
    answers = torch.cat([calibrated(told, targets.content_free, how) for told in by_domain])
    weights = confidence(answers) if distillation.confidence else torch.ones(len(answers))
    labels = {
        "support": [None] * len(queries),
        "pool": [query.label for query in queries],
        "teacher": answers.argmax(-1).tolist(),
    }[distillation.ce_on]
    return [
        TrainingRow(reader.ids(query), target, label, weight)
        for query, target, label, weight in zip(queries, answers, labels, weights.tolist(), strict=True)
    ]


def lora_config(training: Training) -> "LoraConfig | None":
    """The adapter's settings, for LoRA only."""
    if training.tuning != "lora":
        return None
    from peft import LoraConfig  # here, so that redrawing does not wait for it

    return LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        task_type="CAUSAL_LM",
    )


def _evaluate(run: Run, model: PreTrainedModel, reader: Reader, dataset: str, cost: Cost) -> Evaluation:
    items = evaluation_items(run.task, dataset)
    prompts = evaluation_prompts(run, reader, dataset, METHODS[run.method].demonstrations)
    answers = next_token_log_probs(model, prompts, reader.label_columns, run.eval_batch_size)
    cost.tokens += prompts.tokens
    _require_finite(answers, run.model)
    label_log_probs = answers.double().numpy()
    gold = [item.label for item in items]
    return evaluate(label_log_probs[: len(items)], label_log_probs[len(items) :], gold)


def _ask_unlabelled(run: Run, model: PreTrainedModel, reader: Reader, cost: Cost) -> dict[str, list[list[float]]]:
    """The evaluated model's answers to unlabelled queries of each domain, from which its label prior is known."""
    answers = {}
    for domain in ("in_domain", "out_of_domain"):
        dataset = getattr(run.task, domain)
        prompts = calibration_prompts(run, reader, dataset, METHODS[run.method].demonstrations)
        log_probs = next_token_log_probs(model, prompts, reader.label_columns, run.eval_batch_size)
        cost.tokens += prompts.tokens
        answers[domain] = log_probs.double().numpy().round(4).tolist()
    return answers


def _require_finite(log_probs: torch.Tensor, model: str) -> None:
    if not torch.isfinite(log_probs).all():
        raise StudyError(f"{model}: its label log-probabilities are not finite; try float32.")
