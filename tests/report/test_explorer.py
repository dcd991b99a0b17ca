"""The explorer without a browser: a widget's value is set, and what the cell's output then holds is looked at."""

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from lib.methods.context_distillation import StepByStep, ask_teacher, trained_student
from lib.methods.examples import evaluation_items
from lib.report import one_example
from lib.report.explorer import TEACHER, UNTUNED, Explorer
from lib.report.one_example import PRIOR_QUERIES, STEP_BY_STEP
from lib.runs.execution import BATCH, fill

METHODS = ["baseline", "icl", "teacher_icl", "pbft", "cd"]
WIDGETS = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def explorer(smoke_profile):
    return Explorer(smoke_profile, METHODS)


@pytest.fixture
def shell():
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def outputs_of(do):
    """What is shown, and shown anew, meanwhile: the data of each output by its type."""
    with capture_output() as captured:
        do()
    return [output.data for output in captured.outputs]


def set_to(widget, value):
    return lambda: setattr(widget, "value", value)


def shares(explorer, *names):
    return one_example.answers(explorer._those(names), explorer.asked)


@pytest.mark.parametrize("domain", ["in_domain", "out_of_domain"])
def test_an_item_stands_in_the_fields_as_the_study_evaluates_it(explorer, domain):
    explorer.domain.value = domain
    for position in range(explorer.item.max + 1):
        explorer.item.value = position
        assert explorer.asked.query == evaluation_items(explorer.task, domain)[position]._replace(kind=())


def test_every_methods_answer_is_the_stored_result_of_the_item(explorer):
    """At the explorer's own n and seed, from models that were loaded and trained apart from the study's."""
    size, seed, position = explorer.size.value, explorer.seed.value, explorer.item.value
    sweep = fill(explorer.profile.changed({"support_sizes": [size], "seeds": [seed]}), METHODS)
    found = explorer.answers().data.plain.to_numpy()
    for result in sweep.stored:
        log_probs = np.array(result.outcome.evaluations["in_domain"].label_log_probs[position])
        expected = np.exp(log_probs) / np.exp(log_probs).sum()
        assert found[METHODS.index(result.run.method)] == pytest.approx(expected, abs=1e-3), result.run.method
    assert len(sweep.stored) == len(METHODS)


def test_a_calibrated_answer_is_the_plain_one_over_the_mean_of_the_others(explorer):
    asked = explorer.asked
    found = shares(explorer, "icl")
    others = [
        one_example.answers(explorer._those(["icl"]), asked._replace(query=query)).plain.to_numpy()
        for query in asked.others
    ]
    ratio = found.plain.to_numpy() / np.mean(others, axis=0)
    assert found.calibrated.to_numpy() == pytest.approx(ratio / ratio.sum(), abs=1e-5)


def test_no_item_that_can_be_chosen_gives_the_prior_that_is_taken_out_of_it(explorer):
    items, others = one_example.items_and_others(explorer.task, "in_domain")
    assert items and 0 < len(others) <= PRIOR_QUERIES
    assert not {item.text for item in items} & {item.text for item in others}


def test_a_changed_label_changes_those_who_read_it_and_no_others(explorer):
    before = explorer.answers().data
    label = explorer.labels.children[0].children[0]
    label.value = 1 - label.value
    changed = (explorer.answers().data != before).plain.any(axis=1)
    assert changed[changed].index.tolist() == ["ICL", "Teacher ICL"]
    assert "1 of 4 labels changed" in explorer.answers().to_html()


def test_a_typed_text_is_what_is_asked_and_its_label_what_is_right(explorer):
    explorer.fields["premise"].value, explorer.fields["hypothesis"].value = "A cat sleeps.", "A dog sleeps."
    explorer.gold.value = 1
    assert explorer.asked.query.text == "A cat sleeps.\nquestion: A dog sleeps. Yes or No?\nanswer:"
    assert explorer.prompts().data.count("A cat sleeps.") == 2
    assert "A text of your own" in explorer.answers().to_html()
    assert "P(non-entailment)" in explorer.losses().to_html()


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.5), (2.5, 0.8), (4.0, 0.0), (0.5, 1.0)])
def test_the_loss_is_that_of_the_formula(explorer, temperature, weight):
    """From the plain answers alone, in float64."""
    explorer.temperature.value, explorer.kl_weight.value = temperature, weight
    explorer.first.value = "pbft"
    plain = shares(explorer, TEACHER, "pbft").plain.to_numpy().astype(float)
    teacher, student = (one ** (1 / temperature) / (one ** (1 / temperature)).sum() for one in plain)
    kl = temperature**2 * (teacher * np.log(teacher / student)).sum()
    ce = -np.log(plain[1][explorer.gold.value])
    found = explorer.losses().data.loc["PBFT"]
    assert found[["T²·KL", "CE", "loss"]].tolist() == pytest.approx([kl, ce, weight * kl + (1 - weight) * ce], abs=1e-5)
    assert found[f"at T = {temperature:g}"] == pytest.approx(student[explorer.gold.value], abs=1e-5)


