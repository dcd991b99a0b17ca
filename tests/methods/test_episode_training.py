"""In-context tuning: each step against float64 passes of one sequence each, its special cases, and what it teaches."""

import copy
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from lib.errors import NonFiniteLossError
from lib.methods.encoder import PromptEncoder
from lib.methods.episode_training import InContextTuning, TokenizedModel, next_token_loss, soft_lm_loss
from lib.methods.episodes import Episode, batches
from lib.methods.records import EpisodeObjective, Episodes
from lib.models import random_models
from lib.models.shared_tokens import SharedTokens
from lib.models.training import Training
from lib.tasks.task import Benchmark
from tests.support.tokens_read import count_tokens

CROSSFIT = Episodes(Benchmark("crossfit", "embedded"), "meta", 0, 1, 4, None, False)
ENCODER = PromptEncoder("random-opt-student")
TEXTS = ["A dog sleeps under the table .", "Two boys play chess", "dog"]
STILL = Training("full", 1e-12, 1, 2, "constant", 0.0, 0.0, "float32", optimizer="sgd")


def louder(name, factor=8):
    """A random model whose answers are far from uniform."""
    model = random_models.model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model


@pytest.fixture
def student():
    return louder("random-opt-student")


@pytest.fixture
def teacher():
    return louder("random-opt-teacher").requires_grad_(False)


@pytest.fixture
def broken_teacher(teacher):
    """A teacher that must not be asked."""

    def refuse(*_):
        raise AssertionError("the teacher was asked")

    teacher.register_forward_pre_hook(refuse)
    return teacher


@pytest.fixture(scope="module")
def asked():
    """Episodes with options of one token and of three, two or three options a query, one or no demonstration."""
    of_tokens = batches(replace(CROSSFIT, steps=1, seed=2), 4)
    of_sizes = batches(replace(CROSSFIT, paradigm="multitask", steps=1), 4)
    episodes = [episode for batch in (*of_tokens, *of_sizes) for episode in batch]
    assert {len(ENCODER.answers(episode.query)[0]) for episode in episodes} == {1, 3}
    assert {len(episode.query.options) for episode in episodes} == {2, 3}
    return [*episodes, episodes[0]._replace(demonstrations=())]


def tuning(student, teacher=None, mixture=None, episodes=CROSSFIT):
    return InContextTuning(
        TokenizedModel(student, ENCODER),
        TokenizedModel(teacher, ENCODER) if teacher else None,
        episodes,
        mixture or EpisodeObjective(),
    )


def log_softmax(values):
    shifted = values - values.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def log_probs_of_text(model, text):
    """Ids of a text and the next-token log-probabilities at each of its positions, read alone."""
    ids = random_models.tokenizer()(text)["input_ids"]
    with torch.no_grad():
        return ids, log_softmax(model(torch.tensor([ids])).logits[0].numpy())


def option_scores(model, episode, length_normalized):
    """Each option's log-probability from one pass over the whole prompt with the option written after it."""
    shown = [f"{one.text} {one.options[one.gold]}\n\n" for one in episode.demonstrations]
    prompt = "".join(shown) + episode.query.text
    begins, scores = len(random_models.tokenizer()(prompt)["input_ids"]), []
    for option in episode.query.options:
        ids, log_probs = log_probs_of_text(model, f"{prompt} {option}")
        terms = [log_probs[i - 1, ids[i]] for i in range(begins, len(ids))]
        scores.append(np.mean(terms) if length_normalized else np.sum(terms))
    return np.array(scores)


def soft_loss(told, own, temperature):
    p, q = log_softmax(told / temperature), log_softmax(own / temperature)
    return -(temperature**2) * (np.exp(p) * q).sum(-1)


def loss_by_hand(student, teacher, asked, texts, weight, mixture, length_normalized=False):
    """The objective written out, episode by episode, option by option, token by token, in float64."""
    student, teacher = (copy.deepcopy(model).double() for model in (student, teacher))
    own, told = ([option_scores(model, one, length_normalized) for one in asked] for model in (student, teacher))
    hard = np.mean([-log_softmax(row)[one.query.gold] for row, one in zip(own, asked, strict=True)])
    soft = np.mean([soft_loss(one, row, mixture.temperature) for one, row in zip(told, own, strict=True)])
    hard_lm, soft_lm = [], []
    for text in texts:
        ids, log_probs = log_probs_of_text(student, text)
        _, of_teacher = log_probs_of_text(teacher, text)
        hard_lm += [-log_probs[i, ids[i + 1]] for i in range(len(ids) - 1)]
        soft_lm += [soft_loss(of_teacher[i], log_probs[i], mixture.temperature) for i in range(len(ids) - 1)]
    if texts:
        hard, soft = hard + mixture.lm_weight * np.mean(hard_lm), soft + mixture.lm_weight * np.mean(soft_lm)
    return weight * hard + (1 - weight) * soft


