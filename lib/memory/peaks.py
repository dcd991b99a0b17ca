"""The peak memory of a run, from the architecture alone: no weights, no GPU, seconds.

Every phase is walked with fake tensors, which have shapes and no values, by the functions that score and train when the
study runs: `class_log_probs`, `adapt`, `training_step` of `lib.models`. What these allocate is counted, so a
change in how the study trains changes the prediction. Of the many batches of a phase the largest is walked.

Limits: fake tensors take the paths of a CPU, so what a GPU's kernels keep beside their outputs is not seen, but for
dropout's mask and the fused optimizer, which are walked as on a GPU. What a kernel needs inside itself is not seen on
either: a product in bfloat16 on a CPU takes up to a float32 copy of its result, by the instructions that the CPU has.
The context of CUDA and the workspaces of its libraries come on top. Predicted is what tensors need, not what a
caching allocator reserves.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from transformers import AutoModelForCausalLM, PreTrainedModel

from lib.errors import StudyError
from lib.memory.allocations import CUDA_BLOCK, Allocations
from lib.memory.architectures import architecture
from lib.memory.prompt_lengths import Prefixed, PromptLengths, largest_batch
from lib.methods.context_distillation import objective, trains_on_support
from lib.methods.records import PoolLabelling, Run
from lib.methods.student import lora_config
from lib.models.loading import DTYPES
from lib.models.scoring import class_log_probs
from lib.models.training import (
    EXECUTION_FIELDS,
    Training,
    TrainingRow,
    batches,
    make_optimizer,
    step_loss,
    training_mode,
    training_step,
)
from lib.models.tuning import adapt, check_tuning
from lib.tasks.prompts import EncodedPrompts

# What a peak is made of, from what stays longest to what goes soonest.
PARTS = (
    "parameters",
    "teacher's parameters",
    "gradients",
    "optimizer state",
    "activations",
    "logits",
    "temporaries",
)


@dataclass(frozen=True)
class Peak:
    """A phase's highest sum of all tensors, in bytes; what it is made of, by `PARTS`; the module where it stands."""

    total: int
    parts: dict[str, int]
    place: str


# The peak of each phase that a run has: teacher, training, evaluation.
Prediction = dict[str, Peak]
Answers = tuple[tuple[int, ...], ...]

# Those walked before there is an optimizer state, and those after.
Steps = tuple[list[list[TrainingRow]], list[list[TrainingRow]]]


def predict(run: Run, lengths: PromptLengths, teacher_resident: bool = False) -> Prediction:
    """The peak of each phase of a run on its device.

    Args:
        run: its data are not read; `lengths` stands for them.
        lengths: of all prompts.
        teacher_resident: instead of labelling the pool first, the teacher stays beside the student and labels each
            batch as it comes. The study does not do that; this is what it saves.

    Raises:
        StudyError: a model's configuration cannot be found, a prompt does not fit its positions, or the method does
            not apply to it.
    """
    phases: Prediction = {}
    labelling = run.distillation.labelling if run.distillation else None
    _check(run, labelling, lengths)
    if labelling and not teacher_resident:
        asked = max(lengths.teacher, key=lambda asked: asked.prefix + max(asked.suffixes))
        phases["teacher"] = _teacher_phase(labelling, asked, lengths.answers)
    if run.training:
        resident = (labelling, lengths) if labelling and teacher_resident else None
        phases["training"] = _training_phase(run, run.training, _steps(run, lengths), lengths.answers, resident)
    read = (lengths.evaluation, lengths.answers)
    phases["evaluation"] = _evaluation_phase(run.model, run.dtype, *read, run.eval_batch_size, run.device)
    return phases


def _check(run: Run, labelling: PoolLabelling | None, lengths: PromptLengths) -> None:
    if run.training:
        check_tuning(run.model, run.training.tuning, architecture(run.model), run.training.biases)
    of_teacher = [(labelling.teacher, asked) for asked in lengths.teacher] if labelling else []
    for model, asked in [*of_teacher, *((run.model, asked) for asked in lengths.evaluation)]:
        longest, positions = asked.prefix + max(asked.suffixes), architecture(model).max_position_embeddings
        if longest > positions:
            raise StudyError(
                f"prompt: {longest} tokens do not fit the {positions} positions of {model}; use fewer demonstrations."
            )


