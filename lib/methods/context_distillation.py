"""Context distillation: the teacher's soft labels on a pool, the student that learns from them, and its evaluation."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import PreTrainedModel

from lib.errors import StudyError
from lib.methods.calibration import Array, calibrated_soft_labels
from lib.methods.encoder import PromptEncoder, encoder_of
from lib.methods.evaluation import Outcome, evaluation, require_finite
from lib.methods.examples import RunExamples, examples_of, held_out_items, teacher_contexts
from lib.methods.records import Distillation, PoolLabelling, Run
from lib.methods.student import TrainedStudent, adapted, train_student
from lib.methods.table import METHODS, TRAINED
from lib.models.cost import Cost, PhaseMeter
from lib.models.loading import load_model
from lib.models.scoring import class_log_probs, tokens_read
from lib.models.streaming import is_streamed, load
from lib.models.training import Objective, Training, TrainingLog, TrainingRow, batches, step_of, taken_steps, train
from lib.models.tuning import merged
from lib.tasks.patterns import CONTENT_FREE_TEXTS, content_free
from lib.tasks.prompts import EncodedPrompts, first_tokens
from lib.tasks.task import Query, Task


@dataclass(frozen=True)
class SoftLabels:
    """A teacher's raw log-probabilities on its pool, with what they cost to compute.

    `log_probs` is [pool, classes] over the label words or [pool, vocabulary]; `content_free` is the same of the
    content-free inputs, [3, columns], so that a later question can calibrate without the teacher.
    """

    log_probs: torch.Tensor
    content_free: torch.Tensor
    cost: Cost


def run_method(
    run: Run,
    soft_labels: SoftLabels | None,
    isolated: bool = True,
    keep: Callable[[PreTrainedModel], object] | None = None,
) -> Outcome:
    """Train the student if the method trains, then evaluate in and out of domain.

    Soft labels are the teacher's, for methods that distil. A process that is `isolated` runs nothing else, so that its
    resident memory is the run's. `keep` is given the model when it has been evaluated.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss or score is not finite.
    """
    meter = PhaseMeter(run.device, isolated)
    costs = {"teacher": soft_labels.cost} if soft_labels else {}
    examples, encoder = examples_of(run), encoder_of(run.model)
    if run.training:
        student = _trained(run, encoder, examples, soft_labels, meter, costs)
    else:
        student = TrainedStudent(load(run.model, run.dtype, run.device, run.teacher_memory), 0, [])
    demonstrations = examples.demonstrations if METHODS[run.method].demonstrations else []
    with meter.phase() as costs["evaluation"]:
        queries = {domain: [*items, *content_free(run.task)] for domain, items in examples.evaluation.items()}
        answers = _answers(run, student.model, encoder, demonstrations, queries, costs["evaluation"])
    unlabelled: dict[str, Array] = {}
    if examples.unlabelled:
        with meter.phase() as costs["calibration"]:
            unlabelled = _answers(
                run, student.model, encoder, demonstrations, examples.unlabelled, costs["calibration"]
            )
    evaluations = {
        domain: evaluation(answers[domain], items, unlabelled.get(domain))
        for domain, items in examples.evaluation.items()
    }
    if keep:
        keep(student.model)
    return Outcome(costs, student.trainable_parameters, student.losses, evaluations, _held_out(run))


def _answers(
    run: Run,
    model: PreTrainedModel,
    encoder: PromptEncoder,
    demonstrations: Sequence[Query],
    queries: Mapping[str, Sequence[Query]],
    cost: Cost,
) -> dict[str, Array]:
    """By domain, the evaluated model's log-probabilities [queries, classes] after the same demonstrations."""
    answers: dict[str, Array] = {}
    for domain, of_domain in queries.items():
        prompts = encoder.encode(demonstrations, of_domain)
        at_once = run.queries_a_pass if is_streamed(model) else run.eval_batch_size
        log_probs = class_log_probs(model, prompts, answers_of(encoder, run.task), at_once)
        cost.tokens += tokens_read(model, prompts)
        require_finite(log_probs, run.model)
        answers[domain] = log_probs.double().numpy()
    return answers


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
    meter = PhaseMeter(run.device, isolated=False)
    return _trained(run, encoder_of(run.model), examples_of(run), soft_labels, meter, {}).model


def _trained(
    run: Run,
    encoder: PromptEncoder,
    examples: RunExamples,
    soft_labels: SoftLabels | None,
    meter: PhaseMeter,
    costs: dict[str, Cost],
) -> TrainedStudent:
    def fit(student: torch.nn.Module, training: Training) -> TrainingLog:
        pool, support = training_rows(run, encoder, examples, soft_labels)
        aim = objective(run, answers_of(encoder, run.task))
        return train(student, pool, support, aim, training, run.seed)

    return train_student(run, fit, meter, costs)


