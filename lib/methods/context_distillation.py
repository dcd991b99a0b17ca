"""The nine methods, each a short recipe over the same parts: who answers, with what in its prompt, trained on what."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from lib.errors import StudyError
from lib.methods.calibration import Array, calibrated_soft_labels, confidence
from lib.methods.encoder import PromptEncoder
from lib.methods.evaluation import Evaluation, evaluation
from lib.methods.examples import RunExamples, examples_of, held_out_items, teacher_contexts
from lib.methods.records import Distillation, PoolLabelling, Run
from lib.models.cost import Cost, PhaseMeter
from lib.models.loading import DTYPES, load_model
from lib.models.scoring import class_log_probs
from lib.models.training import Objective, Training, TrainingRow, train
from lib.models.tuning import Tuning, adapt, merged
from lib.tasks.patterns import CONTENT_FREE_TEXTS, content_free
from lib.tasks.prompts import EncodedPrompts, first_tokens
from lib.tasks.task import Query, Task

if TYPE_CHECKING:
    from peft import LoraConfig


@dataclass(frozen=True)
class Method:
    """What sets a method apart, and how figures show it.

    Attributes:
        label: its name in figures.
        colour: of its lines and points.
        marker: of its points; empty for a level line.
        teacher_answers: the teacher is evaluated, not the student.
        demonstrations: the evaluated model reads the support set in its prompt.
        tuning: what of the student is trained, None for nothing.
        distils: the student learns from the teacher's soft labels on a pool of queries.
    """

    label: str
    colour: str
    marker: str
    teacher_answers: bool = False
    demonstrations: bool = False
    tuning: Tuning | None = None
    distils: bool = False

    @property
    def reads_support(self) -> bool:
        """Its result depends on the support set."""
        return self.demonstrations or self.tuning is not None


# Colours are those of seaborn's colour-blind palette, and two greys.
METHODS = {
    "baseline": Method("Baseline", "#949494", ""),
    "icl": Method("ICL", "#DE8F05", "o", demonstrations=True),
    "teacher_icl": Method("Teacher ICL", "#262626", "*", teacher_answers=True, demonstrations=True),
    "pbft": Method("PBFT", "#0173B2", "s", tuning="full"),
    "pbft_lora": Method("PBFT + LoRA", "#CC78BC", "^", tuning="lora"),
    "pbft_bitfit": Method("PBFT + BitFit", "#CA9161", "v", tuning="bitfit"),
    "cd": Method("CD", "#029E73", "D", tuning="full", distils=True),
    "cd_lora": Method("CD + LoRA", "#D55E00", "P", tuning="lora", distils=True),
    "cd_bitfit": Method("CD + BitFit", "#56B4E9", "X", tuning="bitfit", distils=True),
}
TRAINED = tuple(name for name, method in METHODS.items() if method.tuning)


@dataclass(frozen=True)
class SoftLabels:
    """A teacher's raw log-probabilities on its pool, with what they cost to compute.

    `log_probs` is [pool, classes] over the label words or [pool, vocabulary]; `content_free` is the same of the
    content-free inputs, [3, columns], so that a later question can calibrate without the teacher.
    """

    log_probs: torch.Tensor
    content_free: torch.Tensor
    cost: Cost


@dataclass(frozen=True)
class Outcome:
    """What a run comes to.

    Attributes:
        evaluations: the evaluated model's answers, by domain.
        costs: by phase.
        trainable_parameters: of the student; 0 where nothing is trained.
        losses: of each training step.
        held_out: of each item out of domain, whether the pool was kept free of its kind; empty where it holds all.
    """

    evaluations: dict[str, Evaluation]
    costs: dict[str, Cost]
    trainable_parameters: int
    losses: list[float]
    held_out: list[bool] = field(default_factory=list)


def run_method(run: Run, soft_labels: SoftLabels | None, isolated: bool = True) -> Outcome:
    """Train the student if the method trains, then evaluate in and out of domain.

    Args:
        run: what to do.
        soft_labels: the teacher's, for methods that distil, None for the others.
        isolated: this process runs nothing else, so that its resident memory is the run's.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss or score is not finite.
    """
    meter = PhaseMeter(run.device, isolated)
    costs = {"teacher": soft_labels.cost} if soft_labels else {}
    weights = "float32" if run.training else run.dtype  # trained weights stay float32 until they are scored
    model = load_model(run.model, weights, run.device)
    examples, encoder = examples_of(run), PromptEncoder(run.model)
    trainable, losses = 0, []
    if run.training:
        with meter.phase() as costs["training"]:
            model, losses = _train(run, run.training, model, encoder, examples, soft_labels, costs["training"])
        trainable = model.num_parameters(only_trainable=True)
        model = merged(model).to(DTYPES[run.dtype])
    shown = examples.demonstrations if METHODS[run.method].demonstrations else []
    with meter.phase() as costs["evaluation"]:
        asked = {domain: [*items, *content_free(run.task)] for domain, items in examples.evaluation.items()}
        answers = _answers(run, model, encoder, shown, asked, costs["evaluation"])
    unlabelled: dict[str, Array] = {}
    if examples.unlabelled:
        with meter.phase() as costs["calibration"]:
            unlabelled = _answers(run, model, encoder, shown, examples.unlabelled, costs["calibration"])
    evaluations = {
        domain: _evaluation(answers[domain], [item.gold for item in items], unlabelled.get(domain))
        for domain, items in examples.evaluation.items()
    }
    return Outcome(evaluations, costs, trainable, losses, _held_out(run))


def _answers(
    run: Run,
    model: PreTrainedModel,
    encoder: PromptEncoder,
    demonstrations: Sequence[Query],
    asked: Mapping[str, Sequence[Query]],
    cost: Cost,
) -> dict[str, Array]:
    """By domain, the evaluated model's log-probabilities [queries, classes] after the same demonstrations."""
    found: dict[str, Array] = {}
    for domain, queries in asked.items():
        prompts = encoder.encode(demonstrations, queries)
        log_probs = class_log_probs(model, prompts, answers_of(encoder, run.task), run.eval_batch_size)
        cost.tokens += prompts.tokens
        _require_finite(log_probs, run.model)
        found[domain] = log_probs.double().numpy()
    return found


