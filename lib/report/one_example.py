"""One example, asked of the teacher and of each student: their answers, plain and calibrated, and the loss there."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from html import escape
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from scipy.special import softmax
from torch import Tensor
from transformers import PreTrainedModel

from lib.methods.calibration import log_prior, without_prior
from lib.methods.context_distillation import SoftLabels, StepByStep, ask_teacher, objective, trained_student
from lib.methods.encoder import PromptEncoder, encoder_of
from lib.methods.examples import evaluation_items
from lib.methods.records import PoolLabelling, Run
from lib.methods.table import METHODS
from lib.models.loading import load_model
from lib.models.scoring import class_log_probs
from lib.models.training import TrainingRow, step_loss
from lib.runs.profile import Profile
from lib.runs.store import Store
from lib.tasks.prompts import prompt
from lib.tasks.task import Query, Task

PRIOR_QUERIES = 32  # more would change the prior little, and the teacher answers them anew after each change
STEP_BY_STEP = "CD, step by step"
AT_ONCE = 16  # prompts in a forward pass
BAR = {"vmin": 0, "vmax": 1, "width": 90, "height": 60, "color": "#9ecae1"}
PROMPT = "<div style='flex:1 1 20em'><b>{}</b><pre style='white-space:pre-wrap;word-break:normal'>{}</pre></div>"


class Asked(NamedTuple):
    """What is asked.

    Attributes:
        query: the example, with the label that counts as right.
        demonstrations: what stands before it for those who read any; their labels may have been changed.
        others: queries of the example's domain, whose answers give a method's label prior.
        classes: in the order of the label words.
    """

    query: Query
    demonstrations: tuple[Query, ...]
    others: tuple[Query, ...]
    classes: tuple[str, ...]

    @property
    def right(self) -> str:
        """The class that counts as right."""
        return self.classes[self.query.gold]


class Answerer(NamedTuple):
    """A model that answers, and the name under which it is shown."""

    label: str
    colour: str
    model: PreTrainedModel
    encoder: PromptEncoder
    reads_demonstrations: bool = False


def items_and_others(task: Task, domain: str) -> tuple[list[Query], tuple[Query, ...]]:
    """The first half of the evaluated items, to choose from, and some of the second half.

    So no item's own answer is in the prior that is taken out of it.
    """
    items = evaluation_items(task, domain)
    half = len(items) // 2
    return items[:half], tuple(items[half:][:PRIOR_QUERIES])


class Models:
    """The teacher and the students of a profile: loaded once, and trained once for a number of examples and a seed."""

    def __init__(self, profile: Profile) -> None:
        """Load the teacher and the untuned student."""
        self.profile = profile
        self._encoders = {name: encoder_of(name) for name in (profile.teacher, profile.student)}
        self._loaded = {name: load_model(name, "float32", profile.device) for name in self._encoders}
        self._trained: dict[Run, PreTrainedModel] = {}
        self._soft_labels: dict[PoolLabelling, SoftLabels] = {}

    def run(self, method: str, size: int, seed: int, **settings: float) -> Run:
        """The run of a method with so many examples and a seed, perhaps with other settings than the profile's."""
        own = {"methods": [method], "support_sizes": [size], "seeds": [seed], **settings}
        return self.profile.changed(own).runs()[0]

    def train(self, run: Run) -> None:
        """Train a run's student, if it has one that is not there yet."""
        if run.training and run not in self._trained:
            self._trained[run] = trained_student(run, self._learnt_from(run))

    def step_by_step(self, run: Run) -> StepByStep:
        """The training of a run's student, of which no step is taken yet."""
        return StepByStep(run, self._learnt_from(run))

    def _learnt_from(self, run: Run) -> SoftLabels | None:
        """The teacher's soft labels for a run that distils: as they are stored, or asked for once."""
        if run.needs and run.needs not in self._soft_labels:
            stored = Store(self.profile.folder).load_prepared(run.needs)
            self._soft_labels[run.needs] = stored or ask_teacher(run.needs, isolated=False)
        return self._soft_labels.get(run.needs)

    def of(self, run: Run) -> Answerer | None:
        """Who answers in a run; None for a student that is not trained yet."""
        method, model = METHODS[run.method], self._trained.get(run) if run.training else self._loaded[run.model]
        return model and Answerer(method.label, method.colour, model, self._encoders[run.model], method.demonstrations)

    def so_far(self, training: StepByStep) -> Answerer:
        """The student as it is after the steps that were taken."""
        return Answerer(STEP_BY_STEP, METHODS["cd"].colour, training.student(), self._encoders[self.profile.student])


