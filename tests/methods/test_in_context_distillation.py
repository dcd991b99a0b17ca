"""Methods of in-context learning distillation: who answers, after what, tuned how, taught by whom, at what cost."""

from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import lib.methods.in_context_distillation
import lib.methods.student
from lib.errors import StudyError
from lib.methods.episode_training import InContextTuning
from lib.methods.episodes import demonstrations_of, tuned_on
from lib.methods.evaluation import TaskScores
from lib.methods.in_context_distillation import (
    TunedWeights,
    by_majority,
    run_in_context,
    tune_teacher,
    tuned_teacher,
)
from lib.methods.table import METHODS, ON_BENCHMARKS
from lib.models import random_models
from lib.models.cost import Cost
from lib.runs.profile import read_profile
from lib.tasks.few_shot import task_set
from tests.support.in_context import changed
from tests.support.tokens_read import count_tokens

ONE_SEED = {"in_context.seeds": [0]}
LORA = {"in_context.teacher_tuning": "lora", "in_context.teacher_learning_rate": 0.1}
TUNED = [name for name in ON_BENCHMARKS if METHODS[name].episodes]


def run_of(method, paradigm="meta", benchmark="crossfit", **changes):
    runs = read_profile("smoke", {**ONE_SEED, **changes}).in_context_runs(benchmark)
    return next(run for run in runs if run.method == method and run.in_context.paradigm in (paradigm, None))


def request_of(paradigm="meta", benchmark="crossfit", **changes):
    return run_of("icl_d", paradigm, benchmark, **changes).needs


def louder(name, factor=8):
    model = random_models.model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model


def loud_weights(factor=8):
    """A teacher that looks tuned: its random weights, many times larger."""
    parameters = {name: one.detach() for name, one in louder("random-opt-teacher", factor).named_parameters()}
    return TunedWeights(parameters, [0.5, 0.25], Cost(1.0, 77))


@pytest.fixture(scope="module")
def outcomes():
    """Each method's run, its teacher's weights and its outcome under both paradigms."""
    found = {}
    for paradigm in ("meta", "multitask"):
        weights = tune_teacher(request_of(paradigm), isolated=False)
        for name in ON_BENCHMARKS:
            run = run_of(name, paradigm)
            needed = weights if run.in_context.teacher else None
            found[name, paradigm] = run, needed, run_in_context(run, needed, isolated=False)
    return found


@pytest.fixture
def asked(monkeypatch):
    """What a tuning is asked, step by step: itself, the step's episodes, texts and weight of gold labels."""
    calls = []

    def spy(self, *arguments, original=InContextTuning.loss):
        calls.append((self, *arguments))
        return original(self, *arguments)

    monkeypatch.setattr(InContextTuning, "loss", spy)
    return calls


@pytest.fixture
def loaded(monkeypatch):
    """Every model that was loaded, in order."""
    models = []

    def spy(*arguments, original=lib.methods.in_context_distillation.load_model):
        models.append(original(*arguments))
        return models[-1]

    for module in (lib.methods.in_context_distillation, lib.methods.student):
        monkeypatch.setattr(module, "load_model", spy)
    return models


def option_scores(model, prompt, options):
    """Each option's log-probability from a pass of its own over prompt and option."""
    begins, scores = len(random_models.tokenizer()(prompt)["input_ids"]), []
    for option in options:
        ids = random_models.tokenizer()(f"{prompt} {option}")["input_ids"]
        with torch.no_grad():
            log_probs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        scores.append(sum(log_probs[i - 1, ids[i]].item() for i in range(begins, len(ids))))
    return np.array(scores)


def votes_by_hand(model, task, k, vote, seed):
    """[items, options] log-probabilities after one draw of demonstrations."""
    shown = [f"{one.text} {one.options[one.gold]}\n\n" for one in demonstrations_of(task, k, vote, seed)]
    return [option_scores(model, "".join(shown) + item.text, item.options) for item in task.items]


def order_by_hand(votes):
    """Options, most votes first, ties by the mean of their probabilities."""
    first = Counter(int(np.argmax(scores)) for scores in votes)
    mean = np.mean([np.exp(scores) / np.exp(scores).sum() for scores in votes], axis=0)
    return sorted(range(len(mean)), key=lambda i: (first[i], mean[i]), reverse=True)


