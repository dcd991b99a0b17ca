"""What of in-context tuning can be known to fail before any model is loaded, is said before any model is loaded."""

from collections.abc import Iterable
from functools import cache

from lib.errors import StudyError
from lib.methods.episodes import Episode, EpisodeReader, batches, demonstrations_of, plain_texts
from lib.methods.in_context_records import Episodes, IctCell
from lib.models.loading import check_device
from lib.models.shared_tokens import shared_tokens
from lib.runs.preflight import longest
from lib.tasks.benchmarks import task_set

FEWEST_SHARED = 100  # tokens: below, two vocabularies have nothing to compare


def check(cells: Iterable[IctCell]) -> dict[IctCell, str]:
    """Check the settings of all cells against device, data and tokenizers; nothing is ever refused, so it returns {}.

    Raises:
        StudyError: the first setting that cannot work, with key, value and what is allowed.
    """
    readers, fits = cache(EpisodeReader), cache(_check_tuning)
    for cell in cells:
        check_device(cell.device)
        _check_evaluation(cell, readers(cell.model))
        if cell.teacher:
            fits(cell.teacher.episodes, cell.teacher.training.batch_size, readers(cell.teacher.model))
        if cell.training and cell.episodes:
            fits(cell.episodes, cell.training.batch_size, readers(cell.model))
        _check_texts(cell, readers)
    return {}


def _check_evaluation(cell: IctCell, reader: EpisodeReader) -> None:
    for task in task_set(cell.benchmark, cell.seed).targets:
        items = longest(task.items, lambda item: len(item.text))
        items += longest(task.items, lambda item: max(map(len, item.options)))
        for vote in range(cell.votes):
            before = demonstrations_of(task, max(cell.demonstrations), vote, cell.seed)
            reader.prompts([Episode(before, item) for item in items])


def _check_tuning(episodes: Episodes, batch_size: int, reader: EpisodeReader) -> None:
    """The very episodes that will be drawn."""
    drawn = (episode for batch in batches(episodes, batch_size) for episode in batch)
    reader.prompts(longest(drawn, lambda episode: len(episode.text)))


def _check_texts(cell: IctCell, readers: "cache[EpisodeReader]") -> None:
    if not (cell.mixture and cell.mixture.lm_weight and cell.episodes):
        return
    texts = longest(plain_texts(cell.mixture.lm_text, cell.episodes, cell.mixture.lm_characters), len)
    for model in filter(None, [cell.model, cell.teacher and cell.teacher.model]):
        readers(model).require_room(texts)
    if cell.teacher:
        student, teacher = readers(cell.model).tokenizer, readers(cell.teacher.model).tokenizer
        shared = len(shared_tokens(student, teacher).student)
        if shared < FEWEST_SHARED and shared < len(student):
            raise StudyError(
                f"lm_weight: {cell.mixture.lm_weight}: the vocabularies of {cell.model} and {cell.teacher.model} share "
                f"{shared} tokens; plain text needs {FEWEST_SHARED} to be distilled."
            )
