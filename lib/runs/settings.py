"""The settings of a profile and what each may be; errors name the key, the value and what is allowed."""

from collections import Counter
from collections.abc import Iterator
from math import isclose
from typing import Annotated, Literal, Self, get_args

import joblib
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lib.errors import StudyError
from lib.methods.records import Paradigm
from lib.methods.table import ON_TASKS, TRAINED
from lib.models.loading import DTYPES, Device, Memory, fastest_dtype
from lib.models.losses import HARD_WEIGHTS
from lib.models.training import OPTIMIZERS
from lib.models.tuning import Tuning
from lib.tasks import catalogue
from lib.tasks.patterns import LABEL_WORDS, PATTERNS, placeholders
from lib.tasks.task import DROPPED, Benchmark, Dataset, domain_keys

LARGEST = 2**32 - 1  # of whole numbers: generators take no larger seed
LARGEST_REAL = 1e30
MOST_BY_THEMSELVES = 8  # workers, each with its copy of the libraries


def _distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        wanted = "a list with nothing in it twice (twice: {value})"
        raise PydanticCustomError("repeated", wanted, {"value": repr(twice[0])})
    return values


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "a text without NUL characters")
    return text


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "a number")
    return value


def _cores(value: object) -> object:
    """For `auto`, the cores that this process may use; no more than many workers' memory allows on a laptop."""
    return min(joblib.cpu_count(), MOST_BY_THEMSELVES) if value == "auto" else value


Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_without_nul)]
Positive = Annotated[int, Field(gt=0, le=LARGEST, strict=True)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
Times = Annotated[int, Field(gt=0, le=LARGEST)]  # a key, which profiles hold as text
AboveOne = Annotated[int, Field(gt=1, le=LARGEST, strict=True)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Share = Annotated[Number, Field(ge=0, le=1)]
AboveZero = Annotated[Number, Field(gt=0, le=LARGEST_REAL)]
BelowOne = Annotated[Number, Field(ge=0, lt=1)]
Texts = Annotated[tuple[Text, ...], AfterValidator(_distinct)]
Sizes = Annotated[tuple[NotNegative, ...], AfterValidator(_distinct)]
Seeds = Annotated[Sizes, Field(min_length=1)]
Dtype = Literal[tuple(DTYPES)]
MethodName = Literal[ON_TASKS]

BY_METHOD = ("learning_rate", "epochs")


class Settings(BaseModel):
    """Frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetSettings(Settings):
    """A dataset of one's own: fields as those of `lib.tasks.task.Dataset`.

    `source` is a file, a folder, or a hub name after `hub:`; the profile's `data` where it is not given. `labels` maps
    what stands in the column `label` to classes, or to null for rows to be left out.
    """

    source: Text | None = None
    label: Text = "label"
    labels: dict[str, str | None] = {}
    columns: dict[str, Text] = {}
    where: dict[str, str | int | bool] = {}
    kind: Texts = ()
    split: Text = "split"
    train: Annotated[Texts, Field(min_length=1)] = ("train",)
    evaluation: Annotated[Texts, Field(min_length=1)] = Dataset.evaluation
    config: Text | None = None
    revision: Text | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_text(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        _distinct(tuple(map(str, value)))
        return {str(raw): name for raw, name in value.items()}

    def dataset(self, name: str, data: str) -> Dataset:
        """The dataset that these settings mean."""
        mapped = {
            "source": self.source or data,
            "labels": tuple((raw, DROPPED if name is None else name) for raw, name in self.labels.items()),
            "columns": tuple(self.columns.items()),
            "where": tuple((column, str(value)) for column, value in self.where.items()),
        }
        return Dataset(name=name, **self.model_dump(exclude=set(mapped)), **mapped)


class BenchmarkSettings(Settings):
    """One benchmark: fields as those of `lib.tasks.few_shot.Benchmark`, and k.

    `demonstrations` is the k of tuning and of the tables, `curve` further k at which models are evaluated. Learning
    rates, by paradigm, take the place of those of all benchmarks and paradigms.
    """

    source: Text
    split: str = ""
    tuning_source: str = ""
    training_tasks: Positive | None = None
    target_tasks: Positive | None = None
    examples: AboveOne = 64
    items: AboveOne | None = None
    longest: Positive | None = None
    demonstrations: Positive
    curve: Sizes = ()
    learning_rate: dict[Paradigm, AboveZero] = {}
    teacher_learning_rate: dict[Paradigm, AboveZero] = {}

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


class InContextSettings(Settings):
    """How models are in-context tuned and distilled. What is not said here is as in the profile, its models too.

    Fields are those of `InContextLearning`, `Episodes` and `EpisodeObjective` in `lib.methods.records`; there are votes
    under Multitask-ICT alone, `hard_weight` is a(t) of distilling methods, `lm_weight` b of ICL-D (LM).
    """

    student: Text | None = None
    teacher: Text | None = None
    crossfit: BenchmarkSettings | None = None
    lama: BenchmarkSettings | None = None

    paradigms: Annotated[tuple[Paradigm, ...], Field(min_length=1), AfterValidator(_distinct)] = ("meta", "multitask")
    seeds: Seeds
    votes: Positive = 5

    steps: Positive
    batch_size: Positive
    learning_rate: AboveZero
    teacher_learning_rate: AboveZero | None = None
    tuning: Literal["full", "lora"] = "full"
    teacher_tuning: Literal["full", "lora"] | None = None
    options: AboveOne | None = None
    length_normalized: bool = False

    hard_weight: Literal[tuple(HARD_WEIGHTS)] = "linear"
    hard_start: Share = 1.0
    lm_weight: AboveZero = 0.2
    lm_text: Text = "inputs"
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


class SearchSettings(Settings):
    """What a search of training settings tries: as many candidates for each method, on what is not reported.

    Attributes:
        rates: learning rates by what is trained, ascending.
        epochs: passes of `pbft` over the n examples, of `cd` over the pool, whatever is trained.
        seeds: of support sets and pools. All candidates are tried on the first.
        keep: the share of them that goes on to the next seed.
        items: evaluated, in domain.
        reserved: more of the evaluated items than the profile itself reports, where another one reports them.
    """

    rates: dict[Tuning, Annotated[tuple[AboveZero, ...], Field(min_length=2)]] = {
        "full": (5e-6, 1.5e-5, 5e-5, 1.5e-4),
        "lora": (3e-4, 1e-3, 3e-3, 1e-2),
        "bitfit": (3e-4, 1e-3, 3e-3, 1e-2),
    }
    epochs: dict[Literal["pbft", "cd"], tuple[Positive, ...]] = {"pbft": (10, 30), "cd": (1, 3)}
    seeds: Annotated[Sizes, Field(min_length=2)] = (100, 101, 102)
    keep: Annotated[Number, Field(gt=0, le=1)] = 0.5
    items: Positive = 400
    reserved: NotNegative = 0

    @model_validator(mode="after")
    def _as_many_candidates_for_each_method(self) -> Self:
        for name, by, wanted in (
            ("rates", self.rates, get_args(Tuning)),
            ("epochs", self.epochs, ("pbft", "cd")),
        ):
            if {*by} != {*wanted} or len({len(tried) for tried in by.values()}) > 1:
                raise ValueError(f"search.{name}: {by} must have as many values for each of {', '.join(wanted)}.")
            if any(list(tried) != sorted({*tried}) for tried in by.values()):
                raise ValueError(f"search.{name}: {by} must ascend.")
        return self


class ProfileSettings(Settings):
    """All settings of a profile. A setting `by method` is one value for all methods or a mapping from method names.

    `data` is where datasets lie that are known by name; `datasets` are those of one's own. `pattern` is a known one or
    a text with a column's name in each pair of braces. `label_words` maps classes to words; a list is in the order of
    entailment and its opposite, `drawn` is for the controlled world. `too_long: skip` leaves out each row that does not
    fit the models beside as many rows of its length as the largest of `support_sizes`, or beside a number of them.

    With `isolate` each run has a process of its own and its resident memory is measured; without, runs share processes
    (`workers` of them, of one thread each, `auto` for the cores of the machine, or this one). `cluster` is the address
    of a scheduler of dask's, whose workers take the runs, or a queueing system that starts `workers`. A worker of this
    machine that takes more than `worker_memory` GiB is ended. `run_timeout` ends a run and `page_timeout` a cell of a
    page after so many seconds. `choices` and `ablations` are those that notebooks 09 and 10 try, None for all;
    `controls` those of notebook 14, by how many times the profile's pool either domain gives.
    `stored_only` draws what is stored and computes nothing; `anew` computes results again whose data
    or models are others now. `teacher_memory` and `queries_a_pass` are those of `lib.methods.records.PoolLabelling`;
    `padding_free`, `fused`, `accumulate`, `optimizer_in_backward` and `frozen_dtype` of
    `lib.models.training.Training`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100, description="folder under figures/")]
    about: str

    student: Text
    teacher: Text
    student_dtype: Dtype | Literal["auto"] = "float32"
    teacher_dtype: Dtype | Literal["auto"] = "float32"
    teacher_memory: Memory = "whole"
    queries_a_pass: Positive = 16
    device: Device
    isolate: bool = True
    workers: Annotated[Positive, Field(le=1024), BeforeValidator(_cores)] = 1
    cluster: Text | None = None
    worker_memory: AboveZero | None = None
    run_timeout: AboveZero | None = None
    page_timeout: Positive = 3600

    data: Text
    datasets: dict[str, DatasetSettings] = {}
    in_domain: Text
    out_of_domain: Text | Texts = ()
    pattern: str = "gpt-3"
    label_words: dict[str, str] | tuple[str, ...] | Literal["drawn"] | None = None
    eval_limit: AboveOne | None = None
    eval_seed: NotNegative = 0
    reserved: tuple[Positive, NotNegative] | None = None
    too_long: Literal["error", "skip"] | NotNegative = "error"
    eval_batch_size: Positive = 16

    methods: Annotated[tuple[MethodName, ...], Field(min_length=1), AfterValidator(_distinct)] = ON_TASKS
    support_sizes: Seeds
    seeds: Seeds

    pool: Literal["train", "target", "both", "support"] = "train"
    pool_size: Annotated[NotNegative, Field(description="0: the support set's own queries")]
    held_out: Literal["nothing", "subcases", "templates"] = "nothing"
    pool_shares: Annotated[tuple[Share, ...], Field(min_length=2)] | None = None
    demonstration_labels: Literal["true", "shuffled"] = "true"
    calibration_pool: NotNegative = 0
    calibration: Literal["none", "content_free", "pool"] = "none"
    ce_on: Literal["support", "pool", "teacher"] = "support"
    kl_over: Literal["labels", "vocabulary"] = "labels"
    kl_weight: Share = 0.5
    temperature: AboveZero = 1.0

    learning_rate: AboveZero | dict[MethodName, AboveZero]
    epochs: Positive | dict[MethodName, Positive]
    batch_size: Positive
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "linear"
    warmup: BelowOne = 0.1
    weight_decay: Annotated[Number, Field(ge=0, le=LARGEST_REAL)] = 0.0
    training_dtype: Literal["float32", "bfloat16"] = "float32"
    optimizer: Literal[tuple(OPTIMIZERS)] = "adamw"
    checkpointing: bool = False
    accumulate: Positive = 1
    optimizer_in_backward: bool = False
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"
    logits: Literal["all", "last", "labels"] = "last"
    padding_free: bool = True
    fused: bool = True
    lora_rank: Positive = 8
    lora_alpha: Positive = 16
    lora_dropout: BelowOne = 0.0
    bitfit: Literal["existing", "add"] = "existing"

    stored_only: bool = False
    anew: bool = False
    choices: Texts | None = None
    ablations: Texts | None = None
    controls: dict[Times, Texts] | None = None
    search: SearchSettings = SearchSettings()
    in_context: InContextSettings | None = None

    @field_validator("label_words", mode="before")
    @classmethod
    def _words_and_not_booleans(cls, value: object) -> object:
        words = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        if any(isinstance(word, bool) for word in words):
            raise ValueError(f"label_words: {value} has booleans: YAML reads Yes and No so; put the words in quotes.")
        return value

    @model_validator(mode="after")
    def _rows_beside_as_many_as_the_largest_support_set(self) -> Self:
        """Settled here, so that a variant with other support sizes has the same rows."""
        return self.model_copy(update={"too_long": max(self.support_sizes)}) if self.too_long == "skip" else self

    @model_validator(mode="after")
    def _dtypes_of_this_machine(self) -> Self:
        """Settled here, so that keys and records say what is computed."""
        auto = [name for name in ("student_dtype", "teacher_dtype") if getattr(self, name) == "auto"]
        return self.model_copy(update=dict.fromkeys(auto, fastest_dtype(self.device))) if auto else self

    @model_validator(mode="after")
    def _settings_for_all_trained_methods(self) -> Self:
        for setting in BY_METHOD:
            value = getattr(self, setting)
            lacking = [
                name for name in self.methods if name in TRAINED and isinstance(value, dict) and name not in value
            ]
            if lacking:
                raise ValueError(f"{setting}: no value for {', '.join(lacking)}; give each trained method one.")
        return self

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> Self:
        if problems := list(_contradictions(self)):
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _pattern_with_placeholders(self) -> Self:
        if self.pattern not in PATTERNS and "{" not in self.pattern:
            raise ValueError(
                f"pattern: {self.pattern!r} is not known and has no column's name in braces. Known: "
                f"{', '.join(PATTERNS)}."
            )
        try:
            placeholders(self.template)
        except StudyError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _words_of_classes(self) -> Self:
        if self.label_words is None and self.pattern not in LABEL_WORDS:
            raise ValueError("label_words: a pattern of your own needs a word for each class, as CLASS: WORD.")
        if isinstance(self.label_words, (dict, tuple)):
            words = tuple(self.label_words.values()) if isinstance(self.label_words, dict) else self.label_words
            if isinstance(self.label_words, tuple) and len(words) != len(self.classes):
                raise ValueError(f"label_words: {list(words)} are not one for each of {list(self.classes)}.")
            if not all(self.classes):
                raise ValueError(f"label_words: {self.label_words} has a class without a name, ''.")
            if len(self.classes) < 2:
                raise ValueError(f"label_words: {self.label_words} names one class; two are needed.")
            if len({*words}) < len(words) or not all(word.strip() == word and word for word in words):
                raise ValueError(f"label_words: {list(words)} must differ and neither begin nor end in a space.")
        return self

    @model_validator(mode="after")
    def _labels_of_classes(self) -> Self:
        for name, settings in self.datasets.items():
            unknown = sorted({label for label in settings.labels.values() if label is not None} - {*self.classes})
            if unknown:
                known = ", ".join(self.classes)
                raise ValueError(f"datasets.{name}.labels: {', '.join(unknown)} has no label word. Classes: {known}.")
        return self

    @model_validator(mode="after")
    def _shares_of_all_classes(self) -> Self:
        count = len(self.classes)
        if self.pool_shares and not (len(self.pool_shares) == count and isclose(sum(self.pool_shares), 1)):
            raise ValueError(f"pool_shares: {list(self.pool_shares)} must be {count} shares that sum to 1.")
        return self

    @property
    def template(self) -> str:
        """The pattern itself."""
        return PATTERNS.get(self.pattern, self.pattern)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of label words; those of natural language inference where a profile names none."""
        return tuple(self.label_words) if isinstance(self.label_words, dict) else catalogue.CLASSES

    @property
    def evaluated_elsewhere(self) -> tuple[str, ...]:
        """The names of the out-of-domain sets."""
        return (self.out_of_domain,) if isinstance(self.out_of_domain, str) else self.out_of_domain

    @property
    def domains(self) -> dict[str, str]:
        """The evaluated sets: role to title, such as `out of domain`, and with several the set's name."""
        keys, names = domain_keys(len(self.evaluated_elsewhere)), self.evaluated_elsewhere
        several = len(names) > 1
        titles = [f"out of domain: {name}" if several else "out of domain" for name in names]
        return dict(zip(keys, ["in domain", *titles], strict=True))


def _contradictions(own: ProfileSettings) -> Iterator[str]:
    """What is said of settings that cannot be had together."""
    if own.isolate and own.workers > 1:
        yield f"workers: {own.workers} at a time would disturb each other's costs; set isolate: false."
    if own.isolate and own.cluster:
        yield f"cluster: the workers of {own.cluster} would disturb each other's costs; set isolate: false."
    if own.frozen_dtype not in ("float32", own.training_dtype):
        yield (
            f"frozen_dtype: {own.frozen_dtype!r} needs a training_dtype that is the same; it is "
            f"{own.training_dtype!r}. Allowed with it: float32."
        )
    if own.optimizer_in_backward and own.accumulate > 1:
        yield (
            f"accumulate: {own.accumulate} keeps gradients for the step, which optimizer_in_backward: true spends "
            "as they come. Allowed with it: 1."
        )
    if own.kl_over == "vocabulary" and own.logits == "labels":
        yield "logits: 'labels' leaves nothing to compare with kl_over: 'vocabulary'; use last or all."
    if own.kl_over == "vocabulary" and own.calibration != "none":
        yield f"calibration: {own.calibration!r} is about the label words; set kl_over: labels."