@pytest.mark.parametrize("length_normalized", [False, True])
@pytest.mark.parametrize(("lm_weight", "temperature"), [(0.0, 1.0), (0.7, 1.0), (0.7, 2.5)])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_step_loss_equals_separate_float64_passes(
    student, teacher, asked, weight, lm_weight, temperature, length_normalized
):
    mixture, texts = EpisodeObjective(lm_weight=lm_weight, temperature=temperature), TEXTS if lm_weight else []
    step = tuning(student, teacher, mixture, replace(CROSSFIT, length_normalized=length_normalized))
    loss = step.loss(asked, texts, weight).item()
    expected = loss_by_hand(student, teacher, asked, texts, weight, mixture, length_normalized)
    assert loss == pytest.approx(expected, rel=1e-5)


def gradient(student, loss):
    student.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in student.parameters()])


def with_another_answer(episode):
    query = episode.query
    return Episode(episode.demonstrations, query._replace(gold=(query.gold + 1) % len(query.options)))


def test_gold_answers_bear_on_the_gradient_as_much_as_they_weigh(student, teacher, asked):
    step, other = tuning(student, teacher), [with_another_answer(one) for one in asked]
    told = {
        weight: [gradient(student, step.loss(rows, [], weight)) for rows in (asked, other)] for weight in (0, 0.5, 1)
    }
    assert torch.equal(*told[0])
    torch.testing.assert_close(told[0.5][0] - told[0.5][1], (told[1][0] - told[1][1]) / 2, rtol=1e-3, atol=1e-4)
    assert (told[1][0] - told[1][1]).norm() > 1