def making_phases(phases: Sequence[str], trained: bool) -> list[str]:
    """The phases that a method needs to come into being: teacher and training; evaluation where nothing is trained."""
    return [phase for phase in phases if (phase == "evaluation") != trained]


def highest(prediction: Prediction) -> tuple[str, Peak]:
    """The phase with the highest peak of those that the method needs to come into being, and that peak."""
    phases = making_phases(list(prediction), "training" in prediction)
    return max(((phase, prediction[phase]) for phase in phases), key=lambda named: named[1].total)


@cache  # methods share it
def _teacher_phase(labelling: PoolLabelling, asked: Prefixed, answers: Answers) -> Peak:
    compared = None if labelling.kl_over == "vocabulary" else answers
    # whole rows of the vocabulary wait for each other where they are computed, or on the CPU where that is elsewhere
    stay = labelling.device == "cpu" and compared is None
    shown = asked if stay else largest_batch(asked, labelling.batch_size)
    with _fake(labelling.device):
        model = fake_model(labelling.teacher, labelling.dtype)
        with _counted(model, labelling.device) as allocations:
            class_log_probs(model, prompts_of(shown), compared, labelling.batch_size)
        return _peak(allocations)


@cache  # likewise
def _evaluation_phase(
    reference: str, dtype: str, asked: tuple[Prefixed, ...], answers: Answers, batch_size: int, device: str
) -> Peak:
    with _fake(device):
        model = fake_model(reference, dtype)
        with _counted(model, device) as allocations:
            for prompts in asked:
                shown = prompts_of(largest_batch(prompts, batch_size))
                class_log_probs(model, shown, answers, batch_size)
        return _peak(allocations)


def _training_phase(
    run: Run,
    training: Training,
    steps: Steps,
    answers: Answers,
    resident: tuple[PoolLabelling, PromptLengths] | None,
) -> Peak:
    training = replace(training, **dict.fromkeys(EXECUTION_FIELDS, False))  # what the key names, however computed
    aim = objective(run, answers)
    with _fake(run.device):
        model = fake_model(run.model, "float32", training)
        with _counted(model, run.device) as allocations:
            label_a_batch = _resident_teacher(*resident, training.batch_size, allocations) if resident else lambda: None
            optimizer = make_optimizer(model, training, run.device)
            with _claimed(model, optimizer, allocations), training_mode(model, training):
                stateless, later = steps
                for rows in stateless + later:
                    if not (stateless or optimizer.state):
                        _prime(optimizer)
                    label_a_batch()
                    training_step(model, partial(step_loss, model, rows, aim, training), training, optimizer)
        return _peak(allocations)


def rows_of(run: Run, lengths: PromptLengths) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Pool and support set as a training run's student meets them, of these lengths and without content."""
    distillation = run.distillation
    over_vocabulary = objective(run, lengths.answers).kl_over_vocabulary
    width = architecture(run.model).vocab_size if over_vocabulary else len(lengths.answers)
    gold = 0 if distillation and distillation.ce_on != "support" else None
    pool = [TrainingRow([0] * length, torch.zeros(width), gold) for length in lengths.pool]
    with_support = distillation is None or trains_on_support(distillation)
    return pool, [TrainingRow([0] * length, None, 0) for length in lengths.support] if with_support else []


def _steps(run: Run, lengths: PromptLengths) -> Steps:
    """What is walked: before there is an optimizer state, the first step if none is larger; after, the largest."""
    steps = batches(*rows_of(run, lengths), run.training.batch_size, run.training.epochs, run.seed)
    first = next(steps)
    later = max(steps, key=_padded_tokens, default=None)
    if later is None:
        return [first], []
    return ([first] if _padded_tokens(first) > _padded_tokens(later) else []), [later]


