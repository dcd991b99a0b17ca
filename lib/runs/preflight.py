"""What can be known to fail before any model is loaded, is said before any model is loaded."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import permutations, product
from typing import TypeVar

from lib.errors import RefusedMethod, StudyError
from lib.methods.context_distillation import answers_of
from lib.methods.encoder import PromptEncoder
from lib.methods.episodes import Episode, batches, demonstrations_of, plain_texts
from lib.methods.examples import RunExamples, examples_of, rows_by_length, teacher_contexts
from lib.methods.records import Episodes, PoolLabelling, Run
from lib.methods.table import METHODS
from lib.models.loading import check_device, check_dtype, load_model
from lib.models.shared_tokens import shared_tokens
from lib.models.streaming import check_streams
from lib.models.tuning import Tuning, check_tuning
from lib.runs.provenance import models_of
from lib.tasks.few_shot import task_set
from lib.tasks.patterns import content_free
from lib.tasks.prompts import TooLongError, first_tokens
from lib.tasks.rows import HUB
from lib.tasks.samples import without
from lib.tasks.sources import EXPECTED, listed, read, unread_splits
from lib.tasks.task import IN_DOMAIN, Benchmark, Query, Split, Task

Item = TypeVar("Item")
# Tokens grow with characters, nearly: the longest few texts hold the longest prompt.
LONGEST = 8
FEWEST_SHARED = 100  # tokens: below, two vocabularies have nothing to compare


def check(runs: Sequence[Run], weights: bool = True) -> dict[Run, str]:
    """Check the settings of all runs against the device, the data, the tokenizers and the configurations.

    What is doubtful and can be worked with is a warning on the standard error.

    Args:
        runs: what is to be computed.
        weights: also whether the models' weights are all there, for which those of the hub are fetched.

    Returns:
        The runs whose method does not apply to their model, with the reason.

    Raises:
        StudyError: the first setting that cannot work, with key, value and what is allowed.
    """
    refused: dict[Run, str] = {}
    warn, doubts_of, doubts_of_hub = cache(_warn), cache(_doubts_of_data), cache(_doubts_of_hub)
    encoder_of, refusal_of, checked = cache(PromptEncoder), cache(_refusal), cache(_check_episodes)  # few models
    for run in runs:
        check_device(run.device)
        for dtype in {run.dtype, *([run.needs.dtype] if run.needs else [])}:
            check_dtype(run.device, dtype)
        for doubt in doubts_of_hub(run.task):
            warn(doubt)
        if run.training and (reason := refusal_of(run.model, run.training.tuning, run.training.biases)):
            refused[run] = reason
        elif run.in_context:
            for name, doubt in task_set(run.task, run.seed).doubts.items():
                warn(f"{run.task.name}, {name}: {doubt}.")
            _check_in_context(run, encoder_of, checked)
        else:
            for doubt in doubts_of(run.task):  # first: it may explain what is lacking
                warn(doubt)
            _check_run(run, encoder_of)
            for doubt in _doubts_of_words(run, encoder_of(run.model)):
                warn(doubt)
    for model in {model for run in runs if run not in refused for model in models_of(run)} if weights else ():
        load_model(model, "float32", "meta")
    return refused


def _warn(doubt: str) -> None:
    print(f"warning: {doubt}", file=sys.stderr)


def _check_run(run: Run, encoder_of: Callable[[str], PromptEncoder]) -> None:
    student, examples = encoder_of(run.model), examples_of(run)
    _check_examples(run, examples)
    _check_answers(run, student)
    _check_prompts(run, student, examples)
    if run.teacher_memory == "streamed":
        check_streams(run.model, run.dtype)
    if run.distillation:
        labelling = run.distillation.labelling
        if labelling.teacher_memory == "streamed":
            check_streams(labelling.teacher, labelling.dtype)
        _check_labelling(run, labelling, student, encoder_of(labelling.teacher), examples)


def _doubts_of_hub(task: Task | Benchmark) -> list[str]:
    """What is read from the hub under a name that may stand for other rows tomorrow."""
    if isinstance(task, Task):
        commits = {data.source: data.revision or "" for data in task.domains.values()}
    else:
        commits = {source: source.partition("@")[2] for source in (task.source, task.tuning_source)}
    return [
        f"{source} is read as it is on the hub now, and may change there. A commit pins it: a dataset's `revision`, or "
        "hub:OWNER/NAME@COMMIT as the source of a benchmark."
        for source, commit in commits.items()
        if source.startswith(HUB) and not re.fullmatch(r"[0-9a-f]{40}", commit)
    ]


def _doubts_of_data(task: Task) -> list[str]:
    """What is to be said of rows that are left out, counted more than once, or labelled in two ways."""
    used = [(IN_DOMAIN, "train"), *((domain, "evaluation") for domain in task.domains)]
    of_rows = (
        f"{task.domains[domain].name}: {said}."
        for domain, split in used
        for said in [*read(task, task.domains[domain], split).said(EXPECTED), *_left_out(task, domain, split)]
    )
    return [*_unread(task), *_relabelled(task), *of_rows]


def _unread(task: Task) -> Iterator[str]:
    """Rows whose split has a name that no split of the dataset has."""
    for data in dict.fromkeys(task.domains.values()):
        for name, count in unread_splits(data).items():
            yield (
                f"{data.name}: {count} rows have the {data.split} {name!r}, which is not read. Read are "
                f"{', '.join(data.train)} and the first that is there of {', '.join(data.evaluation)}."
            )


def _relabelled(task: Task) -> Iterator[str]:
    """Rows to evaluate that stand with another label among those to learn from: one of the two is wrong."""
    learnt = {query.text: query.gold for query in read(task, task.in_domain, "train").queries}
    for data in task.domains.values():
        evaluated = read(task, data, "evaluation")
        texts = {query.text for query in evaluated.queries if learnt.get(query.text, query.gold) != query.gold}
        if texts:
            places = listed([evaluated.places[text] for text in sorted(texts)])
            yield f"{data.name}: {len(texts)} rows to evaluate have another label among those to learn from: {places}."


def _left_out(task: Task, domain: str, split: Split) -> Iterator[str]:
    if long := rows_by_length(task, domain, split)[1]:
        places = read(task, task.domains[domain], split).places
        yield f"{len(long)} rows are too long and left out: {listed([places[query.text] for query in long])}"


def _doubts_of_words(run: Run, encoder: PromptEncoder) -> Iterator[str]:
    counts = dict(zip(run.task.label_words, map(len, answers_of(encoder, run.task)), strict=True))
    if long := [f"{word!r} has {count}" for word, count in counts.items() if count > 1]:
        yield (
            f"label_words: {len(long)} of {len(counts)} have several tokens under {run.model} ({', '.join(long)}); "
            "the score of a word is the sum over its tokens."
        )


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
        if len({item.gold for item in items}) < 2:
            name, classes = run.task.domains[domain].name, run.task.classes
            raise StudyError(
                f"data: all {len(items)} rows of {name} that are evaluated are of one class, "
                f"{', '.join({classes[item.gold] for item in items})}. Two classes or more are needed: {list(classes)}."
            )
        if shared := len(learnt) - len(without(learnt, items)):
            raise StudyError(
                f"data: {shared} examples to learn from are also evaluated in {run.task.domains[domain].name}. "
                "Give the files a split column, or take the rows out of one of them."
            )


def _check_answers(run: Run, encoder: PromptEncoder) -> None:
    """Label words are told apart; those of several tokens are not compared with every setting."""
    answers = answers_of(encoder, run.task)
    for (word, short), (other, long) in permutations(zip(run.task.label_words, answers, strict=True), 2):
        if long[: len(short)] == short:
            raise StudyError(
                f"label_words: {other!r} begins with all tokens of {word!r} under {run.model}, and could never be the "
                "likelier of the two. Allowed: words of which none begins another."
            )
    if first_tokens(answers) is not None:
        return
    if run.distillation and run.distillation.labelling.kl_over == "vocabulary":
        raise StudyError("kl_over: 'vocabulary' needs label words that differ in their first token. Allowed: labels.")


def _check_prompts(run: Run, encoder: PromptEncoder, examples: RunExamples) -> None:
    task = run.task
    if run.training and examples.support:
        _require_fit(task, encoder, [], examples.support)
    demonstrations = examples.demonstrations if METHODS[run.method].demonstrations else []
    for domain, items in examples.evaluation.items():
        _require_fit(task, encoder, demonstrations, [*items, *examples.unlabelled.get(domain, [])])
    encoder.encode(demonstrations, content_free(task))


def _require_fit(task: Task, encoder: PromptEncoder, demonstrations: list[Query], queries: list[Query]) -> None:
    """Raise `StudyError` where prompts are too long for the model, with the rows."""
    try:
        encoder.encode(demonstrations, _longest(queries))
    except TooLongError as error:
        long = encoder.too_long(demonstrations, queries)
        places = _places(task)
        raise StudyError(
            f"{error} {len(long)} of {len(queries)} rows are too long for {encoder.reference} after "
            f"{len(demonstrations)} demonstrations: {listed([places[query.text] for query in long])}. "
            "too_long: skip leaves such rows out."
        ) from None


def _places(task: Task) -> dict[str, str]:
    """By text, where each row stands."""
    places: dict[str, str] = {}
    for dataset, split in product(task.domains.values(), ("train", "evaluation")):
        with suppress(StudyError):  # a set that is only evaluated may have no other rows
            places |= read(task, dataset, split).places
    return places


def _check_labelling(
    run: Run, labelling: PoolLabelling, student: PromptEncoder, teacher: PromptEncoder, examples: RunExamples
) -> None:
    for demonstrations, queries in teacher_contexts(labelling):
        _require_fit(run.task, teacher, demonstrations, queries)
    _require_fit(run.task, student, [], [query for part in examples.pool for query in part])
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
        if part.objective.lm_weight:
            _check_texts(run, encoder_of)


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
