"""Profiles: papermill parameter files that say which models, data, methods and settings a run of the study uses."""

from collections.abc import Callable
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lib.errors import StudyError, require_one_of
from lib.methods.context_distillation import METHODS, TRAINED, Method
from lib.methods.records import Distillation, InContextRun, PoolLabelling, Run
from lib.models.loading import DTYPES, Device
from lib.models.training import OPTIMIZERS, Training
from lib.models.tuning import Tuning
from lib.paths import FIGURES, PROFILES
from lib.runs.benchmark_settings import InContext, InContextPlan, Pair
from lib.tasks import catalogue, world
from lib.tasks.patterns import LABEL_WORDS, PATTERNS, placeholders
from lib.tasks.task import DROPPED, Dataset, Task, domain_keys

Positive = Annotated[int, Field(gt=0)]
Dtype = Literal[tuple(DTYPES)]
MethodName = Literal[tuple(METHODS)]
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine"]
LearningRate = Annotated[float, Field(gt=0)]


BY_METHOD = ("learning_rate", "epochs")


class DatasetSettings(BaseModel):
    """A dataset of one's own: fields as those of `lib.tasks.task.Dataset`.

    `source` is a file, a folder, or a hub name after `hub:`; the profile's `data` where it is not given. `labels` maps
    what stands in the column `label` to classes, or to null for rows to be left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = None
    label: str = "label"
    labels: dict[str, str | None] = {}
    columns: dict[str, str] = {}
    where: dict[str, str | int | bool] = {}
    kind: tuple[str, ...] = ()
    split: str = "split"
    train: tuple[str, ...] = ("train",)
    evaluation: tuple[str, ...] = Dataset.evaluation
    config: str | None = None
    revision: str | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_text(cls, value: object) -> object:
        return {str(raw): one for raw, one in value.items()} if isinstance(value, dict) else value

    def dataset(self, name: str, data: str) -> Dataset:
        """The dataset that these settings mean."""
        mapped = {
            "source": self.source or data,
            "labels": tuple((raw, DROPPED if one is None else one) for raw, one in self.labels.items()),
            "columns": tuple(self.columns.items()),
            "where": tuple((column, str(value)) for column, value in self.where.items()),
        }
        return Dataset(name=name, **self.model_dump(exclude=set(mapped)), **mapped)


class Profile(BaseModel):
    """One validated profile. A setting `by method` is one value for all methods or a mapping from method names.

    `data` is where datasets lie that are known by name; `datasets` are those of one's own. `pattern` is a known one or
    a text with a column's name in each pair of braces. `label_words` maps classes to words; a list is in the order of
    entailment and its opposite, `drawn` is for the controlled world.

    With `isolate` each run has a process of its own and its resident memory is measured; without, runs share processes
    (`workers` of them, of one thread each, or this one). `choices` and `ablations` are those that notebooks 09 and 10
    try, None for all. `stored_only` draws what is stored and computes nothing; `anew` computes results again whose data
    or models are others now. `padding_free` and `fused` are those of `lib.models.training.Training`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="folder under figures/")]
    about: str

    student: str
    teacher: str
    student_dtype: Dtype = "float32"
    teacher_dtype: Dtype = "float32"
    device: Device
    isolate: bool = True
    workers: Positive = 1

    data: str
    datasets: dict[str, DatasetSettings] = {}
    in_domain: str
    out_of_domain: str | tuple[str, ...] = ()
    pattern: str = "gpt-3"
    label_words: dict[str, str] | tuple[str, ...] | Literal["drawn"] | None = None
    eval_limit: Annotated[int, Field(gt=1)] | None = None
    eval_seed: Annotated[int, Field(ge=0)] = 0
    reserved: tuple[Positive, Annotated[int, Field(ge=0)]] | None = None
    eval_batch_size: Positive = 16

    methods: tuple[MethodName, ...] = tuple(METHODS)
    support_sizes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]

    pool: Literal["train", "target", "both", "support"] = "train"
    pool_size: Annotated[int, Field(ge=0, description="0: the support set's own queries")]
    held_out: Literal["nothing", "subcases", "templates"] = "nothing"
    pool_shares: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)] | None = None
    demonstration_labels: Literal["true", "shuffled"] = "true"
    calibration_pool: Annotated[int, Field(ge=0)] = 0
    permutations: Positive = 1
    demonstration_sets: Positive = 1
    calibration: Literal["none", "content_free", "pool"] = "none"
    confidence: bool = False
    ce_on: Literal["support", "pool", "teacher"] = "support"
    kl_over: Literal["labels", "vocabulary"] = "labels"
    kl_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 1.0

    learning_rate: LearningRate | dict[MethodName, LearningRate]
    epochs: Positive | dict[MethodName, Positive]
    batch_size: Positive
    schedule: Schedule = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    training_dtype: Literal["float32", "bfloat16"] = "float32"
    optimizer: Literal[tuple(OPTIMIZERS)] = "adamw"
    checkpointing: bool = False
    logits: Literal["all", "last", "labels"] = "last"
    padding_free: bool = False
    fused: bool = False
    lora_rank: Positive = 8
    lora_alpha: Positive = 16
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bitfit: Literal["existing", "add"] = "existing"

    stored_only: bool = False
    anew: bool = False
    choices: tuple[str, ...] | None = None
    ablations: tuple[str, ...] | None = None
    in_context: InContext | None = None

    @field_validator("label_words", mode="before")
    @classmethod
    def _words_and_not_booleans(cls, value: object) -> object:
        told = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        if any(isinstance(word, bool) for word in told):
            raise ValueError(f"label_words: {value} has booleans: YAML reads Yes and No so; put the words in quotes.")
        return value

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
    def _workers_share_a_process(self) -> Self:
        if self.isolate and self.workers > 1:
            raise ValueError(f"workers: {self.workers} at a time would disturb each other's costs; set isolate: false.")
        return self

    @model_validator(mode="after")
    def _logits_that_the_loss_needs(self) -> Self:
        if self.logits == "labels" and self.kl_over == "vocabulary":
            raise ValueError("logits: 'labels' leaves nothing to compare with kl_over: 'vocabulary'; use last or all.")
        return self

    @model_validator(mode="after")
    def _calibration_of_label_words(self) -> Self:
        if self.kl_over == "vocabulary" and (self.calibration != "none" or self.confidence):
            raise ValueError("calibration, confidence: these are about the label words; set kl_over: labels.")
        return self

    @model_validator(mode="after")
    def _pattern_with_placeholders(self) -> Self:
        if self.pattern not in PATTERNS and "{" not in self.pattern:
            raise ValueError(
                f"pattern: {self.pattern!r} is not known and has no column's name in braces. Known: "
                f"{', '.join(PATTERNS)}."
            )
        _as_value_error(placeholders, self.template)
        return self

    @model_validator(mode="after")
    def _words_of_classes(self) -> Self:
        if self.label_words is None and self.pattern not in LABEL_WORDS:
            raise ValueError("label_words: a pattern of your own needs a word for each class, as CLASS: WORD.")
        if isinstance(self.label_words, (dict, tuple)):
            words = tuple(self.label_words.values()) if isinstance(self.label_words, dict) else self.label_words
            if isinstance(self.label_words, tuple) and len(words) != len(self.classes):
                raise ValueError(f"label_words: {list(words)} are not one for each of {list(self.classes)}.")
            if len(self.classes) < 2:
                raise ValueError(f"label_words: {self.label_words} names one class; two are needed.")
            if len({*words}) < len(words) or not all(word.strip() == word and word for word in words):
                raise ValueError(f"label_words: {list(words)} must differ and neither begin nor end in a space.")
        return self

    @model_validator(mode="after")
    def _labels_of_classes(self) -> Self:
        for name, settings in self.datasets.items():
            unknown = sorted({one for one in settings.labels.values() if one is not None} - {*self.classes})
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

    def dataset(self, name: str) -> Dataset:
        """A dataset by its name; errors as `lib.tasks.catalogue.known`."""
        own = self.datasets.get(name)
        return own.dataset(name, self.data) if own else catalogue.known(self.data, name)

    @property
    def queries(self) -> str:
        """Where the pool comes from; a pool of no further queries is the support set."""
        return self.pool if self.pool_size else "support"

    @property
    def folder(self) -> Path:
        """Where figures, results and the report of this profile lie."""
        return FIGURES / self.name

    def changed(self, changes: dict[str, Any]) -> "Profile":
        """This profile with settings replaced; keys and errors as in `read_profile`."""
        return read_profile(self.model_dump(mode="json"), changes)

    def task(self, seed: int) -> Task:
        """The task of a seed's runs; all seeds share it, but for the label words where those are drawn."""
        return Task(
            pattern=self.template,
            classes=self.classes,
            label_words=self._label_words(seed),
            in_domain=self.dataset(self.in_domain),
            out_of_domain=tuple(self.dataset(name) for name in self.evaluated_elsewhere),
            eval_limit=self.eval_limit,
            eval_seed=self.eval_seed,
            reserved=self.reserved,
        )

    def _label_words(self, seed: int) -> tuple[str, ...]:
        if self.label_words == "drawn":
            return world.draw_label_words(seed)
        if isinstance(self.label_words, dict):
            return tuple(self.label_words.values())
        return self.label_words or LABEL_WORDS[self.pattern]

    def runs(self, methods: tuple[str, ...] | None = None) -> list[Run]:
        """Runs of the given methods (None: all of the profile's), seed by seed, so that what is there is a whole.

        Methods that read no support set have one run, of support size and seed 0; one a seed where the label words
        are drawn. Support size 0 is for the methods to which it means something new: the student with no
        demonstrations is the baseline, and nothing can be trained on no examples.
        """
        wanted = [name for name in self.methods if methods is None or name in methods]
        runs = [
            self._run(name, size, seed)
            for seed in self.seeds
            for size in self.support_sizes
            for name in wanted
            if size > 0 or self._works_without_support(METHODS[name])
        ]
        return list(dict.fromkeys(runs))

    def in_context_runs(self, benchmark: str) -> list[InContextRun]:
        """Runs of in-context learning distillation on `crossfit` or `lama`; none where the profile lacks it."""
        if self.in_context is None or self.in_context.benchmark(benchmark) is None:
            return []
        pair = Pair(self.student, self.teacher, self.student_dtype, self.teacher_dtype, self.device)
        common = self._training("lora", self.in_context.learning_rate, epochs=1)
        return InContextPlan(self.in_context, benchmark, pair, common).runs()

    def _works_without_support(self, method: Method) -> bool:
        return method.teacher_answers or (method.distils and self.queries != "support") or not method.reads_support

    def _run(self, name: str, size: int, seed: int) -> Run:
        method = METHODS[name]
        asked_alone = not method.reads_support or (size == 0 and not method.tuning)  # any seed says the same
        own_seed = 0 if asked_alone and self.label_words != "drawn" else seed
        return Run(
            method=name,
            support_size=size if method.reads_support else 0,
            seed=own_seed,
            model=self.teacher if method.teacher_answers else self.student,
            dtype=self.teacher_dtype if method.teacher_answers else self.student_dtype,
            task=self.task(own_seed),
            eval_batch_size=self.eval_batch_size,
            device=self.device,
            training=self._method_training(name, method.tuning) if method.tuning else None,
            distillation=self._distillation(size, seed) if method.distils else None,
            demonstration_labels=self.demonstration_labels if method.demonstrations else "true",
            calibration_pool=self.calibration_pool,
        )

    def _method_training(self, name: str, tuning: Tuning) -> Training:
        training = self._training(tuning, by_method(self.learning_rate, name), by_method(self.epochs, name))
        return replace(training, padding_free=self.padding_free, fused=self.fused)

    def _training(self, tuning: Tuning, learning_rate: float, epochs: int) -> Training:
        lora = tuning == "lora"
        return Training(
            tuning=tuning,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=self.batch_size,
            schedule=self.schedule,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            dtype=self.training_dtype,
            lora_rank=self.lora_rank if lora else None,
            lora_alpha=self.lora_alpha if lora else None,
            lora_dropout=self.lora_dropout if lora else None,
            optimizer=self.optimizer,
            checkpointing=self.checkpointing,
            logits=self.logits,
            biases=self.bitfit if tuning == "bitfit" else "existing",
        )

    def _distillation(self, size: int, seed: int) -> Distillation:
        labelling = PoolLabelling(
            teacher=self.teacher,
            dtype=self.teacher_dtype,
            task=self.task(seed),
            support_size=size,
            seed=seed,
            pool=self.queries,
            pool_size=size if self.queries == "support" else self.pool_size,
            kl_over=self.kl_over,
            batch_size=self.eval_batch_size,
            device=self.device,
            held_out=self.held_out if self.queries in ("target", "both") else "nothing",
            permutations=self.permutations,
            demonstration_sets=self.demonstration_sets,
            pool_shares=self.pool_shares,
            demonstration_labels=self.demonstration_labels,
        )
        return Distillation(labelling, self.kl_weight, self.temperature, self.ce_on, self.calibration, self.confidence)


