"""One training loop, whose steps are losses; and the loss of context distillation and fine-tuning."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial

import torch
from torch import Tensor
from transformers import get_scheduler

from lib.errors import NonFiniteLossError
from lib.models.cached_prompts import keeps_apart
from lib.models.forward import last_logits, packed_logits
from lib.models.loading import DTYPES
from lib.models.losses import cross_entropy, kl_divergence
from lib.models.scoring import answer_log_probs
from lib.models.tuning import Tuning
from lib.tasks.prompts import first_tokens

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}

# Of a field that says how the same result is computed, and so has no part in the key.
EXECUTION = {"execution": True}


@dataclass(frozen=True)
class Training:
    """How a student is trained; `lora_*` are None unless `tuning` is lora.

    `biases` says what BitFit trains: the `existing` biases, or with `add` one more on each linear layer without.
    `checkpointing` computes activations again in the backward pass instead of keeping them. `logits` is to what the
    vocabulary head is applied: `last`, the last position alone; `labels`, that and the label words' rows of the head
    alone; `all`, every position, of which the last is kept.

    `frozen_dtype` is that of the weight matrices that LoRA and BitFit leave as they are.

    The others say how a step is computed, to the same loss but for rounding, and have no part in the key.
    `padding_free` lays a step's prompts end to end instead of padding them to the longest, if the model keeps them
    apart. `fused` updates all weights in one kernel, as is always done on a GPU. `accumulate` cuts a step into so many
    parts, whose gradients are summed. `optimizer_in_backward` updates each weight as soon as its gradient is there, and
    drops that.
    """

    tuning: Tuning
    learning_rate: float
    epochs: int
    batch_size: int
    schedule: str
    warmup: float
    weight_decay: float
    dtype: str
    lora_rank: int | None = None
    lora_alpha: int | None = None
    lora_dropout: float | None = None
    optimizer: str = "adamw"
    checkpointing: bool = False
    logits: str = "last"
    biases: str = "existing"
    frozen_dtype: str = "float32"
    padding_free: bool = field(default=False, metadata=EXECUTION)
    fused: bool = field(default=False, metadata=EXECUTION)
    accumulate: int = field(default=1, metadata=EXECUTION)
    optimizer_in_backward: bool = field(default=False, metadata=EXECUTION)


# Each field that says how a step is computed, to how it is by default.
EXECUTION_FIELDS = {one.name: one.default for one in fields(Training) if one.metadata == EXECUTION}

# The losses whose sum a step of the optimizer lowers; each has a forward and a backward pass of its own.
Step = Sequence[Callable[[], Tensor]]


@dataclass(frozen=True)
class TrainingRow:
    """One prompt of the student with what it is taught there: a teacher target, a gold label, or both.

    `target` holds the teacher's log-probabilities over the label words, or over the vocabulary.
    """

    ids: list[int]
    target: Tensor | None
    label: int | None


@dataclass(frozen=True)
class Objective:
    """λ, T, and what of the student the two terms look at.

    `answers` are the label words' tokens, in the order of the classes. The KL term compares them, or the whole
    vocabulary where `kl_over_vocabulary` is set; CE is always over the label words.
    """

    kl_weight: float
    temperature: float
    answers: list[list[int]]
    kl_over_vocabulary: bool


def step_loss(
    model: torch.nn.Module,
    rows: Sequence[TrainingRow],
    objective: Objective,
    settings: Training,
    step: Sequence[TrainingRow] | None = None,
) -> Tensor:
    """The loss of one step, λ·T²·KL + (1 − λ)·CE (arXiv 2412.13243), from a single forward pass over all rows.

    A term is the mean over the rows that have its target or its label, and 0 where none has. Where the rows are a part
    of a `step`, it is their share of its mean, so that the parts' losses, and gradients, sum to those of the step.
    """
    student, over_labels = _student_logits(model, [row.ids for row in rows], objective, settings)
    taught = [i for i, row in enumerate(rows) if row.target is not None]
    labelled = [i for i, row in enumerate(rows) if row.label is not None]
    kl = ce = 0.0
    if taught:
        targets = torch.stack([rows[i].target for i in taught]).to(student.device)
        share = len(taught) / sum(row.target is not None for row in step or rows)
        kl = share * kl_divergence(*_common_columns(targets, student[taught]), objective.temperature)
    if labelled:
        labels = torch.tensor([rows[i].label for i in labelled], device=student.device)
        share = len(labelled) / sum(row.label is not None for row in step or rows)
        ce = share * cross_entropy(over_labels[labelled], labels)
    return objective.kl_weight * kl + (1.0 - objective.kl_weight) * ce


def _common_columns(targets: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """What two models with one tokenizer have both, where one has filled its vocabulary up further than the other."""
    if targets.shape[1] == student.shape[1]:
        return targets, student
    width = min(targets.shape[1], student.shape[1])
    return targets[:, :width], student[:, :width]


def _student_logits(
    model: torch.nn.Module, sequences: Sequence[Sequence[int]], objective: Objective, settings: Training
) -> tuple[Tensor, Tensor]:
    """The student's logits that KL compares, and those over the label words.

    Label words that share a first token are scored whole: `logits` and `padding_free` have no part there.
    """
    columns = first_tokens(objective.answers)
    if columns is None:
        whole = torch.stack(answer_log_probs(model, sequences, [objective.answers] * len(sequences)))
        return whole, whole
    narrow, every_position = settings.logits == "labels", settings.logits == "all"
    read = packed_logits if settings.padding_free else last_logits
    logits = read(model, sequences, columns=columns if narrow else None, every_position=every_position)
    over_labels = logits if narrow else logits[:, columns]
    return (logits if objective.kl_over_vocabulary else over_labels), over_labels


@dataclass(frozen=True)
class TrainingLog:
    """What training did: the loss of each step and the tokens it read."""

    losses: list[float]
    tokens: int


def batches(
    pool: Sequence[TrainingRow], support: Sequence[TrainingRow], batch_size: int, epochs: int, seed: int
) -> Iterator[list[TrainingRow]]:
    """Steps of `batch_size` pool rows, each joined by at most half as many support rows, which are cycled through.

    An epoch is one shuffled pass over the pool or, where there is no pool, over the support rows.
    """
    main, cycled = (pool, support) if pool else (support, [])
    generator = torch.Generator().manual_seed(seed)
    joined = min(len(cycled), max(1, batch_size // 2))
    drawn = 0
    for _ in range(epochs):
        order = torch.randperm(len(main), generator=generator).tolist()
        for start in range(0, len(order), batch_size):
            extra = [cycled[(drawn + i) % len(cycled)] for i in range(joined)]
            drawn += joined
            yield [main[i] for i in order[start : start + batch_size]] + extra


def make_optimizer(model: torch.nn.Module, settings: Training, device: str) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters; `fused`, always on `cuda`, is one kernel without copies of them."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.fused or device == "cuda":
        options["fused"] = True
    return OPTIMIZERS[settings.optimizer](trained, **options)


@contextmanager
def training_mode(model: torch.nn.Module, settings: Training, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Dropout on and, if asked for, activations recomputed and weights updated in the backward pass; off at the end."""
    model.train()
    if settings.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    trained = [one for group in optimizer.param_groups for one in group["params"] if settings.optimizer_in_backward]
    hooks = [one.register_post_accumulate_grad_hook(partial(_update, optimizer)) for one in trained]
    yield
    for hook in hooks:
        hook.remove()
    if settings.checkpointing:
        model.activation_checkpointing_disable()
    model.eval()


