"""What notebooks vary: which choices and ablations are tried, and what each changes."""

import pytest

from lib.errors import StudyError
from lib.runs.ablations import (
    CHOICES,
    PLAIN,
    ablation_variants,
    ablations,
    candidates,
    held_out_controls,
    kl_alone,
    profile_values,
)
from lib.runs.profile import read_profile


def test_ablations_add_one_ingredient_at_a_time_to_the_papers_way():
    tried = ablations(read_profile("smoke"))
    assert tried[PLAIN] == {}
    label_free = ", prior removed, KL alone"
    whole = tried[f"second domain in the pool, in full{label_free}"]
    assert whole == {"pool": "both", "pool_size": 2 * 2, "calibration": "pool", "kl_weight": 1.0}
    for name, times in (("doubled", 2), ("fourfold", 4)):
        assert tried[f"second domain in the pool, {name}{label_free}"] == {**whole, "pool_size": times * 2 * 2}
    assert tried[f"second domain in the pool, in full{label_free}, in four times the steps"] == {
        **whole,
        "epochs": 4 * 2,
    }
    for kind in ("subcases", "templates"):
        control = tried[f"second domain in the pool, fourfold{label_free}, half the {kind} held out"]
        assert control == {**tried[f"second domain in the pool, fourfold{label_free}"], "held_out": kind}
    for change in tried.values():
        read_profile("smoke", change)


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        ("second domain alone in the pool", {"pool": "target"}),
        ("second domain in the pool", {"pool": "both"}),
        ("prior removed", {"calibration": "pool"}),
        ("KL alone", {"kl_weight": 1.0}),
        ("templates held out", {"held_out": "templates"}),
    ],
)
def test_a_name_says_all_that_is_changed(words, setting):
    """A page may show any of them without the others."""
    for name, change in ablations(read_profile("smoke")).items():
        assert (words in name) == (setting.items() <= change.items())


def test_one_ablation_and_what_it_betters_are_tried_at_every_number_of_demonstrations():
    study = read_profile("smoke", {"support_sizes": [0, 1, 4, 12]})
    tried = {name: change["support_sizes"] for name, change in ablation_variants(study).items()}
    for everywhere in ("as in the paper", "second domain in the pool, fourfold, prior removed, KL alone"):
        assert tried.pop(everywhere) == [1, 4, 12]
    assert all(sizes == [4, 12] for sizes in tried.values())


def test_without_gold_labels_their_rows_make_room_for_more_epochs():
    assert kl_alone(read_profile("smollm2")) == {"kl_weight": 1.0, "epochs.cd": 5}
    assert kl_alone(read_profile("smollm2", {"epochs": 4})) == {"kl_weight": 1.0, "epochs": 6}


def test_a_profile_may_name_the_ablations_that_are_tried():
    assert list(ablation_variants(read_profile("smoke", {"ablations": [PLAIN, "larger pool"]}))) == [
        PLAIN,
        "larger pool",
    ]
    with pytest.raises(StudyError, match=r"ablations: 'larger pol' is not known\. Did you mean 'larger pool'"):
        ablation_variants(read_profile("smoke", {"ablations": ["larger pol"]}))


def test_every_choice_is_tried_around_the_profiles_own_value():
    profile = read_profile("smoke")
    tried = candidates(profile)
    middle = profile_values(profile)
    assert {choice for choice, _ in tried} == {*CHOICES, "learning_rate"}
    for choice, own in middle.items():
        values = [value for name, value in tried if name == choice]
        assert own in values
        assert len(values) > 1
    assert "pattern" not in {choice for choice, _ in candidates(read_profile("tiny"))}


def test_a_profile_may_name_the_choices_that_are_tried():
    few_of_them = read_profile("smoke", {"choices": ["kl_weight", "pool"]})
    assert {choice for choice, _ in candidates(few_of_them)} == {"kl_weight", "pool"}
    with pytest.raises(StudyError, match="choices: 'lambda' is not known"):
        candidates(read_profile("smoke", {"choices": ["lambda"]}))


def test_an_ablation_has_a_control_for_each_kind_and_nothing_else_changes():
    found = held_out_controls("ablation", {"pool": "target"})
    assert found["ablation, half the templates held out"] == {"pool": "target", "held_out": "templates"}
    assert [change["held_out"] for change in found.values()] == ["subcases", "templates"]
    for change in found.values():
        read_profile("smoke", change)
