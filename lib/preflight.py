"""What can be known to fail before any model is loaded, is said before any model is loaded."""

from collections.abc import Iterable
from functools import cache

from lib.cells import Cell, Targets
from lib.data import Example
from lib.errors import RefusedMethod, StudyError
from lib.methods import METHODS, Reader, evaluation_items, pool_of, support_of, teacher_contexts
from lib.models import check_device, check_tuning, load_tokenizer, same_vocabulary

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
    reader_of = cache(Reader)  # many cells, few models
    for cell in cells:
        check_device(cell.device)
        try:
            if cell.training:
                check_tuning(cell.model, cell.training.tuning)
        except RefusedMethod as refusal:
            refused[cell] = str(refusal)
            continue
        _check_prompts(cell, reader_of(cell.model, cell.task))
        if cell.distillation:
            request = cell.distillation.targets
            _check_targets(cell, request, reader_of(request.teacher, request.task))
            reader_of(cell.model, cell.task).encode([], _longest(pool_of(request)))
    return refused


def _check_prompts(cell: Cell, reader: Reader) -> None:
    support = support_of(cell)
    if cell.training:
        reader.encode([], _longest(support))
    demonstrations = support if METHODS[cell.method].demonstrations else []
    for dataset in (cell.task.in_domain, cell.task.out_of_domain):
        reader.encode(demonstrations, _longest(evaluation_items(cell.task, dataset)))


def _check_targets(cell: Cell, request: Targets, reader: Reader) -> None:
    for demonstrations, queries in teacher_contexts(request):
        reader.encode(demonstrations, _longest(queries))
    tokenizers = (load_tokenizer(cell.model), load_tokenizer(request.teacher))
    if request.kl_over == "vocabulary" and not same_vocabulary(*tokenizers):
        raise StudyError(
            f"kl_over: 'vocabulary' compares token by token, but {request.teacher} and {cell.model} have different "
            "vocabularies. Allowed for this pair: labels."
        )


def _longest(rows: Iterable[Example]) -> list[Example]:
    return sorted(rows, key=lambda row: -len(row.premise) - len(row.hypothesis))[:LONGEST]
