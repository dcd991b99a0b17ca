"""Methods: what teacher and student read, what is trained on what, and that a run gives what it says."""

from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lib.methods.context_distillation
import lib.methods.student
from lib.errors import StudyError
from lib.methods.calibration import calibrated_soft_labels
from lib.methods.context_distillation import SoftLabels, ask_teacher, run_method, trained_student
from lib.methods.encoder import PromptEncoder
from lib.methods.examples import evaluation_items, examples_of, support_of
from lib.methods.table import METHODS
from lib.models import random_models
from lib.models.cost import Cost
from lib.runs.profile import read_profile
from lib.tasks import smoke
from lib.tasks.samples import query_pool, support_set
from lib.tasks.task import IN_DOMAIN, Query
from tests.support.own_data import PATTERN, THINGS, TWO_TOKEN_WORDS, WORDS, things

ONE_RUN = {"support_sizes": [4], "seeds": [0]}
CLASSES = ("entailment", "non-entailment")
COLUMNS = [ids[-1] for ids in random_models.tokenizer()([" Yes", " No"])["input_ids"]]
CONTENT_FREE = ("N/A", "[MASK]", "")


def text_of(premise, hypothesis):
    return f"{premise}\nquestion: {hypothesis} Yes or No?\nanswer:"


def asked_of(pairs):
    return [Query(text_of(*pair[:2]), ("Yes", "No"), pair[2]) for pair in pairs]


TRAIN = asked_of(smoke.PAIRS["pairs"]["train"])


def four_shown(seed=0):
    return support_set(TRAIN, CLASSES, 4, seed)


def whole_prompt(demonstrations, text):
    return "".join(f"{row.text} {row.options[row.gold]}\n\n" for row in demonstrations) + text


def plain_log_probs(model, text):
    """Next-token log-probabilities of one whole prompt by one forward pass without a cache."""
    ids = torch.tensor([random_models.tokenizer()(text)["input_ids"]])
    with torch.no_grad():
        return model(ids).logits[0, -1].double().log_softmax(-1)


def run_of(method, **changes):
    return read_profile("smoke", {**ONE_RUN, **changes}).runs((method,))[0]


def labelling_of(**changes):
    return run_of("cd", **changes).distillation.labelling


def outcome_of(run):
    return run_method(run, ask_teacher(run.distillation.labelling) if run.distillation else None)


def numbers(outcome):
    """An outcome without its costs, which differ from run to run."""
    return {name: value for name, value in asdict(outcome).items() if name != "costs"}


@pytest.fixture(scope="module")
def outcomes():
    """Each method's run and outcome at one support size and seed."""
    return {run.method: (run, outcome_of(run)) for run in read_profile("smoke", ONE_RUN).runs()}


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

    def spy(original, *arguments):
        models.append(original(*arguments))
        return models[-1]

    for module, name in ((lib.methods.context_distillation, "load"), (lib.methods.student, "load_model")):
        monkeypatch.setattr(module, name, partial(spy, getattr(module, name)))
    return models