def _padded_tokens(rows: Sequence[TrainingRow]) -> int:
    return len(rows) * max(len(row.ids) for row in rows)


def _prime(optimizer: torch.optim.Optimizer) -> None:
    """Bring the optimizer's state into being, as any step before would have."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _resident_teacher(
    labelling: PoolLabelling, lengths: PromptLengths, batch_size: int, allocations: Allocations
) -> Callable[[], None]:
    """A teacher that stays, and the function that has it label the largest batch of a step."""
    teacher = fake_model(labelling.teacher, labelling.dtype)
    allocations.claim("teacher's parameters", [*teacher.parameters(), *teacher.buffers()])
    asked = prompts_of(largest_batch(lengths.teacher[0], batch_size))
    compared = None if labelling.kl_over == "vocabulary" else lengths.answers

    def label_a_batch() -> None:
        class_log_probs(teacher, asked, compared, batch_size)

    return label_a_batch


def fake_model(reference: str, dtype: str, tuning: Training | None = None) -> torch.nn.Module:
    """A frozen model of shapes alone, as `load_model` of `lib.models` gives it, or made trainable by `adapt`."""
    with unset_fake_temporarily(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture(reference), dtype=DTYPES[dtype])
        model = model.eval().requires_grad_(False)
        if tuning:
            model = adapt(model, tuning.tuning, lora_config(tuning), tuning.biases)
    return _faked(model)


def _faked(model: torch.nn.Module) -> torch.nn.Module:
    """The same model with fake tensors for those on `meta`; what was tied stays so. (`to_empty` cannot make fakes.)"""
    known: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in known:
                fake = torch.empty_like(parameter, device="cpu")
                known[id(parameter)] = torch.nn.Parameter(fake, requires_grad=parameter.requires_grad)
            module._parameters[name] = known.get(id(parameter))
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else torch.empty_like(buffer, device="cpu")
    return model


def prompts_of(asked: Prefixed) -> EncodedPrompts:
    """Prompts of these lengths, without content."""
    return EncodedPrompts([0] * asked.prefix, [[0] * length for length in asked.suffixes])


def _counted(model: PreTrainedModel, device: str) -> Allocations:
    block = CUDA_BLOCK if device == "cuda" else 1
    return Allocations(model, model.config.vocab_size, block, watch_modules=True)


@contextmanager
def _claimed(model: torch.nn.Module, optimizer: torch.optim.Optimizer, allocations: Allocations) -> Iterator[None]:
    """Gradients and optimizer state are counted as such from when they come into being."""

    def before(*_: object) -> None:
        allocations.stage = "optimizer step"

    def after(*_: object) -> None:
        allocations.stage = ""
        states = (value for state in optimizer.state.values() for value in state.values())
        allocations.claim("optimizer state", (value for value in states if isinstance(value, torch.Tensor)))

    with ExitStack() as hooks:
        for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
            hook = parameter.register_post_accumulate_grad_hook(lambda of: allocations.claim("gradients", [of.grad]))
            hooks.callback(hook.remove)
        hooks.callback(optimizer.register_step_pre_hook(before).remove)
        hooks.callback(optimizer.register_step_post_hook(after).remove)
        yield


def _peak(allocations: Allocations) -> Peak:
    parts = {part: allocations.peak_parts.get(part, 0) for part in PARTS}
    return Peak(allocations.peak, parts, allocations.peak_place)


def _dropout_of_cuda(
    inputs: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    """Dropout as CUDA does it: it keeps a mask of booleans for the backward pass, where the CPU keeps numbers."""
    return torch.native_dropout(inputs, p, training)[0] if training and p > 0 else inputs


@contextmanager
def _fake(device: str) -> Iterator[None]:
    """Fake tensors, and what a device does that fake tensors of a CPU do not."""
    as_there = patch("torch.nn.functional.dropout", _dropout_of_cuda) if device == "cuda" else nullcontext()
    with FakeTensorMode(allow_non_fake_inputs=True), as_there:
        yield
