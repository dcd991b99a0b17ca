"""Sensitivity: which choices are tried, how far each moves the result, what the figure says."""

import numpy as np
import pandas as pd
import pytest

from lib.errors import StudyError
from lib.report import sensitivity
from lib.runs.ablations import choice_variants
from lib.runs.execution import Sweep
from lib.runs.profile import read_profile
from lib.runs.variants import Variants, fill_variants
from tests.support.stored import answering, smoke, stored

pytestmark = pytest.mark.usefixtures("close_figures")


def moved():
    """Two choices in two domains: the own value and another, which differs in one of them."""
    rows = []
    for domain in ("in_domain", "out_of_domain"):
        for answers in ("plain", "calibrated"):
            shared = {"domain": domain, "answers": answers, "support_sizes": "8", "majority": 0.5}
            own = {"own": True, "difference": np.nan, "differs": False}
            other = {"own": False, "difference": -0.1}
            rows += [
                shared | {"choice": "pool", "value": "train", "accuracy": 0.6, "seeds": 1, **own},
                shared | {"choice": "pool", "value": "target", "accuracy": 0.5, "seeds": 1, "differs": False, **other},
                shared | {"choice": "kl_weight", "value": 0.5, "accuracy": 0.9, "seeds": 3, **own},
                shared | {"choice": "kl_weight", "value": 0.0, "accuracy": 0.5, "seeds": 3, "differs": True, **other},
            ]
    table = pd.DataFrame(rows)
    for name in ("accuracy", "difference"):
        prefix = "" if name == "accuracy" else "difference_"
        table[f"{prefix}low"], table[f"{prefix}high"] = table[name] - 0.02, table[name] + 0.02
    return table.assign(**{"on_entailment": table.accuracy, "on_non-entailment": table.accuracy})


def test_the_choice_that_moves_most_comes_first_and_what_differs_has_a_star():
    table = sensitivity.choices_table(moved(), read_profile("smoke"))
    assert list(dict.fromkeys(table.index.get_level_values("choice"))) == ["kl_weight", "pool"]
    difference = table["in domain", "less the own value, calibrated"]
    assert difference["kl_weight", "0"] == "-0.10 [-0.12, -0.08] *"
    assert difference["pool", "target"] == "-0.10 [-0.12, -0.08]"
    assert difference["kl_weight", "0.5 (own)"] == ""
    assert table["in domain", "plain"]["kl_weight", "0"] == "0.50 [0.48, 0.52]"


def test_what_stands_is_said_in_words():
    said = sensitivity.what_stands(moved(), read_profile("smoke"))
    assert "Of 4 calibrated differences" in said
    assert "kl_weight 0 in domain: -0.10" in said
    assert said.endswith("nothing can be told of pool.")
    assert "none stands" in sensitivity.what_stands(moved().assign(differs=False), read_profile("smoke"))


def test_a_choice_has_a_panel_and_the_figure_says_how_many_seeds():
    profile = read_profile("smoke")
    figure = sensitivity.sensitivity_figure(moved(), profile)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == [
        f"{choice}, {answers}" for answers in ("plain", "calibrated") for choice in ("pool", "kl_weight")
    ]
    assert figure.get_suptitle() == "n = 8; 1 to 3 seeds, mean and 95% interval"
    once = sensitivity.sensitivity_figure(moved().assign(seeds=1), profile)
    assert once.get_suptitle() == "n = 8; one seed"


def test_moves_without_a_result_say_so(smoke_profile):
    with pytest.raises(StudyError, match="no choice can be compared"):
        sensitivity.choice_effects(smoke_profile, Variants({}, {}))


def rows_of(table, domain="in_domain", answers="plain"):
    return table[(table.domain == domain) & (table.answers == answers)].set_index("value")


def test_accuracies_are_means_over_seeds_plain_and_calibrated(smoke_profile):
    chosen = {name: change for name, change in choice_variants(smoke_profile).items() if "kl_weight" in name}
    found = fill_variants(smoke_profile, chosen, ["cd"])
    table = sensitivity.choice_effects(smoke_profile, found)
    results = found.sweeps["kl_weight 1"].results
    plain, calibrated = rows_of(table), rows_of(table, answers="calibrated")
    assert plain.accuracy[1.0] == pytest.approx(results.in_domain_accuracy.mean())
    assert calibrated.accuracy[1.0] == pytest.approx(results.in_domain_calibrated_accuracy.mean())
    assert plain[plain.own].index.tolist() == [0.5]
    halves = [plain.loc[1.0, f"on_{name}"] for name in ("entailment", "non-entailment")]
    assert sum(halves) / 2 == pytest.approx(plain.accuracy[1.0])  # the smoke profile evaluates as many of each
    assert plain.difference[1.0] == pytest.approx(plain.accuracy[1.0] - plain.accuracy[0.5])
    assert np.isnan(plain.difference[0.5])
    assert not table.differs.any()  # two seeds tell nothing


def of_values(own, other, seeds=3):
    """Results of the smoke profile's own pool and of another, which get these shares of the items right."""
    gold = np.arange(400) // 2 % 2
    sweeps = {}
    for value, share in (("train", own), ("support", other)):
        right = np.arange(400) % 100 < 100 * share
        results = [stored("cd", 4, seed, answering(gold, right), gold) for seed in range(seeds)]
        sweeps[f"pool {value}"] = Sweep(smoke(), None, results)
    return sensitivity.choice_effects(smoke(), Variants(sweeps, {}))


def test_a_difference_stands_by_the_corrected_interval_and_three_seeds():
    assert rows_of(of_values(0.9, 0.6)).differs["support"]
    assert not rows_of(of_values(0.61, 0.6)).differs["support"]
    assert not rows_of(of_values(0.9, 0.6, seeds=2)).differs["support"]


def test_values_are_compared_on_the_seeds_that_all_of_them_have(smoke_profile):
    names = ("temperature 1", "temperature 2", "temperature 4", "kl_weight 0", "kl_weight 1")
    planned = {name: change for name, change in choice_variants(smoke_profile).items() if name in names}
    planned["temperature 2"] |= {"seeds": [0]}
    planned["kl_weight 0"] |= {"seeds": [0]}
    planned["kl_weight 1"] |= {"seeds": [1]}  # nothing in common with the other value
    found = fill_variants(smoke_profile, planned, ["cd"])
    table = sensitivity.choice_effects(smoke_profile, found)
    assert set(table.choice) == {"temperature"}
    assert (table.seeds == 1).all()
    results = found.sweeps["temperature 4"].results
    assert set(results.seed) == {0, 1}
    of_first = results[results.seed == 0].in_domain_accuracy.mean()
    assert rows_of(table).accuracy[4.0] == pytest.approx(of_first)


def test_runs_that_fail_are_listed_and_the_tables_do_without(smoke_profile):
    names = ("learning_rate 0.00033", "learning_rate 0.003", "learning_rate 0.001", "temperature 1")
    planned = {name: change for name, change in choice_variants(smoke_profile).items() if name in names}
    planned[names[1]] |= {"learning_rate.cd": 1e30}
    found = fill_variants(smoke_profile, planned, ["cd"])
    assert {name.partition(":")[0] for name in found.failed} == {names[1]}
    assert all(found.failed.values())
    assert f"Failed: {next(iter(found.failed))}." in found._repr_html_()
    moved = sensitivity.choice_effects(smoke_profile, found)
    assert rows_of(moved).index.map("{:.2g}".format).tolist() == [
        "0.00033",
        "0.001",
    ]  # of the temperature there is one value
