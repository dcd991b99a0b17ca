"""Training the models of the world from nothing: a curriculum's stages one after another, resumable at any step."""

import copy
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from lib.errors import StudyError
from lib.models.loading import let_others_read
from lib.scratch import scratch_folder
from lib.tiny.curriculum import Batch, Stage, draw_batch
from lib.tiny.models import VERDICTS, config, tokenizer

WARMUP_STEPS = 200
STEPS_BETWEEN_SAVES = 200
STEPS_BETWEEN_ROWS = 50  # of the learning curve
COLUMNS = ["step", "stage", "loss", "in_domain_accuracy", "out_of_domain_accuracy", "seconds"]
SMOOTHING = 0.97  # of the accuracies that decide when a stage ends
SETTLED = 4  # pairs before an answer counts as one that demonstrations could have told


@dataclass(frozen=True)
class Recipe:
    """What one model is and learns.

    `learning_rate` is AdamW's, after a warm-up and until the last stage, in which it falls to zero. `seed` is that of
    the weights and of all data.
    """

    width: int
    heads: int
    stages: tuple[Stage, ...]
    learning_rate: float
    seed: int


@dataclass
class Progress:
    """A training and where it stands.

    `accuracy` is smoothed, in and out of domain; `curve` has a row every 50 steps, of `COLUMNS`.
    """

    recipe: Recipe
    model: GPTNeoXForCausalLM
    optimizer: torch.optim.Optimizer
    stage: int = 0
    step_of_stage: int = 0
    step: int = 0
    steps_since_growth: int = 0
    seconds: float = 0.0
    accuracy: list[float] = field(default_factory=lambda: [0.5, 0.5])
    curve: list[tuple[int, str, float, float, float, float]] = field(default_factory=list)


