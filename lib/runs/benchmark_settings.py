"""Settings of in-context learning distillation, the part `in_context` of a profile, and the runs that they mean."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lib.methods.in_context_distillation import IN_CONTEXT_METHODS, InContextMethod
from lib.methods.records import EpisodeObjective, Episodes, InContextRun, Paradigm, TunedTeacher
from lib.models.loading import DTYPES, Device
from lib.models.losses import HARD_WEIGHTS
from lib.models.training import Training
from lib.models.tuning import Tuning
from lib.tasks.task import Benchmark

Positive = Annotated[int, Field(gt=0)]
LearningRate = Annotated[float, Field(gt=0)]
Dtype = Literal[tuple(DTYPES)]


class Settings(BaseModel):
    """Frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BenchmarkSettings(Settings):
    """One benchmark: fields as those of `lib.tasks.task.Benchmark`, and k.

    `demonstrations` is the k of tuning and of the tables, `curve` further k at which models are evaluated. Learning
    rates, by paradigm, take the place of those of all benchmarks and paradigms.
    """

    source: str
    split: str = ""
    tuning_source: str = ""
    training_tasks: Positive | None = None
    target_tasks: Positive | None = None
    examples: Annotated[int, Field(gt=1)] = 64
    items: Annotated[int, Field(gt=1)] | None = None
    longest: Positive | None = None
    demonstrations: Positive
    curve: tuple[Annotated[int, Field(ge=0)], ...] = ()
    learning_rate: dict[Paradigm, LearningRate] = {}
    teacher_learning_rate: dict[Paradigm, LearningRate] = {}

    @model_validator(mode="after")
    def _enough_examples(self) -> Self:
        if self.examples < self.fewest:
            raise ValueError(
                f"examples: {self.examples} of each target are too few for {self.demonstrations} demonstrations and a "
                f"query, and for the curve {list(self.curve)}; {self.fewest} are needed."
            )
        return self

    @property
    def fewest(self) -> int:
        """Examples that a task must have: for the most demonstrations, and in tuning for a query after them."""
        return max((self.demonstrations + 1, *self.curve))


class InContext(Settings):
    """How models are in-context tuned and distilled. Models that are not named are those of the profile.

    Attributes:
        votes: draws of demonstrations under Multitask-ICT, whose answers are put together by majority.
        options: of a query that are compared in tuning, at most; None for all.
        length_normalized: divide an option's log-probability by its number of tokens.
        hard_weight: a(t) of distilling methods, which begins at `hard_start`; `lm_weight` is b of ICL-D (LM).
    """

    student: str | None = None
    teacher: str | None = None
    crossfit: BenchmarkSettings | None = None
    lama: BenchmarkSettings | None = None

    paradigms: Annotated[tuple[Paradigm, ...], Field(min_length=1)] = ("meta", "multitask")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    votes: Positive = 5
    eval_batch_size: Positive = 16

    steps: Positive
    batch_size: Positive
    learning_rate: LearningRate
    teacher_learning_rate: LearningRate | None = None
    tuning: Literal["full", "lora"] = "full"
    teacher_tuning: Literal["full", "lora"] | None = None
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    options: Annotated[int, Field(gt=1)] | None = None
    length_normalized: bool = False

    hard_weight: Literal[tuple(HARD_WEIGHTS)] = "linear"
    hard_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    lm_weight: Annotated[float, Field(gt=0)] = 0.2
    lm_text: str = "inputs"
    lm_batch: Positive = 4
    lm_characters: Positive = 200

    @model_validator(mode="after")
    def _something_is_distilled(self) -> Self:
        if self.hard_weight == "constant" and self.hard_start == 1:
            raise ValueError("hard_weight: 'constant' needs hard_start below 1; at 1 the teacher is never asked.")
        return self

    def benchmark(self, name: str) -> Benchmark | None:
        """The benchmark of a name, or None where these settings do not have it."""
        settings: BenchmarkSettings | None = getattr(self, name)
        if settings is None:
            return None
        fields = settings.model_dump(exclude={"demonstrations", "curve", "learning_rate", "teacher_learning_rate"})
        return Benchmark(name=name, fewest=settings.fewest, **fields)


