"""The peak memory of a run, from the architecture alone: no weights, no GPU, seconds.

Every phase is walked with fake tensors, which have shapes and no values, by the functions that score and train when the
study runs: `class_log_probs`, `adapt`, `training_step` of `lib.models`. What these allocate is counted, so a
change in how the study trains changes the prediction. Of the many batches of a phase the largest is walked.

Limits: fake tensors take the paths of a CPU, so what a GPU's kernels keep beside their outputs is not seen, but for
dropout's mask and the fused optimizer, which are walked as on a GPU. What a kernel needs inside itself is not seen on
either: a product in bfloat16 on a CPU takes up to a float32 copy of its result, by the instructions that the CPU has.
Streamed weights count as memory while they are read; where a CPU takes them from the file as they are, they are mapped.
The context of CUDA and the workspaces of its libraries come on top. Predicted is what tensors need, not what a
caching allocator reserves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from lib.errors import StudyError, first_line
from lib.memory.allocations import CUDA_BLOCK, Allocations, Peak
from lib.memory.architectures import architecture, random_model
from lib.memory.prompt_lengths import Prefixed, PromptLengths, largest_batch
from lib.methods.context_distillation import objective, trains_on_support
from lib.methods.records import PoolLabelling, Run
from lib.methods.student import adapted
from lib.models.configuration import context_length, text_part
from lib.models.scoring import class_log_probs, compared_tokens
from lib.models.streaming import unweighted
from lib.models.training import (
    TrainingRow,
    batches,
    make_optimizer,
    micro_batches,
    step_of,
    training_mode,
    training_step,
)
from lib.models.tuning import check_tuning


@dataclass(frozen=True)
class Setting:
    """What a prediction is made for.

    Attributes:
        run: its data are not read; `lengths` stands for them.
        lengths: of all prompts.
        teacher_resident: instead of labelling the pool first, the teacher stays beside the student and labels each
            batch as it comes. The study does not do that; this is what it saves.
    """

    run: Run
    lengths: PromptLengths
    teacher_resident: bool = False


# The peak of each phase that a run has: teacher, training, evaluation.
Prediction = dict[str, Peak]


@dataclass(frozen=True)
class Questions:
    """What a model, whole or streamed, is asked in a phase that trains nothing.

    `answers` is None where it answers with its vocabulary.
    """

    model: str
    dtype: str
    device: str
    prompts: tuple[Prefixed, ...]
    answers: tuple[tuple[int, ...], ...] | None
    batch_size: int
    streamed: bool = False

    def ask(self, model: PreTrainedModel) -> None:
        """Have the model answer prompts of these lengths."""
        for prompts in self.prompts:
            class_log_probs(model, prompts.without_content(), self.answers, self.batch_size)

    def require_room(self) -> None:
        """Raise `StudyError` where the longest prompt has more tokens than the model has positions."""
        longest = max(prompts.longest for prompts in self.prompts)
        positions = context_length(architecture(self.model))
        if longest > positions:
            raise StudyError(
                f"prompt: {longest} tokens do not fit the {positions} positions of {self.model}; "
                "use fewer demonstrations."
            )

    def largest(self) -> "Questions":
        """The largest batch of each prefix, or all where rows of the vocabulary wait on the CPU for each other."""
        if self.device == "cpu" and self.answers is None:
            return self
        return replace(self, prompts=tuple(self._largest(prompts) for prompts in self.prompts))

    def _largest(self, prompts: Prefixed) -> Prefixed:
        compared = None if self.answers is None else compared_tokens(self.answers)
        return largest_batch(architecture(self.model), prompts, compared, self.batch_size)


def questions(setting: Setting) -> dict[str, Questions]:
    """What is asked in the phases that train nothing: the teacher's, where there is one, and the evaluation."""
    run, lengths = setting.run, setting.lengths
    asked = {}
    if run.distillation:
        labelling = run.distillation.labelling
        compared = None if labelling.kl_over == "vocabulary" else lengths.answers
        teacher = (labelling.teacher, labelling.dtype, labelling.device)
        asked["teacher"] = Questions(*teacher, lengths.teacher, compared, *_at_once(labelling, labelling.batch_size))
    evaluated = (run.model, run.dtype, run.device)
    at_once = _at_once(run, run.eval_batch_size)
    asked["evaluation"] = Questions(*evaluated, lengths.evaluation, lengths.answers, *at_once)
    return asked


