"""Filling in what is missing: from a profile to a frame of results, whatever is there already being kept."""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import tqdm.auto
from transformers import PreTrainedModel

from lib.errors import StorageError, StudyError, require_one_of
from lib.methods import context_distillation, in_context_distillation
from lib.methods.examples import forget_examples
from lib.methods.records import PoolLabelling, Run, TunedTeacher
from lib.methods.table import METHODS, ON_BENCHMARKS, ON_TASKS
from lib.models.cost import describe
from lib.models.loading import quiet
from lib.runs import preflight
from lib.runs.export import kept_folder, save_student
from lib.runs.frames import METRICS, results_frame
from lib.runs.profile import Profile
from lib.runs.provenance import Job, Sources, changed, fingerprint, origins
from lib.runs.store import Refusal, Result, Store

# Set by run_all.sh: progress as plain lines, since a bar that redraws itself makes no sense in a log or a page.
BATCH = "FEW_SHOT_BATCH"
SECONDS_BETWEEN_LINES = 5
SECONDS_BETWEEN_LOOKS = 1  # at whether another run of the study is done with a job
Stored = dict[Run, Result | Refusal | None]
Do = Callable[[Job, Path], bool]
Spread = Callable[[Do, Sequence[Job], Collection[Job]], Iterator[tuple[Job, bool | str]]]
# The notebooks of in-context learning distillation, and the benchmark that each is about.
BENCHMARK_NOTEBOOKS = {"11_crossfit": "crossfit", "12_lama": "lama"}


@dataclass(frozen=True)
class Sweep:
    """The results of a profile's runs, one row each, and what did not come to a result, with reasons.

    `stored` are the stored results in full, with every item's label log-probabilities. `missing` are the runs that a
    profile with `stored_only` leaves out. In a notebook a sweep shows itself as a short paragraph, and as plain text
    without its results, which would be megabytes of a saved notebook.
    """

    profile: Profile
    results: pd.DataFrame = field(repr=False)
    stored: list[Result] = field(default_factory=list, repr=False)
    refused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list, repr=False)

    def _repr_html_(self) -> str:
        count = len(self.stored or self.results)
        summary = f"{count} results."
        if self.missing:
            summary = f"{count} of {count + len(self.missing)} results: the others are not computed yet and left out."
        refused = [f"{name}: refused. {reason}" for name, reason in self.refused.items()]
        failed = [f"{name}: failed. {reason}" for name, reason in self.failed.items()]
        return as_paragraphs([f"Profile {self.profile.name}: {self._about()} {summary}", *refused, *failed])

    def _about(self) -> str:
        """What the profile says of itself; on a benchmark, who teaches whom there."""
        runs = [result.run for result in self.stored]
        models = {METHODS[run.method].teacher_answers: run for run in runs if run.in_context}
        if len(models) < 2:
            return self.profile.about
        teacher, student = (Path(models[who].model).name for who in (True, False))
        return f"{teacher} teaches {student} to learn in context, on {models[True].task.name}."


