"""A task: labelled texts, the pattern that puts one to a model, and the word that answers each class."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from lib.errors import StudyError

Split = Literal["train", "evaluation"]
DROPPED = ""  # in place of a class: rows with such a label are left out
IN_DOMAIN = "in_domain"
OUT_OF_DOMAIN = "out_of_domain"
ANSWER = "\nAnswer:"  # between a text and its answer, where the text itself does not ask for it


class Query(NamedTuple):
    """One item as a model meets it.

    Attributes:
        text: what stands before the answer; it ends in no space.
        options: the answers that are compared, by class or of the item's own.
        gold: the place of the right one among them.
        kind: how the row was made, from coarse to fine (HANS: subcase, template), where the data tell.
    """

    text: str
    options: tuple[str, ...]
    gold: int
    kind: tuple[str, ...] = ()

    @property
    def answered(self) -> str:
        """The item with its answer, as a demonstration shows it.

        The space before an answer belongs to the answer, as tokenizers have it.
        """
        return f"{self.text} {self.options[self.gold]}"


@dataclass(frozen=True)
class Dataset:
    """Where labelled rows lie, and what of them is read.

    Attributes:
        name: in figures and messages; in a folder, the name of the file.
        source: `world`, `embedded`, `hub:OWNER/NAME`, `github:OWNER/NAME@COMMIT/FOLDER`, a file, or a folder that holds
            `<name>.<format>`.
        label: the column of labels.
        labels: (label in the data, class); a class of `DROPPED` leaves its rows out. Empty: the labels are the classes.
        columns: (placeholder of the pattern, column), where the names differ.
        where: (column, value) that a row must have to be read.
        kind: columns that say how a row was made, from coarse to fine.
        split: the column that says which split a row belongs to, where one file holds several.
        train, evaluation: names of the splits, the first that is there being read; on GitHub, of the files.
        config, revision: on the hub.
    """

    name: str
    source: str
    label: str = "label"
    labels: tuple[tuple[str, str], ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    kind: tuple[str, ...] = ()
    split: str = "split"
    train: tuple[str, ...] = ("train",)
    evaluation: tuple[str, ...] = ("validation_matched", "dev_matched", "validation", "dev", "test")
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Task:
    """The data, how it is put to a model, and what is evaluated.

    Attributes:
        pattern: a text with a placeholder in braces for each field of a row.
        classes: in the order of label words, log-probabilities and scores.
        label_words: the answer that stands for each class.
        in_domain: where support sets and pools come from, and the first set that is evaluated.
        out_of_domain: further sets that are evaluated.
        eval_limit: items of each set, as many of each class; None for all.
        eval_seed: of their draw.
        readers: models that must be able to read each row; rows that are too long for one of them are left out.
        beside: how many rows as long must fit beside each, as demonstrations.
        reserved: (limit, seed) of a sample that is neither evaluated nor learnt from: what a study reports, where
            settings are searched.
    """

    pattern: str
    classes: tuple[str, ...]
    label_words: tuple[str, ...]
    in_domain: Dataset
    out_of_domain: tuple[Dataset, ...] = ()
    eval_limit: int | None = None
    eval_seed: int = 0
    reserved: tuple[int, int] | None = None
    readers: tuple[str, ...] = ()
    beside: int = 0

    @property
    def domains(self) -> dict[str, Dataset]:
        """The evaluated sets by role: `in_domain`, `out_of_domain`, `out_of_domain_2` and so on."""
        return dict(zip(domain_keys(len(self.out_of_domain)), (self.in_domain, *self.out_of_domain), strict=True))


def domain_keys(out_of_domain: int) -> list[str]:
    """The roles of evaluated sets, where so many are out of domain."""
    further = [OUT_OF_DOMAIN if i == 1 else f"{OUT_OF_DOMAIN}_{i}" for i in range(1, out_of_domain + 1)]
    return [IN_DOMAIN, *further]


@dataclass(frozen=True)
class Benchmark:
    """Which tasks are tuned on and which are evaluated, and how much of each.

    Attributes:
        name: `crossfit` or `lama`.
        source: a folder, `hub:OWNER/NAME`, `github:OWNER/NAME@COMMIT/FOLDER`, `hub` (LAMA as published) or `embedded`.
        split: CrossFit: a JSON file of `train` and `test` task names. Empty for LAMA.
        tuning_source: LAMA: a folder of other facts of the relations, to tune on and to demonstrate. Empty: facts of
            the source itself, which are then not evaluated.
        training_tasks: how many to tune on under Meta-ICT; None for all.
        target_tasks: how many to evaluate; None for all.
        examples: labelled examples of each target (the paper: 32 for training and 32 for validation).
        items: evaluated of each target; None for all.
        longest: characters; longer rows are left out. None for no limit.
        fewest: examples that a task must have, or be left out: the demonstrations and a query to tune on.
    """

    name: Literal["crossfit", "lama"]
    source: str
    split: str = ""
    tuning_source: str = ""
    training_tasks: int | None = None
    target_tasks: int | None = None
    examples: int = 64
    items: int | None = None
    longest: int | None = None
    fewest: int = 2


class MissingTaskError(StudyError):
    """A task that a benchmark names but has no rows for; it is listed and the rest goes on."""
