"""Ablations beyond the paper: what the tables and the figure say of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.report import ablation_figures
from lib.report.ablation_figures import (
    compared,
    differences,
    differences_table,
    rankings,
    targets_met,
)
from lib.runs.ablations import PLAIN
from lib.runs.execution import Sweep, fill
from lib.runs.frames import results_frame
from lib.runs.variants import Variants, fill_variants
from tests.support.stored import answering, smoke, stored

pytestmark = pytest.mark.usefixtures("close_figures")


ITEMS = 400


def answered(method, accuracies, size=4):
    """Results of one method that get these shares of the items right, seed by seed, as many of each class."""
    gold = np.arange(ITEMS) // 2 % 2
    right = [np.arange(ITEMS) % 100 < 100 * accuracy for accuracy in accuracies]
    return [stored(method, size, seed, answering(gold, items), gold) for seed, items in enumerate(right)]


def rivals(icl=(0.6,) * 3, pbft=(0.6,) * 3, teacher=(0.9,) * 3):
    every = answered("icl", icl) + answered("pbft", pbft) + answered("teacher_icl", teacher)
    return Sweep(smoke(), None, every + answered("baseline", [0.5], size=0))


def of_ablations(**accuracies):
    return Variants({name: Sweep(smoke(), None, answered("cd", values)) for name, values in accuracies.items()}, {})


def test_an_ablation_meets_the_aim_only_where_intervals_do_not_touch():
    met = targets_met(of_ablations(clear=[0.8] * 3, touching=[0.65] * 3), rivals())
    assert met["beats ICL and PBFT in domain"].to_dict() == {"clear": "1 of 1", "touching": "0 of 1"}
    share = met.loc["clear", "least share recovered out of domain"]
    assert share.startswith("75% [")
    assert share.endswith("] at n = 4")


def test_an_ablation_beats_both_rivals_or_nothing_is_said():
    met = targets_met(of_ablations(clear=[0.8] * 3), rivals(pbft=()))
    assert met.loc["clear", "beats ICL and PBFT in domain"] == ""
    without_teacher = targets_met(of_ablations(clear=[0.8] * 3), rivals(teacher=()))
    assert without_teacher.loc["clear", "least share recovered in domain"] == ""
    weak = targets_met(of_ablations(clear=[0.8] * 3), rivals(teacher=[0.55] * 3))
    assert weak.loc["clear", "least share recovered in domain"] == "teacher no better"


def test_two_seeds_beat_nobody_and_say_how_few_they_are():
    """Items alone would make an interval of one seed that does not touch anything."""
    met = targets_met(of_ablations(one=[0.8], two=[0.8] * 2, three=[0.8] * 3), rivals())
    assert met["beats ICL and PBFT in domain"].to_dict() == {"one": "", "two": "", "three": "1 of 1"}
    shares = met["least share recovered in domain"]
    few = [" (1\N{NO-BREAK SPACE}seed)", " (2\N{NO-BREAK SPACE}seeds)", ""]
    assert [share.partition("] at n = 4")[2] for share in shares] == few
    others = rivals(icl=[0.6] * 2)
    assert targets_met(of_ablations(three=[0.8] * 3), others).loc["three", "beats ICL and PBFT in domain"] == ""
    axes = ablation_figures.ablations_figure(
        compared(of_ablations(one=[0.8], three=[0.8] * 3), others), 4, smoke()
    ).axes
    assert [text.get_text() for text in axes[0].get_yticklabels()][:2] == ["three", "one (1\N{NO-BREAK SPACE}seed)"]


def test_an_interval_goes_no_further_than_an_accuracy_can():
    (one,) = (
        compared(of_ablations(one=[0.5, 0.9]), rivals()).query("name == 'one' and domain == 'in_domain'").itertuples()
    )
    assert (one.low, one.high) == (0, 1)


def test_differences_are_paired_by_seed():
    """Seeds move both alike, so that each one's own interval is wide and that of their difference is not."""
    moving = np.array([0.5, 0.6, 0.7])
    found = of_ablations(**{PLAIN: moving, "better": moving + 0.1})
    table = differences(found, rivals()).set_index(["name", "against", "domain"])
    one = table.loc[("better", PLAIN, "in_domain")]
    assert one.difference == pytest.approx(0.1)
    assert one.differs
    assert one.high - one.low < 0.1
    own = compared(found, rivals()).set_index(["name", "domain"]).loc[("better", "in_domain")]
    assert own.high - own.low > 0.4
    assert (PLAIN, PLAIN, "in_domain") not in table.index
    assert ("better", "PBFT", "out_of_domain") in table.index


def test_only_seeds_that_both_have_are_compared_and_two_never_differ():
    found = of_ablations(**{PLAIN: [0.5, 0.5, 0.9], "better": [0.8, 0.8]})
    one = differences(found, rivals()).set_index(["name", "against", "domain"]).loc[("better", PLAIN, "in_domain")]
    assert (one.seeds, one.difference) == (2, pytest.approx(0.3))
    assert not one.differs