def _update(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> None:
    """A step of the one parameter that has a gradient now."""
    optimizer.step()
    parameter.grad = None


def training_step(model: torch.nn.Module, parts: Step, settings: Training, optimizer: torch.optim.Optimizer) -> Tensor:
    """One step of the optimizer on the sum of losses; returns that before it, without its graph."""
    total = torch.zeros((), device=model.device)
    for loss_of in parts:
        with _precision(model, settings):
            loss = loss_of()
        loss.backward()
        total += loss.detach()
    if not settings.optimizer_in_backward:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total


def _precision(model: torch.nn.Module, settings: Training) -> torch.autocast:
    """That of the forward pass."""
    return torch.autocast(model.device.type, DTYPES[settings.dtype], enabled=settings.dtype != "float32")


def optimise(model: torch.nn.Module, steps: Iterable[Step], count: int, settings: Training, seed: int) -> list[float]:
    """Train `model` in place; weights stay float32, the forward pass runs in `settings.dtype`.

    Args:
        model: what is trained.
        steps: for each step, the parts of its loss as functions of nothing.
        count: of the steps.
        settings: how.
        seed: of dropout.

    Returns:
        The loss of each step, before it.

    Raises:
        NonFiniteLossError: a loss became nan or infinite, at the step and learning rate that it names.
    """
    return list(taken_steps(model, steps, count, settings, seed))


def taken_steps(
    model: torch.nn.Module, steps: Iterable[Step], count: int, settings: Training, seed: int
) -> Iterator[float]:
    """`optimise`, which takes each step when its loss is asked for."""
    torch.manual_seed(seed)
    optimizer = make_optimizer(model, settings, model.device.type)
    schedule = get_scheduler(settings.schedule, optimizer, round(settings.warmup * count), count)
    with training_mode(model, settings, optimizer):
        for step, parts in enumerate(steps, 1):
            loss = training_step(model, parts, settings, optimizer).item()
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"loss is {loss} at step {step} of {count} (learning_rate {settings.learning_rate:g}, "
                    f"dtype {settings.dtype}); a smaller learning rate or float32 may help."
                )
            schedule.step()
            yield loss


def train(
    model: torch.nn.Module,
    pool: Sequence[TrainingRow],
    support: Sequence[TrainingRow],
    objective: Objective,
    settings: Training,
    seed: int,
) -> TrainingLog:
    """Train `model` in place on a pool, a support set or both; errors as for `optimise`."""
    if settings.padding_free:
        longest = max((row.ids for row in (*pool, *support)), key=len)
        with _precision(model, settings):
            settings = replace(settings, padding_free=keeps_apart(model, longest))
    drawn = list(batches(pool, support, settings.batch_size, settings.epochs, seed))
    steps = (step_of(model, rows, objective, settings) for rows in drawn)
    losses = optimise(model, steps, len(drawn), settings, seed)
    return TrainingLog(losses, sum(len(row.ids) for rows in drawn for row in rows))


def step_of(model: torch.nn.Module, rows: Sequence[TrainingRow], objective: Objective, settings: Training) -> Step:
    """The parts of a step's loss: one, or as many as are accumulated."""
    parts = micro_batches(rows, settings.accumulate)
    return [partial(step_loss, model, part, objective, settings, rows) for part in parts]


def micro_batches(rows: Sequence[TrainingRow], count: int) -> list[Sequence[TrainingRow]]:
    """A step's rows in so many parts, each with its share of pool and support set; fewer where there are few rows."""
    return [rows[start::count] for start in range(min(count, len(rows)))]
