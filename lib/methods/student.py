"""A student's training, whatever teaches it: loaded, adapted, trained in float32, merged."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import PreTrainedModel

from lib.methods.records import Run
from lib.models.cost import Cost, PhaseMeter
from lib.models.loading import DTYPES, load_model
from lib.models.training import Training, TrainingLog
from lib.models.tuning import adapt, merged

if TYPE_CHECKING:
    from peft import LoraConfig


class TrainedStudent(NamedTuple):
    """A model as it is scored, how many of its parameters were trained, and the loss of each step."""

    model: PreTrainedModel
    trainable_parameters: int
    losses: list[float]


def train_student(
    run: Run, fit: Callable[[torch.nn.Module, Training], TrainingLog], meter: PhaseMeter, costs: dict[str, Cost]
) -> TrainedStudent:
    """The run's model, trained by `fit`, which changes it in place; adds the phase `training` to the costs.

    Trained weights stay float32 until they are scored.
    """
    model = load_model(run.model, run.training.frozen_dtype, run.device)
    with meter.phase() as costs["training"]:
        student = adapted(model, run.training, run.seed)
        log = fit(student, run.training)
        costs["training"].tokens = log.tokens
    trained = student.num_parameters(only_trainable=True)
    return TrainedStudent(merged(student.float()).to(DTYPES[run.dtype]), trained, log.losses)


def adapted(model: PreTrainedModel, training: Training, seed: int) -> torch.nn.Module:
    """The model with what `training` trains made trainable, in place; the seed is that of new random weights.

    What is trained is float32, and so are the vectors that normalise: only frozen matrices are in `frozen_dtype`.
    """
    torch.manual_seed(seed)  # a LoRA adapter starts from random weights
    student = adapt(model, training.tuning, lora_config(training), training.biases)
    for parameter in student.parameters():
        if parameter.requires_grad or parameter.ndim < 2:
            parameter.data = parameter.data.float()
    return student


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
