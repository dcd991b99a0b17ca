"""Methods: what teacher and student read, what is trained on what, and that a run gives what it says."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import lib.methods.context_distillation
from lib.errors import StudyError
from lib.methods.context_distillation import METHODS, TeacherTargets, _pool_rows, run_method, teacher_targets
from lib.methods.reading import Reader, evaluation_items, support_of
from lib.models import random_models
from lib.models.cost import Cost
from lib.runs.profile import read_profile
from lib.tasks import smoke
from lib.tasks.samples import query_pool, support_set

ONE_CELL = {"support_sizes": [4], "seeds": [0]}
TRAIN = smoke.PAIRS["pairs"]["train"]
YES_NO = random_models.tokenizer()([" Yes", " No"])["input_ids"]
COLUMNS = [ids[-1] for ids in YES_NO]
CONTENT_FREE = ("N/A", "[MASK]", "")


def text_of(premise, hypothesis):
    return f"{premise}\nquestion: {hypothesis} Yes or No?\nanswer:"


def whole_prompt(demonstrations, query):
    shown = [f"{text_of(row.premise, row.hypothesis)} {'No' if row.label else 'Yes'}\n\n" for row in demonstrations]
    return "".join(shown) + query


def plain_log_probs(model, text):
    """Next-token log-probabilities of one whole prompt by one forward pass without a cache."""
    ids = torch.tensor([random_models.tokenizer()(text)["input_ids"]])
    with torch.no_grad():
        return model(ids).logits[0, -1].double().log_softmax(-1)


def run_of(method, **changes):
    return read_profile("smoke", {**ONE_CELL, **changes}).runs((method,))[0]


def request_of(**changes):
    return run_of("cd", **changes).distillation.targets


def run_whole(run):
    return run(run, teacher_targets(run.distillation.targets) if run.distillation else None)


def numbers(outcome):
    """An outcome without its costs, which differ from run to run."""
    return {name: value for name, value in asdict(outcome).items() if name != "costs"}


@pytest.fixture(scope="module")
def outcomes():
    """Each method's run and outcome at one support size and seed."""
    return {run.method: (run, run_whole(run)) for run in read_profile("smoke", ONE_CELL).runs()}


@pytest.fixture
def seen_rows(monkeypatch):
    """What each call of `train` was given: its pool rows and its support rows."""
    calls = []

    def spy(model, pool, support, *rest, original=lib.methods.context_distillation.train):
        calls.append((list(pool), list(support)))
        return original(model, pool, support, *rest)

    monkeypatch.setattr(lib.methods.context_distillation, "train", spy)
    return calls


@pytest.fixture
def loaded(monkeypatch):
    """Every model that was loaded, in order."""
    models = []

    def spy(*arguments, original=lib.methods.context_distillation.load_model):
        models.append(original(*arguments))
        return models[-1]

    monkeypatch.setattr(lib.methods.context_distillation, "load_model", spy)
    return models


@pytest.mark.parametrize(("kl_over", "columns"), [("labels", COLUMNS), ("vocabulary", slice(None))])
def test_teacher_targets_are_those_of_plain_passes_over_demonstrations_and_query(kl_over, columns):
    targets = teacher_targets(request_of(kl_over=kl_over))
    teacher, support = random_models.model("random-opt-teacher").eval(), support_set(TRAIN, 4, 0)
    pool = query_pool(TRAIN, support, 2, 0)
    for asked, answers in (
        ([(row.premise, row.hypothesis) for row in pool], targets.log_probs),
        ([(text, text) for text in CONTENT_FREE], targets.content_free),
    ):
        plain = [plain_log_probs(teacher, whole_prompt(support, text_of(*pair)))[columns] for pair in asked]
        torch.testing.assert_close(answers.double(), torch.stack(plain), rtol=0, atol=1e-5)


def test_targets_of_the_support_set_leave_the_query_out_of_its_demonstrations():
    targets = teacher_targets(request_of(pool="support"))
    teacher, support = random_models.model("random-opt-teacher").eval(), support_set(TRAIN, 4, 0)
    plain = [
        plain_log_probs(
            teacher, whole_prompt([other for other in support if other != row], text_of(row.premise, row.hypothesis))
        )
        for row in support
    ]
    torch.testing.assert_close(targets.log_probs.double(), torch.stack(plain)[:, COLUMNS], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["baseline", "icl", "teacher_icl"])
def test_untrained_methods_score_as_plain_forward_passes_do(outcomes, method):
    _, outcome = outcomes[method]
    model = random_models.model("random-opt-teacher" if method == "teacher_icl" else "random-opt-student").eval()
    shown = [] if method == "baseline" else support_set(TRAIN, 4, 0)
    for evaluation, dataset in ((outcome.in_domain, "pairs"), (outcome.out_of_domain, "swaps")):
        items = smoke.PAIRS[dataset]["evaluation"]
        plain = [plain_log_probs(model, whole_prompt(shown, text_of(*row[:2])))[COLUMNS].numpy() for row in items]
        np.testing.assert_allclose(evaluation.label_log_probs, plain, rtol=0, atol=7e-5)  # stored with four decimals
        assert evaluation.gold == "".join(str(row.label) for row in items)