def test_all_steps_make_the_student_of_the_study(explorer):
    run = explorer._run("cd")
    soft_labels = ask_teacher(run.needs, isolated=False)
    training = StepByStep(run, soft_labels)
    for _ in range(training.count):
        training.take(1)
        training.student()  # to ask the student between two steps changes nothing
    whole = trained_student(run, soft_labels).state_dict()
    assert len(training.losses) == training.count > 1
    assert all((value == whole[name]).all() for name, value in training.student().state_dict().items())
    training.take(1)
    assert len(training.losses) == training.count


def test_buttons_take_steps_and_begin_anew_with_the_loss_of_the_sliders(explorer):
    explorer.one_step.click()
    (first,) = explorer._training.losses
    explorer.ten_steps.click()
    assert len(explorer._training.losses) == min(11, explorer._training.count)
    explorer.kl_weight.value = 0.0
    explorer.reset.click()
    assert explorer._training.losses == []
    explorer.one_step.click()
    assert explorer._training.losses[0] != first


def test_two_students_stand_beside_the_teacher(explorer):
    explorer.first.value, explorer.second.value = UNTUNED, STEP_BY_STEP
    assert explorer.losses().data.index.tolist() == ["Teacher ICL", "Baseline", STEP_BY_STEP]
    before = explorer.losses().data
    explorer.ten_steps.click()
    changed = (explorer.losses().data.plain != before.plain).to_dict()
    assert changed == {"Teacher ICL": False, "Baseline": False, STEP_BY_STEP: True}


def test_an_output_is_drawn_anew_where_its_widget_changes(explorer, shell):
    outputs_of(explorer.show_losses)
    (shown,) = outputs_of(set_to(explorer.temperature, 2.0))
    assert "at T = 2" in shown["text/html"]
    (shown,) = outputs_of(set_to(explorer.item, 0))
    assert "Item 0 of pairs" in shown["text/html"]


def test_other_demonstrations_are_answered_at_once_and_their_students_follow(explorer, shell):
    outputs_of(explorer.show_answers)
    at_once, then = outputs_of(set_to(explorer.size, 1))
    assert at_once["text/html"].count("…") == 2 * 4  # PBFT and CD, plain and calibrated
    assert "…" not in then["text/html"]
    (again,) = {output["text/html"].count("…") for output in outputs_of(set_to(explorer.size, 4))}
    assert again == 0


def test_what_cannot_be_asked_is_said_in_place_of_an_answer(explorer, shell):
    outputs_of(explorer.show_answers)
    (shown,) = outputs_of(set_to(explorer.fields["premise"], "word " * 5000))
    assert "do not fit the model" in shown["text/html"]
    (shown,) = outputs_of(set_to(explorer.fields["premise"], "word"))
    assert "Teacher ICL" in shown["text/html"]


def test_widgets_are_shown_to_somebody_and_not_in_batch(explorer, shell, monkeypatch):
    monkeypatch.delenv(BATCH, raising=False)
    widgets, answers = outputs_of(explorer.show_answers)
    assert WIDGETS in widgets and WIDGETS not in answers
    monkeypatch.setenv(BATCH, "1")
    (alone,) = outputs_of(explorer.show_answers)
    assert WIDGETS not in alone and "Teacher ICL" in alone["text/html"]


def test_the_steps_are_a_picture_with_its_numbers(explorer, close_figures):
    explorer._training.take(2)
    left, right = explorer.distillation().axes
    first, second = explorer._training.losses
    assert left.get_title() == f"2 of {explorer._training.count} steps: loss {first:.2f} → {second:.2f}"
    expected = shares(explorer, TEACHER, UNTUNED, STEP_BY_STEP).plain.iloc[:, explorer.gold.value]
    assert [text.get_text() for text in right.texts] == [f"{share:.2f}" for share in expected]
