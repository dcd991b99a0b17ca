"""A run: everything that determines one result, and nothing else. Its hash names the result's file."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from lib.models.loading import Device, Memory
from lib.models.training import EXECUTION, Training
from lib.tasks.task import Benchmark, Task


@dataclass(frozen=True)
class PoolLabelling:
    """What a teacher is asked: soft labels for a pool of queries, given demonstrations. Shared by all students.

    Attributes:
        pool: where the queries come from: `train`, the in-domain training rows; `target`, rows like those that are
            evaluated out of domain; `both`, half of each; `support`, the support set itself.
        held_out: the halves of the target's `subcases` or `templates` that the pool does without.
        pool_shares: of the classes in the pool; None draws it without looking at labels.
        demonstration_labels: `true` or `shuffled`, as `lib.tasks.samples.with_shuffled_labels` has it.
        teacher_memory: whether the teacher's weights are read as they are needed, which changes no answer.
        queries_a_pass: that a streamed teacher is asked at once, in place of `batch_size`.
    """

    kept_in: ClassVar[str] = "soft_labels"
    needs: ClassVar[None] = None  # no job has to be done first

    teacher: str
    dtype: str
    task: Task
    support_size: int
    seed: int
    pool: str
    pool_size: int
    kl_over: str
    batch_size: int
    device: Device
    held_out: str = "nothing"
    pool_shares: tuple[float, ...] | None = None
    demonstration_labels: str = "true"
    teacher_memory: Memory = field(default="whole", metadata=EXECUTION)
    queries_a_pass: int = field(default=16, metadata=EXECUTION)

    @property
    def name(self) -> str:
        """For progress lines and lists of failures."""
        return f"teacher's soft labels n={self.support_size} seed={self.seed}"


@dataclass(frozen=True)
class Distillation:
    """The objective λ·T²·KL + (1 − λ)·CE, where its two terms come from, and what is done to the teacher's answers.

    Cross-entropy is on gold labels of the `support` set or of the `pool`, or on the `teacher`'s likeliest labels there.
    """

    labelling: PoolLabelling
    kl_weight: float
    temperature: float
    ce_on: str
    calibration: str = "none"


Paradigm = Literal["meta", "multitask"]


@dataclass(frozen=True)
class Episodes:
    """What a model is tuned on: queries after demonstrations of their own task, drawn anew for each step.

    Under `meta` from tasks that are not evaluated, under `multitask` from the targets' own examples. The same for
    teacher and students of a seed.

    Attributes:
        options: at most so many of a query's options are compared, the right one among them; None for all.
        length_normalized: as in `InContextLearning`.
    """

    benchmark: Benchmark
    paradigm: Paradigm
    seed: int
    demonstrations: int
    steps: int
    options: int | None
    length_normalized: bool


@dataclass(frozen=True)
class EpisodeObjective:
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
    needs: ClassVar[None] = None

    model: str
    dtype: str
    device: Device
    episodes: Episodes
    training: Training

    @property
    def name(self) -> str:
        """For progress lines and lists of failures."""
        return f"{self.episodes.benchmark.name} {self.episodes.paradigm} tuned teacher seed={self.episodes.seed}"


@dataclass(frozen=True)
class InContextLearning:
    """What in-context learning distillation adds to a run: how a model is tuned on episodes, and evaluated after it.

    Attributes:
        demonstrations: each k that the model is evaluated with.
        votes: draws of demonstrations whose answers are put together by majority.
        length_normalized: an option's log-probability is divided by its number of tokens.
        paradigm: of a tuned model; None where nothing is tuned.
        episodes, objective: how a student is tuned; None for others.
        teacher: the tuned teacher that the student learns from, or that is itself evaluated.
    """

    demonstrations: tuple[int, ...]
    votes: int
    length_normalized: bool
    paradigm: Paradigm | None = None
    episodes: Episodes | None = None
    objective: EpisodeObjective | None = None
    teacher: TunedTeacher | None = None


@dataclass(frozen=True)
class Run:
    """One point of the study: a method at a support size and a seed, on given models and data.

    Attributes:
        method: a key of `lib.methods.table.METHODS`.
        support_size: 0 for methods that read no support set, and on a benchmark.
        model: the model that is evaluated, teacher or student.
        task: what it is evaluated on.
        training: how a student is trained; None where nothing is.
        distillation: what teaches it in context distillation.
        demonstration_labels: those that the evaluated model reads, as in `PoolLabelling`.
        calibration_pool: unlabelled queries like those of each domain that the model also answers, so that its own
            label prior is known; they change no other number of the result.
        teacher_memory, queries_a_pass: where a teacher is evaluated, as in `PoolLabelling`.
        keeps_student: the trained student is kept beside its result, as `lib.runs.export` writes it.
        in_context: of the methods of in-context learning distillation.
    """

    kept_in: ClassVar[str] = "runs"

    method: str
    support_size: int
    seed: int
    model: str
    dtype: str
    task: Task | Benchmark
    eval_batch_size: int
    device: Device
    training: Training | None = None
    distillation: Distillation | None = None
    demonstration_labels: str = "true"
    calibration_pool: int = field(default=0, metadata=EXECUTION)
    teacher_memory: Memory = field(default="whole", metadata=EXECUTION)
    queries_a_pass: int = field(default=16, metadata=EXECUTION)
    keeps_student: bool = field(default=False, metadata=EXECUTION)
    in_context: InContextLearning | None = None

    @property
    def needs(self) -> PoolLabelling | TunedTeacher | None:
        """The job that has to be done first."""
        if self.in_context:
            return self.in_context.teacher
        return self.distillation.labelling if self.distillation else None

    @property
    def name(self) -> str:
        """For progress lines and lists of failures."""
        if self.in_context:
            return " ".join(filter(None, [self.task.name, self.in_context.paradigm, self.method, f"seed={self.seed}"]))
        return f"{self.method} n={self.support_size} seed={self.seed}"