def as_paragraphs(texts: Iterable[str]) -> str:
    """HTML that shows texts as they are: a profile's words and the reason of a failure may hold anything."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def fill(
    profile: Profile,
    methods: Sequence[str] | None = None,
    benchmark: str | None = None,
    first: Sequence[str] = (),
    first_done: Callable[[], None] | None = None,
) -> Sweep:
    """Compute the runs that are missing, keep those that are there, and return them all.

    Args:
        profile: the study's settings.
        methods: the methods wanted; None for all of the profile's.
        benchmark: `crossfit` or `lama`, for the methods of in-context learning distillation; None for the profile's
            own task.
        first: the methods whose runs come before all others.
        first_done: as for `compute`.

    Raises:
        StudyError: a setting cannot work and nothing was computed, or every method is refused.
    """
    (sweep,) = fill_together([(profile, methods)], benchmark, first, first_done)
    return sweep


def fill_together(
    asked: Sequence[tuple[Profile, Sequence[str] | None]],
    benchmark: str | None = None,
    first: Sequence[str] = (),
    first_done: Callable[[], None] | None = None,
) -> list[Sweep]:
    """`fill` for several profiles of one name, variants of one another; what is missing is computed as one list.

    `first` are methods of the first profile.

    Raises:
        StudyError: as `fill`, where every method of every profile is refused.
    """
    quiet()
    wanted = [(profile, _runs(profile, methods, benchmark)) for profile, methods in asked]
    together = list(dict.fromkeys(run for _, runs in wanted for run in runs))
    stored = compute(asked[0][0], together, [run for run in wanted[0][1] if run.method in first], first_done)
    sweeps = [collect(profile, {run: stored[run] for run in runs}) for profile, runs in wanted]
    if all(sweep.refused and not sweep.stored and not sweep.failed for sweep in sweeps):
        raise StudyError("\n".join(dict.fromkeys(reason for sweep in sweeps for reason in sweep.refused.values())))
    return sweeps


def _runs(profile: Profile, methods: Sequence[str] | None, benchmark: str | None) -> list[Run]:
    for name in methods or ():
        require_one_of("methods", name, ON_BENCHMARKS if benchmark else ON_TASKS)
    if benchmark is None:
        runs = profile.runs(None if methods is None else tuple(methods))
    else:
        require_one_of("benchmark", benchmark, METRICS)
        planned = profile.in_context_runs(benchmark)
        if not planned:
            raise StudyError(f"in_context.{benchmark}: profile {profile.name} does not have it.")
        runs = [run for run in planned if methods is None or run.method in methods]
    if not runs:
        raise StudyError(f"methods: none of {', '.join(methods or ())} is in profile {profile.name}.")
    return runs


def compute(
    profile: Profile, runs: Sequence[Run], first: Collection[Run] = (), first_done: Callable[[], None] | None = None
) -> Stored:
    """What is stored of each run, after running those that have neither a result nor a failure.

    None is run where the profile has `stored_only`.

    Args:
        profile: where results go and how processes are used.
        runs: those wanted.
        first: those of them that come before all others.
        first_done: called once when these are done, while the others are computed; not where none had to be computed.

    Raises:
        StudyError: a setting cannot work, or results are there whose data or models are others now.
    """
    store = Store(profile.folder)
    stored = {run: store.load(run) for run in runs}
    stale = _stale(stored, profile.anew)
    if profile.stored_only:
        return stored
    for run in stale:
        store.discard(run)
    missing = [run for run in runs if run in stale or (stored[run] is None and store.failure(run) is None)]
    for run in missing:
        _read_anew_what_changed(run)
    refused = preflight.check(missing) if missing else {}
    for run, reason in refused.items():
        store.refuse(run, reason)
    jobs = list(_jobs([run for run in missing if run not in refused], store))
    urgent = {job for run in first for job in (run, run.needs)} & {*jobs}
    with closing(_finished(jobs, profile, urgent)) as finished:  # an interrupt ends the workers at once
        show_progress(_telling(finished, urgent, first_done) if first_done and urgent else finished, len(jobs))
    return stored | {run: store.load(run) for run in missing}


def _telling(finished: Iterable[Job], awaited: Collection[Job], tell: Callable[[], None]) -> Iterator[Job]:
    """The finished jobs; after the last of those that are awaited, `tell` is called."""
    left = {*awaited}
    for job in finished:
        if job in left:
            left.remove(job)
            if not left:
                tell()
        yield job


def _stale(stored: Stored, anew: bool) -> list[Run]:
    """Runs whose data or models are others now than those that their results came from.

    Raises:
        StudyError: there are some, and they are not to be computed anew.
    """
    stale = {
        run: sources
        for run, result in stored.items()
        if isinstance(result, Result) and (sources := changed(result.sources, fingerprint(run)))
    }
    if stale and not anew:
        names = ", ".join(run.name for run in list(stale)[:3]) + (", …" if len(stale) > 3 else "")
        where = {source: origins(run)[source] for run, sources in stale.items() for source in sources}
        sources = ", ".join(f"{source}: {path}" for source, path in where.items())
        raise StudyError(
            f"{sources}: not what {len(stale)} stored results came from ({names}). Put back what was there, or compute "
            "them anew with --anew (anew: true)."
        )
    return list(stale)


def _jobs(missing: Sequence[Run], store: Store) -> Iterator[Job]:
    """Missing runs in order, each one's preparation before the first run that needs it."""
    planned: set[Job] = set()
    for run in missing:
        if run.needs and run.needs not in planned and not store.ready(run.needs):
            planned.add(run.needs)
            yield run.needs
        yield run


def execute(job: Job, folder: Path, isolated: bool) -> bool:
    """Run one job and store its result, or store why it failed. Any executor can map this over jobs.

    Args:
        job: what to run.
        folder: the store's.
        isolated: this process runs nothing else, so that its resident memory is the job's.

    Returns:
        False where another run of the study has the job in hand.

    Raises:
        StorageError: what the job came to cannot be stored.
    """
    quiet()
    store = Store(folder)
    with store.claim(job) as ours:
        if ours and not store.done(job):
            _attempt(job, store, isolated)
    return ours


def _attempt(job: Job, store: Store, isolated: bool) -> None:
    _read_anew_what_changed(job)
    try:
        _DO[type(job)](job, store, isolated)
    except StorageError:
        raise
    except StudyError as error:
        store.fail(job, str(error))
    except Exception as error:  # one run's fault must not end the others
        store.fail(job, f"{type(error).__name__}: {error}")


_READ: Sources = {}  # what this process has read last


def _read_anew_what_changed(job: Job) -> None:
    """Forget examples that came from data which are others now."""
    now = fingerprint(job)
    if changed(_READ, now):
        forget_examples()
    _READ.update(now)


def _require_unchanged(job: Job) -> None:
    """Raise where data or weights were replaced since the job began, of which nobody knows what it read."""
    if replaced := changed(_READ, fingerprint(job)):
        raise StudyError(f"{', '.join(replaced)}: replaced while {job.name} was computed; run it again.")