@pytest.mark.parametrize("method", ["pbft", "pbft_lora", "cd", "cd_bitfit"])
def test_a_student_is_trained_on_the_query_alone(seen_rows, method):
    run_whole(run_of(method))
    (pool, support), chosen = seen_rows[0], support_set(TRAIN, 4, 0)
    queries = query_pool(TRAIN, chosen, 2, 0) if METHODS[method].distils else []
    for rows, examples in ((pool, queries), (support, chosen)):
        texts = [text_of(row.premise, row.hypothesis) for row in examples]
        assert [row.ids for row in rows] == [random_models.tokenizer()(text)["input_ids"] for text in texts]


@pytest.mark.parametrize(("ce_on", "used"), [("support", False), ("pool", True)])
def test_gold_labels_of_the_pool_count_only_with_ce_on_the_pool(monkeypatch, ce_on, used):
    run = run_of("cd", ce_on=ce_on)
    original = run_whole(run).losses

    def flipped(request, pool_parts=lib.methods.context_distillation.pool_parts):
        return [[row._replace(label=1 - row.label) for row in part] for part in pool_parts(request)]

    monkeypatch.setattr(lib.methods.context_distillation, "pool_parts", flipped)
    assert (run_whole(run).losses != original) == used


def test_ce_on_the_pool_takes_no_support_rows(seen_rows):
    run_whole(run_of("cd", ce_on="pool"))
    pool, support = seen_rows[0]
    assert support == []
    assert [row.label for row in pool] == [row.label for row in query_pool(TRAIN, support_set(TRAIN, 4, 0), 2, 0)]


def test_at_kl_weight_zero_the_teachers_answers_do_not_count():
    run = run_of("cd", kl_weight=0.0)
    targets = teacher_targets(run.distillation.targets)
    others = replace(targets, log_probs=targets.log_probs.flip(1) * 3)
    assert run(run, targets).losses == run(run, others).losses


def test_at_kl_weight_one_no_support_row_is_read(seen_rows):
    run_whole(run_of("cd", kl_weight=1.0))
    pool, support = seen_rows[0]
    assert (len(pool), support) == (2, [])


def test_between_them_the_teachers_answers_do_count():
    run = run_of("cd", kl_weight=0.5)
    targets = teacher_targets(run.distillation.targets)
    others = replace(targets, log_probs=targets.log_probs.flip(1) * 3)
    assert run(run, targets).losses != run(run, others).losses


def test_a_teacher_is_unchanged_by_distilling_and_shares_no_storage_with_its_student(loaded):
    run_whole(run_of("cd", student="random-opt-teacher", epochs=4))
    teacher, student = loaded
    fresh = random_models.model("random-opt-teacher").state_dict()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in teacher.state_dict().items())
    assert not all(torch.equal(tensor, fresh[name]) for name, tensor in student.state_dict().items())
    storages = [{tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()} for model in loaded]
    assert storages[0].isdisjoint(storages[1])


def test_all_methods_use_the_same_support_set_at_one_seed_and_another_at_the_next(seen_rows, monkeypatch):
    shown = []

    def spy(reader, demonstrations, queries, original=Reader.encode):
        shown.append(tuple(demonstrations))
        return original(reader, demonstrations, queries)

    monkeypatch.setattr(Reader, "encode", spy)
    per_seed = []
    for seed in (0, 1):
        shown.clear(), seen_rows.clear()
        for method in ("icl", "teacher_icl", "pbft", "cd"):
            run_whole(run_of(method, seeds=[seed]))
        (demonstrations,) = {rows for rows in shown if rows}
        queries = [
            random_models.tokenizer()(text_of(row.premise, row.hypothesis))["input_ids"] for row in demonstrations
        ]
        assert all([row.ids for row in support] == queries for _, support in seen_rows)
        assert all([row.label for row in support] == [row.label for row in demonstrations] for _, support in seen_rows)
        per_seed.append(demonstrations)
    assert len(seen_rows) == 2
    assert per_seed[0] != per_seed[1]


def test_all_methods_and_seeds_are_scored_on_the_same_items(monkeypatch):
    scored = {}

    def spy(reader, demonstrations, queries, original=Reader.encode):
        scored.setdefault(run, []).append(tuple(row[:2] for row in queries))
        return original(reader, demonstrations, queries)

    monkeypatch.setattr(Reader, "encode", spy)
    for run in read_profile("smoke", {"support_sizes": [1], "eval_limit": 2, "epochs": 1}).runs(
        ("baseline", "icl", "pbft")
    ):
        run(run, None)
    assert len(scored) == 5
    assert len({tuple(queries) for queries in scored.values()}) == 1


