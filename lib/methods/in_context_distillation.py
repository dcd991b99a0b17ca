"""The methods of in-context learning distillation: who answers after demonstrations, tuned how, taught by whom."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lib.errors import StudyError
from lib.methods.context_distillation import adapted
from lib.methods.encoder import PromptEncoder
from lib.methods.episode_training import InContextTuning, TokenizedModel
from lib.methods.episodes import Episode, demonstrations_of
from lib.methods.records import EpisodeObjective, InContextRun, TunedTeacher
from lib.models.cost import Cost, PhaseMeter
from lib.models.loading import DTYPES, load_model
from lib.models.scoring import score_answers
from lib.models.training import Training
from lib.models.tuning import merged
from lib.tasks.benchmarks import task_set
from lib.tasks.few_shot import FewShotTask


@dataclass(frozen=True)
class InContextMethod:
    """What sets a method apart, and how figures show it: its `label`, `colour` and `marker`.

    Says also whether the teacher answers, and what the student learns from: `tuned` students and teachers are
    in-context tuned; `distils` says that a tuned teacher teaches; `plain_text` that the language-modelling terms are in
    the loss.
    """

    label: str
    colour: str
    marker: str
    teacher_answers: bool = False
    tuned: bool = False
    distils: bool = False
    plain_text: bool = False


# In the order in which they are run; colours are those of seaborn's colour-blind palette, and two greys.
IN_CONTEXT_METHODS = {
    "untuned": InContextMethod("untuned", "#DE8F05", "o"),
    "teacher_untuned": InContextMethod("teacher, untuned", "#999999", "*", teacher_answers=True),
    "teacher_ict": InContextMethod("teacher (ICT)", "#262626", "*", teacher_answers=True, tuned=True),
    "ict": InContextMethod("ICT", "#0173B2", "s", tuned=True),
    "icl_d": InContextMethod("ICL-D", "#029E73", "D", tuned=True, distils=True),
    "icl_d_lm": InContextMethod("ICL-D (LM)", "#D55E00", "P", tuned=True, distils=True, plain_text=True),
}


@dataclass(frozen=True)
class TunedWeights:
    """The trained parameters of a tuned teacher by name, the loss of each step, and what tuning cost."""

    parameters: dict[str, Tensor]
    losses: list[float]
    cost: Cost


@dataclass(frozen=True)
class TaskScores:
    """One task at one k. All lists are over its items.

    `gold` and `predicted` are places in the task's sorted labels, of which there are `labels`; `rank` is how many
    options stand before the right one.
    """

    task: str
    demonstrations: int
    labels: int
    gold: list[int]
    predicted: list[int]
    rank: list[int]


@dataclass(frozen=True)
class InContextOutcome:
    """What running a run gives: each task at each k, the cost of each phase, the training's course."""

    tasks: list[TaskScores]
    left_out: dict[str, str]
    costs: dict[str, Cost]
    trainable_parameters: int
    losses: list[float]


def tune_teacher(request: TunedTeacher, isolated: bool = True) -> TunedWeights:
    """In-context tune a teacher on gold labels alone, as the paper does before it teaches.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss is not finite.
    """
    meter = PhaseMeter(request.device, isolated)
    model = load_model(request.model, "float32", request.device)
    with meter.phase() as cost:
        teacher = adapted(model, request.training, request.episodes.seed)
        side = TokenizedModel(teacher, PromptEncoder(request.model))
        log = InContextTuning(side, None, request.episodes, EpisodeObjective()).train(request.training)
        cost.tokens = log.tokens
    trained = {name: one.detach().cpu() for name, one in teacher.named_parameters() if one.requires_grad}
    return TunedWeights(trained, log.losses, cost)


def tuned_teacher(request: TunedTeacher, weights: TunedWeights) -> PreTrainedModel:
    """The teacher with its trained parameters, frozen."""
    model = load_model(request.model, "float32", request.device)
    teacher = adapted(model, request.training, request.episodes.seed)
    places = dict(teacher.named_parameters())
    with torch.no_grad():
        for name, values in weights.parameters.items():
            places[name].copy_(values)
    return merged(teacher).to(DTYPES[request.dtype]).eval().requires_grad_(False)