def test_gold_labels_alone_never_ask_the_teacher_and_are_plain_cross_entropy(student, broken_teacher, asked):
    mixture = EpisodeObjective("constant", lm_weight=0.5)
    with_teacher = gradient(student, tuning(student, broken_teacher, mixture).loss(asked, TEXTS, 1.0))
    torch.testing.assert_close(gradient(student, tuning(student, None, mixture).loss(asked, TEXTS, 1.0)), with_teacher)
    plain = tuning(student, broken_teacher).loss(asked, [], 1.0).item()
    own = [option_scores(copy.deepcopy(student).double(), one, False) for one in asked]
    gold = [-log_softmax(row)[one.query.gold] for row, one in zip(own, asked, strict=True)]
    assert plain == pytest.approx(np.mean(gold), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_the_loss_of_plain_text_is_in_proportion_to_its_weight(student, teacher, asked, weight):
    def loss(lm_weight):
        return tuning(student, teacher, EpisodeObjective(lm_weight=lm_weight)).loss(asked, TEXTS, weight).item()

    without = tuning(student, teacher).loss(asked, [], weight).item()
    once = loss(0.2) - without
    assert once > 0.1
    assert loss(0.6) - without == pytest.approx(3 * once, rel=1e-4)


def test_no_gradient_reaches_the_teacher_and_none_is_kept_for_it(student, teacher, asked):
    kept = set()
    teacher.requires_grad_(True).register_forward_pre_hook(lambda *_: kept.add(torch.is_grad_enabled()))
    tuning(student, teacher, EpisodeObjective(lm_weight=0.5)).loss(asked, TEXTS, 0.5).backward()
    assert kept == {False}
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


@contextmanager
def counted(*read_by):
    """The tokens that models read within the block."""
    seen = []
    handles = [count_tokens(model, seen) for model in read_by]
    yield seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("texts", [[], TEXTS])
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_tokens_are_those_that_both_models_read(student, teacher, asked, weight, texts):
    step = tuning(student, teacher, EpisodeObjective(lm_weight=0.5 if texts else 0.0))
    for times in (1, 2):
        with counted(student, teacher) as seen:
            step.loss(asked, texts, weight)
        assert step.tokens == times * sum(seen) > 0


def test_a_training_log_has_one_loss_a_step_and_all_tokens_of_both(student, teacher):
    with counted(student, teacher) as seen:
        log = tuning(student, teacher, EpisodeObjective("linear", lm_weight=0.5)).train(STILL)
    assert (len(log.losses), log.tokens) == (CROSSFIT.steps, sum(seen))


@pytest.mark.parametrize(
    ("hard", "weights"),
    [("constant", [1, 1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25, 0]), ("cosine", [1, 0.853553, 0.5, 0.146447, 0])],
)
def test_gold_labels_give_way_to_the_teacher_as_the_schedule_says(student, teacher, tmp_path, hard, weights):
    (tmp_path / "one.txt").write_text(TEXTS[0])
    mixture = EpisodeObjective(hard, lm_weight=0.3, lm_text=str(tmp_path / "one.txt"))
    episodes = replace(CROSSFIT, steps=5)
    losses = tuning(student, teacher, mixture, episodes).train(STILL).losses
    steps = zip(batches(episodes, 2), weights, strict=True)
    expected = [loss_by_hand(student, teacher, asked, TEXTS[:1], weight, mixture) for asked, weight in steps]
    assert losses == pytest.approx(expected, rel=1e-4)


def test_gold_labels_and_teacher_may_keep_their_shares(student, teacher):
    mixture = EpisodeObjective("constant", hard_start=0.25)
    losses = tuning(student, teacher, mixture, replace(CROSSFIT, steps=3)).train(STILL).losses
    steps = batches(replace(CROSSFIT, steps=3), 2)
    expected = [loss_by_hand(student, teacher, asked, [], 0.25, mixture) for asked in steps]
    assert losses == pytest.approx(expected, rel=1e-4)


def test_a_single_step_is_on_gold_labels(student, broken_teacher):
    assert (
        len(tuning(student, broken_teacher, EpisodeObjective("linear"), replace(CROSSFIT, steps=1)).train(STILL).losses)
        == 1
    )


def test_plain_texts_are_drawn_anew_for_each_step_and_by_the_seed(student, monkeypatch):
    drawn = {}

    def spy(self, asked, texts, weight, original=InContextTuning.loss):
        drawn.setdefault(self.episodes.seed, []).append(tuple(texts))
        return original(self, asked, texts, weight)

    monkeypatch.setattr(InContextTuning, "loss", spy)
    for seed in (0, 1, 0):
        tuning(student, None, EpisodeObjective(lm_weight=0.5, lm_batch=3), replace(CROSSFIT, seed=seed)).train(STILL)
    assert drawn[0][:4] == drawn[0][4:] != drawn[1]
    assert len(set(drawn[0])) == 4
    assert {len(set(texts)) for texts in drawn[0]} == {3}


def test_without_plain_text_in_the_objective_none_is_read(student, monkeypatch):
    monkeypatch.setattr("lib.methods.episode_training.plain_texts", lambda *_: pytest.fail("texts were asked for"))
    assert len(tuning(student).train(STILL).losses) == 4


def test_more_texts_than_there_are_means_all_of_them(student, tmp_path):
    (tmp_path / "two.txt").write_text("\n".join(TEXTS[:2]))
    mixture = EpisodeObjective(lm_weight=0.3, lm_text=str(tmp_path / "two.txt"), lm_batch=9)
    losses = tuning(student, None, mixture).train(STILL).losses
    expected = [loss_by_hand(student, student, asked, TEXTS[:2], 1.0, mixture) for asked in batches(CROSSFIT, 2)]
    assert losses == pytest.approx(expected, rel=1e-4)


def option_probabilities(model, asked):
    model = copy.deepcopy(model).double()
    return [np.exp(log_softmax(option_scores(model, one, False))) for one in asked]


def divergence(told, own):
    return np.mean([(p * (np.log(p + 1e-12) - np.log(q + 1e-12))).sum() for p, q in zip(told, own, strict=True)])


def test_distillation_moves_a_student_to_its_teachers_answers_and_not_to_those_of_another(teacher):
    unseen = [one for batch in batches(replace(CROSSFIT, paradigm="multitask", seed=7, steps=5), 4) for one in batch]
    told, indifferent = option_probabilities(teacher, unseen), louder("random-opt-teacher", 0)
    apart = {"before": divergence(told, option_probabilities(random_models.model("random-opt-student").eval(), unseen))}
    for name, taught_by in (("taught", teacher), ("taught otherwise", indifferent)):
        student = random_models.model("random-opt-student")
        episodes = replace(CROSSFIT, paradigm="multitask", steps=40)
        settings = Training("full", 3e-3, 1, 4, "constant", 0.0, 0.0, "float32")
        tuning(student, taught_by, EpisodeObjective("linear"), episodes).train(settings)
        apart[name] = divergence(told, option_probabilities(student, unseen))
    assert apart["taught"] < 0.75 * apart["before"]
    assert apart["taught otherwise"] > 0.9 * apart["before"]


def test_gold_labels_are_learnt_from_their_episodes():
    student, episodes = random_models.model("random-opt-student"), replace(CROSSFIT, paradigm="multitask", steps=80)
    settings = Training("full", 3e-3, 1, 4, "constant", 0.0, 0.0, "float32")
    losses = tuning(student, episodes=episodes).train(settings).losses
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])


