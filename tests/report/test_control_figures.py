"""Controls: each stands beside the student with large pools, on the seeds that both have."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.report.control_figures import controls_figure, controls_frame, controls_table
from lib.runs.ablations import LARGE, NO_DEMONSTRATIONS, control_variants
from lib.runs.execution import Sweep
from lib.runs.profile import read_profile
from lib.runs.provenance import key
from lib.runs.variants import Variants
from tests.support.stored import answering, smoke, stored

ITEMS = 400
GOLD = np.arange(ITEMS) % 2


def result(method, size, seed, accuracy):
    return stored(method, size, seed, answering(GOLD, np.arange(ITEMS) < round(accuracy * ITEMS)), GOLD)


def sweep(*results):
    rows = [{"method": one.run.method, "in_domain_auc": 0.5, "out_of_domain_auc": 0.5} for one in results]
    return Sweep(smoke(), pd.DataFrame(rows), list(results))


@pytest.fixture
def variants():
    teacher = [result("teacher_icl", 4, seed, 0.9) for seed in range(3)]
    noise = (0, 0.01, -0.01)
    large = [result("cd", 4, seed, 0.8 + noise[seed]) for seed in range(3)]
    without = [result("cd", 0, seed, 0.6 + noise[seed]) for seed in range(3)]
    return Variants(
        {
            LARGE: sweep(*teacher, *large),
            NO_DEMONSTRATIONS: sweep(*without),
            "gold labels": sweep(*teacher, *large[:2]),
        },
        {},
    )


def test_a_control_is_compared_with_the_first_on_common_seeds(variants):
    frame = controls_frame(variants, smoke())
    rows = frame[(frame.domain == "in_domain") & (frame.answers == "plain")].set_index(["name", "method"])
    assert rows.accuracy[LARGE, "cd"] == pytest.approx(0.8)
    assert rows.difference[NO_DEMONSTRATIONS, "cd"] == pytest.approx(-0.2)
    assert rows.differs[NO_DEMONSTRATIONS, "cd"]
    assert np.isnan(rows.difference[LARGE, "cd"])


def test_a_teacher_that_controls_share_has_one_row_and_two_seeds_mark_no_difference(variants):
    frame = controls_frame(variants, smoke())
    assert set(frame[frame.method == "teacher_icl"].name) == {LARGE}
    two = frame[frame.name == "gold labels"]
    assert set(two.seeds) == {2}
    assert not two.differs.any()


def test_the_table_and_the_figure_have_a_row_a_control(variants):
    frame = controls_frame(variants, smoke())
    table = controls_table(frame, smoke())
    assert list(table.index) == [
        (LARGE, "teacher"),
        (LARGE, "student"),
        (NO_DEMONSTRATIONS, "student"),
        ("gold labels", "student"),
    ]
    cell = table.loc[(NO_DEMONSTRATIONS, "student"), ("in domain", "less the first, calibrated")]
    assert cell.startswith("-0.2")
    assert cell.endswith("*")
    assert len(controls_figure(frame, smoke()).axes) == 2


def test_controls_change_one_thing_of_the_first():
    profile = read_profile("smollm2")
    found = {name: profile.changed(change) for name, change in control_variants(profile).items()}
    (first, *_) = found[LARGE].runs(("cd",))
    assert (first.support_size, first.distillation.labelling.pool_size) == (4, 2048)
    runs = {name: study.runs(("cd",))[0] for name, study in found.items()}
    assert len({key(run) for run in runs.values()}) == len(runs)
    assert runs[NO_DEMONSTRATIONS].support_size == 0
    labelling = replace(first.distillation.labelling, demonstration_labels="shuffled")
    shuffled = runs["shuffled demonstration labels"].distillation
    assert shuffled == replace(first.distillation, labelling=labelling)
    assert runs["gold labels"].distillation.ce_on == "pool"
    assert runs["own teacher"].distillation.labelling.teacher == profile.student
    assert {len(study.seeds) for study in found.values()} == {len(profile.seeds)}