def expected_scores(model, run):
    found = []
    for task in task_set(run.task, run.seed).targets:
        labels = sorted({option for item in task.items for option in item.options})
        for k in run.in_context.demonstrations:
            votes = [votes_by_hand(model, task, k, vote, run.seed) for vote in range(run.in_context.votes if k else 1)]
            orders = [order_by_hand(of_item) for of_item in zip(*votes, strict=True)]
            gold = [labels.index(item.options[item.gold]) for item in task.items]
            predicted = [labels.index(item.options[order[0]]) for item, order in zip(task.items, orders, strict=True)]
            rank = [order.index(item.gold) for item, order in zip(task.items, orders, strict=True)]
            found.append(TaskScores(task.name, k, len(labels), gold, predicted, rank))
    return found


@pytest.mark.parametrize("votes", [1, 3])
@pytest.mark.parametrize("benchmark", ["crossfit", "lama"])
def test_scores_are_those_of_plain_passes_over_demonstrations_query_and_option(monkeypatch, benchmark, votes):
    monkeypatch.setattr(lib.methods.in_context_distillation, "load_model", lambda reference, *_: louder(reference))
    run = changed(run_of("untuned", benchmark=benchmark), seed=3, votes=votes, demonstrations=(0, 1, 3))
    scored = run_in_context(run, None, isolated=False).tasks
    assert scored == expected_scores(louder("random-opt-student"), run)
    assert len({tuple(one.predicted) for one in scored}) > 2


def test_more_votes_change_answers(monkeypatch):
    monkeypatch.setattr(lib.methods.in_context_distillation, "load_model", lambda reference, *_: louder(reference))
    run = run_of("untuned", benchmark="lama")
    one, many = (run_in_context(changed(run, votes=votes), None, isolated=False).tasks for votes in (1, 5))
    assert one != many


def test_without_demonstrations_there_is_one_vote(monkeypatch):
    asked = []
    monkeypatch.setattr(
        lib.methods.in_context_distillation,
        "demonstrations_of",
        lambda task, k, vote, seed: (asked.append((k, vote)), demonstrations_of(task, k, vote, seed))[1],
    )
    run_in_context(changed(run_of("untuned"), votes=3, demonstrations=(0, 2)), None, isolated=False)
    assert Counter(asked) == {(0, 0): 2, (2, 0): 2, (2, 1): 2, (2, 2): 2}


def test_scores_of_normalised_options_are_means_over_their_tokens(monkeypatch):
    monkeypatch.setattr(lib.methods.in_context_distillation, "load_model", lambda reference, *_: louder(reference))
    run = changed(run_of("untuned"), demonstrations=(0,))
    task = replace(task_set(run.task, 0).training[0], name="mixed")
    task = replace(task, items=tuple(one._replace(options=("animal", "in the sea"), gold=0) for one in task.examples))
    monkeypatch.setattr(
        lib.methods.in_context_distillation,
        "task_set",
        lambda *_: replace(task_set(run.task, 0), targets=(task,)),
    )
    for length_normalized, tokens in ((False, [1, 1]), (True, [1, 3])):
        (scored,) = run_in_context(changed(run, length_normalized=length_normalized), None, isolated=False).tasks
        votes = votes_by_hand(louder("random-opt-student"), task, 0, 0, 0)
        assert scored.rank == [int(row[1] / tokens[1] > row[0]) for row in votes]
    assert len(set(scored.rank)) == 2


@pytest.mark.parametrize(
    ("votes", "order"),
    [
        ([[0.2, 0.5, 0.3]], [1, 2, 0]),
        ([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.0, 0.4, 0.6]], [0, 2, 1]),
        ([[0.51, 0.49], [0.51, 0.49], [0.01, 0.99]], [0, 1]),
        ([[0.6, 0.4], [0.1, 0.9]], [1, 0]),
        ([[0.9, 0.1], [0.4, 0.6]], [0, 1]),
        ([[0.5, 0.2, 0.3, 0.0], [0.5, 0.3, 0.1, 0.1]], [0, 1, 2, 3]),
    ],
)
def test_options_come_by_votes_and_ties_by_mean_probability(votes, order):
    scores = torch.tensor(np.log(np.array(votes) + 1e-12), dtype=torch.float32)
    assert by_majority(scores) == order
    assert by_majority(scores + torch.arange(1.0, len(votes) + 1)[:, None] * 40) == order
    assert by_majority(scores.flip(0)) == order