def test_support_sizes_may_have_different_seeds():
    """Three seeds at one size and one at another: each size speaks of its own."""
    sweep = Sweep(smoke(), None, answered("cd", [0.8] * 3, 4) + answered("cd", [0.9], 12))
    others = rivals()
    others.stored.extend(answered("icl", [0.5], 12))
    found = Variants({"ablation": sweep}, {})
    table = compared(found, others)
    own = table[(table.name == "ablation") & (table.domain == "in_domain")].set_index("support_size")
    assert own.seeds.to_dict() == {4: 3, 12: 1}
    assert own.accuracy.to_dict() == pytest.approx({4: 0.8, 12: 0.9})
    assert ablation_figures.fullest(table) == 4
    worth = differences(found, others)
    assert worth[worth.domain == "in_domain"].groupby("against").support_size.agg(list).to_dict() == {
        "ICL": [4, 12],
        "PBFT": [4],
    }


def test_the_fullest_size_is_the_larger_of_two_that_are_alike():
    table = pd.DataFrame({"support_size": [4, 4, 12, 12], "seeds": [2, 2, 1, 3]})
    assert ablation_figures.fullest(table) == 12


def test_differences_are_shown_with_a_star_where_they_stand():
    table = differences(of_ablations(**{PLAIN: [0.6] * 3, "better": [0.8] * 3}), rivals())
    shown = differences_table(table, smoke())
    assert shown.loc[(4, "better"), ("in domain", PLAIN)].startswith("+0.20 [+0.1")
    assert shown.loc[(4, "better"), ("in domain", PLAIN)].endswith("] *")
    assert shown.loc[(4, PLAIN), ("out of domain", "ICL")] == "+0.00 [+0.00, +0.00]"
    assert shown.loc[(4, PLAIN), ("out of domain", PLAIN)] == ""
    assert differences_table(pd.DataFrame(), smoke()).empty


def test_the_differences_of_a_support_size_stand_together_the_least_first():
    everywhere = Sweep(smoke(), None, [one for size in (1, 4, 12) for one in answered("cd", [0.8] * 3, size)])
    some = Sweep(smoke(), None, [one for size in (4, 12) for one in answered("cd", [0.7] * 3, size)])
    others = Sweep(smoke(), None, [one for size in (1, 4, 12) for one in answered("icl", [0.6] * 3, size)])
    found = differences(Variants({"some": some, "everywhere": everywhere}, {}), others)
    shown = differences_table(found, smoke())
    expected = [(1, "everywhere"), (4, "some"), (4, "everywhere"), (12, "some"), (12, "everywhere")]
    assert shown.index.tolist() == expected


def test_the_table_shows_one_answer_for_everything():
    yes = [stored("cd", 4, 0, [0] * ITEMS, np.repeat([0, 1], [100, 300]))]
    table = compared(Variants({"yes": Sweep(smoke(), None, yes)}, {}), Sweep(smoke(), None, []))
    one = table.iloc[0]
    assert (one.accuracy, one.majority) == (pytest.approx(0.25), 0.75)
    assert (one.on_entailment, one.on_non_entailment, one.share_entailment) == (1, 0, 1)
    assert one.low == pytest.approx(one.high)  # no draw of the items has more of a class than the sample has


def test_ablations_and_references_stand_in_one_table_and_figure(smoke_profile):
    found = fill_variants(smoke_profile, {PLAIN: {}}, ["cd"])
    table = compared(found, fill(smoke_profile, ["baseline", "icl", "pbft", "teacher_icl"]))
    assert set(table.name) == {"Baseline", "ICL", "PBFT", "Teacher ICL", PLAIN}
    assert (table.low <= table.accuracy).all()
    assert len(ablation_figures.ablations_figure(table, 4, smoke_profile).axes) == 4


def test_an_ablation_whose_runs_fail_stands_in_no_table(smoke_profile):
    found = fill_variants(smoke_profile, {PLAIN: {"learning_rate.cd": 1e30}}, ["cd"])
    assert found.failed
    assert PLAIN not in set(compared(found, fill(smoke_profile, ["baseline", "icl"])).name)


def with_prior(result, more):
    """The result with so much more log-probability for the first class."""
    evaluation = result.outcome.evaluations["in_domain"]
    moved = replace(evaluation, label_log_probs=[[first + more, *rest] for first, *rest in evaluation.label_log_probs])
    evaluations = result.outcome.evaluations | {"in_domain": moved}
    return replace(result, outcome=replace(result.outcome, evaluations=evaluations))


def test_a_label_prior_moves_no_ranking(smoke_profile):
    found = fill_variants(smoke_profile, {PLAIN: {}, "hot": {"temperature": 4.0}}, ["cd"])
    references = fill(smoke_profile, ["baseline", "icl"])
    table = rankings(found, references)
    size = smoke_profile.support_sizes[0]
    assert (size, "hot") in table.index
    own = found.sweeps["hot"].results
    expected = own[own.support_size == size].out_of_domain_auc.mean()
    assert table.loc[(size, "hot"), "out of domain"].startswith(f"{expected:.2f} [")
    shifted = [with_prior(result, 3.0) for result in references.stored]
    assert results_frame(shifted).in_domain_auc.tolist() == pytest.approx(references.results.in_domain_auc.tolist())
