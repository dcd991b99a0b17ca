"""Episodes: a query after demonstrations of its own task, drawn for tuning or for evaluation, as token ids."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from datasets import load_dataset

from lib.errors import StudyError, first_line
from lib.methods.records import Episodes
from lib.paths import locate
from lib.tasks.few_shot import FewShotTask, task_set
from lib.tasks.prompts import prompt
from lib.tasks.task import ANSWER, Query


class Episode(NamedTuple):
    """A query, what stands before it, and which of its options are compared."""

    demonstrations: tuple[Query, ...]
    query: Query

    @property
    def text(self) -> str:
        """The whole prompt, up to the answer."""
        return prompt(self.demonstrations, self.query)


def tuned_on(episodes: Episodes) -> tuple[FewShotTask, ...]:
    """The tasks that episodes are drawn from: disjoint from the targets under Meta-ICT, the targets under Multitask.

    Raises:
        StudyError: as for `task_set`, or a task has too few examples for a query after its demonstrations.
    """
    available = task_set(episodes.benchmark, episodes.seed)
    tasks = available.training if episodes.paradigm == "meta" else available.targets
    for task in tasks:
        require_examples(task, episodes.demonstrations + 1)
    return tasks


def require_examples(task: FewShotTask, count: int) -> None:
    """Raise `StudyError` where a task has fewer examples than are needed."""
    if len(task.examples) < count:
        raise StudyError(
            f"demonstrations: task {task.name} has {len(task.examples)} examples, but {count} are needed "
            "(the demonstrations and, for tuning, a query)."
        )


def batches(episodes: Episodes, batch_size: int) -> Iterator[list[Episode]]:
    """Each step's episodes: a task at random, then its demonstrations and a query, all different."""
    tasks = tuned_on(episodes)
    draw = random.Random(f"episodes {episodes.seed}")
    for _ in range(episodes.steps):
        yield [_episode(draw.choice(tasks), episodes, draw) for _ in range(batch_size)]


def _episode(task: FewShotTask, episodes: Episodes, draw: random.Random) -> Episode:
    *demonstrations, query = draw.sample(task.examples, episodes.demonstrations + 1)
    return Episode(tuple(demonstrations), _fewer_options(query, episodes.options, draw))


def _fewer_options(query: Query, count: int | None, draw: random.Random) -> Query:
    """The query with at most `count` of its options, the right one among them, in the order that they had."""
    if count is None or len(query.options) <= count:
        return query
    wrong = [option for i, option in enumerate(query.options) if i != query.gold]
    kept = {query.options[query.gold], *draw.sample(wrong, count - 1)}
    options = tuple(option for option in query.options if option in kept)
    return Query(query.text, options, options.index(query.options[query.gold]))


def demonstrations_of(task: FewShotTask, count: int, vote: int, seed: int) -> tuple[Query, ...]:
    """The demonstrations of one vote; those of fewer are the first of those of more.

    Raises:
        StudyError: the task has fewer examples.
    """
    require_examples(task, count)
    order = random.Random(f"demonstrations {task.name} {seed} {vote}").sample(task.examples, len(task.examples))
    return tuple(order[:count])


def plain_texts(source: str, episodes: Episodes, characters: int) -> list[str]:
    """Texts for the language-modelling terms, each of at most so many characters.

    Args:
        source: `inputs` for the texts of the tasks tuned on; a text file, of which each line that is not blank is one;
            or `hub:OWNER/NAME`, a dataset with a column `text`.
        episodes: whose tasks `inputs` means.
        characters: of each text that are kept.

    Raises:
        StudyError: no such file, no such dataset, or no text in it.
    """
    if source == "inputs":
        texts = [query.text.removesuffix(ANSWER) for task in tuned_on(episodes) for query in task.examples]
    elif source.startswith("hub:"):
        texts = _hub_texts(source.removeprefix("hub:"))
    else:
        texts = _file_texts(source)
    kept = list(dict.fromkeys(text.strip()[:characters].rstrip() for text in texts if text.strip()))
    if not kept:
        raise StudyError(f"lm_text: {source!r} holds no text.")
    return kept


def _file_texts(source: str) -> list[str]:
    file = locate(source)
    if not file.is_file():
        raise StudyError(f"lm_text: {source!r} is not there. Allowed: inputs, a text file, or hub:OWNER/NAME.")
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise StudyError(f"lm_text: {source!r} is not UTF-8 ({error.reason} at byte {error.start}).") from error


def _hub_texts(name: str) -> list[str]:
    try:
        return [text for text in load_dataset(name, split="train")["text"] if text]
    except Exception as error:  # datasets raises many kinds for a hub that cannot be reached
        raise StudyError(f"lm_text: {name!r} could not be read from the hub ({first_line(error)}).") from error