@lru_cache(maxsize=64)
def _log_probs(
    model: PreTrainedModel, encoder: PromptEncoder, demonstrations: tuple[Query, ...], queries: tuple[Query, ...]
) -> Tensor:
    """[queries, classes], after the same demonstrations."""
    return class_log_probs(model, encoder.encode(demonstrations, queries), encoder.answers(queries[0]), AT_ONCE)


def log_probs(who: Answerer, asked: Asked) -> tuple[Tensor, Tensor]:
    """The log-probabilities of the label words: [1, classes] of the example, and [queries, classes] of the others."""
    before = asked.demonstrations if who.reads_demonstrations else ()
    example, others = (_log_probs(who.model, who.encoder, before, of) for of in ((asked.query,), asked.others))
    return example, others


def answers(answerers: Sequence[Answerer], asked: Asked) -> pd.DataFrame:
    """A row each, and the probability of each class among the label words in columns (plain or calibrated, class)."""
    rows = {}
    for who in answerers:
        plain, others = (one.numpy() for one in log_probs(who, asked))
        both = {"plain": plain, "calibrated": without_prior(plain, log_prior(others))}
        rows[who.label] = {
            (how, name): share
            for how, one in both.items()
            for name, share in zip(asked.classes, softmax(one[0]), strict=True)
        }
    return pd.DataFrame.from_dict(rows, orient="index")


@torch.no_grad()
def loss_terms(student: Answerer, teacher: Answerer, asked: Asked, run: Run) -> dict[str, float]:
    """The loss of a step of training on the example alone, in nats, and its two terms before they are weighed.

    Args:
        student: it reads no demonstrations.
        teacher: it reads them; its answer is the target.
        asked: with the label of the cross-entropy.
        run: one that distils, with the weight λ and the temperature T.
    """
    row = TrainingRow(student.encoder.ids(asked.query), log_probs(teacher, asked)[0][0], asked.query.gold)
    aim = replace(objective(run, student.encoder.answers(asked.query)), kl_over_vocabulary=False)
    weights = {"T²·KL": 1.0, "CE": 0.0, "loss": aim.kl_weight}
    return {
        name: step_loss(student.model, [row], replace(aim, kl_weight=weight), run.training).item()
        for name, weight in weights.items()
    }


def losses(teacher: Answerer, students: Sequence[Answerer], asked: Asked, run: Run) -> pd.DataFrame:
    """The right label's probability by teacher and students, plain, calibrated and at T, and the students' losses."""
    shares, temperature = answers([teacher, *students], asked), run.distillation.temperature
    flatter = shares.plain ** (1 / temperature)
    found = shares.xs(asked.right, axis=1, level=1)
    found[f"at T = {temperature:g}"] = flatter[asked.right] / flatter.sum(axis=1)
    terms = {one.label: loss_terms(one, teacher, asked, run) for one in students}
    return found.join(pd.DataFrame.from_dict(terms, orient="index"))


def prompts(asked: Asked) -> str:
    """HTML of what the teacher reads, and of what the student reads."""
    read = {"The teacher reads": asked.demonstrations, "The student reads": ()}
    both = [PROMPT.format(who, escape(prompt(before, asked.query))) for who, before in read.items()]
    return f"<div style='display:flex;flex-wrap:wrap;gap:2em'>{''.join(both)}</div>"


def with_bars(table: pd.DataFrame, shares: Sequence[object], caption: str, missing: str) -> Styler:
    """A table with a bar behind each share, and `missing` where there is no number."""
    style = table.style.format("{:.2f}", na_rep=missing).bar(subset=list(shares), **BAR).set_caption(escape(caption))
    return style.format_index(escape="html", axis=0).format_index(escape="html", axis=1)


def distillation_figure(training: StepByStep, answerers: Sequence[Answerer], asked: Asked) -> Figure:
    """The losses of the steps taken, and the right label's probability by each of the answerers."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), width_ratios=(3, 2))
    steps, shares = range(1, len(training.losses) + 1), answers(answerers, asked).plain[asked.right]
    left.plot(steps, training.losses, marker="o", color=METHODS["cd"].colour)
    left.set(
        xlim=(0, training.count + 1), ylim=(0, 1.05 * max([0.9, *training.losses])), xlabel="step", ylabel="loss, nats"
    )
    left.set_title(_fall(training))
    right.bar_label(right.barh(shares.index, shares, color=[one.colour for one in answerers]), fmt="%.2f", padding=3)
    right.set(xlim=(0, 1.15), title=f"P({asked.right}) of the example")
    right.invert_yaxis()
    figure.tight_layout()
    plt.close(figure)
    return figure


def _fall(training: StepByStep) -> str:
    taken = f"{len(training.losses)} of {training.count} steps"
    return f"{taken}: loss {training.losses[0]:.2f} → {training.losses[-1]:.2f}" if training.losses else taken
