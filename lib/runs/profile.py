"""Profiles: papermill parameter files that say which models, data, methods and settings a run of the study uses."""

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lib.errors import StudyError, not_known, require_one_of, unwritable
from lib.methods.records import (
    Distillation,
    EpisodeObjective,
    Episodes,
    InContextLearning,
    Paradigm,
    PoolLabelling,
    Run,
    TunedTeacher,
)
from lib.methods.table import METHODS, ON_BENCHMARKS, TRAINED, Method
from lib.models.training import EXECUTION_FIELDS, Training
from lib.models.tuning import Tuning
from lib.paths import FIGURES, PROFILES
from lib.runs.explanations import explained
from lib.runs.settings import BY_METHOD, BenchmarkSettings, InContextSettings, ProfileSettings
from lib.runs.yaml_text import parse
from lib.tasks import catalogue, world
from lib.tasks.patterns import LABEL_WORDS
from lib.tasks.task import Dataset, Task


class Profile(ProfileSettings):
    """One validated profile, and the runs that it means."""

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
            readers=() if self.too_long == "error" else (self.student, self.teacher),
            beside=0 if self.too_long == "error" else self.too_long,
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

    def in_context_runs(self, benchmark: str) -> list[Run]:
        """Runs of in-context learning distillation on `crossfit` or `lama`, seed by seed; none where it is not set.

        What is not tuned has one run a seed, whatever the paradigm.
        """
        settings = self.in_context
        if settings is None or settings.benchmark(benchmark) is None:
            return []
        runs = [
            self._in_context_run(settings, benchmark, name, paradigm, seed)
            for seed in settings.seeds
            for paradigm in settings.paradigms
            for name in ON_BENCHMARKS
        ]
        return list(dict.fromkeys(runs))

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
            teacher_memory=self.teacher_memory if method.teacher_answers else "whole",
            queries_a_pass=self.queries_a_pass,
        )

    def _method_training(self, name: str, tuning: Tuning) -> Training:
        return self._training(tuning, by_method(self.learning_rate, name), by_method(self.epochs, name))

    def _training(self, tuning: Tuning, learning_rate: float, epochs: int) -> Training:
        """Settings of the same name are the profile's; those of LoRA stay None for other tunings."""
        same = {field.name for field in fields(Training)} & {*type(self).model_fields}
        if tuning != "lora":
            same -= {"lora_rank", "lora_alpha", "lora_dropout"}
        settings = {name: getattr(self, name) for name in same}
        biases = self.bitfit if tuning == "bitfit" else "existing"
        frozen_dtype = "float32" if tuning == "full" else self.frozen_dtype
        own = {"tuning": tuning, "learning_rate": learning_rate, "epochs": epochs, "dtype": self.training_dtype}
        return Training(**{**settings, **own, "biases": biases, "frozen_dtype": frozen_dtype})

    def _distillation(self, size: int, seed: int) -> Distillation:
        """Settings of the same name are the profile's."""
        same = {field.name for field in fields(PoolLabelling)} & {*type(self).model_fields}
        different = {
            "dtype": self.teacher_dtype,
            "task": self.task(seed),
            "support_size": size,
            "seed": seed,
            "pool": self.queries,
            "pool_size": size if self.queries == "support" else self.pool_size,
            "batch_size": self.eval_batch_size,
            "held_out": self.held_out if self.queries in ("target", "both") else "nothing",
        }
        labelling = PoolLabelling(**{name: getattr(self, name) for name in same} | different)
        return Distillation(labelling, self.kl_weight, self.temperature, self.ce_on, self.calibration)

    def _in_context_run(
        self, settings: InContextSettings, benchmark: str, name: str, paradigm: Paradigm, seed: int
    ) -> Run:
        method, sizes = METHODS[name], getattr(settings, benchmark)
        is_student = method.episodes and not method.teacher_answers
        has_teacher = method.episodes and (method.distils or method.teacher_answers)
        episodes = self._episodes(settings, benchmark, paradigm, seed)
        part = InContextLearning(
            demonstrations=tuple(sorted({*sizes.curve, sizes.demonstrations})),
            votes=settings.votes if method.episodes and paradigm == "multitask" else 1,
            length_normalized=settings.length_normalized,
            paradigm=paradigm if method.episodes else None,
            episodes=episodes if is_student else None,
            objective=self._episode_objective(settings, method) if is_student else None,
            teacher=self._tuned_teacher(settings, sizes, episodes) if has_teacher else None,
        )
        return Run(
            method=name,
            support_size=0,
            seed=seed,
            model=self._in_context_teacher if method.teacher_answers else settings.student or self.student,
            dtype=self.teacher_dtype if method.teacher_answers else self.student_dtype,
            task=settings.benchmark(benchmark),
            eval_batch_size=self.eval_batch_size,
            device=self.device,
            training=self._episode_training(settings.tuning, _rate(settings, sizes, paradigm)) if is_student else None,
            in_context=part,
        )

    @property
    def _in_context_teacher(self) -> str:
        return self.in_context.teacher or self.teacher

    def _episodes(self, settings: InContextSettings, benchmark: str, paradigm: Paradigm, seed: int) -> Episodes:
        return Episodes(
            benchmark=settings.benchmark(benchmark),
            paradigm=paradigm,
            seed=seed,
            demonstrations=getattr(settings, benchmark).demonstrations,
            steps=settings.steps,
            options=settings.options,
            length_normalized=settings.length_normalized,
        )

    def _tuned_teacher(self, settings: InContextSettings, sizes: BenchmarkSettings, episodes: Episodes) -> TunedTeacher:
        own = sizes.teacher_learning_rate.get(episodes.paradigm) or settings.teacher_learning_rate
        rate = own or _rate(settings, sizes, episodes.paradigm)
        training = self._episode_training(settings.teacher_tuning or settings.tuning, rate)
        return TunedTeacher(self._in_context_teacher, self.teacher_dtype, self.device, episodes, training)

    def _episode_objective(self, settings: InContextSettings, method: Method) -> EpisodeObjective:
        """Gold labels alone where nothing is distilled."""
        if not method.distils:
            return EpisodeObjective()
        terms = {"hard": settings.hard_weight, "hard_start": settings.hard_start, "temperature": self.temperature}
        if method.plain_text:
            terms |= {name: getattr(settings, name) for name in ("lm_weight", "lm_text", "lm_batch", "lm_characters")}
        return EpisodeObjective(**terms)

    def _episode_training(self, tuning: Tuning, learning_rate: float) -> Training:
        training = self._training(tuning, learning_rate, epochs=1)
        batch_size = self.in_context.batch_size
        return replace(training, batch_size=batch_size, frozen_dtype="float32", **EXECUTION_FIELDS)


