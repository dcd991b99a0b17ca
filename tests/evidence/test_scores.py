"""Scores as estimates: values are those of scikit-learn, intervals those of resampled items."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from lib.evidence.estimates import summarise
from lib.evidence.scores import area, estimate, over_items
from lib.methods.evaluation import Evaluation
from lib.runs.frames import results_frame
from tests.support.stored import result, run_of

CLASSES = ["yes", "no", "maybe"]


def answers(items, classes, seed, skill=1.5, clusters=()):
    """An evaluation whose model tends to the gold class."""
    random = np.random.default_rng(seed)
    gold = np.arange(items) % classes
    scores = random.normal(size=(items, classes)) + skill * np.eye(classes)[gold] * random.random((items, 1))
    log_probs = scores - np.logaddexp.reduce(scores, axis=1)[:, None]
    return Evaluation(gold.tolist(), log_probs.tolist(), [1 / classes] * classes, clusters=list(clusters))


def mean_over(evaluations, score):
    return np.mean([score(one.gold, one.scores_by_item) for one in evaluations])


ORACLES = {
    "accuracy": lambda gold, scores: np.mean(scores.argmax(axis=1) == gold),
    "accuracy_on_no": lambda gold, scores: recall_score(gold, scores.argmax(axis=1), average=None)[1],
    "share_yes": lambda gold, scores: np.mean(scores.argmax(axis=1) == 0),
    "auc": lambda gold, scores: (
        roc_auc_score(gold, scores[:, 1] - scores[:, 0])
        if scores.shape[1] == 2
        else roc_auc_score(gold, np.exp(scores), multi_class="ovo")
    ),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("score", ORACLES)
def test_the_value_is_the_mean_over_seeds_of_an_independent_score(score, classes):
    evaluations = [answers(120, classes, seed) for seed in range(3)]
    found = estimate(evaluations, CLASSES[:classes], score)
    assert found.value == pytest.approx(mean_over(evaluations, ORACLES[score]))


@pytest.mark.parametrize("classes", [2, 3])
def test_with_one_seed_macro_f1_is_that_of_scikit_learn(classes):
    one = answers(120, classes, 0)
    found = estimate([one], CLASSES[:classes], "macro_f1")
    assert found.value == pytest.approx(f1_score(one.gold, one.scores_by_item.argmax(axis=1), average="macro"))


def resampled(evaluation, score, draws=400):
    """The oracle: the score's standard error where items are drawn with replacement within their class."""
    random = np.random.default_rng(9)
    gold, scores = np.asarray(evaluation.gold), evaluation.scores_by_item
    by_class = [np.flatnonzero(gold == name) for name in np.unique(gold)]
    found = []
    for _ in range(draws):
        drawn = np.concatenate([random.choice(own, len(own)) for own in by_class])
        found.append(score(gold[drawn], scores[drawn]))
    return np.std(found)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("score", [*ORACLES, "macro_f1"])
def test_the_error_over_items_is_that_of_items_drawn_anew(score, classes):
    one = answers(300, classes, 1)
    oracle = ORACLES.get(score, lambda gold, scores: f1_score(gold, scores.argmax(axis=1), average="macro"))
    error = np.linalg.norm(estimate([one], CLASSES[:classes], score).by_item)
    assert error == pytest.approx(resampled(one, oracle), rel=0.07)


def test_items_of_one_template_count_as_one_draw():
    alone = answers(120, 2, 0)
    twice = Evaluation(alone.gold * 2, alone.label_log_probs * 2, alone.content_free, clusters=[*range(120)] * 2)
    for score in ("accuracy", "macro_f1", "auc"):
        once, doubled = (estimate([one], CLASSES[:2], score) for one in (alone, twice))
        assert doubled.value == pytest.approx(once.value)
        assert np.linalg.norm(doubled.by_item) == pytest.approx(np.linalg.norm(once.by_item), rel=0.01)


def test_ties_count_half_in_the_area():
    level = Evaluation([0, 1, 0, 1], [[-0.7, -0.7]] * 4, [0.5, 0.5])
    assert area([level]).value == pytest.approx(0.5)
    assert estimate([level], CLASSES[:2], "ties").value == 1


def test_a_class_without_items_has_no_recall_and_no_area():
    one = Evaluation([0, 0], [[-0.1, -2.0], [-2.0, -0.1]], [0.5, 0.5])
    assert estimate([one], CLASSES[:2], "accuracy_on_no") is None
    assert area([one]) is None
    assert estimate([one], CLASSES[:2], "macro_f1").value == pytest.approx(
        f1_score(one.gold, [0, 1], average="macro", zero_division=0)
    )


def test_a_summary_keeps_its_means_and_costs_and_gets_intervals_over_items():
    runs = [run_of("icl", 4, seed) for seed in range(3)]
    results = [
        result(run, answers(60, 2, seed).label_log_probs, answers(60, 2, seed).gold) for seed, run in enumerate(runs)
    ]
    frame = results_frame(results)
    quantities = ["in_domain_accuracy", "in_domain_calibrated_macro_f1", "in_domain_auc", "evaluation_seconds"]
    before = summarise(frame, quantities).set_index("quantity")
    after = over_items(before.reset_index(), results).set_index("quantity")
    pd.testing.assert_series_equal(before["mean"], after["mean"])
    assert after.loc["evaluation_seconds"].equals(before.loc["evaluation_seconds"])
    for score in quantities[:3]:
        assert (after.low <= after["mean"])[score] and (after["mean"] <= after.high)[score]
        assert after.low[score] != before.low[score]


def test_intervals_end_at_0_and_1():
    answered = ([[-0.1, -3.0], [-3.0, -0.1]], [[-3.0, -0.1], [-3.0, -0.1]])
    results = [result(run_of("icl", 4, seed), answers, [0, 1]) for seed, answers in enumerate(answered)]
    (row,) = over_items(summarise(results_frame(results), ["in_domain_accuracy"]), results).itertuples()
    assert (row.low, row.high) == (0, 1)
