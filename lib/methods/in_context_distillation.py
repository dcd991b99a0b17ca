"""In-context learning distillation: tuned teachers, the students that learn from them, and their evaluation."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lib.methods.encoder import PromptEncoder, encoder_of
from lib.methods.episode_training import InContextTuning, TokenizedModel
from lib.methods.episodes import Episode, demonstrations_of
from lib.methods.evaluation import Outcome, TaskScores, require_finite, shared_votes
from lib.methods.records import EpisodeObjective, Run, TunedTeacher
from lib.methods.student import TrainedStudent, adapted, train_student
from lib.models.cost import Cost, PhaseMeter
from lib.models.loading import DTYPES, load_model
from lib.models.scoring import score_answers, tokens_read
from lib.models.training import Training, TrainingLog
from lib.models.tuning import merged
from lib.tasks.few_shot import FewShotTask, task_set


@dataclass(frozen=True)
class TunedWeights:
    """The trained parameters of a tuned teacher by name, the loss of each step, and what tuning cost."""

    parameters: dict[str, Tensor]
    losses: list[float]
    cost: Cost


def tune_teacher(record: TunedTeacher, isolated: bool = True) -> TunedWeights:
    """In-context tune a teacher on gold labels alone, as the paper does before it teaches.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss is not finite.
    """
    meter = PhaseMeter(record.device, isolated)
    model = load_model(record.model, "float32", record.device)
    with meter.phase() as cost:
        teacher = adapted(model, record.training, record.episodes.seed)
        own = TokenizedModel(teacher, encoder_of(record.model))
        log = InContextTuning(own, None, record.episodes, EpisodeObjective()).train(record.training)
        cost.tokens = log.tokens
    trained = {
        name: parameter.detach().cpu() for name, parameter in teacher.named_parameters() if parameter.requires_grad
    }
    return TunedWeights(trained, log.losses, cost)


def tuned_teacher(record: TunedTeacher, weights: TunedWeights) -> PreTrainedModel:
    """The teacher with its trained parameters, frozen."""
    model = load_model(record.model, "float32", record.device)
    teacher = adapted(model, record.training, record.episodes.seed)
    places = dict(teacher.named_parameters())
    with torch.no_grad():
        for name, values in weights.parameters.items():
            places[name].copy_(values)
    return merged(teacher).to(DTYPES[record.dtype]).eval().requires_grad_(False)


def run_in_context(run: Run, weights: TunedWeights | None, isolated: bool = True) -> Outcome:
    """Tune the student if the method does, then evaluate it on every target at every k.

    Weights are those of the tuned teacher, for the methods that need one; `isolated` as for
    `lib.methods.context_distillation.run_method`.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss or score is not finite.
    """
    meter = PhaseMeter(run.device, isolated)
    costs = {"teacher": weights.cost} if weights else {}
    teacher = tuned_teacher(run.needs, weights) if weights else None
    student = _evaluated(run, teacher, weights, meter, costs)
    del teacher  # a student is scored with nothing of its teacher in memory
    tasks = task_set(run.task, run.seed)
    pairs = [(task, k) for task in tasks.targets for k in run.in_context.demonstrations]
    with meter.phase() as costs["evaluation"]:
        evaluator = TaskEvaluator(run, student.model, encoder_of(run.model), costs["evaluation"])
        scored = [evaluator.scores(task, k) for task, k in pairs]
    return Outcome(costs, student.trainable_parameters, student.losses, tasks=scored, left_out=dict(tasks.left_out))


def _evaluated(
    run: Run, teacher: PreTrainedModel | None, weights: TunedWeights | None, meter: PhaseMeter, costs: dict[str, Cost]
) -> TrainedStudent:
    """The model that a run evaluates: a tuned student, the tuned teacher, or either as it was."""
    if run.training:
        return _tuned_student(run, teacher, meter, costs)
    if teacher:
        return TrainedStudent(teacher, sum(values.numel() for values in weights.parameters.values()), weights.losses)
    return TrainedStudent(load_model(run.model, run.dtype, run.device), 0, [])


def _tuned_student(
    run: Run, teacher: PreTrainedModel | None, meter: PhaseMeter, costs: dict[str, Cost]
) -> TrainedStudent:
    part = run.in_context
    taught_by = TokenizedModel(teacher, encoder_of(part.teacher.model)) if teacher else None

    def fit(student: torch.nn.Module, training: Training) -> TrainingLog:
        own = TokenizedModel(student, encoder_of(run.model))
        return InContextTuning(own, taught_by, part.episodes, part.objective).train(training)

    return train_student(run, fit, meter, costs)


@dataclass(frozen=True)
class TaskEvaluator:
    """Puts a model to tasks and counts the tokens that it reads into `cost`."""

    run: Run
    model: PreTrainedModel
    encoder: PromptEncoder
    cost: Cost

    def scores(self, task: FewShotTask, k: int) -> TaskScores:
        """One task's items after k demonstrations; several votes are put together by `by_majority`."""
        votes = [self._answers(task, k, vote) for vote in range(self.run.in_context.votes if k else 1)]
        rankings = [by_majority(torch.stack(of_item), item) for item, of_item in enumerate(zip(*votes, strict=True))]
        place = {label: i for i, label in enumerate(task.labels)}
        ordered = list(zip(task.items, rankings, strict=True))
        return TaskScores(
            task=task.name,
            demonstrations=k,
            labels=len(place),
            gold=[place[item.options[item.gold]] for item in task.items],
            predicted=[place[item.options[ranking[0]]] for item, ranking in ordered],
            rank=[ranking.index(item.gold) for item, ranking in ordered],
        )

    def _answers(self, task: FewShotTask, k: int, vote: int) -> list[Tensor]:
        """For each item the log-probabilities of its options after one draw of demonstrations."""
        before = demonstrations_of(task, k, vote, self.run.seed)
        prompts = self.encoder.prompts([Episode(before, item) for item in task.items])
        options = [self.encoder.answers(item) for item in task.items]
        self.cost.tokens += tokens_read(self.model, prompts) + sum(len(option) - 1 for row in options for option in row)
        by_length = self.run.in_context.length_normalized
        scores = score_answers(self.model, prompts, options, self.run.eval_batch_size, by_length)
        require_finite(torch.cat(scores), self.run.model)
        return scores


def by_majority(scores: Tensor, item: int = 0) -> list[int]:
    """Options in the order of how many votes put them first; ties by mean probability over the votes.

    A vote that puts several first is divided between them. What is tied even then comes in an order drawn for the item,
    by its number. Scores are [votes, options] log-probabilities, up to a constant per vote.
    """
    votes = torch.from_numpy(shared_votes(scores.double().numpy())).sum(dim=0)
    mean = torch.softmax(scores.double(), dim=1).mean(dim=0)
    drawn = random.Random(item).sample(range(len(mean)), len(mean))
    return sorted(range(len(mean)), key=lambda i: (-float(votes[i]), -float(mean[i]), drawn[i]))
