"""Variants, sensitivity and the ideas beyond the paper: what is tried, what is left out, what the tables say."""

import copy

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from lib import beyond, sensitivity
from lib.beyond import PLAIN, apart, compared, differences, differences_table, ideas, rankings, targets_met
from lib.errors import StudyError
from lib.frames import results_frame
from lib.profiles import read_profile
from lib.sweep import Sweep, fill
from lib.variants import Variants, few, fill_variants


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_each_variant_has_its_own_results_and_what_cannot_work_is_left_out(smoke_profile):
    changes = {"own": {}, "hot": {"temperature": 3.0}, "too large": {"pool_size": 999}, "wrong": {"temperature": -1}}
    found = fill_variants(smoke_profile, changes, ["cd"])
    assert list(found.sweeps) == ["own", "hot"]
    assert "pool_size: 999 queries asked for" in found.left_out["too large"]
    assert "temperature" in found.left_out["wrong"]
    assert [len(sweep.results) for sweep in found.sweeps.values()] == [4, 4]
    assert found.failed == {}
    losses = [sweep.records[0]["outcome"]["losses"] for sweep in found.sweeps.values()]
    assert losses[0] != losses[1]


def test_a_variant_that_says_nothing_new_is_the_profile_itself(smoke_profile):
    first = fill(smoke_profile, ["cd"]).records
    same = fill_variants(smoke_profile, {"same": {"temperature": smoke_profile.temperature}}, ["cd"]).sweeps["same"]
    assert [one["key"] for one in same.records] == [one["key"] for one in first]


def test_cells_that_fail_are_listed_and_the_tables_do_without(smoke_profile):
    names = ("learning_rate 0.00033", "learning_rate 0.003", "learning_rate 0.001", "temperature 1")
    planned = {name: change for name, change in sensitivity.variants(smoke_profile).items() if name in names}
    planned[names[1]] |= {"learning_rate.cd": 1e30}
    found = fill_variants(smoke_profile, planned, ["cd"])
    assert {name.partition(":")[0] for name in found.failed} == {names[1]}
    assert all(found.failed.values())
    assert f"Failed: *{next(iter(found.failed))}*" in found._repr_markdown_()
    moved = sensitivity.moves(smoke_profile, found)
    assert moved.value.map("{:.2g}".format).tolist() == ["0.00033", "0.001"]  # of the temperature there is one value
    failed_alone = Variants({PLAIN: found.sweeps[names[1]]}, {})
    assert PLAIN not in set(compared(failed_alone, fill(smoke_profile, ["baseline", "icl"])).name)


def test_what_is_stored_can_be_compared_alone(smoke_profile):
    changes = {"own": {}, "hot": {"temperature": 3.0}, "cold": {"temperature": 0.5}, "too large": {"pool_size": 999}}
    stored = smoke_profile.changed({"stored_only": True})
    fill(smoke_profile.changed({"seeds": [0]}), ["cd"])
    with pytest.raises(StudyError, match="stored_only: there are no results of two variants"):
        fill_variants(stored, changes, ["cd"])
    fill(smoke_profile.changed({"temperature": 3.0}), ["cd"])
    found = fill_variants(stored, changes, ["cd"])
    assert {name: len(sweep.results) for name, sweep in found.sweeps.items()} == {"own": 2, "hot": 4}
    assert found.left_out == {"cold": "No result is stored.", "too large": "No result is stored."}
    assert "Left out: *cold*, *too large*. No result is stored." in found._repr_markdown_()
    assert "2 of their results are not computed yet" in found._repr_markdown_()


def test_where_no_variant_can_work_the_reasons_are_the_error(smoke_profile):
    with pytest.raises(StudyError, match="pool_size: 999"):
        fill_variants(smoke_profile, {"too large": {"pool_size": 999}}, ["cd"])


def test_every_choice_is_tried_around_the_profiles_own_value():
    profile = read_profile("smoke")
    tried = sensitivity.candidates(profile)
    middle = sensitivity.centre(profile)
    assert {choice for choice, _ in tried} == {*sensitivity.KNOBS, "learning_rate"}
    for choice, own in middle.items():
        values = [value for name, value in tried if name == choice]
        assert own in values
        assert len(values) > 1
    assert "pattern" not in {choice for choice, _ in sensitivity.candidates(read_profile("tiny"))}