def test_a_vote_for_several_options_is_divided_between_them():
    votes = torch.tensor([[-1.0, -1.0, -9.0], [-2.0, -1.9, -9.0], [-1.0, -1.0, -9.0]])
    assert by_majority(votes) == [1, 0, 2]
    assert by_majority(votes.flip(1)) == [1, 2, 0]


def test_options_that_are_tied_to_the_end_are_first_about_as_often():
    tied = torch.full((2, 3), float(torch.tensor(-1.3, dtype=torch.bfloat16)))
    first = [by_majority(tied, item)[0] for item in range(600)]
    assert all(150 < first.count(option) < 250 for option in range(3))
    assert first == [by_majority(tied, item)[0] for item in range(600)]


def test_majority_agrees_with_counting_on_random_votes():
    for seed in range(50):
        votes = np.random.default_rng(seed).normal(size=(4, 5)) * 3
        assert by_majority(torch.tensor(votes)) == order_by_hand(list(votes))


def test_a_tuned_teacher_has_learnt_from_gold_labels_alone(asked):
    request = request_of()
    weights = tune_teacher(request, isolated=False)
    assert [(tuning.teacher, texts, weight) for tuning, _, texts, weight in asked] == [(None, [], 1.0)] * 4
    assert all(tuning.episodes == request.episodes for tuning, *_ in asked)
    assert len(weights.losses) == 4
    assert (weights.cost.tokens, weights.cost.seconds > 0) == (asked[0][0].tokens, True)


@pytest.mark.parametrize("changes", [{}, LORA])
def test_a_tuned_teacher_answers_as_the_model_that_was_tuned(asked, changes):
    request = request_of(**changes)
    weights = tune_teacher(request, isolated=False)
    trained, again = asked[0][0].student.model, tuned_teacher(request, weights)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        found, expected, untuned = (
            model(ids).logits for model in (again, trained, random_models.model("random-opt-teacher").eval())
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - untuned).abs().max() > 1e-2


def test_a_teacher_tuned_by_an_adapter_is_kept_as_its_adapter():
    names = list(tune_teacher(request_of(**LORA), isolated=False).parameters)
    assert names
    assert all("lora_" in name for name in names)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tuned_teacher_is_frozen_in_its_own_type_and_to_be_evaluated(dtype):
    teacher = tuned_teacher(request_of(teacher_dtype=dtype), loud_weights())
    assert {str(one.dtype) for one in teacher.parameters()} == {f"torch.{dtype}"}
    assert not any(one.requires_grad for one in teacher.parameters())
    assert not teacher.training


def test_tuning_a_teacher_twice_gives_the_same_weights():
    first = tune_teacher(request_of(), isolated=False)
    torch.rand(7)
    second = tune_teacher(request_of(), isolated=False)
    assert first.losses == second.losses
    assert all(torch.equal(values, second.parameters[name]) for name, values in first.parameters.items())


def test_the_tuned_teacher_is_evaluated_with_its_trained_weights():
    run = run_of("teacher_ict", benchmark="lama")
    outcome = run_in_context(run, loud_weights(), isolated=False)
    assert outcome.tasks == expected_scores(louder("random-opt-teacher"), run)
    assert outcome.tasks != run_in_context(run_of("teacher_untuned", benchmark="lama"), None, isolated=False).tasks
    assert outcome.losses == [0.5, 0.25]


def test_the_untuned_teacher_is_evaluated_as_it_came():
    run = run_of("teacher_untuned")
    assert run_in_context(run, None, isolated=False).tasks == expected_scores(
        random_models.model("random-opt-teacher").eval(), run
    )


@pytest.mark.parametrize("method", ["icl_d", "icl_d_lm"])
def test_the_tuned_teacher_teaches_with_its_trained_weights(asked, method):
    outcome = run_in_context(run_of(method), loud_weights(), isolated=False)
    teaching = asked[0][0].teacher.model
    expected = dict(louder("random-opt-teacher").named_parameters())
    assert all(torch.equal(one, expected[name]) for name, one in teaching.named_parameters())
    other = run_in_context(run_of(method), loud_weights(4), isolated=False)
    assert outcome.losses[0] == other.losses[0]
    assert outcome.losses[-1] != other.losses[-1]


