"""Training the models of the world from nothing: a curriculum's stages one after another, resumable at any step."""

import copy
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from lib.errors import StudyError
from lib.tiny.curriculum import Batch, Stage, draw_batch
from lib.tiny.models import VERDICTS, config, tokenizer

WARMUP_STEPS = 200
STEPS_BETWEEN_SAVES = 200
SMOOTHING = 0.97  # of the accuracies that decide when a stage ends
SETTLED = 4  # pairs before an answer counts as one that demonstrations could have told


@dataclass(frozen=True)
class Recipe:
    """What one model is and learns.

    Attributes:
        width: hidden size.
        heads: attention heads.
        stages: the curriculum.
        learning_rate: AdamW's, after a warm-up and until the last stage, in which it falls to zero.
        seed: of the weights and of all data.
    """

    width: int
    heads: int
    stages: tuple[Stage, ...]
    learning_rate: float
    seed: int


@dataclass
class Progress:
    """Where a training stands. `accuracy` is smoothed, in and out of domain; `curve` has a row every 50 steps."""

    stage: int = 0
    step_of_stage: int = 0
    step: int = 0
    steps_since_growth: int = 0
    seconds: float = 0.0
    accuracy: list[float] = field(default_factory=lambda: [0.5, 0.5])
    curve: list[dict[str, Any]] = field(default_factory=list)


def pretrain(recipe: Recipe, folder: Path) -> pd.DataFrame:
    """Train a model, or go on where a killed training stopped, and save it to `folder` with its tokenizer.

    Returns:
        The learning curve: step, stage, loss, smoothed accuracy in and out of domain, seconds.

    Raises:
        StudyError: the folder holds a checkpoint of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    model, optimizer, progress = _resume(recipe, checkpoint)
    while progress.stage < len(recipe.stages):
        began = time.perf_counter()
        stage = recipe.stages[progress.stage]
        if stage.layers > model.config.num_hidden_layers:
            model = deepen(model, stage.layers)
            optimizer, progress.steps_since_growth = _optimizer(model, recipe), 0
        _step(model, optimizer, recipe, progress)
        progress.seconds += time.perf_counter() - began
        _advance(recipe, progress)
        if progress.step % STEPS_BETWEEN_SAVES == 0 or progress.stage == len(recipe.stages):
            _save(checkpoint, recipe, model, optimizer, progress)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    curve = pd.DataFrame(progress.curve)
    curve.to_csv(folder / "learning_curve.csv", index=False, float_format="%.4g")
    return curve


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
        verdicts = head(model.base_model.final_layer_norm(torch.stack(states)))[..., _verdict_ids()]
        loss = loss + F.cross_entropy(verdicts.flatten(0, 2), batch.labels.expand(3, -1, -1).flatten())
    between = logits.detach().gather(2, batch.words)
    return loss, between.argmax(-1) == batch.labels


def _at(states: Tensor, positions: Tensor) -> Tensor:
    return states.gather(1, positions[:, :, None].expand(-1, -1, states.shape[-1]))


def _verdict_ids() -> list[int]:
    return tokenizer().convert_tokens_to_ids(list(VERDICTS))


def _step(model: GPTNeoXForCausalLM, optimizer: torch.optim.Optimizer, recipe: Recipe, progress: Progress) -> None:
    stage = recipe.stages[progress.stage]
    batch = draw_batch(random.Random(f"{recipe.seed} {progress.step}"), stage, "pretraining")
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * _rate(recipe, progress)
    loss, right = stage_loss(model, batch, recipe.stages[0].layers)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    settled = torch.arange(right.shape[1]) >= (SETTLED if batch.drawn else 0)
    for domain, chosen in enumerate((~batch.hard & settled, batch.hard & settled)):
        if chosen.any():
            now = right[chosen].float().mean().item()
            progress.accuracy[domain] = SMOOTHING * progress.accuracy[domain] + (1 - SMOOTHING) * now
    progress.step += 1
    progress.step_of_stage += 1
    progress.steps_since_growth += 1
    if progress.step % 50 == 0:
        progress.curve.append(_row(stage, progress, loss.item()))


def _row(stage: Stage, progress: Progress, loss: float) -> dict[str, Any]:
    in_domain, out_of_domain = progress.accuracy
    return {
        "step": progress.step,
        "stage": stage.name,
        "loss": loss,
        "in_domain_accuracy": in_domain,
        "out_of_domain_accuracy": out_of_domain,
        "seconds": progress.seconds,
    }


def _rate(recipe: Recipe, progress: Progress) -> float:
    warm = recipe.stages[progress.stage].rate * min(1.0, (progress.steps_since_growth + 1) / WARMUP_STEPS)
    if progress.stage < len(recipe.stages) - 1:
        return warm
    return warm * (1.0 - progress.step_of_stage / recipe.stages[-1].most_steps)


def _advance(recipe: Recipe, progress: Progress) -> None:
    stage = recipe.stages[progress.stage]
    mastered = min(progress.accuracy) > stage.until and progress.step_of_stage >= stage.least_steps
    if not mastered and progress.step_of_stage < stage.most_steps:
        return
    in_domain, out_of_domain = progress.accuracy
    print(
        f"[{progress.stage + 1}/{len(recipe.stages)}] {stage.name}: {progress.step_of_stage} steps, "
        f"accuracy {in_domain:.2f} in domain, {out_of_domain:.2f} out of domain, {progress.seconds / 60:.0f} min",
        flush=True,
    )
    progress.stage, progress.step_of_stage = progress.stage + 1, 0


def _resume(recipe: Recipe, checkpoint: Path) -> tuple[GPTNeoXForCausalLM, torch.optim.Optimizer, Progress]:
    torch.manual_seed(recipe.seed)
    kept = torch.load(checkpoint, weights_only=False) if checkpoint.is_file() else None
    if kept and kept["recipe"] != recipe:
        raise StudyError(f"{checkpoint} is of another recipe; remove its folder, or give this one another.")
    layers = kept["layers"] if kept else recipe.stages[0].layers
    model = GPTNeoXForCausalLM(config(recipe.width, layers, recipe.heads))
    optimizer = _optimizer(model, recipe)
    if kept is None:
        return model, optimizer, Progress()
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    return model, optimizer, kept["progress"]


def _optimizer(model: GPTNeoXForCausalLM, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


def _save(
    file: Path, recipe: Recipe, model: GPTNeoXForCausalLM, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Whole or not at all."""
    content = {
        "recipe": recipe,
        "layers": model.config.num_hidden_layers,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": progress,
    }
    scratch = file.with_suffix(".writing")
    torch.save(content, scratch)
    os.replace(scratch, file)
