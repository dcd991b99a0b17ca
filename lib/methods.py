"""The nine methods, each a short recipe over the same parts: who answers, with what in its prompt, trained on what."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from lib.cells import Cell, Distillation, Targets, Task, Training
from lib.data import Example, Split, evaluation_sample, load_examples, query_pool, support_set
from lib.errors import StudyError
from lib.evaluation import Evaluation, evaluate
from lib.memory import Cost, PhaseMeter, warm_up
from lib.models import DTYPES, Tuning, adapt, load_config, load_model, load_tokenizer, trainable_parameters
from lib.prompts import CONTENT_FREE, PATTERNS, EncodedPrompts, encode, label_token_ids, label_words, prompt
from lib.scoring import next_token_log_probs
from lib.training import Objective, TrainingRow, train

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
    """What running a cell gives: scores in and out of domain, the cost of each phase, and the training's course."""

    in_domain: Evaluation
    out_of_domain: Evaluation
    costs: dict[str, Cost]
    trainable_parameters: int
    losses: list[float]


def run(cell: Cell, targets: TeacherTargets | None, isolated: bool = True) -> Outcome:
    """Run one cell: train the student if the method trains, then evaluate in and out of domain.

    Args:
        cell: what to run.
        targets: the teacher's soft labels for methods that distil, None for the others.
        isolated: this process runs nothing else, so that its resident memory is the cell's.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss or score is not finite.
    """
    warm_up(cell.device)
    meter = PhaseMeter(cell.device, isolated)
    costs = {"teacher": targets.cost} if targets else {}
    weights = "float32" if cell.training else cell.dtype  # trained weights stay float32 until they are scored
    model = load_model(cell.model, weights, cell.device)
    reader = Reader(cell.model, cell.task)
    trainable, losses = 0, []
    if cell.training:
        with meter.phase(model) as costs["training"]:
            model, losses = _train(cell, cell.training, model, reader, targets, costs["training"])
        trainable = trainable_parameters(model)
        model = _merged(model).to(DTYPES[cell.dtype])
    with meter.phase(model) as costs["evaluation"]:
        in_domain = _evaluate(cell, model, reader, cell.task.in_domain, costs["evaluation"])
        out_of_domain = _evaluate(cell, model, reader, cell.task.out_of_domain, costs["evaluation"])
    return Outcome(in_domain, out_of_domain, costs, trainable, losses)


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
    with meter.phase(model) as cost:
        asked = [
            (reader.encode(demonstrations, [*queries, *CONTENT_FREE]), len(queries))
            for demonstrations, queries in teacher_contexts(request)
        ]
        answers = [next_token_log_probs(model, prompts, columns, request.batch_size) for prompts, _ in asked]
        cost.tokens = sum(prompts.tokens for prompts, _ in asked)
    log_probs = torch.cat([answer[:count] for answer, (_, count) in zip(answers, asked, strict=True)])
    content_free = torch.stack([answer[count:] for answer, (_, count) in zip(answers, asked, strict=True)]).mean(0)
    _require_finite(log_probs, request.teacher)
    return TeacherTargets(log_probs, content_free, cost)


class Reader:
    """How one model reads the task: its tokenizer, the pattern, and the columns of its label words."""

    def __init__(self, reference: str, task: Task) -> None:
        self.pattern = PATTERNS[task.pattern]
        self.words = label_words(self.pattern, task.label_words)
        self.tokenizer = load_tokenizer(reference)
        self.label_columns = label_token_ids(self.tokenizer, self.pattern, self.words)
        self._max_positions: int = load_config(reference).max_position_embeddings

    def encode(self, demonstrations: Sequence[Example], queries: Sequence[Example]) -> EncodedPrompts:
        """Prompts of all queries after the same demonstrations; errors as `lib.prompts.encode`."""
        texts = [prompt(self.pattern, self.words, demonstrations, query) for query in queries]
        return encode(self.tokenizer, texts, self._max_positions)

    def ids(self, query: Example) -> list[int]:
        """The query alone, as a student reads it."""
        return self.tokenizer(prompt(self.pattern, self.words, [], query))["input_ids"]