def moved():
    rows = [("kl_weight", 0.0, 0.5, 0.5), ("kl_weight", 0.5, 0.9, 0.6), ("pool", "train", 0.9, 0.6)]
    rows += [("pool", "target", 0.7, 0.95)]
    table = pd.DataFrame(rows, columns=["choice", "value", "in_domain", "out_of_domain"])
    for domain in ("in_domain", "out_of_domain"):
        table[f"{domain}_low"], table[f"{domain}_high"] = table[domain] - 0.02, table[domain] + 0.02
        table[f"{domain}_on_entailment"], table[f"{domain}_on_non-entailment"] = table[domain], table[domain]
        table[f"{domain}_majority"] = 0.5
    return table.assign(own=[False, True, True, False], support_sizes="8", seeds=[3, 3, 1, 3])


def test_the_spread_is_between_the_best_and_the_worst_value():
    table = sensitivity.spread(moved())
    assert table["in domain"].to_dict() == pytest.approx({"kl_weight": 0.4, "pool": 0.2})
    assert table.loc["pool", "best out of domain"] == "target"
    assert list(table.index) == ["kl_weight", "pool"]


def test_a_choice_has_a_panel_and_the_figure_says_how_many_seeds():
    figure = sensitivity.sensitivity_figure(moved())
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["kl_weight", "pool"]
    assert figure.get_suptitle() == "n = 8; 1 to 3 seeds, mean and 95% interval"
    assert sensitivity.sensitivity_figure(moved().assign(seeds=1)).get_suptitle() == "n = 8; one seed"


def test_moves_are_means_over_seeds(smoke_profile):
    chosen = {name: change for name, change in sensitivity.variants(smoke_profile).items() if "kl_weight" in name}
    found = fill_variants(smoke_profile, chosen, ["cd"])
    table = sensitivity.moves(smoke_profile, found).set_index("value")
    expected = found.sweeps["kl_weight 1"].results.in_domain_accuracy.mean()
    assert table.loc[1.0, "in_domain"] == pytest.approx(expected)
    assert table[table.own].index.tolist() == [0.5]
    halves = [table.loc[1.0, f"in_domain_on_{name}"] for name in ("entailment", "non-entailment")]
    assert sum(halves) / 2 == pytest.approx(expected)  # the smoke profile evaluates as many of each


def test_few_are_the_first_seeds_and_the_sizes_that_there_are():
    assert few(read_profile("smoke"), (4, 12), 1) == {"support_sizes": [4], "seeds": [0]}
    assert few(read_profile("smoke"), (12,), 5) == {"support_sizes": [1, 4], "seeds": [0, 1]}


def test_ideas_add_one_ingredient_at_a_time_to_the_papers_way():
    tried = ideas(read_profile("smoke"))
    assert tried[PLAIN] == {}
    further = {name: change for name, change in tried.items() if name[0] == "…"}
    whole = further.pop("… each as large as one")
    assert whole == {"pool": "both", "pool_size": 2 * 2, "calibration": "pool", "kl_weight": 1.0}
    for name, times in (("twice", 2), ("four times", 4)):
        assert further.pop(f"… each {name} as large") == {**whole, "pool_size": times * 2 * 2}
    assert further.pop("… each as large as one, in as many steps") == {**whole, "epochs": 4 * 2}
    assert all(tried["target's pool"].items() <= change.items() for change in further.values())
    for change in tried.values():
        read_profile("smoke", change)


ITEMS = 400


def answered(method, accuracies, size=4):
    """A sweep of one method that gets these shares of the items right, seed by seed, as many of each class."""
    gold = np.arange(ITEMS) // 2 % 2
    records = []
    for seed, accuracy in enumerate(accuracies):
        answers = np.where(np.arange(ITEMS) % 100 < 100 * accuracy, gold, 1 - gold)
        scores = [[0.0, -1.0] if answer == 0 else [-1.0, 0.0] for answer in answers]
        evaluation = {"label_log_probs": scores, "gold": "".join(map(str, gold))}
        cell = {"method": method, "support_size": size, "seed": seed}
        records.append({"cell": cell, "outcome": {"in_domain": evaluation, "out_of_domain": evaluation}})
    return records


def rivals(icl=(0.6,) * 3, pbft=(0.6,) * 3, teacher=(0.9,) * 3):
    every = answered("icl", icl) + answered("pbft", pbft) + answered("teacher_icl", teacher)
    return Sweep(None, None, every + answered("baseline", [0.5], size=0))


def of_ideas(**accuracies):
    return Variants({name: Sweep(None, None, answered("cd", values)) for name, values in accuracies.items()}, {})


