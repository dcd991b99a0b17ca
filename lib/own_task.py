"""A task of one's own in one call: a file, a pattern and a word for each class become a student that answers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from lib.errors import StudyError, require_one_of, unwritable
from lib.methods.encoder import PromptEncoder
from lib.methods.records import Run
from lib.methods.table import METHODS, ON_TASKS
from lib.models.loading import load_model, quiet
from lib.models.scoring import class_log_probs
from lib.report.own_task import Report, report
from lib.runs.execution import Sweep, collect, compute
from lib.runs.export import compared_tokens, copy_student, export, is_kept, kept_folder, run_of
from lib.runs.own_data import (
    HELD_BACK,
    SHOTS,
    data_file,
    field_name,
    has_splits,
    model_reference,
    own_profile,
    rows_held_back,
    settings_of_size,
)
from lib.runs.profile import Profile
from lib.runs.search import best_settings, search_settings
from lib.runs.store import Store
from lib.tasks.patterns import fill, placeholders
from lib.tasks.task import Query

DISTILLED = [name for name in ON_TASKS if METHODS[name].distils]
COMPARED = ("baseline", "icl", "teacher_icl")
# What a profile calls an argument of `distil`, as its errors begin or end: they are to name the argument.
ARGUMENTS = {
    r"support_sizes(?=: |\.\d)": "shots",
    r"pool_size(?=: )": "pool",
    r"label_words(?=: )": "words",
    r"eval_limit(?=: )": "held_back",
    r"pattern(?=: )": "text",
    r"seeds(?=: |\.\d)": "seed",
    r"datasets\.\S+\.labels": "labels",
}


def _in_own_words(call: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of a profile's settings, with the names that `distil` has for them."""

    @wraps(call)
    def renamed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the call has them
        try:
            return call(*args, **kwargs)
        except StudyError as error:
            said = str(error)
            for setting, argument in ARGUMENTS.items():
                said = re.sub(rf"\b{setting}", argument, said)
            raise type(error)(said) from None

    return renamed


class Student:
    """A distilled student: called with a text it answers with the probability of each class."""

    def __init__(self, profile: Profile, run: Run) -> None:
        """The student of a profile's run; it is trained where it is not kept."""
        self.profile, self.run = profile, run
        self._results = _fill(profile, [run])
        self.folder = _kept(profile, run, self._results)
        self._encoder = PromptEncoder(str(self.folder))
        self._model = load_model(str(self.folder), "float32", profile.device)

    def __call__(self, query: str | Mapping[str, str]) -> dict[str, float]:
        """The probability of each class, of the label words alone; they sum to 1.

        Args:
            query: a text where the pattern has one field, otherwise a text for each field.

        Raises:
            StudyError: fields are missing or not known, a value is no text, all are empty, or the text is too long.
        """
        task = self.run.task
        prompt = Query(fill(task.pattern, fields_of(task.pattern, query)), task.label_words, 0)
        tokens = compared_tokens(self._encoder, self.run)
        scores = class_log_probs(self._model, self._encoder.encode([], [prompt]), tokens, batch_size=1)[0]
        return dict(zip(task.classes, scores.double().softmax(-1).tolist(), strict=True))

    def save(self, folder: str | Path) -> Path:
        """Save the student with its card, which says how plain transformers ask it; errors as for `export`."""
        target = Path(folder).expanduser().resolve()
        copy_student(_kept(self.profile, self.run, self._results), target)
        return target

    @_in_own_words
    def report(self) -> Report:
        """The accuracies of teacher, untuned student, ICL and this student, the cost, and whether it was worth it."""
        size = self.run.support_size
        one_size = self.profile.model_copy(update={"support_sizes": (size,), "methods": (*COMPARED, self.run.method)})
        return report(_fill(one_size, one_size.runs()), self.run.method, size, held_back_rows(self.run))


def fields_of(pattern: str, query: str | Mapping[str, str]) -> dict[str, str]:
    """The text for each field of a pattern; errors as `Student` raises them when it is called."""
    names = placeholders(pattern)
    fields = {names[0]: query} if isinstance(query, str) and len(names) == 1 else query
    if not isinstance(fields, Mapping) or {*fields} != {*names}:
        given = list(fields) if isinstance(fields, Mapping) else type(query).__name__
        raise StudyError(f"query: a text for each of {names} is needed, as {{FIELD: TEXT}}; given: {given}.")
    if wrong := [name for name, text in fields.items() if not isinstance(text, str)]:
        raise StudyError(f"query: {wrong[0]} is {fields[wrong[0]]!r}. Allowed: a text.")
    for name, text in fields.items():
        if wrong := unwritable(text):
            raise StudyError(f"query: {name} is {text!r} and holds {wrong}. Allowed: a text without it.")
    if not "".join(fields.values()).strip():
        raise StudyError("query: the text is empty.")
    return dict(fields)


def asked(profile: Profile, words: Sequence[str]) -> dict[str, str]:
    """The fields of a query from the words of a command: a text, or FIELD=TEXT for each where there are several."""
    if len(placeholders(profile.template)) == 1:
        return fields_of(profile.template, " ".join(words))
    return fields_of(profile.template, dict(word.split("=", 1) if "=" in word else (word, "") for word in words))