def test_every_method_fills_its_outcome(outcomes):
    assert list(outcomes) == list(METHODS)
    for name, (_, outcome) in outcomes.items():
        method = METHODS[name]
        phases = (
            {"evaluation"} | ({"training"} if method.tuning else set()) | ({"teacher"} if method.distils else set())
        )
        assert set(outcome.costs) == phases
        assert all(cost.tokens > 0 and cost.seconds > 0 and cost.rss is not None for cost in outcome.costs.values())
        assert bool(outcome.losses) == bool(outcome.trainable_parameters) == bool(method.tuning)
        for evaluation in (outcome.in_domain, outcome.out_of_domain):
            assert np.isfinite(evaluation.label_log_probs).all()
            assert np.shape(evaluation.label_log_probs) == (4, 2)
            assert sum(evaluation.content_free) == pytest.approx(1)
            predicted = np.argmax(evaluation.label_log_probs, axis=1)
            assert evaluation.plain.accuracy == np.mean(predicted == [int(digit) for digit in evaluation.gold])


def test_training_changes_what_the_student_answers(outcomes):
    answers = {name: str(outcome.in_domain.label_log_probs) for name, (_, outcome) in outcomes.items()}
    trained = [answers[name] for name, method in METHODS.items() if method.tuning]
    assert len({answers["baseline"], *trained}) == 1 + len(trained)


def test_trainable_parameters_are_those_of_the_tuning(outcomes):
    sizes = {name: tensor.numel() for name, tensor in random_models.model("random-opt-student").named_parameters()}
    expected = {
        "full": sum(sizes.values()),
        "bitfit": sum(size for name, size in sizes.items() if name.endswith(".bias")),
        "lora": 2 * 2 * 8 * (32 + 32),  # layers × (query, value) × rank × (in + out)
        None: 0,
    }
    counted = {name: outcome.trainable_parameters for name, (_, outcome) in outcomes.items()}
    assert counted == {name: expected[method.tuning] for name, method in METHODS.items()}


@pytest.mark.parametrize("method", ["icl", "pbft", "pbft_lora", "cd", "cd_lora", "cd_bitfit"])
def test_a_cell_gives_the_same_numbers_twice(outcomes, method):
    run, first = outcomes[method]
    torch.rand(7)
    assert numbers(run_whole(run)) == numbers(first)


def test_a_lora_adapter_starts_elsewhere_at_another_seed(monkeypatch):
    starts = []

    def spy(model, *rest, original=lib.methods.context_distillation.train):
        starts.append(torch.cat([p.detach().flatten() for name, p in model.named_parameters() if "lora_A" in name]))
        return original(model, *rest)

    monkeypatch.setattr(lib.methods.context_distillation, "train", spy)
    for seed in (0, 1, 0):
        run_method(run_of("pbft_lora", seeds=[seed]), None)
    assert torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], starts[1])


def test_distilled_targets_cost_is_the_outcomes_teacher_phase():
    run = run_of("cd")
    targets = teacher_targets(run.distillation.targets)
    assert run(run, targets).costs["teacher"] is targets.cost


def test_tokens_of_the_evaluation_count_the_shared_prefix_once(outcomes):
    def length(text):
        return len(random_models.tokenizer()(text)["input_ids"])

    run, outcome = outcomes["icl"]
    demonstrations = length(whole_prompt(support_of(run), ""))
    alone = outcomes["baseline"][1].costs["evaluation"].tokens
    assert 0 < outcome.costs["evaluation"].tokens - alone <= 2 * demonstrations
    assert len(evaluation_items(run.task, "pairs")) == 4


@pytest.mark.parametrize("ask", [lambda: run_method(run_of("icl"), None), lambda: teacher_targets(request_of())])
def test_answers_that_are_not_finite_are_an_error_that_names_the_model(monkeypatch, ask):
    def broken(*arguments, original=lib.methods.context_distillation.load_model):
        model = original(*arguments)
        model.get_output_embeddings().weight.fill_(float("nan"))
        return model

    monkeypatch.setattr(lib.methods.context_distillation, "load_model", broken)
    with pytest.raises(StudyError, match=r"random-opt-(student|teacher): .* not finite; try float32"):
        ask()


def test_each_domains_queries_lose_a_label_prior_of_their_own():
    """Two halves biased to opposite labels: the prior of the whole pool would be that of neither."""
    (run,) = read_profile(
        "tiny", {"support_sizes": [4], "seeds": [0], "pool": "both", "pool_size": 40, "calibration": "pool"}
    ).runs(("cd",))
    odds = torch.linspace(-1, 1, 20)
    biased = torch.cat([odds + 4, odds - 4])
    log_probs = torch.log_softmax(torch.stack([biased, torch.zeros(40)], dim=1), dim=-1)
    rows = _pool_rows(run.distillation, Reader(run.model, run.task), TeacherTargets(log_probs, log_probs[:3], Cost()))
    told = torch.stack([row.target for row in rows])
    for half in (told[:20], told[20:]):
        assert 8 <= (half[:, 0] > half[:, 1]).sum() <= 12