def test_only_methods_that_distil_have_a_teacher_and_only_one_of_them_plain_text(asked):
    for name in ("ict", "icl_d", "icl_d_lm"):
        asked.clear()
        run = run_of(name)
        run_in_context(run, loud_weights() if run.in_context.teacher else None, isolated=False)
        assert {tuning.teacher is not None for tuning, *_ in asked} == {METHODS[name].distils}
        assert {bool(texts) for _, _, texts, _ in asked} == {METHODS[name].plain_text}
        expected = [1.0] * 4 if name == "ict" else [1.0, 2 / 3, 1 / 3, 0.0]
        assert [weight for *_, weight in asked] == pytest.approx(expected)


@pytest.mark.parametrize("paradigm", ["meta", "multitask"])
@pytest.mark.parametrize("benchmark", ["crossfit", "lama"])
def test_teacher_and_students_of_a_seed_read_the_same_episodes_of_the_paradigms_tasks(asked, benchmark, paradigm):
    weights = tune_teacher(request_of(paradigm, benchmark), isolated=False)
    for name in ("ict", "icl_d", "icl_d_lm"):
        run = run_of(name, paradigm, benchmark)
        run_in_context(run, weights if run.in_context.teacher else None, isolated=False)
    found = task_set(run.task, run.seed)
    steps = [episodes for _, episodes, *_ in asked]
    assert len(steps) == 16
    assert steps == 4 * steps[:4]
    texts = {query.text for step in steps for episode in step for query in (*episode.demonstrations, episode.query)}
    sides = {"meta": found.training, "multitask": found.targets}
    assert texts <= {query.text for task in sides[paradigm] for query in task.examples}
    assert texts.isdisjoint(item.text for task in found.targets for item in task.items)
    assert tuned_on(run.in_context.episodes) == sides[paradigm]


def test_every_method_fills_its_outcome(outcomes):
    for (name, _), (run, weights, outcome) in outcomes.items():
        method = METHODS[name]
        student = method.episodes and not method.teacher_answers
        phases = {"evaluation"} | ({"training"} if student else set()) | ({"teacher"} if weights else set())
        assert set(outcome.costs) == phases
        assert all(cost.tokens > 0 and cost.seconds > 0 for cost in outcome.costs.values())
        assert bool(outcome.losses) == bool(outcome.trainable_parameters) == method.episodes
        assert [(one.task, one.demonstrations) for one in outcome.tasks] == [
            (task, k) for task in ("times", "sizes") for k in run.in_context.demonstrations
        ]


def test_ranks_and_predictions_of_every_outcome_agree(outcomes):
    for _, _, outcome in outcomes.values():
        for one in outcome.tasks:
            right = [gold == predicted for gold, predicted in zip(one.gold, one.predicted, strict=True)]
            assert right == [rank == 0 for rank in one.rank]
            assert set(one.rank) | set(one.gold) | set(one.predicted) <= set(range(one.labels))


def test_all_methods_are_scored_on_the_same_items(outcomes):
    golds = {tuple(map(tuple, ([one.gold for one in outcome.tasks]))) for _, _, outcome in outcomes.values()}
    assert len(golds) == 1


def test_the_teachers_cost_and_parameters_are_those_of_its_tuning(outcomes):
    sizes = {name: sum(one.numel() for one in random_models.model(name).parameters()) for name in random_models.WIDTHS}
    for (name, _), (_, weights, outcome) in outcomes.items():
        if weights:
            assert outcome.costs["teacher"] == weights.cost
        if METHODS[name].episodes:
            kind = "teacher" if name == "teacher_ict" else "student"
            assert outcome.trainable_parameters == sizes[f"random-opt-{kind}"]


def test_the_objectives_have_courses_of_their_own():
    weights, losses = tune_teacher(request_of(benchmark="lama"), isolated=False), {}
    for name in ("ict", "icl_d", "icl_d_lm"):
        run = run_of(name, benchmark="lama")
        losses[name] = run_in_context(run, weights if run.in_context.teacher else None, isolated=False).losses
    assert losses["ict"][0] == losses["icl_d"][0]
    assert losses["ict"][-1] != losses["icl_d"][-1]
    assert all(one + 0.1 < other for one, other in zip(losses["icl_d"], losses["icl_d_lm"], strict=True))