def test_training_changes_the_student_and_leaves_the_teacher_as_it_was(student, teacher):
    before = [copy.deepcopy(list(model.parameters())) for model in (student, teacher)]
    tuning(student, teacher, EpisodeObjective("linear", lm_weight=0.5)).train(replace(STILL, learning_rate=1e-2))
    same = [
        all(torch.equal(one, other) for one, other in zip(old, model.parameters(), strict=True))
        for old, model in zip(before, (student, teacher), strict=True)
    ]
    assert same == [False, True]


def test_a_diverging_loss_is_an_error_that_names_the_step(student):
    with pytest.raises(NonFiniteLossError, match=r"loss is (nan|inf) at step [2-4] of 4 \(learning_rate 1e\+30"):
        tuning(student).train(replace(STILL, learning_rate=1e30, optimizer="adamw"))


@pytest.fixture(scope="module")
def renumbered(tmp_path_factory):
    """An encoder whose words have other numbers, and the new number of each old one."""
    folder = tmp_path_factory.mktemp("renumbered")
    words = random_models.tokenizer()
    places = np.random.default_rng(0).permutation(len(words)).tolist()
    vocabulary = {word: places[i] for word, i in words.get_vocab().items()}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = words.backend_tokenizer.pre_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)
    random_models.config("random-opt-teacher").save_pretrained(folder)
    return PromptEncoder(str(folder)), torch.tensor(places)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_teacher_with_other_token_numbers_teaches_the_same(student, teacher, asked, renumbered, weight):
    encoder, places = renumbered
    other, mixture = copy.deepcopy(teacher), EpisodeObjective(lm_weight=0.5, temperature=2.0)
    with torch.no_grad():
        other.get_input_embeddings().weight[places] = teacher.get_input_embeddings().weight.clone()
    assert encoder.prompts(asked) != ENCODER.prompts(asked)
    expected = tuning(student, teacher, mixture).loss(asked, TEXTS, weight).item()
    apart = InContextTuning(TokenizedModel(student, ENCODER), TokenizedModel(other, encoder), CROSSFIT, mixture)
    assert apart.loss(asked, TEXTS, weight).item() == pytest.approx(expected, rel=1e-5)


def test_next_token_loss_of_a_uniform_model_is_the_logarithm_of_its_vocabulary():
    assert next_token_loss(torch.zeros(2, 5, 50), [[1, 2, 3, 4, 5], [6, 7]]).item() == pytest.approx(np.log(50))


def test_next_token_loss_reads_each_position_for_the_token_after_it():
    logits = torch.full((1, 3, 9), -50.0)
    logits[0, 0, 4] = logits[0, 1, 2] = logits[0, 2, 8] = 50.0
    assert next_token_loss(logits, [[7, 4, 2]]).item() == pytest.approx(0, abs=1e-6)
    assert next_token_loss(logits, [[4, 2, 8]]).item() > 50


def test_texts_of_one_token_have_no_loss_and_still_run_backward():
    logits = torch.randn(1, 1, 9, requires_grad=True)
    every = SharedTokens(torch.arange(9), torch.arange(9))
    for loss in (next_token_loss(logits, [[3]]), soft_lm_loss(logits, torch.randn(1, 1, 9), [([], [])], every, 1.0)):
        loss.backward()
        assert loss.item() == 0


def test_soft_loss_on_text_compares_shared_tokens_at_shared_positions_alone():
    draw = np.random.default_rng(0)
    own, told = draw.normal(size=(2, 4, 6)), draw.normal(size=(2, 5, 8))
    positions = [([0, 2], [1, 3]), ([1], [4])]
    shared = SharedTokens(torch.tensor([5, 0, 3]), torch.tensor([1, 7, 2]))
    loss = soft_lm_loss(torch.tensor(own), torch.tensor(told), positions, shared, 1.5)
    places = [(0, 0, 1), (0, 2, 3), (1, 1, 4)]
    expected = [soft_loss(told[i, theirs, [1, 7, 2]], own[i, ours, [5, 0, 3]], 1.5) for i, ours, theirs in places]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
