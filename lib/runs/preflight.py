"""What can be known to fail before any model is loaded, is said before any model is loaded."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

from lib.errors import RefusedMethod, StudyError
from lib.methods.context_distillation import METHODS
from lib.methods.reading import Reader, calibration_queries, evaluation_items, pool_of, support_of, teacher_contexts
from lib.methods.records import Cell, Targets
from lib.models.loading import check_device, same_vocabulary
from lib.models.tuning import Tuning, check_tuning
from lib.tasks.task import Example

Row = TypeVar("Row")

# Tokens grow with characters, nearly: the longest few texts hold the longest prompt.
LONGEST = 8


def check(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Check the settings of all cells against the device, the data, the tokenizers and the configurations.

    Returns:
        The cells whose method does not apply to their model, with the reason.

    Raises:
        StudyError: the first setting that cannot work, with key, value and what is allowed.
    """
    refused: dict[Cell, str] = {}
    reader_of, refusal_of = cache(Reader), cache(_refusal)  # many cells, few models
    for cell in cells:
        check_device(cell.device)
        if cell.training and (reason := refusal_of(cell.model, cell.training.tuning, cell.training.biases)):
            refused[cell] = reason
            continue
        student = reader_of(cell.model, cell.task)
        _check_prompts(cell, student)
        if cell.distillation:
            request = cell.distillation.targets
            _check_targets(cell, request, student, reader_of(request.teacher, request.task))
    return refused


def _refusal(model: str, tuning: Tuning, biases: str) -> str | None:
    """Why a way of tuning does not apply to a model, or None where it does."""
    try:
        check_tuning(model, tuning, biases=biases)
    except RefusedMethod as refusal:
        return str(refusal)
    return None


def _check_prompts(cell: Cell, reader: Reader) -> None:
    support = support_of(cell)
    if cell.training and support:
        reader.encode([], _longest(support))
    demonstrations = support if METHODS[cell.method].demonstrations else []
    for dataset in (cell.task.in_domain, cell.task.out_of_domain):
        reader.encode(demonstrations, _longest(evaluation_items(cell.task, dataset)))
        if cell.calibration_pool:
            reader.encode(demonstrations, _longest(calibration_queries(cell, dataset)))


def _check_targets(cell: Cell, request: Targets, student: Reader, teacher: Reader) -> None:
    for demonstrations, queries in teacher_contexts(request):
        teacher.encode(demonstrations, _longest(queries))
    student.encode([], _longest(pool_of(request)))
    if request.kl_over == "vocabulary" and not same_vocabulary(student.tokenizer, teacher.tokenizer):
        raise StudyError(
            f"kl_over: 'vocabulary' compares token by token, but {request.teacher} and {cell.model} have different "
            "vocabularies. Allowed for this pair: labels."
        )


def longest(rows: Iterable[Row], length: Callable[[Row], int]) -> list[Row]:
    """The few rows that are longest by a measure."""
    return sorted(rows, key=length, reverse=True)[:LONGEST]


def _longest(rows: Iterable[Example]) -> list[Example]:
    return longest(rows, lambda row: len(row.premise) + len(row.hypothesis))