@cache
def examples(source: str, dataset: str, split: Split) -> list[Example]:
    """`load_examples`, read once a process."""
    return load_examples(source, dataset, split)


def support_of(record: Cell | Targets) -> list[Example]:
    """The support set of a cell, or of a teacher's targets: the same for equal task, size and seed."""
    train_split = examples(record.task.source, record.task.in_domain, "train")
    return support_set(train_split, record.support_size, record.seed)


def pool_of(request: Targets) -> list[Example]:
    """The queries that the teacher labels: unlabelled training rows, or the support set itself."""
    support = support_of(request)
    if request.pool == "support":
        return support
    train_split = examples(request.task.source, request.task.in_domain, "train")
    return query_pool(train_split, support, request.pool_size, request.seed)


def evaluation_items(task: Task, dataset: str) -> list[Example]:
    """The items that every method and seed is scored on, in or out of domain."""
    return evaluation_sample(examples(task.source, dataset, "evaluation"), task.eval_limit, task.eval_seed)


def teacher_contexts(request: Targets) -> list[tuple[list[Example], list[Example]]]:
    """(demonstrations, queries) pairs: one for a pool apart; leave-one-out where the support set is the pool."""
    support = support_of(request)
    if request.pool == "support":
        return [(support[:i] + support[i + 1 :], [query]) for i, query in enumerate(support)]
    return [(support, pool_of(request))]


def _train(
    cell: Cell, training: Training, model: PreTrainedModel, reader: Reader, targets: TeacherTargets | None, cost: Cost
) -> tuple[torch.nn.Module, list[float]]:
    support = [TrainingRow(reader.ids(row), None, row.label) for row in support_of(cell)]
    distillation = cell.distillation
    if distillation is None:
        pool, objective = [], Objective(0.0, 1.0, reader.label_columns, False)
    else:
        pool = _pool_rows(distillation, reader, targets)
        support = support if distillation.ce_on == "support" and distillation.kl_weight < 1 else []
        objective = Objective(
            distillation.kl_weight,
            distillation.temperature,
            reader.label_columns,
            distillation.targets.kl_over == "vocabulary",
        )
    torch.manual_seed(cell.seed)  # a LoRA adapter starts from random weights
    adapted = adapt(model, training.tuning, _lora(training))
    log = train(adapted, pool, support, objective, training, cell.seed)
    cost.tokens = log.tokens
    return adapted, log.losses


def _pool_rows(distillation: Distillation, reader: Reader, targets: TeacherTargets) -> list[TrainingRow]:
    """The student's view of the pool; gold labels are read only where the profile puts CE on the pool."""
    gold = distillation.ce_on == "pool"
    queries = pool_of(distillation.targets)
    return [
        TrainingRow(reader.ids(query), target, query.label if gold else None)
        for query, target in zip(queries, targets.log_probs, strict=True)
    ]


def _lora(training: Training) -> "LoraConfig | None":
    if training.tuning != "lora":
        return None
    from peft import LoraConfig  # here, so that redrawing does not wait for it

    return LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        task_type="CAUSAL_LM",
    )


def _merged(model: torch.nn.Module) -> PreTrainedModel:
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _evaluate(cell: Cell, model: PreTrainedModel, reader: Reader, dataset: str, cost: Cost) -> Evaluation:
    items = evaluation_items(cell.task, dataset)
    demonstrations = support_of(cell) if METHODS[cell.method].demonstrations else []
    prompts = reader.encode(demonstrations, [*items, *CONTENT_FREE])
    answers = next_token_log_probs(model, prompts, reader.label_columns, cell.eval_batch_size)
    cost.tokens += prompts.tokens
    _require_finite(answers, cell.model)
    label_log_probs = answers.double().numpy()
    gold = [item.label for item in items]
    return evaluate(label_log_probs[: len(items)], label_log_probs[len(items) :], gold)


def _require_finite(log_probs: torch.Tensor, model: str) -> None:
    if not torch.isfinite(log_probs).all():
        raise StudyError(f"{model}: its label log-probabilities are not finite; try float32.")
