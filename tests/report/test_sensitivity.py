"""Sensitivity: which choices are tried, how far each moves the result, what the figure says."""

import pandas as pd
import pytest

from lib.errors import StudyError
from lib.report import sensitivity
from lib.runs.ablations import choice_variants
from lib.runs.profile import read_profile
from lib.runs.variants import Variants, fill_variants

pytestmark = pytest.mark.usefixtures("close_figures")


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
    table = sensitivity.spread(moved(), read_profile("smoke"))
    assert table["in domain"].to_dict() == pytest.approx({"kl_weight": 0.4, "pool": 0.2})
    assert table.loc["pool", "best out of domain"] == "target"
    assert list(table.index) == ["kl_weight", "pool"]


def test_a_choice_has_a_panel_and_the_figure_says_how_many_seeds():
    profile = read_profile("smoke")
    figure = sensitivity.sensitivity_figure(moved(), profile)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["kl_weight", "pool"]
    assert figure.get_suptitle() == "n = 8; 1 to 3 seeds, mean and 95% interval"
    once = sensitivity.sensitivity_figure(moved().assign(seeds=1), profile)
    assert once.get_suptitle() == "n = 8; one seed"


def test_moves_without_a_result_say_so(smoke_profile):
    with pytest.raises(StudyError, match="no choice can be compared"):
        sensitivity.choice_effects(smoke_profile, Variants({}, {}))


def test_moves_are_means_over_seeds(smoke_profile):
    chosen = {name: change for name, change in choice_variants(smoke_profile).items() if "kl_weight" in name}
    found = fill_variants(smoke_profile, chosen, ["cd"])
    table = sensitivity.choice_effects(smoke_profile, found).set_index("value")
    expected = found.sweeps["kl_weight 1"].results.in_domain_accuracy.mean()
    assert table.loc[1.0, "in_domain"] == pytest.approx(expected)
    assert table[table.own].index.tolist() == [0.5]
    halves = [table.loc[1.0, f"in_domain_on_{name}"] for name in ("entailment", "non-entailment")]
    assert sum(halves) / 2 == pytest.approx(expected)  # the smoke profile evaluates as many of each


def test_values_are_compared_on_the_seeds_that_all_of_them_have(smoke_profile):
    names = ("temperature 1", "temperature 2", "temperature 4", "kl_weight 0", "kl_weight 1")
    planned = {name: change for name, change in choice_variants(smoke_profile).items() if name in names}
    planned["temperature 2"] |= {"seeds": [0]}
    planned["kl_weight 0"] |= {"seeds": [0]}
    planned["kl_weight 1"] |= {"seeds": [1]}  # nothing in common with the other value
    found = fill_variants(smoke_profile, planned, ["cd"])
    table = sensitivity.choice_effects(smoke_profile, found)
    assert table.choice.tolist() == ["temperature"] * 3
    assert (table.seeds == 1).all()
    results = found.sweeps["temperature 4"].results
    assert set(results.seed) == {0, 1}
    of_first = results[results.seed == 0].in_domain_accuracy.mean()
    assert table.set_index("value").in_domain[4.0] == pytest.approx(of_first)


def test_runs_that_fail_are_listed_and_the_tables_do_without(smoke_profile):
    names = ("learning_rate 0.00033", "learning_rate 0.003", "learning_rate 0.001", "temperature 1")
    planned = {name: change for name, change in choice_variants(smoke_profile).items() if name in names}
    planned[names[1]] |= {"learning_rate.cd": 1e30}
    found = fill_variants(smoke_profile, planned, ["cd"])
    assert {name.partition(":")[0] for name in found.failed} == {names[1]}
    assert all(found.failed.values())
    assert f"Failed: {next(iter(found.failed))}." in found._repr_html_()
    moved = sensitivity.choice_effects(smoke_profile, found)
    assert moved.value.map("{:.2g}".format).tolist() == ["0.00033", "0.001"]  # of the temperature there is one value
