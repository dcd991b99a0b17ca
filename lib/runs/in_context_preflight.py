"""What of in-context tuning can be known to fail before any model is loaded, is said before any model is loaded."""

from collections.abc import Iterable
from functools import cache

from lib.errors import StudyError
from lib.methods.encoder import PromptEncoder
from lib.methods.episodes import Episode, batches, demonstrations_of, plain_texts
from lib.methods.in_context_records import Episodes, InContextRun
from lib.models.loading import check_device
from lib.models.shared_tokens import shared_tokens
from lib.runs.preflight import longest
from lib.tasks.benchmarks import task_set

FEWEST_SHARED = 100  # tokens: below, two vocabularies have nothing to compare


def check(runs: Iterable[InContextRun]) -> dict[InContextRun, str]:
    """Check the settings of all runs against device, data and tokenizers; nothing is ever refused, so it returns {}.

    Raises:
        StudyError: the first setting that cannot work, with key, value and what is allowed.
    """
    encoders, fits = cache(PromptEncoder), cache(_check_tuning)
    for run in runs:
        check_device(run.device)
        _check_evaluation(run, encoders(run.model))
        if run.teacher:
            fits(run.teacher.episodes, run.teacher.training.batch_size, encoders(run.teacher.model))
        if run.training and run.episodes:
            fits(run.episodes, run.training.batch_size, encoders(run.model))
        _check_texts(run, encoders)
    return {}


def _check_evaluation(run: InContextRun, encoder: PromptEncoder) -> None:
    for task in task_set(run.benchmark, run.seed).targets:
        items = longest(task.items, lambda item: len(item.text))
        items += longest(task.items, lambda item: max(map(len, item.options)))
        for vote in range(run.votes):
            before = demonstrations_of(task, max(run.demonstrations), vote, run.seed)
            encoder.prompts([Episode(before, item) for item in items])


def _check_tuning(episodes: Episodes, batch_size: int, encoder: PromptEncoder) -> None:
    """The very episodes that will be drawn."""
    drawn = (episode for batch in batches(episodes, batch_size) for episode in batch)
    encoder.prompts(longest(drawn, lambda episode: len(episode.text)))


def _check_texts(run: InContextRun, encoders: "cache[PromptEncoder]") -> None:
    if not (run.mixture and run.mixture.lm_weight and run.episodes):
        return
    texts = longest(plain_texts(run.mixture.lm_text, run.episodes, run.mixture.lm_characters), len)
    for model in filter(None, [run.model, run.teacher and run.teacher.model]):
        encoders(model).require_room(texts)
    if run.teacher:
        student, teacher = encoders(run.model).tokenizer, encoders(run.teacher.model).tokenizer
        shared = len(shared_tokens(student, teacher).student)
        if shared < FEWEST_SHARED and shared < len(student):
            raise StudyError(
                f"lm_weight: {run.mixture.lm_weight}: the vocabularies of {run.model} and {run.teacher.model} share "
                f"{shared} tokens; plain text needs {FEWEST_SHARED} to be distilled."
            )