def _as_value_error(check: Callable[[str], object], value: str) -> None:
    """Run a check of the study's inside a validator."""
    try:
        check(value)
    except StudyError as error:
        raise ValueError(str(error)) from None


def by_method(value: Any, name: str) -> Any:  # noqa: ANN401 - a number, or a mapping to numbers
    """A setting's value for a method, where it may be one for all or one for each."""
    return value[name] if isinstance(value, dict) else value


def profile_names() -> list[str]:
    """The profiles that the study ships."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read_profile(profile: str | dict[str, Any], changes: dict[str, Any] | None = None) -> Profile:
    """A validated profile.

    Args:
        profile: the name of a file in notebooks/profiles, the path of another such file, or its content
            (papermill hands notebooks the content).
        changes: settings that replace the profile's; `learning_rate.cd` replaces that of one method,
            `in_context.lama.items` one of a part.

    Raises:
        StudyError: naming each unknown key or bad value, and what is allowed.
    """
    settings = dict(profile) if isinstance(profile, dict) else _read_yaml(profile)
    for name in [*settings, *(key.split(".")[0] for key in changes or {})]:
        require_one_of("profile key", name, Profile.model_fields)
    for name, value in (changes or {}).items():
        _change(settings, name, value)
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        raise StudyError("\n".join(_explain(problem) for problem in error.errors())) from None


def _read_yaml(profile: str) -> dict[str, Any]:
    file = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not file.is_file():
        require_one_of("profile", profile, [*profile_names(), "the path of a .yaml file"])
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise StudyError(f"{file}: not YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("profile"), dict) or len(content) > 1:
        raise StudyError(f"{file}: one key, 'profile', with the settings under it, is what a profile file holds.")
    return content["profile"]


def _change(settings: dict[str, Any], name: str, value: object) -> None:
    outer, _, inner = name.partition(".")
    if not inner:
        settings[name] = value
    elif outer == "in_context":
        settings[outer] = _with(settings.get(outer) or {}, inner.split("."), value)
    else:
        require_one_of(f"{name}: a setting by method", outer, BY_METHOD)
        old = settings.get(outer)
        settings[outer] = {**(old if isinstance(old, dict) else dict.fromkeys(TRAINED, old)), inner: value}


def _with(settings: dict[str, Any], path: list[str], value: object) -> dict[str, Any]:
    """A copy of nested settings with one of them replaced."""
    first, *rest = path
    if rest and not isinstance(settings.get(first) or {}, dict):
        raise StudyError(f"in_context: {first} is one value, {settings[first]!r}; {'.'.join(rest)} is no part of it.")
    return {**settings, first: _with(settings.get(first) or {}, rest, value) if rest else value}


def _explain(problem: dict[str, Any]) -> str:
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['input']!r} is not allowed: {problem['msg']}."