def _at_once(asked: Run | PoolLabelling, of_whole: int) -> tuple[int, bool]:
    """How many prompts a model is asked at once, and whether it is streamed; `auto` is predicted as a whole model."""
    streamed = asked.teacher_memory == "streamed"
    return asked.queries_a_pass if streamed else of_whole, streamed


def predict(setting: Setting) -> Prediction:
    """The peak of each phase of a run on its device.

    Raises:
        StudyError: a model's configuration cannot be found, a prompt does not fit its positions, the method does not
            apply to it, or it asks for values, which fake tensors do not have.
    """
    try:
        return _walked(setting)
    except StudyError:
        raise
    except Exception as error:  # what cannot be walked fails in the words of its architecture
        raise StudyError(
            f"memory: {setting.run.model} cannot be walked without weights ({first_line(error)})."
        ) from error


def _walked(setting: Setting) -> Prediction:
    run, asked = setting.run, questions(setting)
    if run.training:
        check_tuning(run.model, run.training.tuning, architecture(run.model), run.training.biases)
    for phase in asked.values():
        phase.require_room()
    teacher = ["teacher"] if "teacher" in asked and not setting.teacher_resident else []
    training = ["training"] if run.training else []
    return {phase: peak_of(setting, phase) for phase in [*teacher, *training, "evaluation"]}


def peak_of(setting: Setting, phase: str) -> Peak:
    """The peak of one phase that the run has."""
    if phase == "training":
        return _training_phase(setting)
    asked = questions(setting)[phase]
    if phase == "teacher":
        asked = replace(asked, prompts=(max(asked.prompts, key=lambda prompts: prompts.longest),))
    return _asking_phase(asked.largest())


def highest_phase(prediction: Prediction) -> str:
    """The phase with the highest peak of those that make the method: not the evaluation where something is trained."""
    making = [phase for phase in prediction if (phase == "evaluation") != ("training" in prediction)]
    return max(making, key=lambda phase: prediction[phase].total)


@cache  # methods share it
def _asking_phase(asked: Questions) -> Peak:
    if asked.streamed:
        return _streamed_phase(asked)
    model = random_model(asked.model, asked.dtype, "meta")
    with _fake(asked.device, model), _counted(model, asked.device) as allocations:
        asked.ask(model)
    return allocations.peak


def _streamed_phase(asked: Questions) -> Peak:
    def read(weight: torch.Tensor) -> None:
        allocations.claim("parameters", [weight])

    model = unweighted(architecture(asked.model), asked.dtype, read)
    with _fake(asked.device), _counted(model, asked.device) as allocations:
        asked.ask(model)
    return allocations.peak


def _training_phase(setting: Setting) -> Peak:
    """The peak of the steps that are walked; a teacher that is resident labels a batch before each."""
    run, resident = setting.run, _asked_beside_training(setting)
    training = replace(run.training, padding_free=False, fused=False)  # the peak of padded steps, however computed
    aim = objective(run, setting.lengths.answers)
    model = adapted(random_model(run.model, training.frozen_dtype, "meta"), training, run.seed)
    teachers = [random_model(resident.model, resident.dtype, "meta")] if resident else []
    first, largest = _steps(setting)
    with _fake(run.device, model, *teachers), _counted(model, run.device) as allocations:
        for teacher in teachers:
            allocations.claim("teacher's parameters", [*teacher.parameters(), *teacher.buffers()])
        optimizer = make_optimizer(model, training, run.device)
        _claim(model, optimizer, allocations)
        with training_mode(model, training, optimizer):
            if first is None:
                _prime(optimizer, training.optimizer_in_backward)
            for rows in filter(None, (first, largest)):
                for teacher in teachers:
                    resident.ask(teacher)
                training_step(model, step_of(model, rows, aim, training), training, optimizer)
    return allocations.peak


