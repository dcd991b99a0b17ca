"""Controls: each stands below the student that it varies, on the seeds that both have."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.errors import StudyError
from lib.report.control_figures import controls_figure, controls_frame, controls_table
from lib.runs.ablations import NO_DEMONSTRATIONS, PLAIN, control_variants, queries_of_either, reference_of
from lib.runs.execution import Sweep
from lib.runs.profile import read_profile
from lib.runs.provenance import key
from lib.runs.variants import Variants
from tests.support.stored import answering, smoke, stored

LARGE = queries_of_either(1024)
WITHOUT, GOLD_LABELS = f"{LARGE}, {NO_DEMONSTRATIONS}", f"{LARGE}, gold labels"
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
            WITHOUT: sweep(*without),
            GOLD_LABELS: sweep(*teacher, *large[:2]),
        },
        {},
    )


def test_a_control_is_compared_with_its_reference_on_common_seeds(variants):
    frame = controls_frame(variants, smoke())
    rows = frame[(frame.domain == "in_domain") & (frame.answers == "plain")].set_index(["name", "method"])
    assert rows.accuracy[LARGE, "cd"] == pytest.approx(0.8)
    assert rows.difference[WITHOUT, "cd"] == pytest.approx(-0.2)
    assert rows.differs[WITHOUT, "cd"]
    assert np.isnan(rows.difference[LARGE, "cd"])


def test_a_teacher_that_controls_share_has_one_row_and_two_seeds_mark_no_difference(variants):
    frame = controls_frame(variants, smoke())
    assert set(frame[frame.method == "teacher_icl"].name) == {LARGE}
    two = frame[frame.name == GOLD_LABELS]
    assert set(two.seeds) == {2}
    assert not two.differs.any()


def test_the_table_and_the_figure_have_a_row_a_control(variants):
    frame = controls_frame(variants, smoke())
    table = controls_table(frame, smoke())
    assert list(table.index) == [
        (LARGE, "teacher"),
        (LARGE, "student"),
        (WITHOUT, "student"),
        (GOLD_LABELS, "student"),
    ]
    cell = table.loc[(WITHOUT, "student"), ("in domain", "less its reference, calibrated")]
    assert cell.startswith("-0.2")
    assert cell.endswith("*")
    assert len(controls_figure(frame, smoke()).axes) == 2


def test_figures_name_a_control_by_what_it_changes(variants):
    labels = controls_figure(controls_frame(variants, smoke()), smoke()).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels][::-1] == [LARGE, "… no demonstrations", "… gold labels"]


def test_a_control_changes_what_its_name_says_of_its_reference():
    profile = read_profile("smollm2")
    found = {name: profile.changed(change) for name, change in control_variants(profile).items()}
    runs = {name: study.runs(("cd",))[0] for name, study in found.items()}
    assert len({key(run) for run in runs.values()}) == len(runs)
    for name in (queries_of_either(256), queries_of_either(1024)):
        first = runs[name]
        assert first.support_size == 4
        assert name == queries_of_either(first.distillation.labelling.pool_size // 2)
        assert runs[f"{name}, no demonstrations"].support_size == 0
        assert runs[f"{name}, gold labels"].distillation.ce_on == "pool"
    first, named = runs[queries_of_either(256)], f"{queries_of_either(256)}, "
    labelling = replace(first.distillation.labelling, demonstration_labels="shuffled")
    shuffled = runs[f"{named}shuffled demonstration labels"].distillation
    assert shuffled == replace(first.distillation, labelling=labelling)
    assert runs[f"{named}own teacher"].distillation.labelling.teacher == profile.student
    assert {len(study.seeds) for study in found.values()} == {len(profile.seeds)}


def test_a_profile_may_name_the_controls_that_it_tries():
    names = list(control_variants(read_profile("smoke", {"controls": {3: ["own teacher"]}})))
    assert names == ["6 + 6 queries", "6 + 6 queries, own teacher", PLAIN, f"{PLAIN}, {NO_DEMONSTRATIONS}"]
    assert [reference_of(name, names) for name in names] == [None, names[0], None, PLAIN]
    with pytest.raises(StudyError, match="controls: 'own' is not known"):
        control_variants(read_profile("smoke", {"controls": {3: ["own"]}}))