def pretrain(recipe: Recipe, folder: Path) -> pd.DataFrame:
    """Train a model, or go on where a killed training stopped, and save it to `folder` with its tokenizer.

    Returns:
        The learning curve: step, stage, loss, smoothed accuracy in and out of domain, seconds.

    Raises:
        StudyError: the folder holds a checkpoint of another recipe, or one that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    progress = _begin(recipe, checkpoint)
    for stage in recipe.stages[progress.stage :]:
        _grow(progress, stage.layers)
        while not _ended(stage, progress):
            _step(stage, progress)
            if progress.step % STEPS_BETWEEN_SAVES == 0:
                _save(checkpoint, progress)
        _announce(stage, progress)
        progress.stage, progress.step_of_stage = progress.stage + 1, 0
        _save(checkpoint, progress)
    curve = pd.DataFrame(progress.curve, columns=COLUMNS)
    _put(folder, progress.model.save_pretrained)
    _put(folder, tokenizer().save_pretrained)
    _put(folder, lambda scratch: curve.to_csv(scratch / "learning_curve.csv", index=False, float_format="%.4g"))
    return curve


def _begin(recipe: Recipe, checkpoint: Path) -> Progress:
    """A new training, or that of the checkpoint."""
    kept = _read(checkpoint) if checkpoint.is_file() else {}
    if kept and kept["recipe"] != repr(recipe):
        raise StudyError(f"{checkpoint} is of another recipe; remove its folder, or give this one another.")
    torch.manual_seed(recipe.seed)
    layers = kept.pop("layers", recipe.stages[0].layers)
    model = GPTNeoXForCausalLM(config(recipe.width, layers, recipe.heads))
    optimizer = _optimizer(model, recipe)
    if kept:
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
    return Progress(**kept | {"recipe": recipe, "model": model, "optimizer": optimizer})


def _read(checkpoint: Path) -> dict[str, Any]:
    """What `_save` kept: tensors, numbers and texts, since other pickles can run code when they are loaded."""
    try:
        return torch.load(checkpoint, weights_only=True)
    except Exception as error:  # of a broken file torch raises whatever it stumbles on
        raise StudyError(f"{checkpoint} is no checkpoint of this training; remove it, and it begins anew.") from error


def _save(checkpoint: Path, progress: Progress) -> None:
    states = {"model": progress.model.state_dict(), "optimizer": progress.optimizer.state_dict()}
    shape = {"recipe": repr(progress.recipe), "layers": progress.model.config.num_hidden_layers}
    kept = {**vars(progress), **states, **shape}
    _put(checkpoint.parent, lambda scratch: torch.save(kept, scratch / checkpoint.name))


def _put(folder: Path, write: Callable[[Path], object]) -> None:
    """Files in a folder, each of which is whole whatever ends the process that writes it."""
    with scratch_folder(folder) as scratch:
        write(scratch)
        let_others_read(scratch, folder)
        for file in scratch.iterdir():
            os.replace(file, folder / file.name)


def _optimizer(model: GPTNeoXForCausalLM, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


def _grow(progress: Progress, layers: int) -> None:
    """Give the model the layers that a stage adds; the optimizer then begins anew, and so does the warm-up."""
    if layers > progress.model.config.num_hidden_layers:
        progress.model = deepen(progress.model, layers)
        progress.optimizer, progress.steps_since_growth = _optimizer(progress.model, progress.recipe), 0


def deepen(model: GPTNeoXForCausalLM, layers: int) -> GPTNeoXForCausalLM:
    """The same model with new layers on top whose outputs start small, so that it computes nearly what it did."""
    shape = copy.deepcopy(model.config)
    shape.num_hidden_layers = layers
    deeper = GPTNeoXForCausalLM(shape)
    deeper.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        for layer in deeper.base_model.layers[model.config.num_hidden_layers :]:
            layer.attention.dense.weight.mul_(0.1)
            layer.mlp.dense_4h_to_h.weight.mul_(0.1)
    return deeper


def stage_loss(model: GPTNeoXForCausalLM, batch: Batch, first_layers: int) -> tuple[Tensor, Tensor]:
    """The loss of one step, and whether each answer was right between its two words, [contexts, pairs].

    The answer's cross-entropy is over the vocabulary. Where label words are drawn, the first pair's answer cannot be
    known and does not count, and a model that has grown is asked for the verdict as well, by its own head: of the
    states in which the first layers leave a pair's end, and in which the next layer leaves that and its label word.
    """
    grown = model.config.num_hidden_layers > first_layers
    output = model.base_model(
        input_ids=batch.ids, attention_mask=batch.attention, use_cache=False, output_hidden_states=grown
    )
    head = model.get_output_embeddings()
    known = 1 if batch.drawn and batch.labels.shape[1] > 1 else 0
    logits = head(_at(output.last_hidden_state, batch.answers))
    gold = batch.words.gather(2, batch.labels[:, :, None])[:, :, 0]
    loss = F.cross_entropy(logits[:, known:].flatten(0, 1), gold[:, known:].flatten())
    if grown and batch.drawn:
        early, next_layer = output.hidden_states[first_layers], output.hidden_states[first_layers + 1]
        states = [_at(early, batch.answers), _at(next_layer, batch.answers), _at(next_layer, batch.answers + 1)]
        verdict_ids = tokenizer().convert_tokens_to_ids(list(VERDICTS))
        verdicts = head(model.base_model.final_layer_norm(torch.stack(states)))[..., verdict_ids]
        loss = loss + F.cross_entropy(verdicts.flatten(0, 2), batch.labels.expand(3, -1, -1).flatten())
    between = logits.detach().gather(2, batch.words)
    return loss, between.argmax(-1) == batch.labels


def _at(states: Tensor, positions: Tensor) -> Tensor:
    return states.gather(1, positions[:, :, None].expand(-1, -1, states.shape[-1]))


def _step(stage: Stage, progress: Progress) -> None:
    began = time.perf_counter()
    recipe, model = progress.recipe, progress.model
    batch = draw_batch(random.Random(f"{recipe.seed} {progress.step}"), stage)
    for group in progress.optimizer.param_groups:
        group["lr"] = recipe.learning_rate * _rate(stage, progress)
    loss, right = stage_loss(model, batch, recipe.stages[0].layers)
    progress.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    progress.optimizer.step()
    _follow(progress, batch, right)
    progress.step += 1
    progress.step_of_stage += 1
    progress.steps_since_growth += 1
    progress.seconds += time.perf_counter() - began
    if progress.step % STEPS_BETWEEN_ROWS == 0:
        progress.curve.append((progress.step, stage.name, loss.item(), *progress.accuracy, progress.seconds))


def _rate(stage: Stage, progress: Progress) -> float:
    """What the recipe's learning rate is multiplied by."""
    warm = stage.rate * min(1.0, (progress.steps_since_growth + 1) / WARMUP_STEPS)
    is_last = progress.stage == len(progress.recipe.stages) - 1
    return warm * (1.0 - progress.step_of_stage / stage.most_steps) if is_last else warm


def _follow(progress: Progress, batch: Batch, right: Tensor) -> None:
    """Move the smoothed accuracies by those of a batch."""
    settled = torch.arange(right.shape[1]) >= (SETTLED if batch.drawn else 0)
    for domain, counted in enumerate((~batch.hard & settled, batch.hard & settled)):
        if counted.any():
            now = right[counted].float().mean().item()
            progress.accuracy[domain] = SMOOTHING * progress.accuracy[domain] + (1 - SMOOTHING) * now


def _ended(stage: Stage, progress: Progress) -> bool:
    mastered = min(progress.accuracy) > stage.until and progress.step_of_stage >= stage.least_steps
    return mastered or progress.step_of_stage >= stage.most_steps


def _announce(stage: Stage, progress: Progress) -> None:
    in_domain, out_of_domain = progress.accuracy
    print(
        f"[{progress.stage + 1}/{len(progress.recipe.stages)}] {stage.name}: {progress.step_of_stage} steps, "
        f"accuracy {in_domain:.2f} in domain, {out_of_domain:.2f} out of domain, {progress.seconds / 60:.0f} min",
        flush=True,
    )