@pytest.mark.parametrize("method", ["untuned", "teacher_ict", "ict", "icl_d", "icl_d_lm"])
def test_a_run_gives_the_same_numbers_twice(outcomes, method):
    run, weights, first = outcomes[method, "multitask"]
    torch.rand(7)
    again = asdict(run_in_context(run, weights, isolated=False))
    assert {**again, "costs": None} == {**asdict(first), "costs": None}


@pytest.mark.parametrize("method", ["untuned", "teacher_untuned", "ict", "icl_d"])
def test_the_evaluated_model_is_the_methods_own_in_its_own_type(monkeypatch, method):
    evaluated = []

    def spy(run, model, *rest, original=lib.methods.in_context_distillation.TaskEvaluator):
        evaluated.append(model)
        return original(run, model, *rest)

    monkeypatch.setattr(lib.methods.in_context_distillation, "TaskEvaluator", spy)
    run = run_of(method, student_dtype="bfloat16", teacher_dtype="float16")
    run_in_context(run, loud_weights() if run.in_context.teacher else None, isolated=False)
    expected = (64, torch.float16) if method == "teacher_untuned" else (32, torch.bfloat16)
    assert [(model.config.hidden_size, model.dtype) for model in evaluated] == [expected]


def test_a_student_is_evaluated_as_it_was_trained(asked, loaded):
    run = run_of("ict", **{"in_context.learning_rate": 0.3, "in_context.steps": 8})
    outcome = run_in_context(run, None, isolated=False)
    assert asked[0][0].student.model is loaded[-1]
    assert outcome.tasks == expected_scores(loaded[-1], run)
    assert outcome.tasks != run_in_context(run_of("untuned"), None, isolated=False).tasks


def test_a_student_with_an_adapter_trains_the_adapter_alone_and_is_evaluated_with_it():
    changes = {"in_context.tuning": "lora", "in_context.learning_rate": 0.5, "in_context.steps": 8}
    outcome = run_in_context(run_of("ict", **changes), None, isolated=False)
    assert outcome.trainable_parameters == 2 * 2 * 8 * (32 + 32)  # layers × (query, value) × rank × (in + out)
    assert outcome.tasks != run_in_context(run_of("untuned"), None, isolated=False).tasks


def test_tokens_of_the_evaluation_are_those_that_the_model_reads(monkeypatch):
    read = []

    def watched(reference, *_):
        model = louder(reference)
        count_tokens(model, read)
        return model

    monkeypatch.setattr(lib.methods.in_context_distillation, "load_model", watched)
    for benchmark in ("crossfit", "lama"):
        read.clear()
        outcome = run_in_context(changed(run_of("untuned", benchmark=benchmark), votes=2), None, isolated=False)
        assert outcome.costs["evaluation"].tokens == sum(read)


def test_more_votes_read_more_tokens():
    run = changed(run_of("untuned"), demonstrations=(2,))
    one, three = (run_in_context(changed(run, votes=votes), None, isolated=False) for votes in (1, 3))
    assert three.costs["evaluation"].tokens == pytest.approx(3 * one.costs["evaluation"].tokens, rel=0.05)


def test_tasks_that_cannot_be_had_are_in_the_outcome_with_reasons():
    outcome = run_in_context(run_of("untuned", benchmark="lama"), None, isolated=False)
    assert outcome.left_out == {"maker": "'[Y] is made by the [X] .' does not end in the object"}


def test_answers_that_are_not_finite_are_an_error_that_names_the_model(monkeypatch):
    monkeypatch.setattr(
        lib.methods.in_context_distillation, "load_model", lambda reference, *_: louder(reference, float("nan"))
    )
    with pytest.raises(StudyError, match=r"random-opt-student: .* not finite"):
        run_in_context(run_of("untuned"), None, isolated=False)


@pytest.mark.parametrize("method", ["untuned", "ict", "icl_d_lm"])
def test_a_process_of_its_own_has_its_resident_memory_measured(method):
    run = run_of(method)
    costs = run_in_context(run, loud_weights() if run.in_context.teacher else None).costs
    assert all(cost.rss is not None for name, cost in costs.items() if name != "teacher")


def test_an_adapter_starts_alike_whatever_ran_before():
    profile = read_profile("smoke", {"in_context.tuning": "lora"})
    run = next(one for one in profile.in_context_runs("lama") if one.method == "ict")
    courses = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        courses.append(run_in_context(run, None, isolated=False).losses)
    assert courses[0] == courses[1]