def held_back_rows(run: Run) -> str:
    """Which rows are evaluated, in words."""
    if has_splits(run.task):
        return f"from those whose {run.task.in_domain.split} says so, as many of each class"
    return f"as many of each class, drawn with seed {run.task.eval_seed} and never learnt from"


@_in_own_words
def distil(
    data: str | Path,
    text: str,
    label: str,
    words: Mapping[str, str],
    teacher: str | Path,
    student: str | Path,
    shots: int = SHOTS,
    pool: int | None = None,
    *,
    labels: Mapping[Any, str | None] | None = None,
    held_back: int = HELD_BACK,
    method: str = "cd",
    seed: int = 0,
    search: bool = False,
    name: str | None = None,
    **settings: Any,  # noqa: ANN401 - of any kind, as the profile says
) -> Student:
    """Distil a teacher that reads labelled examples of a task into a student that needs none.

    What is computed is kept in figures/NAME, so that a second call takes seconds. Learning rate, epochs and batch size
    are those of the study's profile whose student is of about that size (`tiny`, `smollm2`, `qwen05`), chosen by
    figures/PROFILE/settings_search.csv; `search` tries three rates on rows that are not reported.

    Args:
        data: labelled rows: a file of csv, tsv, json lines or parquet. A column `split` says which rows are evaluated;
            without it they are drawn by a seed.
        text: the prompt, with a column's name in each pair of braces; other characters than letters in it are `_`.
        label: the column of labels.
        words: for each class the word that answers it.
        teacher: a hub name, a folder or a .gguf file.
        student: the same.
        shots: labelled examples that the teacher reads.
        pool: unlabelled rows that the teacher labels; None for 512, or as many as there are.
        labels: what stands in the column, to its class, or to None for rows to be left out; None where the labels are
            the classes.
        held_back: rows that are evaluated, at most.
        method: `cd` trains all weights, `cd_lora` a low-rank adapter, `cd_bitfit` the biases.
        seed: of the examples that the teacher reads, and of the pool.
        search: try other learning rates first.
        name: the folder in figures; by default `own_` and the file's name.
        settings: any other setting of `lib.runs.profile.Profile`, such as `epochs=5` or `calibration="pool"`.

    Raises:
        StudyError: something cannot work; the message says what and what is allowed.
    """
    quiet()
    require_one_of("method", method, DISTILLED)
    file, student, teacher = data_file(data), model_reference(student), model_reference(teacher)
    usual = {
        "name": name or f"own_{field_name(file.stem).lower()}",
        "about": f"{Path(teacher).name} teaches {Path(student).name} on {file.name}.",
        "methods": [*COMPARED, method],
        "support_sizes": [shots],
        "seeds": [seed],
        "pool_size": 1,
        **settings_of_size(student),
    }
    own = {"student": student, "teacher": teacher, **usual, **settings}
    drafted = own_profile(file, text, label, words, labels or {}, own)
    profile = drafted.changed(rows_held_back(drafted, held_back, pool, search))
    if search:
        profile = profile.changed(_found_by_search(profile, method))
    distilled = student_of(profile)
    distilled.report()
    return distilled


def _found_by_search(profile: Profile, method: str) -> dict[str, Any]:
    """The best of three rates about the usual one, on two other support sets and on rows that are not reported."""
    run = run_of(profile, method, profile.support_sizes[0], profile.seeds[0])
    rate, epochs = run.training.learning_rate, run.training.epochs
    tried = {
        "rates": {tuning: [float(f"{rate * by:.2g}") for by in (1 / 3, 1, 3)] for tuning in ("full", "lora", "bitfit")},
        "epochs": {"pbft": [epochs], "cd": [epochs]},
        "seeds": [profile.seeds[0] + 100, profile.seeds[0] + 101],
        "items": profile.eval_limit,
    }
    best = best_settings(search_settings(profile.changed({"methods": [method], "search": tried}))).loc[method]
    return {f"learning_rate.{method}": best.learning_rate, f"epochs.{method}": int(best.epochs)}


def student_of(profile: Profile, method: str | None = None, size: int | None = None) -> Student:
    """A profile's student; where nothing is said, of its first method that distils, and its largest support size.

    Raises:
        StudyError: no method of the profile distils, or the student cannot be trained.
    """
    quiet()
    method = method or next((name for name in profile.methods if name in DISTILLED), None)
    if method is None:
        raise StudyError(f"methods: {list(profile.methods)} has none that distils. Allowed: {', '.join(DISTILLED)}.")
    size = max(profile.support_sizes) if size is None else size
    return Student(profile, run_of(profile, method, size, profile.seeds[0]))


def _fill(profile: Profile, runs: Sequence[Run]) -> Sweep:
    """The results of runs, whose distilled students are kept; what failed before is tried again."""
    Store(profile.folder).forget_failures()
    keeping = [replace(run, keeps_student=run.distillation is not None) for run in runs]
    sweep = collect(profile, compute(profile, keeping))
    if problems := sweep.failed | sweep.refused | dict.fromkeys(sweep.missing, "it is not computed yet (stored_only)"):
        raise StudyError("\n".join(f"{name}: {reason}" for name, reason in problems.items()))
    return sweep


def _kept(profile: Profile, run: Run, results: Sweep) -> Path:
    """The folder of a run's student, which is trained again where its result is there and it is not."""
    folder = kept_folder(profile.folder, run)
    if not is_kept(folder, results.stored[0]):
        export(profile, run.method, run.support_size, run.seed, folder)
    return folder