def test_without_gold_labels_their_rows_make_room_for_more_epochs():
    assert beyond.kl_alone(read_profile("smollm2")) == {"kl_weight": 1.0, "epochs.cd": 5}
    assert beyond.kl_alone(read_profile("smollm2", {"epochs": 4})) == {"kl_weight": 1.0, "epochs": 6}


def test_an_idea_meets_the_aim_only_where_intervals_do_not_touch():
    met = targets_met(of_ideas(clear=[0.8] * 3, touching=[0.65] * 3), rivals())
    assert met["beats ICL and PBFT in domain"].to_dict() == {"clear": "1 of 1", "touching": "0 of 1"}
    assert met.loc["clear", "least share recovered out of domain"].startswith("75% [")


def test_an_idea_beats_both_rivals_or_nothing_is_said():
    met = targets_met(of_ideas(clear=[0.8] * 3), rivals(pbft=()))
    assert met.loc["clear", "beats ICL and PBFT in domain"] == ""
    without_teacher = targets_met(of_ideas(clear=[0.8] * 3), rivals(teacher=()))
    assert without_teacher.loc["clear", "least share recovered in domain"] == ""
    weak = targets_met(of_ideas(clear=[0.8] * 3), rivals(teacher=[0.55] * 3))
    assert weak.loc["clear", "least share recovered in domain"] == "teacher no better"


def test_two_seeds_beat_nobody_and_say_how_few_they_are():
    """Items alone would make an interval of one seed that does not touch anything."""
    met = targets_met(of_ideas(one=[0.8], two=[0.8] * 2, three=[0.8] * 3), rivals())
    assert met["beats ICL and PBFT in domain"].to_dict() == {"one": "", "two": "", "three": "1 of 1"}
    shares = met["least share recovered in domain"]
    assert [share.partition("]")[2] for share in shares] == [" (1 seed)", " (2 seeds)", ""]
    others = rivals(icl=[0.6] * 2)
    assert targets_met(of_ideas(three=[0.8] * 3), others).loc["three", "beats ICL and PBFT in domain"] == ""
    axes = beyond.ideas_figure(compared(of_ideas(one=[0.8], three=[0.8] * 3), others), 4).axes
    assert [text.get_text() for text in axes[0].get_yticklabels()][:2] == ["three", "one (1 seed)"]


def test_differences_are_paired_by_seed():
    """Seeds move both alike, so that each one's own interval is wide and that of their difference is not."""
    moving = np.array([0.5, 0.6, 0.7])
    found = of_ideas(**{PLAIN: moving, "better": moving + 0.1})
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
    found = of_ideas(**{PLAIN: [0.5, 0.5, 0.9], "better": [0.8, 0.8]})
    one = differences(found, rivals()).set_index(["name", "against", "domain"]).loc[("better", PLAIN, "in_domain")]
    assert (one.seeds, one.difference) == (2, pytest.approx(0.3))
    assert not one.differs


def test_support_sizes_may_have_different_seeds():
    """Three seeds at one size and one at another: each size speaks of its own."""
    sweep = Sweep(None, None, answered("cd", [0.8] * 3, 4) + answered("cd", [0.9], 12))
    others = rivals()
    others.records.extend(answered("icl", [0.5], 12))
    found = Variants({"idea": sweep}, {})
    table = compared(found, others)
    own = table[(table.name == "idea") & (table.domain == "in_domain")].set_index("support_size")
    assert own.seeds.to_dict() == {4: 3, 12: 1}
    assert own.accuracy.to_dict() == pytest.approx({4: 0.8, 12: 0.9})
    assert beyond.fullest(table) == 4
    worth = differences(found, others)
    assert worth[worth.domain == "in_domain"].groupby("against").support_size.agg(list).to_dict() == {
        "ICL": [4, 12],
        "PBFT": [4],
    }


def test_the_fullest_size_is_the_larger_of_two_that_are_alike():
    table = pd.DataFrame({"support_size": [4, 4, 12, 12], "seeds": [2, 2, 1, 3]})
    assert beyond.fullest(table) == 12


def test_differences_are_shown_with_a_star_where_they_stand():
    table = differences(of_ideas(**{PLAIN: [0.6] * 3, "better": [0.8] * 3}), rivals())
    shown = differences_table(table)
    assert shown.loc[(4, "better"), ("in domain", PLAIN)].startswith("+0.20 [+0.1")
    assert shown.loc[(4, "better"), ("in domain", PLAIN)].endswith("] *")
    assert shown.loc[(4, PLAIN), ("out of domain", "ICL")] == "+0.00 [+0.00, +0.00]"
    assert shown.loc[(4, PLAIN), ("out of domain", PLAIN)] == ""
    assert differences_table(pd.DataFrame()).empty


