"""A run of in-context tuning: a model, tuned or not, that answers a benchmark's tasks from demonstrations."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from lib.models.loading import Device
from lib.models.training import Training
from lib.tasks.few_shot import Benchmark

Paradigm = Literal["meta", "multitask"]


@dataclass(frozen=True)
class Episodes:
    """What a model is tuned on: queries after demonstrations of their own task, drawn anew for each step.

    Under `meta` from tasks that are not evaluated, under `multitask` from the targets' own examples. The same for
    teacher and students of a seed.

    Attributes:
        options: at most so many of a query's options are compared, the right one among them; None for all.
        normalised: an option's log-probability is divided by its number of tokens.
    """

    benchmark: Benchmark
    paradigm: Paradigm
    seed: int
    demonstrations: int
    steps: int
    options: int | None
    normalised: bool


@dataclass(frozen=True)
class Mixture:
    """L = a(t)·L_hard + (1 − a(t))·L_soft, each = L^ICL + b·L^LM (arXiv 2212.10670).

    Attributes:
        hard: a(t) by name, a key of `lib.models.losses.HARD_WEIGHTS`; it begins at `hard_start`.
        lm_weight: b.
        lm_text: where plain text comes from: `inputs` of the tasks tuned on, a text file, or `hub:OWNER/NAME`.
        lm_batch: texts in each step.
        lm_characters: of each text that are read.
    """

    hard: str = "constant"
    lm_weight: float = 0.0
    temperature: float = 1.0
    lm_text: str = "inputs"
    lm_batch: int = 4
    lm_characters: int = 200
    hard_start: float = 1.0


@dataclass(frozen=True)
class TunedTeacher:
    """A teacher that is in-context tuned, shared by all students that learn from it: its weights are kept."""

    kept_in: ClassVar[str] = "teachers"

    model: str
    dtype: str
    device: Device
    episodes: Episodes
    training: Training

    @property
    def needs(self) -> None:
        """Nothing has to be there first."""
        return

    @property
    def name(self) -> str:
        """For progress lines and lists of failures."""
        return f"{self.episodes.benchmark.name} {self.episodes.paradigm} tuned teacher seed={self.episodes.seed}"


@dataclass(frozen=True)
class InContextRun:
    """One result of in-context tuning: a method under a paradigm and a seed, evaluated at several k.

    Attributes:
        method: a key of `lib.methods.in_context_distillation.IN_CONTEXT_METHODS`.
        paradigm: of a tuned model; None where nothing is tuned.
        model: the model that is evaluated.
        demonstrations: each k that it is evaluated with.
        votes: draws of demonstrations whose answers are put together by majority.
        episodes, training, mixture: how a student is tuned; None for others.
        teacher: the tuned teacher that the student learns from, or that is itself evaluated.
    """

    kept_in: ClassVar[str] = "in_context_runs"

    method: str
    benchmark: Benchmark
    paradigm: Paradigm | None
    seed: int
    model: str
    dtype: str
    device: Device
    demonstrations: tuple[int, ...]
    votes: int
    normalised: bool
    eval_batch_size: int
    episodes: Episodes | None = None
    training: Training | None = None
    mixture: Mixture | None = None
    teacher: TunedTeacher | None = None

    @property
    def needs(self) -> TunedTeacher | None:
        """The job that has to be done first."""
        return self.teacher

    @property
    def name(self) -> str:
        """For progress lines and lists of failures."""
        return " ".join(filter(None, [self.benchmark.name, self.paradigm, self.method, f"seed={self.seed}"]))
