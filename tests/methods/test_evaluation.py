"""Scores against cases worked by hand, of two classes and of three, and what calibration promises."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

from lib.methods.calibration import split_calibrated
from lib.methods.evaluation import Evaluation, Scores, clusters_of, evaluation, scores, shared_votes
from lib.tasks.task import Query

UNIFORM = {2: np.log([[0.2, 0.2]]), 3: np.log([[0.2, 0.2, 0.2]])}


def of(*predictions, classes=2):
    """Log-probabilities that are highest for the class that is said."""
    return np.array([[-0.1 if place == said else -2.0 for place in range(classes)] for said in predictions])


def drawn(classes, items=60, seed=0):
    draw = np.random.default_rng(seed)
    gold = [*range(classes), *draw.integers(0, classes, items - classes).tolist()]
    return np.log(draw.uniform(0.01, 0.4, (items, classes))), gold


def evaluated(log_probs, gold, content_free=None, unlabelled=None):
    prior = UNIFORM[log_probs.shape[1]] if content_free is None else content_free
    return evaluation(np.concatenate([log_probs, prior]), [Query("", (), label) for label in gold], unlabelled)


def test_scores_of_two_classes_worked_by_hand():
    found = scores(of(0, 0, 0, 1, 1, 0), [0, 0, 0, 0, 1, 1])
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.recall == pytest.approx([3 / 4, 1 / 2])
    assert found.predicted == pytest.approx([4 / 6, 2 / 6])
    assert found.macro_f1 == pytest.approx((2 * 3 / (4 + 4) + 2 * 1 / (2 + 2)) / 2)
    assert found.ties == 0


def test_scores_of_three_classes_worked_by_hand():
    found = scores(of(0, 0, 1, 1, 2, 2, 2, 0, classes=3), [0, 0, 0, 1, 1, 2, 2, 2])
    assert found.accuracy == pytest.approx(5 / 8)
    assert found.recall == pytest.approx([2 / 3, 1 / 2, 2 / 3])
    assert found.predicted == pytest.approx([3 / 8, 2 / 8, 3 / 8])
    assert found.macro_f1 == pytest.approx((2 * 2 / (3 + 3) + 2 * 1 / (2 + 2) + 2 * 2 / (3 + 3)) / 3)
    assert found.ties == 0


@pytest.mark.parametrize("said", [0, 1])
def test_saying_one_class_for_everything_shows_in_recall_predicted_shares_and_f1(said):
    found = scores(of(*[said] * 6), [0, 1, 0, 1, 0, 1])
    assert found.accuracy == 0.5
    assert found.recall == [1.0 - said, float(said)]
    assert found.predicted == [1.0 - said, float(said)]
    assert found.macro_f1 == pytest.approx(1 / 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_perfect_predictions_score_one_everywhere(classes):
    gold = [*range(classes), 1]
    found = scores(of(*gold, classes=classes), gold)
    assert (found.accuracy, found.macro_f1, found.recall, found.ties) == (1.0, 1.0, [1.0] * classes, 0.0)
    assert found.predicted == pytest.approx([(gold.count(place)) / len(gold) for place in range(classes)])


def test_a_class_without_items_or_predictions_scores_zero():
    found = scores(of(0, 0), [0, 0])
    assert found.recall == [1.0, 0.0]
    assert found.predicted == [1.0, 0.0]
    assert found.macro_f1 == 0.5


def test_of_three_classes_one_without_items_still_counts_in_f1():
    found = scores(of(0, 2, classes=3), [0, 0])
    assert found.recall == [0.5, 0.0, 0.0]
    assert found.predicted == [0.5, 0.0, 0.5]
    assert found.macro_f1 == pytest.approx((2 / 3) / 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_without_ties_scores_are_those_of_sklearn(classes):
    log_probs, gold = drawn(classes)
    said, found = log_probs.argmax(axis=1), scores(log_probs, gold)
    assert found.accuracy == pytest.approx(accuracy_score(gold, said))
    assert found.recall == pytest.approx(recall_score(gold, said, average=None).tolist())
    assert found.macro_f1 == pytest.approx(f1_score(gold, said, average="macro"))


def test_only_the_differences_between_classes_decide():
    log_probs = of(0, 1, 1, 0)
    shift = np.array([[-5.0], [0.0], [-40.0], [3.0]])
    assert scores(log_probs + shift, [0, 1, 0, 1]) == scores(log_probs, [0, 1, 0, 1])


def test_a_tie_of_two_classes_counts_as_half():
    found = scores(np.array([[-1.0, -1.0], [-1.0, -2.0], [-1.0, -2.0]]), [0, 0, 1])
    assert found.accuracy == pytest.approx((0.5 + 1 + 0) / 3)
    assert found.recall == pytest.approx([(0.5 + 1) / 2, 0.0])
    assert found.macro_f1 == pytest.approx((2 * 1.5 / (2 + 2.5) + 0) / 2)
    assert found.predicted == pytest.approx([(0.5 + 1 + 1) / 3, 0.5 / 3])
    assert found.ties == pytest.approx(1 / 3)


def test_ties_of_three_classes_count_by_their_shares():
    log_probs = np.array([[-1.0, -1.0, -1.0], [-3.0, -1.0, -1.0], [-1.0, -2.0, -3.0], [-2.0, -2.0, -1.0]])
    found = scores(log_probs, [0, 0, 0, 2])
    assert found.accuracy == pytest.approx((1 / 3 + 0 + 1 + 1) / 4)
    assert found.recall == pytest.approx([(1 / 3 + 0 + 1) / 3, 0.0, 1.0])
    assert found.predicted == pytest.approx([(1 / 3 + 1) / 4, (1 / 3 + 1 / 2) / 4, (1 / 3 + 1 / 2 + 1) / 4])
    assert found.ties == 0.5


@pytest.mark.parametrize("classes", [2, 3])
def test_answers_that_say_nothing_are_at_chance_and_all_tied(classes):
    gold = list(range(classes)) * 2
    found = scores(np.zeros((len(gold), classes)), gold)
    chance = [pytest.approx(1 / classes)] * classes
    assert (found.accuracy, found.recall, found.predicted, found.ties) == (chance[0], chance, chance, 1.0)


@pytest.mark.parametrize("how", ["none", "content_free", "pool"])
def test_answers_that_tie_go_to_no_class_however_they_are_calibrated(how):
    log_probs = np.full((8, 2), -1.296875)
    gold = [0, 1] * 4
    found = evaluated(log_probs, gold, unlabelled=log_probs).scores(how)
    assert (found.accuracy, found.macro_f1, found.recall, found.predicted) == (0.5, 0.5, [0.5, 0.5], [0.5, 0.5])
    assert found.ties == 1.0


def test_the_order_of_the_classes_does_not_change_what_ties_count():
    log_probs, gold = np.array([[-1.0, -1.0, -2.0], [-1.0, -3.0, -1.0], [-2.0, -1.0, -1.5]]), [0, 2, 2]
    order = [2, 0, 1]
    there, here = scores(log_probs[:, order], [order.index(place) for place in gold]), scores(log_probs, gold)
    assert there.accuracy == pytest.approx(here.accuracy)
    assert there.macro_f1 == pytest.approx(here.macro_f1)
    assert there.recall == pytest.approx([here.recall[place] for place in order])
    assert there.predicted == pytest.approx([here.predicted[place] for place in order])


def test_votes_are_one_for_the_likeliest_class_and_divided_where_several_are():
    log_probs = np.array([[-1.0, -2.0, -3.0], [-1.0, -1.0, -3.0], [-4.0, -4.0, -4.0]])
    np.testing.assert_allclose(shared_votes(log_probs), [[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])


@pytest.mark.parametrize("how", ["none", "content_free", "pool"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_mean_of_the_right_items_is_the_accuracy(classes, how):
    log_probs, gold = drawn(classes)
    log_probs[5], log_probs[6] = -1.0, -2.0
    found = evaluated(log_probs, gold, unlabelled=drawn(classes, 30, seed=1)[0])
    assert found.correct(how).mean() == pytest.approx(found.scores(how).accuracy)


def test_right_items_are_one_wrong_ones_zero_and_tied_ones_a_share():
    log_probs = np.array([[-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0], [-1.0, -1.0, -3.0], [-1.0, -1.0, -3.0]])
    assert evaluated(log_probs, [0, 1, 1, 2]).correct().tolist() == [1.0, 0.0, 0.5, 0.0]


def test_with_two_classes_the_area_is_that_of_the_log_odds():
    log_probs, gold = drawn(2)
    found = evaluated(log_probs, gold)
    odds = found.scores_by_item[:, 1] - found.scores_by_item[:, 0]
    assert found.area_under_curve() == pytest.approx(roc_auc_score(gold, odds))


def test_with_two_classes_the_area_is_the_share_of_pairs_ranked_rightly():
    log_probs = np.array([[-1.0, -2.0], [-1.0, -3.0], [-3.0, -1.0], [-1.0, -2.5], [-2.0, -3.0]])
    found = evaluated(log_probs, [0, 0, 1, 1, 1])
    odds = {0: [1.0, 2.0], 1: [-2.0, 1.5, 1.0]}
    pairs = [(first > second) + 0.5 * (first == second) for first in odds[0] for second in odds[1]]
    assert found.area_under_curve() == pytest.approx(np.mean(pairs))


def test_with_three_classes_the_area_is_the_mean_over_pairs_of_classes():
    log_probs, gold = drawn(3)
    found, labels = evaluated(log_probs, gold), np.array(gold)
    shares = np.exp(found.scores_by_item) / np.exp(found.scores_by_item).sum(axis=1, keepdims=True)
    assert found.area_under_curve() == pytest.approx(roc_auc_score(gold, shares, multi_class="ovo", average="macro"))
    areas = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        taken = np.isin(labels, (one, other))
        for first in (one, other):
            areas.append(roc_auc_score(labels[taken] == first, shares[taken, first]))
    assert found.area_under_curve() == pytest.approx(np.mean(areas))


def test_with_two_classes_a_label_prior_does_not_change_the_area():
    log_probs, gold = drawn(2)
    assert evaluated(log_probs + np.array([3.0, -1.0]), gold).area_under_curve() == pytest.approx(
        evaluated(log_probs, gold).area_under_curve(), abs=1e-3
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_the_area_of_some_items_is_that_of_an_evaluation_of_these(classes):
    log_probs, gold = drawn(classes)
    taken = np.arange(len(gold)) % 2 == 0
    alone = evaluated(log_probs[taken], np.array(gold)[taken].tolist())
    assert evaluated(log_probs, gold).area_under_curve(taken) == alone.area_under_curve()


@pytest.mark.parametrize(("classes", "gold"), [(2, [1, 1, 1]), (3, [0, 1, 1])])
def test_there_is_no_area_where_a_class_has_no_item(classes, gold):
    assert np.isnan(evaluated(of(0, 1, 0, classes=classes), gold).area_under_curve())


@pytest.mark.parametrize("how", ["content_free", "pool"])
def test_calibration_divides_probabilities_by_those_of_what_is_asked_beside(how):
    prior = np.log([[0.8, 0.2]])
    found = evaluated(np.log([[0.6, 0.2], [0.1, 0.3]]), [0, 1], content_free=prior, unlabelled=prior)
    np.testing.assert_allclose(np.exp(found.calibrated(how)), [[0.75, 1.0], [0.125, 1.5]], atol=2e-4)


@pytest.mark.parametrize("how", ["content_free", "pool"])
def test_calibration_makes_an_input_like_those_asked_beside_a_tie(how):
    beside = np.log([[0.08, 0.01, 0.4]])
    found = evaluated(beside, [0], content_free=beside, unlabelled=beside)
    assert found.calibrated(how)[0] == pytest.approx([found.calibrated(how)[0, 0]] * 3, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_uniform_prior_changes_nothing(classes):
    log_probs, gold = drawn(classes)
    found = evaluated(log_probs, gold, content_free=UNIFORM[classes], unlabelled=UNIFORM[classes])
    assert found.scores("content_free") == found.scores("pool") == found.scores("none") == found.scores()


@pytest.mark.parametrize("how", ["content_free", "pool"])
@pytest.mark.parametrize("bias", [[6.0, 0.0, 0.0], [0.0, 6.0, 2.0], [-3.0, 0.0, 3.0]])
def test_calibration_takes_out_a_constant_bias(bias, how):
    gold = [0, 1, 2, 0, 1, 2]
    beside = np.log([[0.3, 0.3, 0.3], [0.1, 0.1, 0.1]]) + bias
    found = evaluated(of(*gold, classes=3) + bias, gold, content_free=beside, unlabelled=beside)
    assert found.scores().accuracy == pytest.approx(1 / 3)
    assert found.scores(how) == Scores(1.0, 1.0, [1.0] * 3, [pytest.approx(1 / 3)] * 3, 0.0)


@pytest.mark.parametrize("how", ["content_free", "pool"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_constant_for_each_class_changes_no_calibrated_answer(classes, how):
    """The same constants are added to items and to the one input that is asked beside."""
    log_probs, gold = drawn(classes)
    beside, constants = drawn(classes, classes, seed=3)[0][:1], np.array([2.0, -1.5, 0.25])[:classes]
    plain = evaluated(log_probs, gold, content_free=beside, unlabelled=beside)
    moved = evaluated(log_probs + constants, gold, content_free=beside + constants, unlabelled=beside + constants)
    difference = moved.calibrated(how) - plain.calibrated(how)
    np.testing.assert_allclose(difference, difference.mean(), rtol=0, atol=3e-4)  # kept to four places
    assert moved.scores(how).accuracy == plain.scores(how).accuracy
    assert moved.scores().predicted != plain.scores().predicted


def test_both_calibrations_are_one_formula():
    log_probs, gold = drawn(3)
    beside = drawn(3, 7, seed=5)[0].round(4)
    found = evaluated(log_probs, gold, content_free=beside, unlabelled=beside)
    np.testing.assert_allclose(found.calibrated("content_free"), found.calibrated("pool"), rtol=0, atol=1e-12)


def test_calibration_does_not_read_gold_labels():
    log_probs, gold = drawn(3)
    beside = drawn(3, 7, seed=5)[0]
    one, other = (evaluated(log_probs, labels, beside, beside) for labels in (gold, gold[::-1]))
    for how in ("content_free", "pool"):
        np.testing.assert_array_equal(one.calibrated(how), other.calibrated(how))


def test_content_free_prior_is_the_mean_of_the_normalised_probabilities():
    content_free = np.log([[0.09, 0.01], [0.002, 0.008]])
    found = evaluated(of(0, 1), [0, 1], content_free=content_free).content_free
    assert found == pytest.approx([(0.9 + 0.2) / 2, (0.1 + 0.8) / 2])


def test_gold_is_kept_in_order():
    assert evaluated(of(0, 0, 0, 0), [0, 1, 1, 0]).gold == [0, 1, 1, 0]


def test_log_probs_are_kept_in_order_to_four_places():
    log_probs = np.array([[-1.23456, -4.0], [-0.5, -2.00004]])
    found = evaluated(log_probs, [0, 1], unlabelled=log_probs[::-1])
    assert found.label_log_probs == [[-1.2346, -4.0], [-0.5, -2.0]]
    assert found.unlabelled == [[-0.5, -2.0], [-1.2346, -4.0]]


def test_where_no_unlabelled_query_was_asked_the_other_half_of_the_items_gives_the_prior():
    log_probs, gold = drawn(3)
    found = evaluated(log_probs, gold)
    assert (found.unlabelled, found.prior_from) == ([], "the other half of the items")
    np.testing.assert_array_equal(found.calibrated("pool"), split_calibrated(found.scores_by_item))
    assert evaluated(log_probs, gold, unlabelled=log_probs).prior_from == "unlabelled queries"


def test_items_of_one_kind_have_one_number():
    items = [Query("", (), 0, kind) for kind in (("a", "x"), ("b", "x"), ("a", "x"), ("a", "w"))]
    assert clusters_of(items) == [1, 2, 1, 0]
    assert evaluation(np.concatenate([of(0, 1, 0, 1), UNIFORM[2]]), items).clusters == [1, 2, 1, 0]
    assert clusters_of([*items, Query("", (), 0)]) == []


@pytest.mark.parametrize("classes", [2, 3])
def test_all_scores_follow_from_what_is_kept(classes):
    log_probs, gold = drawn(classes)
    found = evaluated(log_probs, gold, drawn(classes, 3, seed=1)[0], drawn(classes, 9, seed=2)[0])
    again = Evaluation(found.gold, found.label_log_probs, found.content_free, found.unlabelled)
    for how in ("none", "content_free", "pool"):
        assert again.scores(how) == found.scores(how) == scores(found.calibrated(how), found.gold)