@pytest.mark.parametrize(("kl_over", "columns"), [("labels", COLUMNS), ("vocabulary", slice(None))])
def test_soft_labels_are_those_of_plain_passes_over_demonstrations_and_query(kl_over, columns):
    found = ask_teacher(labelling_of(kl_over=kl_over))
    teacher, support = random_models.model("random-opt-teacher").eval(), four_shown()
    pool = [query.text for query in query_pool(TRAIN, support, 2, 0)]
    for texts, answers in (
        (pool, found.log_probs),
        ([text_of(text, text) for text in CONTENT_FREE], found.content_free),
    ):
        plain = [plain_log_probs(teacher, whole_prompt(support, text))[columns] for text in texts]
        torch.testing.assert_close(answers.double(), torch.stack(plain), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kl_over", ["labels", "vocabulary"])
def test_a_streamed_teacher_gives_the_soft_labels_of_a_whole_one(kl_over):
    whole = ask_teacher(labelling_of(kl_over=kl_over))
    streamed = ask_teacher(labelling_of(kl_over=kl_over, teacher_memory="streamed", queries_a_pass=3))
    torch.testing.assert_close(streamed.log_probs, whole.log_probs)
    torch.testing.assert_close(streamed.content_free, whole.content_free)


def test_a_streamed_teacher_is_evaluated_as_a_whole_one(outcomes):
    streamed = outcome_of(run_of("teacher_icl", teacher_memory="streamed"))
    for domain, found in streamed.evaluations.items():
        expected = outcomes["teacher_icl"][1].evaluations[domain]
        np.testing.assert_allclose(found.label_log_probs, expected.label_log_probs, atol=1.01e-4)  # kept to four places


@pytest.mark.parametrize("method", ["cd_lora", "cd_bitfit"])
def test_frozen_matrices_in_bfloat16_stay_as_they_were_and_what_is_trained_is_float32(method):
    changes = {"frozen_dtype": "bfloat16", "training_dtype": "bfloat16"}
    student = trained_student(run := run_of(method, **changes), ask_teacher(run.distillation.labelling))
    assert {one.dtype for one in student.parameters()} == {torch.float32}
    before = random_models.model(run.model).state_dict()
    name = "model.decoder.layers.0.fc1.weight"
    if method == "cd_bitfit":
        assert torch.equal(student.state_dict()[name], before[name].bfloat16().float())
    bias = "model.decoder.layers.0.fc1.bias"
    assert torch.equal(student.state_dict()[bias], before[bias]) == (method == "cd_lora")


def test_soft_labels_of_the_support_set_leave_the_query_out_of_its_demonstrations():
    found = ask_teacher(labelling_of(pool="support"))
    teacher, support = random_models.model("random-opt-teacher").eval(), four_shown()
    plain = [
        plain_log_probs(teacher, whole_prompt([other for other in support if other != row], row.text))
        for row in support
    ]
    torch.testing.assert_close(found.log_probs.double(), torch.stack(plain)[:, COLUMNS], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["baseline", "icl", "teacher_icl"])
def test_untrained_methods_score_as_plain_forward_passes_do(outcomes, method):
    _, outcome = outcomes[method]
    model = random_models.model("random-opt-teacher" if method == "teacher_icl" else "random-opt-student").eval()
    shown = [] if method == "baseline" else four_shown()
    for (_, evaluation), dataset in zip(outcome.evaluations.items(), ("pairs", "swaps"), strict=True):
        items = asked_of(smoke.PAIRS[dataset]["evaluation"])
        plain = [plain_log_probs(model, whole_prompt(shown, item.text))[COLUMNS].numpy() for item in items]
        np.testing.assert_allclose(evaluation.label_log_probs, plain, rtol=0, atol=7e-5)  # stored with four decimals
        assert evaluation.gold == [item.gold for item in items]


@pytest.mark.parametrize("method", ["pbft", "pbft_lora", "cd", "cd_bitfit"])
def test_a_student_is_trained_on_the_query_alone(seen_rows, method):
    outcome_of(run_of(method))
    (pool, support), chosen = seen_rows[0], four_shown()
    queries = query_pool(TRAIN, chosen, 2, 0) if METHODS[method].distils else []
    for rows, examples in ((pool, queries), (support, chosen)):
        assert [row.ids for row in rows] == [random_models.tokenizer()(one.text)["input_ids"] for one in examples]


def with_other_gold(monkeypatch):
    """The pool's gold labels, turned round."""

    def flipped(run, original=lib.methods.context_distillation.examples_of):
        found = original(run)
        return replace(found, pool=[[one._replace(gold=1 - one.gold) for one in part] for part in found.pool])

    monkeypatch.setattr(lib.methods.context_distillation, "examples_of", flipped)


@pytest.mark.parametrize(("ce_on", "used"), [("support", False), ("teacher", False), ("pool", True)])
def test_gold_labels_of_the_pool_count_only_with_ce_on_the_pool(monkeypatch, ce_on, used):
    run = run_of("cd", ce_on=ce_on)
    original = outcome_of(run).losses
    with_other_gold(monkeypatch)
    assert (outcome_of(run).losses != original) == used


def test_ce_on_the_pool_takes_no_support_rows(seen_rows):
    outcome_of(run_of("cd", ce_on="pool"))
    pool, support = seen_rows[0]
    assert support == []
    assert [row.label for row in pool] == [row.gold for row in query_pool(TRAIN, four_shown(), 2, 0)]


@pytest.mark.parametrize("calibration", ["none", "pool"])
def test_ce_on_the_teacher_takes_its_likeliest_labels_after_calibration(seen_rows, calibration):
    run = run_of("cd", ce_on="teacher", calibration=calibration)
    answers = torch.tensor([[0.6, 0.4], [0.9, 0.1]]).log()
    run_method(run, SoftLabels(answers, answers, Cost()))
    pool, support = seen_rows[0]
    assert support == []
    assert [row.label for row in pool] == ([0, 0] if calibration == "none" else [1, 0])
    told = torch.stack([row.target for row in pool])
    torch.testing.assert_close(told, calibrated_soft_labels(answers, answers, calibration))


def test_a_teacher_that_is_undecided_gives_no_label_and_favours_no_class(seen_rows):
    answers = torch.tensor([[-1.5, -1.5], [-2.0, -1.0]], dtype=torch.bfloat16).float()
    outcome = run_method(run_of("cd", ce_on="teacher"), SoftLabels(answers, answers, Cost()))
    pool, _ = seen_rows[0]
    assert [row.label for row in pool] == [None, 1]
    assert np.isfinite(outcome.losses).all()


def test_ce_on_a_teacher_that_is_asked_over_the_vocabulary_takes_its_likeliest_label_word(seen_rows):
    run = run_of("cd", ce_on="teacher", kl_over="vocabulary")
    found = ask_teacher(run.distillation.labelling)
    assert not set(found.log_probs.argmax(-1).tolist()) & set(COLUMNS)
    outcome = run_method(run, found)
    pool, _ = seen_rows[0]
    assert [row.label for row in pool] == found.log_probs[:, COLUMNS].argmax(-1).tolist()
    assert np.isfinite(outcome.losses).all()


def test_at_kl_weight_zero_the_teachers_answers_do_not_count():
    run = run_of("cd", kl_weight=0.0)
    answers = ask_teacher(run.distillation.labelling)
    others = replace(answers, log_probs=answers.log_probs.flip(1) * 3)
    assert run_method(run, answers).losses == run_method(run, others).losses


def test_at_kl_weight_one_no_support_row_is_read(seen_rows):
    outcome_of(run_of("cd", kl_weight=1.0))
    pool, support = seen_rows[0]
    assert (len(pool), support) == (2, [])


def test_between_them_the_teachers_answers_do_count():
    run = run_of("cd", kl_weight=0.5)
    answers = ask_teacher(run.distillation.labelling)
    others = replace(answers, log_probs=answers.log_probs.flip(1) * 3)
    assert run_method(run, answers).losses != run_method(run, others).losses


def test_a_teacher_is_unchanged_by_distilling_and_shares_no_storage_with_its_student(loaded):
    outcome_of(run_of("cd", student="random-opt-teacher", epochs=4))
    teacher, student = loaded
    fresh = random_models.model("random-opt-teacher").state_dict()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in teacher.state_dict().items())
    assert not all(torch.equal(tensor, fresh[name]) for name, tensor in student.state_dict().items())
    storages = [{tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()} for model in loaded]
    assert storages[0].isdisjoint(storages[1])


