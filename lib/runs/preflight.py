"""What can be known to fail before any model is loaded, is said before any model is loaded."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

from lib.errors import RefusedMethod, StudyError
from lib.methods.context_distillation import METHODS
from lib.methods.reading import Reader, calibration_queries, evaluation_items, pool_of, support_of, teacher_contexts
from lib.methods.records import Run, Targets
from lib.models.loading import check_device, same_vocabulary
from lib.models.tuning import Tuning, check_tuning
from lib.tasks.task import Example

Row = TypeVar("Row")

# Tokens grow with characters, nearly: the longest few texts hold the longest prompt.
LONGEST = 8


def check(runs: Iterable[Run]) -> dict[Run, str]:
    """Check the settings of all runs against the device, the data, the tokenizers and the configurations.

    Returns:
        The runs whose method does not apply to their model, with the reason.

    Raises:
        StudyError: the first setting that cannot work, with key, value and what is allowed.
    """
    refused: dict[Run, str] = {}
    reader_of, refusal_of = cache(Reader), cache(_refusal)  # many runs, few models
    for run in runs:
        check_device(run.device)
        if run.training and (reason := refusal_of(run.model, run.training.tuning, run.training.biases)):
            refused[run] = reason
            continue
        student = reader_of(run.model, run.task)
        _check_prompts(run, student)
        if run.distillation:
            request = run.distillation.targets
            _check_targets(run, request, student, reader_of(request.teacher, request.task))
    return refused


def _refusal(model: str, tuning: Tuning, biases: str) -> str | None:
    """Why a way of tuning does not apply to a model, or None where it does."""
    try:
        check_tuning(model, tuning, biases=biases)
    except RefusedMethod as refusal:
        return str(refusal)
    return None


def _check_prompts(run: Run, reader: Reader) -> None:
    support = support_of(run)
    if run.training and support:
        reader.encode([], _longest(support))
    demonstrations = support if METHODS[run.method].demonstrations else []
    for dataset in (run.task.in_domain, run.task.out_of_domain):
        reader.encode(demonstrations, _longest(evaluation_items(run.task, dataset)))
        if run.calibration_pool:
            reader.encode(demonstrations, _longest(calibration_queries(run, dataset)))


def _check_targets(run: Run, request: Targets, student: Reader, teacher: Reader) -> None:
    for demonstrations, queries in teacher_contexts(request):
        teacher.encode(demonstrations, _longest(queries))
    student.encode([], _longest(pool_of(request)))
    if request.kl_over == "vocabulary" and not same_vocabulary(student.tokenizer, teacher.tokenizer):
        raise StudyError(
            f"kl_over: 'vocabulary' compares token by token, but {request.teacher} and {run.model} have different "
            "vocabularies. Allowed for this pair: labels."
        )


def longest(rows: Iterable[Row], length: Callable[[Row], int]) -> list[Row]:
    """The few rows that are longest by a measure."""
    return sorted(rows, key=length, reverse=True)[:LONGEST]


def _longest(rows: Iterable[Example]) -> list[Example]:
    return longest(rows, lambda row: len(row.premise) + len(row.hypothesis))
