"""What can be known to fail before any model is loaded, is said before any model is loaded."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TypeVar

from lib.errors import RefusedMethod, StudyError
from lib.methods.context_distillation import answers_of
from lib.methods.encoder import PromptEncoder
from lib.methods.episodes import Episode, batches, demonstrations_of, plain_texts, tuned_on
from lib.methods.examples import RunExamples, examples_of, teacher_contexts
from lib.methods.records import Episodes, PoolLabelling, Run
from lib.methods.table import METHODS
from lib.models.loading import check_device, load_model
from lib.models.shared_tokens import shared_tokens
from lib.models.tuning import Tuning, check_tuning
from lib.tasks.few_shot import task_set
from lib.tasks.patterns import content_free
from lib.tasks.prompts import first_tokens
from lib.tasks.samples import without
from lib.tasks.task import Query

Item = TypeVar("Item")
# Tokens grow with characters, nearly: the longest few texts hold the longest prompt.
LONGEST = 8
FEWEST_SHARED = 100  # tokens: below, two vocabularies have nothing to compare


def check(runs: Sequence[Run]) -> dict[Run, str]:
    """Check the settings of all runs against the device, the data, the tokenizers and the configurations.

    Returns:
        The runs whose method does not apply to their model, with the reason.

    Raises:
        StudyError: the first setting that cannot work, with key, value and what is allowed.
    """
    refused: dict[Run, str] = {}
    encoder_of, refusal_of, checked = cache(PromptEncoder), cache(_refusal), cache(_check_episodes)  # few models
    for run in runs:
        check_device(run.device)
        if run.training and (reason := refusal_of(run.model, run.training.tuning, run.training.biases)):
            refused[run] = reason
        elif run.in_context:
            _check_in_context(run, encoder_of, checked)
        else:
            _check_run(run, encoder_of)
    for model in {model for run in runs if run not in refused for model in _models(run)}:
        load_model(model, "float32", "meta")
    return refused


def _models(run: Run) -> list[str]:
    """The model that is evaluated, and the teacher where there is one."""
    if run.distillation:
        return [run.model, run.distillation.labelling.teacher]
    return [run.model, run.in_context.teacher.model] if run.in_context and run.in_context.teacher else [run.model]


def _check_run(run: Run, encoder_of: Callable[[str], PromptEncoder]) -> None:
    student, examples = encoder_of(run.model), examples_of(run)
    _check_examples(run, examples)
    _check_answers(run, student)
    _check_prompts(run, student, examples)
    if run.distillation:
        labelling = run.distillation.labelling
        _check_labelling(run, labelling, student, encoder_of(labelling.teacher), examples)


def _refusal(model: str, tuning: Tuning, biases: str) -> str | None:
    """Why a way of tuning does not apply to a model, or None where it does."""
    try:
        check_tuning(model, tuning, biases=biases)
    except RefusedMethod as refusal:
        return str(refusal)
    return None


def _check_examples(run: Run, examples: RunExamples) -> None:
    """Nothing that is learnt from is evaluated, compared as the model sees it."""
    learnt = [*examples.support, *(query for part in examples.pool for query in part)]
    for domain, items in examples.evaluation.items():
        if shared := len(learnt) - len(without(learnt, items)):
            raise StudyError(
                f"data: {shared} examples to learn from are also evaluated in {run.task.domains[domain].name}. "
                "Give the files a split column, or take the rows out of one of them."
            )


def _check_answers(run: Run, encoder: PromptEncoder) -> None:
    """Label words are told apart; those of several tokens are not compared with every setting."""
    if first_tokens(answers_of(encoder, run.task)) is not None:
        return
    if run.training and run.training.checkpointing:
        raise StudyError("checkpointing: true needs label words that differ in their first token. Allowed: false.")
    if run.distillation and run.distillation.labelling.kl_over == "vocabulary":
        raise StudyError("kl_over: 'vocabulary' needs label words that differ in their first token. Allowed: labels.")


def _check_prompts(run: Run, encoder: PromptEncoder, examples: RunExamples) -> None:
    if run.training and examples.support:
        encoder.encode([], _longest(examples.support))
    demonstrations = examples.demonstrations if METHODS[run.method].demonstrations else []
    for domain, items in examples.evaluation.items():
        encoder.encode(demonstrations, _longest([*items, *examples.unlabelled.get(domain, [])]))
    encoder.encode(demonstrations, content_free(run.task))


def _check_labelling(
    run: Run, labelling: PoolLabelling, student: PromptEncoder, teacher: PromptEncoder, examples: RunExamples
) -> None:
    for demonstrations, queries in teacher_contexts(labelling):
        teacher.encode(demonstrations, _longest(queries))
    student.encode([], _longest([query for part in examples.pool for query in part]))
    if labelling.kl_over == "vocabulary" and student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise StudyError(
            f"kl_over: 'vocabulary' compares token by token, but {labelling.teacher} and {run.model} have different "
            "vocabularies. Allowed for this pair: labels."
        )


def longest(items: Iterable[Item], length: Callable[[Item], int]) -> list[Item]:
    """The few items that are longest by a measure."""
    return sorted(items, key=length, reverse=True)[:LONGEST]


def _longest(queries: Iterable[Query]) -> list[Query]:
    return longest(queries, lambda query: len(query.text))


def _check_in_context(
    run: Run, encoder_of: Callable[[str], PromptEncoder], check_episodes: Callable[..., None]
) -> None:
    part, encoder = run.in_context, encoder_of(run.model)
    _check_evaluation(run, encoder)
    if part.teacher:
        teacher = part.teacher
        check_episodes(teacher.episodes, teacher.training.batch_size, encoder_of(teacher.model))
    if part.episodes:
        check_episodes(part.episodes, run.training.batch_size, encoder)
        if run.training.checkpointing:
            _check_checkpointing(part.episodes, encoder)
        if part.objective.lm_weight:
            _check_texts(run, encoder_of)


def _check_checkpointing(episodes: Episodes, encoder: PromptEncoder) -> None:
    """Answers of several tokens are scored from a cache, which checkpointing drops."""
    queries = [query for task in tuned_on(episodes) for query in task.examples]
    if any(len(answer) > 1 for query in queries for answer in encoder.answers(query)):
        raise StudyError("checkpointing: true needs options of one token each. Allowed: false.")


def _check_evaluation(run: Run, encoder: PromptEncoder) -> None:
    part = run.in_context
    for task in task_set(run.task, run.seed).targets:
        items = longest(task.items, lambda item: len(item.text))
        items += longest(task.items, lambda item: max(map(len, item.options)))
        for vote in range(part.votes):
            before = demonstrations_of(task, max(part.demonstrations), vote, run.seed)
            encoder.prompts([Episode(before, item) for item in items])


def _check_episodes(episodes: Episodes, batch_size: int, encoder: PromptEncoder) -> None:
    """The very episodes that will be drawn."""
    drawn = (episode for batch in batches(episodes, batch_size) for episode in batch)
    encoder.prompts(longest(drawn, lambda episode: len(episode.text)))


def _check_texts(run: Run, encoder_of: Callable[[str], PromptEncoder]) -> None:
    objective, teacher = run.in_context.objective, run.in_context.teacher.model
    texts = longest(plain_texts(objective.lm_text, run.in_context.episodes, objective.lm_characters), len)
    for model in (run.model, teacher):
        encoder_of(model).require_room(texts)
    tokenizers = [encoder_of(model).tokenizer for model in (run.model, teacher)]
    shared = len(shared_tokens(*tokenizers).student)
    if shared < min(FEWEST_SHARED, len(tokenizers[0])):
        raise StudyError(
            f"lm_weight: {objective.lm_weight}: the vocabularies of {run.model} and {teacher} share {shared} tokens; "
            f"plain text needs {FEWEST_SHARED} to be distilled."
        )
