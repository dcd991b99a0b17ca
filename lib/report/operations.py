"""The floating-point operations of a run's weights: 2 a weight and token that is read, 6 where it is trained on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

from lib.memory.peaks import Setting, rows_of
from lib.memory.prompt_lengths import Prefixed
from lib.methods import episodes
from lib.methods.episodes import Episode, demonstrations_of
from lib.methods.records import EpisodeObjective, Episodes, Run, TunedTeacher
from lib.models.training import batches
from lib.report.limit import weights_a_token
from lib.tasks.few_shot import FewShotTask, task_set
from lib.tasks.task import Query

READ, TRAINED = 2, 6
CHARACTERS_A_TOKEN = 4  # of English under GPT-2's byte-pair encoding, nearly
UTILISATION = 0.4  # of a device's rate: what the study reaches, nearly
DRAWN = 32  # steps of episodes whose mean length stands for that of all

Operations = Counter[str]  # by the data type of the products


def of_run(one: Setting) -> Operations:
    """Of a run of context distillation: its evaluation and its training, without what the teacher was asked."""
    run, weights = one.run, weights_a_token(one.run.model)
    work = Operations({run.dtype: READ * weights * _asked(one.lengths.evaluation)})
    if run.training:
        work[run.training.dtype] += TRAINED * weights * _learnt(one)
    return work


def of_labelling(one: Setting) -> Operations:
    """Of the teacher's answers about the pool of a run that distils."""
    labelling = one.run.distillation.labelling
    return Operations({labelling.dtype: READ * weights_a_token(labelling.teacher) * _asked(one.lengths.teacher)})


def _asked(contexts: Iterable[Prefixed]) -> int:
    """Tokens, those of a shared prefix once."""
    return sum(one.prefix + sum(one.suffixes) for one in contexts)


def _learnt(one: Setting) -> int:
    """Tokens of all steps, without padding."""
    training = one.run.training
    steps = batches(*rows_of(one), training.batch_size, training.epochs, one.run.seed)
    return sum(len(row.ids) for step in steps for row in step)


def of_run_in_context(run: Run) -> Operations:
    """Of a run on a benchmark, without the tuning of its teacher; tokens are estimated from characters.

    Raises:
        StudyError: the benchmark's tasks cannot be read.
    """
    weights, part = weights_a_token(run.model), run.in_context
    read = sum(_evaluated(task, k, run) for task in task_set(run.task, run.seed).targets for k in part.demonstrations)
    work = Operations({run.dtype: READ * weights * read})
    if run.training:
        tokens = _tuned(part.episodes, run.training.batch_size) + _plain(part.objective, part.episodes.steps)
        work[run.training.dtype] += TRAINED * weights * tokens
        if part.teacher:
            work[part.teacher.dtype] += READ * weights_a_token(part.teacher.model) * tokens
    return work


def of_tuned_teacher(teacher: TunedTeacher) -> Operations:
    """Of the tuning of a teacher; errors as for `of_run_in_context`."""
    tokens = _tuned(teacher.episodes, teacher.training.batch_size)
    return Operations({teacher.training.dtype: TRAINED * weights_a_token(teacher.model) * tokens})


def _evaluated(task: FewShotTask, k: int, run: Run) -> float:
    """Tokens of a task's items, after each vote's demonstrations, which are read once."""
    votes = range(run.in_context.votes if k else 1)
    before = sum(_tokens(one.answered) for vote in votes for one in demonstrations_of(task, k, vote, run.seed))
    return before + len(votes) * sum(map(_of_query, task.items))


def _tuned(tuned_on: Episodes, batch_size: int) -> float:
    """Tokens of all episodes, by the mean of the first."""
    drawn = list(islice(episodes.batches(tuned_on, batch_size), DRAWN))
    return tuned_on.steps / len(drawn) * sum(_of_episode(one) for batch in drawn for one in batch)


def _of_episode(episode: Episode) -> float:
    return sum(_tokens(one.answered) for one in episode.demonstrations) + _of_query(episode.query)


def _of_query(query: Query) -> float:
    """The text, and of each option all tokens but the last, which is compared and not read."""
    return _tokens(query.text) + sum(max(0.0, _tokens(option) - 1) for option in query.options)


def _plain(objective: EpisodeObjective, steps: int) -> float:
    """Tokens of plain text, were each as long as it may be; none where the loss has no part for it."""
    return steps * objective.lm_batch * objective.lm_characters / CHARACTERS_A_TOKEN if objective.lm_weight else 0.0


def _tokens(text: str) -> float:
    return len(text) / CHARACTERS_A_TOKEN


def seconds(work: Operations, rates: Mapping[str, float]) -> float:
    """How long these operations take at so many a second, by data type."""
    return sum(operations / rates[dtype] for dtype, operations in work.items())