def _ask_teacher(labelling: PoolLabelling, store: Store, isolated: bool) -> None:
    soft_labels = context_distillation.ask_teacher(labelling, isolated)
    _require_unchanged(labelling)
    store.save_prepared(labelling, soft_labels)


def _tune_teacher(request: TunedTeacher, store: Store, isolated: bool) -> None:
    weights = in_context_distillation.tune_teacher(request, isolated)
    _require_unchanged(request)
    store.save_prepared(request, weights)


def _run(run: Run, store: Store, isolated: bool) -> None:
    prepared = store.load_prepared(run.needs) if run.needs else None
    if run.needs and prepared is None:
        raise StudyError(f"it needs {run.needs.name}, which is missing: {store.failure(run.needs)}")
    kept: list[PreTrainedModel] = []
    if run.in_context:
        outcome = in_context_distillation.run_in_context(run, prepared, isolated)
    else:
        keep = kept.append if run.keeps_student else None
        outcome = context_distillation.run_method(run, prepared, isolated, keep)
    _require_unchanged(run)
    store.save(run, outcome, describe(run.device))
    for model in kept:
        save_student(model, store.load(run), kept_folder(store.folder, run))


_DO: dict[type, Callable[[Any, Store, bool], None]] = {
    PoolLabelling: _ask_teacher,
    TunedTeacher: _tune_teacher,
    Run: _run,
}


def _finished(jobs: Sequence[Job], profile: Profile, urgent: Collection[Job] = ()) -> Iterator[Job]:
    """Run the jobs and yield each when it is done, whether it came to a result or not; urgent ones come first.

    What another run of the study has in hand is waited for, and done here where it comes to nothing there.
    """
    store = Store(profile.folder)
    do = partial(_in_worker, execute, profile.isolate, 1 if profile.workers > 1 and not profile.cluster else None)
    with _executor(jobs, profile) as spread:
        while jobs:
            elsewhere = []
            for job, outcome in spread(do, jobs, urgent):
                if outcome is False:
                    elsewhere.append(job)
                    continue
                if isinstance(outcome, str):
                    store.fail(job, outcome)
                yield job
            while any(store.claimed(job) for job in elsewhere):
                time.sleep(SECONDS_BETWEEN_LOOKS)
            jobs = [job for job in elsewhere if not store.done(job) and store.failure(job) is None]
            yield from (job for job in elsewhere if job not in jobs)


def _executor(jobs: Sequence[Job], profile: Profile) -> AbstractContextManager[Spread]:
    """What jobs are shared out by: this process alone, or workers."""
    if not jobs or _here(profile):
        return nullcontext(partial(_in_this_process, profile.folder))
    from lib.runs.workers import workers  # here, since a study in one process imports no dask

    return workers(profile, jobs)


def _here(profile: Profile) -> bool:
    """Whether jobs run in this process."""
    apart = profile.isolate or profile.cluster or profile.run_timeout or profile.worker_memory
    return profile.workers == 1 and not apart


def _in_this_process(
    folder: Path, do: Do, jobs: Sequence[Job], urgent: Collection[Job]
) -> Iterator[tuple[Job, bool | str]]:
    for job in sorted(jobs, key=lambda one: one not in urgent):
        yield job, do(job, folder)


def _in_worker(do: Callable[..., bool], isolated: bool, threads: int | None, job: Job, folder: Path) -> bool:
    if threads:
        torch.set_num_threads(threads)
    return do(job, folder, isolated)


def show_progress(finished: Iterator[Job], total: int) -> None:
    """A bar that names what was done last; plain lines, and not too many, where nobody watches a terminal."""
    if not total:
        return
    if BATCH not in os.environ or sys.stderr.isatty():
        with tqdm.auto.tqdm(finished, total=total, unit="run") as bar:
            for job in bar:
                bar.set_description(job.name)
        return
    if _in_notebook():  # a page is no place for such lines
        list(finished)
        return
    began = said = time.perf_counter()
    for done, job in enumerate(finished, start=1):
        now = time.perf_counter()
        line = f"[{done}/{total}] {job.name}: {now - began:.0f} s so far"
        if done == 1:  # other workers may be as far with theirs: no ground for an estimate
            said = now
            print(line, flush=True)
        elif now - said >= SECONDS_BETWEEN_LINES or done == total:
            said = now
            left = (now - began) / done * (total - done)
            print(f"{line}, about {_rough(left)} left", flush=True)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _rough(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 100 else f"{seconds:.0f} s"


def collect(profile: Profile, stored: Stored) -> Sweep:
    """What is stored of runs, as a sweep."""
    store = Store(profile.folder)
    done = [result for result in stored.values() if isinstance(result, Result)]
    refused = {run.method: result.reason for run, result in stored.items() if isinstance(result, Refusal)}
    failed = {run.name: reason for run in stored if (reason := store.failure(run))}
    missing = [run.name for run, result in stored.items() if result is None and run.name not in failed]
    return Sweep(profile, results_frame(done), done, refused, failed, missing)