def test_the_table_shows_one_answer_for_everything():
    gold = np.repeat([0, 1], [100, 300])
    evaluation = {"label_log_probs": [[0.0, -1.0]] * ITEMS, "gold": "".join(map(str, gold))}
    cell = {"method": "cd", "support_size": 4, "seed": 0}
    yes = [{"cell": cell, "outcome": {"in_domain": evaluation, "out_of_domain": evaluation}}]
    table = compared(Variants({"yes": Sweep(None, None, yes)}, {}), Sweep(None, None, []))
    one = table.iloc[0]
    assert (one.accuracy, one.majority) == (pytest.approx(0.25), 0.75)
    assert (one.on_entailment, one.on_non_entailment, one.share_entailment) == (1, 0, 1)
    assert one.low == pytest.approx(one.high)  # no draw of the items has more of a class than the sample has


def test_ideas_and_references_stand_in_one_table_and_figure(smoke_profile):
    found = fill_variants(smoke_profile, {PLAIN: {}}, ["cd"])
    table = compared(found, fill(smoke_profile, ["baseline", "icl", "pbft", "teacher_icl"]))
    assert set(table.name) == {"Baseline", "ICL", "PBFT", "Teacher ICL", PLAIN}
    assert (table.low <= table.accuracy).all()
    assert len(beyond.ideas_figure(table, 4).axes) == 4


def test_a_label_prior_moves_no_ranking(smoke_profile):
    found = fill_variants(smoke_profile, {PLAIN: {}, "hot": {"temperature": 4.0}}, ["cd"])
    references = fill(smoke_profile, ["baseline", "icl"])
    table = rankings(found, references)
    size = smoke_profile.support_sizes[0]
    assert (size, "hot") in table.index
    own = found.sweeps["hot"].results
    expected = own[own.support_size == size].out_of_domain_auc.mean()
    assert table.loc[(size, "hot"), "out of domain"].startswith(f"{expected:.2f} [")
    shifted = copy.deepcopy(references.records)
    for record in shifted:
        evaluation = record["outcome"]["in_domain"]
        evaluation["label_log_probs"] = [
            [entailment + 3.0, other] for entailment, other in evaluation["label_log_probs"]
        ]
    assert results_frame(shifted).in_domain_auc.tolist() == pytest.approx(references.results.in_domain_auc.tolist())


def record(right_items, held_out, seed):
    scores = [[0.0, -1.0] if right else [-1.0, 0.0] for right in right_items]
    evaluation = {"label_log_probs": scores, "gold": "0" * len(scores)}
    cell = {"method": "cd", "support_size": 4, "seed": seed}
    return {"cell": cell, "outcome": {"out_of_domain": evaluation, "held_out": held_out}}


def test_items_of_kinds_that_the_pool_lacks_are_scored_apart():
    records = [record([1, 1, 0, 0] * 20, "1100" * 20, 0), record([1, 0, 1, 1] * 20, "0011" * 20, 1)]
    plain = [record([1, 1, 1, 1], "", 0)]
    sweeps = {"held": Sweep(None, None, records), PLAIN: Sweep(None, None, plain)}
    table = apart(Variants(sweeps, {})).set_index("items")
    assert set(table.name) == {"held"}
    assert table.accuracy.to_dict() == pytest.approx({"held out of the pool": 1.0, "of kinds in the pool": 0.25})
    assert (table.low <= table.accuracy).all()
    assert (table.accuracy <= table.high).all()


def test_a_profile_may_name_the_choices_and_ideas_that_are_tried():
    few_of_them = read_profile("smoke", {"choices": ["kl_weight", "pool"], "ideas": [PLAIN, "confidence"]})
    assert list(beyond.variants(few_of_them)) == [PLAIN, "confidence"]
    assert {choice for choice, _ in sensitivity.candidates(few_of_them)} == {"kl_weight", "pool"}
    with pytest.raises(StudyError, match=r"ideas: 'confidense' is not known\. Did you mean 'confidence'"):
        beyond.variants(read_profile("smoke", {"ideas": ["confidense"]}))
    with pytest.raises(StudyError, match="choices: 'lambda' is not known"):
        sensitivity.candidates(read_profile("smoke", {"choices": ["lambda"]}))