def training_rows(
    run: Run, encoder: PromptEncoder, examples: RunExamples, soft_labels: SoftLabels | None
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """What a student is trained on: its rows of the pool, and those of the support set."""
    support = [TrainingRow(encoder.ids(query), None, query.gold) for query in examples.support]
    if run.distillation is None:
        return [], support
    pool = _pool_rows(run.distillation, encoder, examples, soft_labels)
    return pool, support if trains_on_support(run.distillation) else []


class StepByStep:
    """The training of a run's student, each step when it is asked for; after all of them it is the `trained_student`.

    Attributes:
        count: of all steps.
        losses: of the steps taken, each before it.
    """

    def __init__(self, run: Run, soft_labels: SoftLabels | None) -> None:
        """Load the student and draw what it is trained on; errors as for `trained_student`."""
        encoder = encoder_of(run.model)
        pool, support = training_rows(run, encoder, examples_of(run), soft_labels)
        drawn = list(batches(pool, support, run.training.batch_size, run.training.epochs, run.seed))
        self._student = adapted(load_model(run.model, run.training.frozen_dtype, run.device), run.training, run.seed)
        aim = objective(run, answers_of(encoder, run.task))
        steps = (step_of(self._student, rows, aim, run.training) for rows in drawn)
        self._steps = taken_steps(self._student, steps, len(drawn), run.training, run.seed)
        self.count = len(drawn)
        self.losses: list[float] = []

    def take(self, steps: int) -> None:
        """Take so many steps, or those that are left."""
        self.losses += islice(self._steps, steps)

    def student(self) -> PreTrainedModel:
        """A copy of the student as it is now, ready to be asked."""
        return merged(deepcopy(self._student)).eval()


def ask_teacher(labelling: PoolLabelling, isolated: bool = True) -> SoftLabels:
    """Ask the teacher, which reads the demonstrations, about every query of the pool; `isolated` as for `run_method`.

    Raises:
        StudyError: a setting does not fit the data or the model, or a score is not finite.
    """
    meter = PhaseMeter(labelling.device, isolated)
    model = load(labelling.teacher, labelling.dtype, labelling.device, labelling.teacher_memory)
    encoder = encoder_of(labelling.teacher)
    with meter.phase() as cost:
        contexts = teacher_prompts(labelling, encoder)
        answers = [_soft_labels(labelling, model, encoder, prompts) for prompts in contexts]
        cost.tokens = sum(tokens_read(model, prompts) for prompts in contexts)
    last = len(CONTENT_FREE_TEXTS)
    log_probs = torch.cat([answer[:-last] for answer in answers])
    without_content = torch.stack([answer[-last:] for answer in answers]).mean(0)
    require_finite(log_probs, labelling.teacher)
    return SoftLabels(log_probs, without_content, cost)


def teacher_prompts(labelling: PoolLabelling, encoder: PromptEncoder) -> list[EncodedPrompts]:
    """What the teacher reads, by context: the pool's queries, then the content-free inputs."""
    last = content_free(labelling.task)
    return [encoder.encode(before, [*queries, *last]) for before, queries in teacher_contexts(labelling)]


def _soft_labels(
    labelling: PoolLabelling, model: PreTrainedModel, encoder: PromptEncoder, prompts: EncodedPrompts
) -> torch.Tensor:
    answers = None if labelling.kl_over == "vocabulary" else answers_of(encoder, labelling.task)
    at_once = labelling.queries_a_pass if is_streamed(model) else labelling.batch_size
    return class_log_probs(model, prompts, answers, at_once)


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


def _likeliest(answers: torch.Tensor) -> list[int | None]:
    """The likeliest class of each row; None where several are as likely, which is no label."""
    best = answers == answers.max(dim=1, keepdim=True).values
    return [row.nonzero().item() if row.sum() == 1 else None for row in best]


def _pool_rows(
    distillation: Distillation, encoder: PromptEncoder, examples: RunExamples, soft_labels: SoftLabels
) -> list[TrainingRow]:
    """The student's view of the pool; gold labels are read only where the profile puts CE on the pool."""
    queries = [query for part in examples.pool for query in part]
    by_domain = soft_labels.log_probs.split([len(part) for part in examples.pool])  # each has a prior of its own
    how = distillation.calibration
    answers = torch.cat([calibrated_soft_labels(part, soft_labels.content_free, how) for part in by_domain])
    whole = distillation.labelling.kl_over == "vocabulary"
    columns = first_tokens(answers_of(encoder, distillation.labelling.task)) if whole else slice(None)
    labels = {
        "support": [None] * len(queries),
        "pool": [query.gold for query in queries],
        "teacher": _likeliest(answers[:, columns]),
    }[distillation.ce_on]
    return [
        TrainingRow(encoder.ids(query), target, label)
        for query, target, label in zip(queries, answers, labels, strict=True)
    ]