@dataclass(frozen=True)
class Pair:
    """The models of a profile, with the precision of each, and where they run."""

    student: str
    teacher: str
    student_dtype: str
    teacher_dtype: str
    device: Device


class InContextPlan:
    """The runs of one benchmark under a profile's settings."""

    def __init__(self, settings: InContext, name: str, pair: Pair, training: Training) -> None:
        """Plan; models that the settings name take the place of the pair's.

        Args:
            settings: the part `in_context` of a profile.
            name: the benchmark's.
            pair: the profile's models.
            training: what these settings do not say of training (precision, weight decay, LoRA), the profile's own.
        """
        named = {"student": settings.student, "teacher": settings.teacher}
        self.settings = settings
        self.sizes: BenchmarkSettings = getattr(settings, name)
        self._benchmark = settings.benchmark(name)
        self._common = training
        self._pair = replace(pair, **{role: model for role, model in named.items() if model})

    def runs(self) -> list[InContextRun]:
        """Seed by seed; what is not tuned has one run a seed, whatever the paradigm."""
        settings = self.settings
        runs = [
            self._run(name, method, paradigm, seed)
            for seed in settings.seeds
            for paradigm in settings.paradigms
            for name, method in IN_CONTEXT_METHODS.items()
        ]
        return list(dict.fromkeys(runs))

    def _run(self, name: str, method: InContextMethod, paradigm: Paradigm, seed: int) -> InContextRun:
        settings, pair, student = self.settings, self._pair, method.tuned and not method.teacher_answers
        return InContextRun(
            method=name,
            benchmark=self._benchmark,
            paradigm=paradigm if method.tuned else None,
            seed=seed,
            model=pair.teacher if method.teacher_answers else pair.student,
            dtype=pair.teacher_dtype if method.teacher_answers else pair.student_dtype,
            device=pair.device,
            demonstrations=tuple(sorted({*self.sizes.curve, self.sizes.demonstrations})),
            votes=settings.votes if method.tuned and paradigm == "multitask" else 1,
            length_normalized=settings.length_normalized,
            eval_batch_size=settings.eval_batch_size,
            episodes=self._episodes(paradigm, seed) if student else None,
            training=self._training(self._rate(paradigm), settings.tuning) if student else None,
            mixture=self._mixture(method) if student else None,
            teacher=self._tuned_teacher(paradigm, seed) if method.distils or (method.tuned and not student) else None,
        )

    def _rate(self, paradigm: Paradigm) -> float:
        """The student's learning rate."""
        return self.sizes.learning_rate.get(paradigm, self.settings.learning_rate)

    def _episodes(self, paradigm: Paradigm, seed: int) -> Episodes:
        settings = self.settings
        k = self.sizes.demonstrations
        return Episodes(
            self._benchmark, paradigm, seed, k, settings.steps, settings.options, settings.length_normalized
        )

    def _tuned_teacher(self, paradigm: Paradigm, seed: int) -> TunedTeacher:
        settings, pair = self.settings, self._pair
        own = self.sizes.teacher_learning_rate.get(paradigm)
        rate = own or settings.teacher_learning_rate or self._rate(paradigm)
        training = self._training(rate, settings.teacher_tuning or settings.tuning)
        return TunedTeacher(pair.teacher, pair.teacher_dtype, pair.device, self._episodes(paradigm, seed), training)

    def _mixture(self, method: InContextMethod) -> EpisodeObjective:
        settings = self.settings
        if not method.distils:
            return EpisodeObjective()
        start = settings.hard_start
        distilled = EpisodeObjective(settings.hard_weight, temperature=settings.temperature, hard_start=start)
        if not method.plain_text:
            return distilled
        texts = (settings.lm_text, settings.lm_batch, settings.lm_characters)
        return EpisodeObjective(
            settings.hard_weight, settings.lm_weight, settings.temperature, *texts, hard_start=start
        )

    def _training(self, learning_rate: float, tuning: Tuning) -> Training:
        settings = self.settings
        adapter = {} if tuning == "lora" else {"lora_rank": None, "lora_alpha": None, "lora_dropout": None}
        return replace(
            self._common,
            tuning=tuning,
            learning_rate=learning_rate,
            epochs=1,
            batch_size=settings.batch_size,
            schedule=settings.schedule,
            warmup=settings.warmup,
            **adapter,
        )
