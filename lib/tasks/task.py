"""One example of a task, and the classes of natural language inference."""

from typing import Literal, NamedTuple

CLASSES = ("entailment", "non-entailment")

Split = Literal["train", "evaluation"]


class Example(NamedTuple):
    """One premise and hypothesis; `label` is 0 for entailment and 1 for its opposite.

    `subcase` and `template` say how HANS made the row, where the data tell; a template's name is its own only within
    its subcase.
    """

    premise: str
    hypothesis: str
    label: int
    subcase: str = ""
    template: str = ""