@pytest.fixture
def encoded(monkeypatch):
    """What was put to a model in each call: its reference, the demonstrations and the queries."""
    calls = []

    def spy(self, demonstrations, queries, original=PromptEncoder.encode):
        calls.append((self.reference, tuple(demonstrations), tuple(queries)))
        return original(self, demonstrations, queries)

    monkeypatch.setattr(PromptEncoder, "encode", spy)
    return calls


def test_all_methods_use_the_same_support_set_at_one_seed_and_another_at_the_next(seen_rows, encoded):
    per_seed = []
    for seed in (0, 1):
        encoded.clear(), seen_rows.clear()
        for method in ("icl", "teacher_icl", "pbft", "cd"):
            outcome_of(run_of(method, seeds=[seed]))
        (demonstrations,) = {shown for _, shown, _ in encoded if shown}
        read = [random_models.tokenizer()(row.text)["input_ids"] for row in demonstrations]
        assert all([row.ids for row in support] == read for _, support in seen_rows)
        assert all([row.label for row in support] == [row.gold for row in demonstrations] for _, support in seen_rows)
        per_seed.append(demonstrations)
    assert len(seen_rows) == 2
    assert per_seed[0] != per_seed[1]


def test_all_methods_and_seeds_are_scored_on_the_same_items(encoded):
    scored = {}
    settings = {"support_sizes": [1], "eval_limit": 2, "epochs": 1}
    for run in read_profile("smoke", settings).runs(("baseline", "icl", "pbft")):
        encoded.clear()
        run_method(run, None)
        scored[run] = tuple(queries for _, _, queries in encoded)
    assert len(scored) == 5
    assert len(set(scored.values())) == 1


