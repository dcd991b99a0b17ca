"""What a run comes to: a model's answers to each set of items, the scores that follow from them, and the costs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations

import numpy as np
import torch

from lib.errors import StudyError
from lib.methods.calibration import Array, Calibration, log_prior, split_calibrated, without_prior
from lib.models.cost import Cost
from lib.tasks.task import Query


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions; lists go over the classes.

    Attributes:
        recall: of each gold class, the share that is predicted so; 0 for a class without items.
        predicted: how often each class is predicted.
        ties: the share of items whose likeliest class is not one alone; each then counts by its share.
    """

    accuracy: float
    macro_f1: float
    recall: list[float]
    predicted: list[float]
    ties: float


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to one set of items. All scores follow from them.

    Attributes:
        gold: the class of each item.
        label_log_probs: [items, classes], not renormalised over the classes, to four places.
        content_free: [classes] probabilities that sum to one, averaged over the content-free inputs under the same
            context.
        unlabelled: [queries, classes] log-probabilities of the same model on unlabelled queries of the domain; empty
            where it was not asked.
        clusters: of each item, the number of its kind (HANS: of its template), since items of one kind are not
            independent; empty where the data do not tell.
    """

    gold: list[int]
    label_log_probs: list[list[float]]
    content_free: list[float]
    unlabelled: list[list[float]] = field(default_factory=list)
    clusters: list[int] = field(default_factory=list)

    @cached_property
    def scores_by_item(self) -> Array:
        """The label log-probabilities as an array [items, classes]."""
        return np.asarray(self.label_log_probs)

    def calibrated(self, how: Calibration) -> Array:
        """[items, classes] log-probabilities, up to a constant a row, without the label prior that `how` says.

        For `pool` it is the prior of the model's own answers, as `prior_from` says.
        """
        if how == "none":
            return self.scores_by_item
        if how == "pool" and not self.unlabelled:
            return split_calibrated(self.scores_by_item)
        prior = np.log(self.content_free) if how == "content_free" else log_prior(np.asarray(self.unlabelled))
        return without_prior(self.scores_by_item, prior)

    @property
    def prior_from(self) -> str:
        """Whose answers give the label prior of the calibration by `pool`."""
        return "unlabelled queries" if self.unlabelled else "the other half of the items"

    def scores(self, how: Calibration = "none") -> Scores:
        """Scores of predicting the likeliest class, after calibration."""
        return scores(self.calibrated(how), self.gold)

    def correct(self, how: Calibration = "none") -> Array:
        """[items], 1 where an item is right, a share where its likeliest class is tied with others, else 0."""
        votes = shared_votes(self.calibrated(how))
        return votes[np.arange(len(self.gold)), self.gold]

    def area_under_curve(self, taken: Array | slice = slice(None)) -> float:
        """How well the items are ranked, whatever the label prior: the area under the ROC curve.

        With two classes the share of pairs, one item of each, that the log-odds rank rightly; with more the mean over
        pairs of classes (Hand and Till 2001). nan where the items do not have every class. `taken` [items] says whether
        an item counts.
        """
        gold, log_probs = np.asarray(self.gold)[taken], self.scores_by_item[taken]
        if len(np.unique(gold)) < log_probs.shape[1]:
            return np.nan
        return float(placements(log_probs, gold).mean() / 2)


def placements(log_probs: Array, gold: Array) -> Array:
    """[items], the shares of items of other classes that each is ranked rightly against, which make up the area.

    Their mean is twice the area, since each pair of items is in it once for either item. What an item moves of the mean
    it moves of the area (DeLong, DeLong and Clarke-Pearson 1988, doi 10.2307/2531595).

    Args:
        log_probs: [items, classes], up to a constant a row.
        gold: [items], with every class.
    """
    pairs = list(permutations(range(log_probs.shape[1]), 2))
    placed = np.zeros(len(gold))
    for of, against in pairs:
        odds = log_probs[:, of] - np.logaddexp.reduce(np.delete(log_probs, of, axis=1), axis=1)
        first, second = gold == of, gold == against
        placed[first] += _share_below(odds[second], odds[first]) / first.mean()
        placed[second] += (1 - _share_below(odds[first], odds[second])) / second.mean()
    return placed / len(pairs)


def _share_below(others: Array, values: Array) -> Array:
    """Of each value, the share of others that it is above; one as high counts half."""
    others = np.sort(others)
    places = [np.searchsorted(others, values, side) for side in ("left", "right")]
    return np.mean(places, axis=0) / len(others)


@dataclass(frozen=True)
class TaskScores:
    """One benchmark task after so many demonstrations. All lists are over its items.

    `gold` and `predicted` are places in the task's sorted labels, of which there are `labels`; `rank` is how many
    options stand before the right one.
    """

    task: str
    demonstrations: int
    labels: int
    gold: list[int]
    predicted: list[int]
    rank: list[int]


@dataclass(frozen=True)
class Outcome:
    """What a run comes to.

    Attributes:
        costs: by phase.
        trainable_parameters: of the student; 0 where nothing is trained.
        losses: of each training step.
        evaluations: on a task, the evaluated model's answers by domain.
        held_out: of each item out of domain, whether the pool was kept free of its kind; empty where it holds all.
        tasks: on a benchmark, each target task's scores at each k.
        left_out: tasks that the benchmark names and the results do not have, with reasons.
    """

    costs: dict[str, Cost]
    trainable_parameters: int
    losses: list[float]
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    held_out: list[bool] = field(default_factory=list)
    tasks: list[TaskScores] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def require_finite(log_probs: torch.Tensor, model: str) -> None:
    """Raise `StudyError`, naming the model, where a log-probability is infinite or no number."""
    if not torch.isfinite(log_probs).all():
        raise StudyError(
            f"{model}: its log-probabilities of answers are not finite. Its weights may not be, or too large for the "
            "data type; float32 holds the largest."
        )


def shared_votes(log_probs: Array) -> Array:
    """[items, classes]: 1 for the likeliest class of an item, divided evenly where several are as likely."""
    best = log_probs == log_probs.max(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True)


def scores(log_probs: Array, gold: Sequence[int]) -> Scores:
    """Scores of predicting the likeliest class; in all of them a tie counts by its share."""
    votes = shared_votes(log_probs)
    confusion = np.eye(log_probs.shape[1])[gold].T @ votes  # [gold, predicted]
    right, of_class, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    recall = np.divide(right, of_class, out=np.zeros_like(right), where=of_class > 0)
    f1 = np.divide(2 * right, of_class + predicted, out=np.zeros_like(right), where=of_class + predicted > 0)
    shares = (predicted / len(gold)).tolist()
    tied = float((votes.max(axis=1) < 1).mean())
    return Scores(float(right.sum() / len(gold)), float(f1.mean()), recall.tolist(), shares, tied)


def clusters_of(items: Sequence[Query]) -> list[int]:
    """The number of each item's kind among all kinds, sorted; empty where some item has none."""
    kinds = sorted({item.kind for item in items})
    if not all(kinds):
        return []
    numbers = {kind: number for number, kind in enumerate(kinds)}
    return [numbers[item.kind] for item in items]


def evaluation(log_probs: Array, items: Sequence[Query], unlabelled: Array | None = None) -> Evaluation:
    """All that a result keeps of one set of items.

    Args:
        log_probs: [items and then content-free inputs, classes], all under the same context.
        items: what was asked.
        unlabelled: [queries, classes], of unlabelled queries under the same context.
    """
    return Evaluation(
        gold=[item.gold for item in items],
        clusters=clusters_of(items),
        label_log_probs=log_probs[: len(items)].round(4).tolist(),
        content_free=np.exp(log_prior(log_probs[len(items) :])).tolist(),
        unlabelled=[] if unlabelled is None else unlabelled.round(4).tolist(),
    )