def _rate(settings: InContextSettings, sizes: BenchmarkSettings, paradigm: Paradigm) -> float:
    """The student's learning rate."""
    return sizes.learning_rate.get(paradigm, settings.learning_rate)


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
            `in_context.lama.items` and `search.items` one of a part.

    Raises:
        StudyError: naming each unknown key or bad value, and what is allowed.
    """
    settings = dict(profile) if isinstance(profile, dict) else _read_yaml(profile)
    for name in [*settings, *(key.split(".")[0] for key in changes or {})]:
        require_one_of("profile key", name, Profile.model_fields)
    for name, value in (changes or {}).items():
        _change(settings, name, value)
    try:
        made = Profile.model_validate(settings)
    except ValidationError as error:
        raise StudyError(explained(error, settings, Profile)) from None
    for name, value in made.model_dump().items():
        _require_texts(name, value)
    return made


def _require_texts(key: str, value: object) -> None:
    """Raise `StudyError` where a text that a tokenizer or a file is to take holds what neither can."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    for inner in value if isinstance(value, (list, tuple)) else ():
        _require_texts(key, inner)
    if isinstance(value, str) and (wrong := unwritable(value)):
        raise StudyError(f"{key}: {value!r} holds {wrong}. Allowed: a text without it.")


def _read_yaml(profile: str) -> dict[str, Any]:
    file = PROFILES / f"{profile}.yaml"
    if profile.endswith((".yaml", ".yml")):
        file = Path(os.path.expanduser(profile))
    elif profile not in profile_names():
        raise StudyError(not_known("profile", profile, [*profile_names(), "the path of a .yaml file"]))
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeError as error:
        raise StudyError(f"profile: {file} is not a text in UTF-8 ({error}).") from None
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        raise StudyError(f"profile: {profile!r} cannot be read ({error}).") from None
    content = parse(text, str(file))
    if not isinstance(content, dict) or not isinstance(content.get("profile"), dict) or len(content) > 1:
        raise StudyError(f"{file}: one key, 'profile', with the settings under it, is what a profile file holds.")
    return content["profile"]


def _change(settings: dict[str, Any], name: str, value: object) -> None:
    outer, _, inner = name.partition(".")
    if not inner:
        settings[name] = value
    elif outer in ("in_context", "search"):
        settings[outer] = _with(outer, settings.get(outer) or {}, inner.split("."), value)
    else:
        require_one_of(f"{name}: a setting by method", outer, BY_METHOD)
        old = settings.get(outer)
        settings[outer] = {**(old if isinstance(old, dict) else dict.fromkeys(TRAINED, old)), inner: value}


def _with(outer: str, settings: dict[str, Any], path: list[str], value: object) -> dict[str, Any]:
    """A copy of nested settings with one of them replaced."""
    first, *rest = path
    if rest and not isinstance(settings.get(first) or {}, dict):
        raise StudyError(f"{outer}: {first} is one value, {settings[first]!r}; {'.'.join(rest)} is no part of it.")
    return {**settings, first: _with(outer, settings.get(first) or {}, rest, value) if rest else value}