def test_shuffled_labels_change_the_teachers_prompts_alone(seen_rows, encoded):
    read = {}
    for labels in ("true", "shuffled"):
        encoded.clear(), seen_rows.clear()
        outcome_of(run_of("cd", demonstration_labels=labels))
        ((pool, support),) = seen_rows
        of_student = [call for call in encoded if call[0] == "random-opt-student"]
        ((_, shown, asked),) = [call for call in encoded if call[0] == "random-opt-teacher"]
        trained = [(row.ids, row.label) for row in (*pool, *support)]
        read[labels] = shown, (asked, trained, of_student), [row.target.tolist() for row in pool]
    assert read["shuffled"][1] == read["true"][1]
    shuffled, true = read["shuffled"][0], read["true"][0]
    assert [row.text for row in shuffled] == [row.text for row in true]
    assert [row.gold for row in shuffled] != [row.gold for row in true]
    assert read["shuffled"][2] != read["true"][2]


@pytest.mark.parametrize(("method", "changed"), [("pbft", False), ("icl", True), ("teacher_icl", True)])
def test_shuffled_labels_are_those_of_demonstrations_and_never_of_training(outcomes, method, changed):
    outcome = outcome_of(run_of(method, demonstration_labels="shuffled"))
    assert (numbers(outcome) != numbers(outcomes[method][1])) == changed


def test_every_method_fills_its_outcome(outcomes):
    assert tuple(outcomes) == read_profile("smoke").methods
    for name, (_, outcome) in outcomes.items():
        method = METHODS[name]
        phases = (
            {"evaluation"} | ({"training"} if method.tuning else set()) | ({"teacher"} if method.distils else set())
        )
        assert set(outcome.costs) == phases
        assert all(cost.tokens > 0 and cost.seconds > 0 and cost.rss is not None for cost in outcome.costs.values())
        assert bool(outcome.losses) == bool(outcome.trainable_parameters) == bool(method.tuning)
        assert list(outcome.evaluations) == ["in_domain", "out_of_domain"]
        for evaluation in outcome.evaluations.values():
            assert np.isfinite(evaluation.label_log_probs).all()
            assert np.shape(evaluation.label_log_probs) == (4, 2)
            assert sum(evaluation.content_free) == pytest.approx(1)
            predicted = np.argmax(evaluation.label_log_probs, axis=1)
            assert evaluation.scores().accuracy == np.mean(predicted == evaluation.gold)
            assert evaluation.unlabelled == []
        assert outcome.held_out == []


def test_training_changes_what_the_student_answers(outcomes):
    answers = {name: str(outcome.evaluations[IN_DOMAIN].label_log_probs) for name, (_, outcome) in outcomes.items()}
    trained = [answers[name] for name in outcomes if METHODS[name].tuning]
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
    assert counted == {name: expected[METHODS[name].tuning] for name in outcomes}


@pytest.mark.parametrize("method", ["icl", "pbft", "pbft_lora", "cd", "cd_lora", "cd_bitfit"])
def test_a_run_gives_the_same_numbers_twice(outcomes, method):
    run, first = outcomes[method]
    torch.rand(7)
    assert numbers(outcome_of(run)) == numbers(first)


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


def test_the_cost_of_soft_labels_is_the_outcomes_teacher_phase():
    run = run_of("cd")
    answers = ask_teacher(run.distillation.labelling)
    assert run_method(run, answers).costs["teacher"] is answers.cost


def test_tokens_of_the_evaluation_count_the_shared_prefix_once(outcomes):
    def length(text):
        return len(random_models.tokenizer()(text)["input_ids"])

    run, outcome = outcomes["icl"]
    demonstrations = length(whole_prompt(support_of(run), ""))
    alone = outcomes["baseline"][1].costs["evaluation"].tokens
    assert 0 < outcome.costs["evaluation"].tokens - alone <= 2 * demonstrations
    assert len(evaluation_items(run.task, IN_DOMAIN)) == 4


@pytest.mark.parametrize("ask", [lambda: run_method(run_of("icl"), None), lambda: ask_teacher(labelling_of())])
def test_answers_that_are_not_finite_are_an_error_that_names_the_model(monkeypatch, ask):
    def broken(*arguments, original=lib.methods.context_distillation.load):
        model = original(*arguments)
        model.get_output_embeddings().weight.fill_(float("nan"))
        return model

    monkeypatch.setattr(lib.methods.context_distillation, "load", broken)
    with pytest.raises(StudyError, match=r"random-opt-(student|teacher): .* not finite"):
        ask()