def run_in_context(run: InContextRun, weights: TunedWeights | None, isolated: bool = True) -> InContextOutcome:
    """Run one run: tune the student if the method does, then evaluate it on every target at every k.

    Args:
        run: what to run.
        weights: those of the tuned teacher, for the methods that need one.
        isolated: this process runs nothing else, so that its resident memory is the run's.

    Raises:
        StudyError: a setting does not fit the data or the model, or a loss or score is not finite.
    """
    meter = PhaseMeter(run.device, isolated)
    costs = {"teacher": weights.cost} if weights else {}
    trained, losses = 0, []
    if run.training:
        model, trained, losses = _tuned_student(run, run.training, weights, meter, costs)
    elif run.teacher and weights:
        model = tuned_teacher(run.teacher, weights)
        trained, losses = sum(one.numel() for one in weights.parameters.values()), weights.losses
    else:
        model = load_model(run.model, run.dtype, run.device)
    found = task_set(run.benchmark, run.seed)
    asked = [(task, k) for task in found.targets for k in run.demonstrations]
    with meter.phase() as costs["evaluation"]:
        evaluator = TaskEvaluator(run, model, PromptEncoder(run.model), costs["evaluation"])
        scored = [evaluator.scores(task, k) for task, k in asked]
    return InContextOutcome(scored, dict(found.left_out), costs, trained, losses)


def _tuned_student(
    run: InContextRun, training: Training, weights: TunedWeights | None, meter: PhaseMeter, costs: dict[str, Cost]
) -> tuple[PreTrainedModel, int, list[float]]:
    """The student as it is scored, its number of trained parameters, and the loss of each step.

    The teacher is here alone: nothing of it is in memory when the student is scored.
    """
    if run.episodes is None or run.mixture is None:
        raise StudyError(f"{run.name}: a student is tuned on episodes, by an objective.")
    model = load_model(run.model, "float32", run.device)
    teacher = tuned_teacher(run.teacher, weights) if run.teacher and weights else None
    taught_by = TokenizedModel(teacher, PromptEncoder(run.teacher.model)) if run.teacher and teacher else None
    with meter.phase() as costs["training"]:
        student = adapted(model, training, run.episodes.seed)
        side = TokenizedModel(student, PromptEncoder(run.model))
        log = InContextTuning(side, taught_by, run.episodes, run.mixture).train(training)
        costs["training"].tokens = log.tokens
    trained = student.num_parameters(only_trainable=True)
    return merged(student).to(DTYPES[run.dtype]), trained, log.losses


@dataclass(frozen=True)
class TaskEvaluator:
    """Puts a model to tasks and counts the tokens that it reads into `cost`."""

    run: InContextRun
    model: PreTrainedModel
    encoder: PromptEncoder
    cost: Cost

    def scores(self, task: FewShotTask, k: int) -> TaskScores:
        """One task's items after k demonstrations; several votes are put together by `by_majority`."""
        votes = [self._answers(task, k, vote) for vote in range(self.run.votes if k else 1)]
        orders = [by_majority(torch.stack(of_item)) for of_item in zip(*votes, strict=True)]
        place = {label: i for i, label in enumerate(task.labels)}
        ordered = list(zip(task.items, orders, strict=True))
        return TaskScores(
            task=task.name,
            demonstrations=k,
            labels=len(place),
            gold=[place[item.options[item.gold]] for item in task.items],
            predicted=[place[item.options[order[0]]] for item, order in ordered],
            rank=[order.index(item.gold) for item, order in ordered],
        )

    def _answers(self, task: FewShotTask, k: int, vote: int) -> list[Tensor]:
        """For each item the log-probabilities of its options after one draw of demonstrations."""
        before = demonstrations_of(task, k, vote, self.run.seed)
        prompts = self.encoder.prompts([Episode(before, item) for item in task.items])
        options = [self.encoder.answers(item) for item in task.items]
        self.cost.tokens += prompts.tokens + sum(len(option) - 1 for row in options for option in row)
        scores = score_answers(self.model, prompts, options, self.run.eval_batch_size, self.run.length_normalized)
        if not all(torch.isfinite(row).all() for row in scores):
            raise StudyError(f"{self.run.model}: its option log-probabilities are not finite; try float32.")
        return scores


def by_majority(scores: Tensor) -> list[int]:
    """Options in the order of how many votes put them first; ties by mean probability over the votes.

    Args:
        scores: [votes, options] log-probabilities, up to a constant per vote.
    """
    votes = torch.bincount(scores.argmax(dim=1), minlength=scores.shape[1])
    mean = torch.softmax(scores.double(), dim=1).mean(dim=0)
    return sorted(range(scores.shape[1]), key=lambda i: (-int(votes[i]), -float(mean[i])))