def _asked_beside_training(setting: Setting) -> Questions | None:
    """What a resident teacher is asked at a step: the largest batch of the pool."""
    if not (setting.teacher_resident and setting.run.distillation):
        return None
    asked, batch_size = questions(setting)["teacher"], setting.run.training.batch_size
    return replace(asked, prompts=asked.prompts[:1], batch_size=batch_size).largest()


def rows_of(setting: Setting) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Pool and support set as a training run's student meets them, of these lengths and without content."""
    run, lengths = setting.run, setting.lengths
    distillation = run.distillation
    over_vocabulary = objective(run, lengths.answers).kl_over_vocabulary
    width = text_part(architecture(run.model)).vocab_size if over_vocabulary else len(lengths.answers)
    gold = 0 if distillation and distillation.ce_on != "support" else None
    pool = [TrainingRow([0] * length, torch.zeros(width), gold) for length in lengths.pool]
    with_support = distillation is None or trains_on_support(distillation)
    return pool, [TrainingRow([0] * length, None, 0) for length in lengths.support] if with_support else []


def _steps(setting: Setting) -> tuple[list[TrainingRow] | None, list[TrainingRow] | None]:
    """The first step, before there is an optimizer state, unless a later one is as large; the largest of the later."""
    run = setting.run
    steps = batches(*rows_of(setting), run.training.batch_size, run.training.epochs, run.seed)
    padded_tokens = partial(_padded_tokens, parts=run.training.accumulate)
    first = next(steps)
    largest = max(steps, key=padded_tokens, default=None)
    if largest and padded_tokens(first) <= padded_tokens(largest):
        return None, largest
    return first, largest


def _padded_tokens(rows: Sequence[TrainingRow], parts: int) -> int:
    return max(len(part) * max(len(row.ids) for row in part) for part in micro_batches(rows, parts))


def _prime(optimizer: torch.optim.Optimizer, one_by_one: bool) -> None:
    """Bring the optimizer's state into being, as any step before would have."""
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for together in [[parameter] for parameter in trained] if one_by_one else [trained]:
        for parameter in together:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@contextmanager
def _counted(model: PreTrainedModel, device: str) -> Iterator[Allocations]:
    from torch.distributed._tools.mod_tracker import ModTracker  # here, as it imports torch's compiler

    block = CUDA_BLOCK if device == "cuda" else 1
    with ModTracker() as modules, Allocations(text_part(model.config).vocab_size, block, modules) as allocations:
        allocations.claim("parameters", [*model.parameters(), *model.buffers()])
        yield allocations


def _claim(model: torch.nn.Module, optimizer: torch.optim.Optimizer, allocations: Allocations) -> None:
    """Have gradients and optimizer state counted as such from when they come into being."""

    def before(*_: object) -> None:
        allocations.stage = "optimizer step"

    def after(*_: object) -> None:
        allocations.stage = ""
        states = (value for state in optimizer.state.values() for value in state.values())
        allocations.claim("optimizer state", filter(torch.is_tensor, states))

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda of: allocations.claim("gradients", [of.grad]))


def _dropout_of_cuda(
    inputs: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    """Dropout as CUDA does it: it keeps a mask of booleans for the backward pass, where the CPU keeps numbers."""
    return torch.native_dropout(inputs, p, training)[0] if training and p > 0 else inputs


@contextmanager
def _fake(device: str, *models: torch.nn.Module) -> Iterator[None]:
    """Fake tensors, those of models on `meta` too, and what a device does that fake tensors of a CPU do not."""
    as_there = patch("torch.nn.functional.dropout", _dropout_of_cuda) if device == "cuda" else nullcontext()
    with FakeTensorMode(allow_non_fake_inputs=True), as_there:
        for model in models:
            model.to_empty(device="cpu")
            model.tie_weights()  # `to_empty` gives each module a tensor of its own
        yield