def test_each_domains_queries_lose_a_label_prior_of_their_own(seen_rows):
    """Two halves biased to opposite labels: the prior of the whole pool would be that of neither."""
    settings = {"support_sizes": [4], "seeds": [0], "eval_limit": 4, "epochs": 1}
    settings |= {"pool": "both", "pool_size": 40, "calibration": "pool"}
    (run,) = read_profile("tiny", settings).runs(("cd",))
    odds = torch.linspace(-1, 1, 20)
    biased = torch.cat([odds + 4, odds - 4])
    log_probs = torch.log_softmax(torch.stack([biased, torch.zeros(40)], dim=1), dim=-1)
    run_method(run, SoftLabels(log_probs, log_probs[:3], Cost()))
    told = torch.stack([row.target for row in seen_rows[0][0]])
    for half in (told[:20], told[20:]):
        assert 8 <= (half[:, 0] > half[:, 1]).sum() <= 12


def test_a_trained_student_is_the_one_that_is_scored(outcomes):
    run, outcome = outcomes["pbft"]
    student = trained_student(run, None)
    items = asked_of(smoke.PAIRS["pairs"]["evaluation"])
    plain = [plain_log_probs(student, item.text)[COLUMNS].numpy() for item in items]
    np.testing.assert_allclose(outcome.evaluations[IN_DOMAIN].label_log_probs, plain, rtol=0, atol=7e-5)
    with pytest.raises(StudyError, match=r"^method: icl .*pbft"):
        trained_student(run_of("icl"), None)


@pytest.fixture(params=[("entailment", "non-entailment"), tuple(THINGS)], ids=["two classes", "three classes"])
def with_unlabelled(request, tmp_path):
    """Settings of a task with rows enough to ask some more, without and with them."""
    own = things(tmp_path, support_sizes=[6], seeds=[0], pool_size=6)
    if len(request.param) == 2:
        own = {"data": "world", "in_domain": "annotated", "out_of_domain": "overlap", "eval_limit": 4, "pool_size": 6}
    return own, {**own, "calibration_pool": 5}


@pytest.mark.parametrize("method", ["baseline", "icl", "pbft", "cd"])
def test_unlabelled_queries_are_asked_beside_and_change_no_other_number(with_unlabelled, method):
    without, asked = (run_of(method, **settings) for settings in with_unlabelled)
    plain, found = outcome_of(without), outcome_of(asked)
    for domain, evaluation in found.evaluations.items():
        assert np.shape(evaluation.unlabelled) == (5, len(asked.task.classes))
        assert plain.evaluations[domain].unlabelled == []
        assert replace(evaluation, unlabelled=[]) == plain.evaluations[domain]
    emptied = {domain: replace(one, unlabelled=[]) for domain, one in found.evaluations.items()}
    assert numbers(replace(found, evaluations=emptied)) == numbers(plain)
    assert set(found.costs) - set(plain.costs) == {"calibration"}
    assert all(found.costs[phase].tokens == cost.tokens for phase, cost in plain.costs.items())


def test_unlabelled_queries_are_answered_after_the_same_demonstrations(tmp_path):
    run = run_of("icl", **things(tmp_path, calibration_pool=5, support_sizes=[6]))
    examples, student = examples_of(run), random_models.model("random-opt-student").eval()
    plain = answers_by_hand(student, examples.support, examples.unlabelled[IN_DOMAIN])
    np.testing.assert_allclose(outcome_of(run).evaluations[IN_DOMAIN].unlabelled, plain, rtol=0, atol=7e-5)


def log_prob_of_word(model, text, word):
    """log P(word | text), the sum over the word's tokens, from one pass over both."""
    begins = len(random_models.tokenizer()(text)["input_ids"])
    ids = random_models.tokenizer()(f"{text} {word}")["input_ids"]
    with torch.no_grad():
        log_probs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(log_probs[i - 1, ids[i]].item() for i in range(begins, len(ids)))


def answers_by_hand(model, shown, asked):
    """[queries, classes]"""
    prompts = [(whole_prompt(shown, query.text), query.options) for query in asked]
    return np.array([[log_prob_of_word(model, text, word) for word in words] for text, words in prompts])


OWN_WORDS = {"three classes": WORDS, "three classes of two tokens": TWO_TOKEN_WORDS}
OWN_WORDS["two classes of two tokens"] = {name: TWO_TOKEN_WORDS[name] for name in ("animal", "plant")}