def _evaluation(answers: Array, gold: list[int], unlabelled: Array | None) -> Evaluation:
    """answers: [items and then the content-free inputs, classes]."""
    return evaluation(answers[: len(gold)], answers[len(gold) :], gold, unlabelled)


def answers_of(encoder: PromptEncoder, task: Task) -> list[list[int]]:
    """The tokens of the task's label words as they follow its queries."""
    return encoder.answers(content_free(task)[0])


def _held_out(run: Run) -> list[bool]:
    if run.distillation is None or run.distillation.labelling.held_out == "nothing":
        return []
    return held_out_items(run.distillation.labelling)


def trained_student(run: Run, soft_labels: SoftLabels | None) -> PreTrainedModel:
    """The student of a run that trains one, as `run_method` scores it: adapters are merged, weights in its dtype.

    Raises:
        StudyError: the run trains nothing, or as for `run_method`.
    """
    if run.training is None:
        raise StudyError(f"method: {run.method} trains no student. Allowed: {', '.join(TRAINED)}.")
    model = load_model(run.model, "float32", run.device)
    encoder = PromptEncoder(run.model)
    trained, _ = _train(run, run.training, model, encoder, examples_of(run), soft_labels, Cost())
    return merged(trained).to(DTYPES[run.dtype])


def ask_teacher(labelling: PoolLabelling, isolated: bool = True) -> SoftLabels:
    """Ask the teacher, which reads the demonstrations, about every query of the pool; `isolated` as for `run_method`.

    Raises:
        StudyError: a setting does not fit the data or the model, or a score is not finite.
    """
    meter = PhaseMeter(labelling.device, isolated)
    model = load_model(labelling.teacher, labelling.dtype, labelling.device)
    encoder = PromptEncoder(labelling.teacher)
    with meter.phase() as cost:
        asked = teacher_prompts(labelling, encoder)
        answers = [_soft_labels(labelling, model, encoder, prompts) for prompts in asked]
        cost.tokens = sum(prompts.tokens for prompts in asked)
    last = len(CONTENT_FREE_TEXTS)
    contexts = labelling.permutations * labelling.demonstration_sets
    log_probs = _mean_over_contexts(torch.cat([answer[:-last] for answer in answers]), contexts)
    without_content = torch.stack([answer[-last:] for answer in answers]).mean(0)
    _require_finite(log_probs, labelling.teacher)
    return SoftLabels(log_probs, without_content, cost)