@pytest.fixture(params=OWN_WORDS)
def own_words(request, tmp_path):
    """Settings of a task of one's own, all of whose training is one step."""
    words = OWN_WORDS[request.param]
    count = len(words)
    sizes = {"support_sizes": [count], "seeds": [0], "pool_size": 2 * count, "batch_size": 2 * count, "epochs": 1}
    return things(tmp_path, words, **sizes)


@pytest.mark.parametrize("method", ["baseline", "icl", "teacher_icl"])
def test_own_classes_and_words_are_scored_as_by_plain_passes(own_words, method):
    run = run_of(method, **own_words)
    (evaluation,) = outcome_of(run).evaluations.values()
    model = random_models.model(run.model).eval()
    items = evaluation_items(run.task, IN_DOMAIN)
    shown = support_of(run)
    assert len(shown) == (0 if method == "baseline" else len(run.task.classes))
    np.testing.assert_allclose(evaluation.label_log_probs, answers_by_hand(model, shown, items), rtol=0, atol=7e-5)
    free = [Query(PATTERN.format(word=text), run.task.label_words, 0) for text in CONTENT_FREE]
    shares = np.exp(answers_by_hand(model, shown, free))
    prior = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(evaluation.content_free, prior, rtol=0, atol=1e-5)
    assert evaluation.gold == [place for place in range(len(run.task.classes)) for _ in range(3)]


def first_losses_by_hand(run):
    """Cross-entropy on the support set, and the divergence from the teacher on the pool, of the untrained student."""
    student = random_models.model("random-opt-student").eval()
    support = support_of(run)
    own = torch.tensor(answers_by_hand(student, [], support))
    ce = F.cross_entropy(own, torch.tensor([one.gold for one in support])).item()
    if run.distillation is None:
        return ce, None
    teacher, (pool,) = random_models.model("random-opt-teacher").eval(), examples_of(run).pool
    told, own = (
        torch.tensor(rows) for rows in (answers_by_hand(teacher, support, pool), answers_by_hand(student, [], pool))
    )
    kl = F.kl_div(own.log_softmax(-1), told.log_softmax(-1), log_target=True, reduction="batchmean").item()
    return ce, kl


@pytest.mark.parametrize("logits", ["last", "labels", "all"])
def test_pbft_on_own_classes_and_words_begins_at_their_cross_entropy(own_words, logits):
    run = run_of("pbft", **own_words, logits=logits)
    (loss,) = outcome_of(run).losses
    assert loss == pytest.approx(first_losses_by_hand(run)[0], rel=1e-4)


@pytest.mark.parametrize("method", ["cd", "cd_lora", "cd_bitfit"])
def test_distillation_on_own_classes_and_words_begins_at_the_mixture_of_both_terms(own_words, method):
    run = run_of(method, **own_words, kl_weight=0.75)
    (loss,) = outcome_of(run).losses
    ce, kl = first_losses_by_hand(run)
    assert loss == pytest.approx(0.75 * kl + 0.25 * ce, rel=1e-4)


@pytest.mark.parametrize("method", ["pbft", "cd"])
def test_training_on_own_classes_and_words_lowers_the_loss(own_words, method):
    losses = outcome_of(run_of(method, **{**own_words, "epochs": 30, "learning_rate": 1e-2})).losses
    assert losses[-1] < 0.8 * losses[0]


def test_without_support_a_teacher_without_demonstrations_teaches_alone(seen_rows):
    run = run_of("cd", support_sizes=[0])
    outcome = outcome_of(run)
    pool, support = seen_rows[0]
    teacher, asked = random_models.model("random-opt-teacher").eval(), query_pool(TRAIN, [], 2, 0)
    plain = torch.stack([plain_log_probs(teacher, query.text)[COLUMNS] for query in asked])
    torch.testing.assert_close(torch.stack([row.target for row in pool]).double(), plain, rtol=0, atol=1e-5)
    assert support == []
    assert np.isfinite(outcome.losses).all()


def test_a_teacher_without_support_answers_as_one_without_demonstrations():
    (run,) = read_profile("smoke", {"support_sizes": [0]}).runs(("teacher_icl",))
    teacher, items = random_models.model("random-opt-teacher").eval(), asked_of(smoke.PAIRS["pairs"]["evaluation"])
    plain = [plain_log_probs(teacher, item.text)[COLUMNS].numpy() for item in items]
    np.testing.assert_allclose(outcome_of(run).evaluations[IN_DOMAIN].label_log_probs, plain, rtol=0, atol=7e-5)