def teacher_prompts(labelling: PoolLabelling, encoder: PromptEncoder) -> list[EncodedPrompts]:
    """What the teacher reads, by context: the pool's queries, then the content-free inputs."""
    last = content_free(labelling.task)
    return [encoder.encode(before, [*queries, *last]) for before, queries in teacher_contexts(labelling)]


def _soft_labels(
    labelling: PoolLabelling, model: PreTrainedModel, encoder: PromptEncoder, prompts: EncodedPrompts
) -> torch.Tensor:
    answers = None if labelling.kl_over == "vocabulary" else answers_of(encoder, labelling.task)
    return class_log_probs(model, prompts, answers, labelling.batch_size)


def _mean_over_contexts(log_probs: torch.Tensor, contexts: int) -> torch.Tensor:
    """The log of the mean probability over contexts: [contexts · pool, columns], one by one, to [pool, columns]."""
    by_context = log_probs.unflatten(0, (contexts, -1))
    return by_context.logsumexp(0) - math.log(contexts)


def _train(
    run: Run,
    training: Training,
    model: PreTrainedModel,
    encoder: PromptEncoder,
    examples: RunExamples,
    soft_labels: SoftLabels | None,
    cost: Cost,
) -> tuple[torch.nn.Module, list[float]]:
    support = [TrainingRow(encoder.ids(query), None, query.gold) for query in examples.support]
    pool: list[TrainingRow] = []
    if run.distillation:
        pool = _pool_rows(run.distillation, encoder, examples, soft_labels)
        support = support if trains_on_support(run.distillation) else []
    student = adapted(model, training, run.seed)
    aim = objective(run, answers_of(encoder, run.task))
    log = train(student, pool, support, aim, training, run.seed)
    cost.tokens = log.tokens
    return student, log.losses


def adapted(model: PreTrainedModel, training: Training, seed: int) -> torch.nn.Module:
    """The model with what `training` trains made trainable, in place; the seed is that of new random weights."""
    torch.manual_seed(seed)  # a LoRA adapter starts from random weights
    return adapt(model, training.tuning, lora_config(training), training.biases)


def trains_on_support(distillation: Distillation) -> bool:
    """Whether the gold labels of the support set have a part in the loss."""
    return distillation.ce_on == "support" and distillation.kl_weight < 1


def objective(run: Run, answers: Sequence[Sequence[int]]) -> Objective:
    """What a run's student minimises; without a teacher, cross-entropy alone."""
    distillation = run.distillation
    return Objective(
        kl_weight=distillation.kl_weight if distillation else 0.0,
        temperature=distillation.temperature if distillation else 1.0,
        answers=[list(answer) for answer in answers],
        kl_over_vocabulary=distillation is not None and distillation.labelling.kl_over == "vocabulary",
    )


def _pool_rows(
    distillation: Distillation, encoder: PromptEncoder, examples: RunExamples, soft_labels: SoftLabels
) -> list[TrainingRow]:
    """The student's view of the pool; gold labels are read only where the profile puts CE on the pool."""
    queries = [query for part in examples.pool for query in part]
    by_domain = soft_labels.log_probs.split([len(part) for part in examples.pool])  # each has a prior of its own
    how = distillation.calibration
    answers = torch.cat([calibrated_soft_labels(part, soft_labels.content_free, how) for part in by_domain])
    weights = confidence(answers) if distillation.confidence else torch.ones(len(answers))
    whole = distillation.labelling.kl_over == "vocabulary"
    columns = first_tokens(answers_of(encoder, distillation.labelling.task)) if whole else slice(None)
    labels = {
        "support": [None] * len(queries),
        "pool": [query.gold for query in queries],
        "teacher": answers[:, columns].argmax(-1).tolist(),
    }[distillation.ce_on]
    return [
        TrainingRow(encoder.ids(query), target, label, weight)
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


def _require_finite(log_probs: torch.Tensor, model: str) -> None:
    if not torch.isfinite(log_probs).all():
        raise StudyError(f"{model}: its label log-probabilities are not finite; try float32.")
