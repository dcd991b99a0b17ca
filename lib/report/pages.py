"""The numbered notebooks as pages of a profile's report: which there are, the results that they need, drawing them."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from lib.errors import StorageError, StudyError
from lib.memory.predictions import of_profile
from lib.methods.table import ON_BENCHMARKS
from lib.paths import ROOT
from lib.report import book, drawn, kernels
from lib.runs.ablations import VARIANTS
from lib.runs.execution import BENCHMARK_NOTEBOOKS, Sweep, fill, fill_together
from lib.runs.files import remove_scratch, require_writable
from lib.runs.profile import Profile
from lib.runs.store import Store
from lib.runs.variants import METHOD, Planned, Variants, gathered, plan_variants
from lib.tasks.catalogue import EMBEDDED

AT_A_TIME = 2  # most of a notebook's time is one core's, importing libraries
SECONDS_BETWEEN_KILLS = 0.1  # of kernels, until the last page has noticed
ASK_MODELS = ("00_tour", "08_memory", "13_method", "17_explorer")  # whatever is stored
SMALL_MODELS = ("13_method", "17_explorer")  # they train students, which is slow on larger ones

Reasons = dict[str, str]  # by the name of a page or a run
Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Page:
    """A notebook, those of its methods that the profile has, and what it needs beside the profile's own runs.

    Attributes:
        notebook: its file.
        methods: those of the profile that it shows.
        variants: changes to the profile that it compares, by name, and the methods that are run under each.
        benchmark: whose runs it shows.
    """

    notebook: Path
    methods: list[str]
    variants: tuple[Changes, Sequence[str]] | None = None
    benchmark: str | None = None

    @property
    def name(self) -> str:
        """The notebook's name, without its suffix."""
        return self.notebook.stem


Begun = dict[Future, tuple[Page, str]]  # pages that are drawn, with their sources


def draw_report(profile: Profile, only: list[str] | None) -> tuple[Path, Reasons, Reasons]:
    """Compute what is missing, then draw the pages and the index.

    Args:
        profile: the study's settings.
        only: the numbers of the notebooks wanted, such as `01`; None for all that are not there as they would be drawn.

    Returns:
        The index; the runs and pages that failed, and the pages that were left out, with reasons.

    Raises:
        StorageError: results or pages cannot be written.
        StudyError: a setting cannot work, or the profile has none of the pages; no page was drawn.
    """
    pages = planned(profile, only)
    for folder in (profile.folder, profile.folder / "report"):
        require_writable(folder)
    remove_scratch(profile.folder)
    if not profile.stored_only:
        Store(profile.folder).forget_failures()
    with _drawing() as (pool, begun):

        def draw_first() -> None:
            begun[pool.submit(_draw, profile, first)] = first, _sources(profile, first)

        first = next((page for page in pages if _shows_the_profiles_own(page)), None)
        print(_announcement(profile, pages, first), flush=True)
        failed, left_out = _fill(profile, pages, first, draw_first)
        begun_first = [first] if begun else []
        drawable = [page for page in pages if page.name not in left_out and page not in begun_first]
        for page in drawable if only or profile.anew else _outdated(profile, drawable):
            begun[pool.submit(_draw, profile, page)] = page, _sources(profile, page)
        failed |= _drawn(profile, begun)
    return book.write_index(profile, _not_drawn(profile, pages) | failed | left_out), failed, left_out


def planned(profile: Profile, only: list[str] | None) -> list[Page]:
    """The pages that the profile has settings for.

    Raises:
        StudyError: there are none, or the profile names a variant that is not known.
    """
    notebooks = book.figure_notebooks(only)
    pages = [_page(profile, notebook) for notebook in notebooks if _drawable(profile, notebook.stem)]
    if not pages:
        names = ", ".join(notebook.stem for notebook in notebooks)
        or_models = ", or they ask models, which stored_only does not" if profile.stored_only else ""
        raise StudyError(f"only: profile {profile.name} has no settings for {names} (in_context){or_models}.")
    return pages


def _drawable(profile: Profile, name: str) -> bool:
    if profile.stored_only and name in ASK_MODELS:
        return False
    if name in SMALL_MODELS:
        return profile.data in EMBEDDED
    return name not in BENCHMARK_NOTEBOOKS or bool(profile.in_context_runs(BENCHMARK_NOTEBOOKS[name]))


def _page(profile: Profile, notebook: Path) -> Page:
    name = notebook.stem
    benchmark = BENCHMARK_NOTEBOOKS.get(name)
    allowed = ON_BENCHMARKS if benchmark else profile.methods
    methods = [method for method in book.methods_of(notebook) if method in allowed]
    if name in VARIANTS and METHOD in profile.methods:
        variants, tried = VARIANTS[name]
        return Page(notebook, methods, variants=(variants(profile), tried))
    return Page(notebook, methods, benchmark=benchmark)


def _shows_the_profiles_own(page: Page) -> bool:
    """Whether a page shows results, and all of them runs of the profile as it is."""
    return bool(page.methods) and not page.variants and not page.benchmark and page.name not in ASK_MODELS


def _announcement(profile: Profile, pages: list[Page], first: Page | None) -> str:
    """What comes, said before it does."""
    if profile.stored_only:
        return f"{profile.name}: up to {len(pages)} pages are drawn of what is stored."
    picture = f", first figures/{profile.name}/fig{int(first.name[:2])}.png" if first else ""
    return (
        f"{profile.name}: results that are missing are computed, and up to {len(pages)} pages drawn{picture}.\n"
        "How long it takes is said once some results are there. A run that is stopped goes on from where it was."
    )


def _fill(
    profile: Profile, pages: list[Page], first: Page | None, first_done: Callable[[], None]
) -> tuple[Reasons, Reasons]:
    """Compute what is missing; returns the runs that failed and the pages that cannot be drawn, with reasons.

    What the first page needs is computed first; `first_done` is called when it is there, unless it was there before.

    Raises:
        StudyError: a setting cannot work, or no page is left but those of benchmarks whose data cannot be read.
    """
    shared, sweeps = _fill_tasks(profile, pages, first.methods if first else [], first_done)
    failed, left_out = dict(shared.failed), {}
    for page in pages:
        failed_here, reason = _of_page(profile, page, shared, sweeps.get(page.name))
        failed |= failed_here
        if reason:
            left_out[page.name] = reason
    nothing_drawn = {*left_out} == {page.name for page in pages} <= {*BENCHMARK_NOTEBOOKS}
    if nothing_drawn and not failed and not profile.stored_only:
        raise StudyError("\n".join(dict.fromkeys(left_out.values())))
    for method, reason in shared.refused.items():
        print(f"Refused: {method}: {reason}", flush=True)
    return failed, left_out


def _fill_tasks(
    profile: Profile, pages: list[Page], first: list[str], first_done: Callable[[], None]
) -> tuple[Sweep, dict[str, tuple[Planned, list[Sweep]]]]:
    """Results of the profile's methods and, by page, of its variants, computed as one list; and predicted peaks.

    So the progress has one total, and the notebooks, two at a time, only read what is there.
    """
    methods = sorted({name for page in pages for name in page.methods} & {*profile.methods})
    planned = {page.name: plan_variants(profile, *page.variants) for page in pages if page.variants}
    own: list[tuple[Profile, Sequence[str]]] = [(profile, methods)] if methods else []
    asked = own + [pair for variants in planned.values() for pair in variants.asked]
    sweeps = iter(fill_together(asked, first=first, first_done=first_done) if asked else [])
    shared = next(sweeps) if methods else Sweep(profile, pd.DataFrame())
    found = {name: (variants, list(islice(sweeps, len(variants.asked)))) for name, variants in planned.items()}
    if methods:
        print(f"{_count(shared, found)} results in {os.path.relpath(profile.folder, ROOT)}/runs.", flush=True)
        of_profile(profile, methods)
    return shared, found


def _count(shared: Sweep, found: dict[str, tuple[Planned, list[Sweep]]]) -> int:
    """How many results there are, each once."""
    sweeps = [shared, *(sweep for _, of_page in found.values() for sweep in of_page)]
    return len({result.run for sweep in sweeps for result in sweep.stored})


def _of_page(
    profile: Profile, page: Page, shared: Sweep, own: tuple[Planned, list[Sweep]] | None
) -> tuple[Reasons, str | None]:
    """The runs of the page's own that failed, and why the page cannot be drawn, or None where it can."""
    found: Sweep | Variants = shared
    try:
        if own:
            found = gathered(*own)
        if page.benchmark:
            print(f"{page.name}:", flush=True)
            found = fill(profile, benchmark=page.benchmark)
    except StudyError as error:  # nothing is stored, or the benchmark's data, apart from the rest's, cannot be read
        return {}, str(error)
    results = found.results if isinstance(found, Sweep) else shared.results
    there = not page.methods or set(page.methods) & set(results.get("method", []))
    return found.failed, None if there else "none of its methods has a result"


def _outdated(profile: Profile, pages: list[Page]) -> list[Page]:
    """The pages that are not there, or would be others now."""
    outdated = [page for page in pages if not _is_current(profile, page)]
    if count := len(pages) - len(outdated):
        print(f"{count} of {len(pages)} pages stay: nothing that they show has changed (--only draws one anyway).")
    return outdated


def _is_current(profile: Profile, page: Page) -> bool:
    return drawn.is_current(page.notebook, profile, drawn.origin(_sources(profile, page), profile))


def _sources(profile: Profile, page: Page) -> str:
    return drawn.sources(page.notebook, profile, page.methods)


def _draw(profile: Profile, page: Page) -> None:
    book.draw(page.notebook, profile, page.methods)
    print(f"Drew {page.name}.", flush=True)


@contextmanager
def _drawing() -> Iterator[tuple[ThreadPoolExecutor, Begun]]:
    """Threads for drawing, and pages that they have begun; where it ends early, so do the kernels."""
    pool = ThreadPoolExecutor(AT_A_TIME)
    begun: Begun = {}
    try:
        yield pool, begun
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in begun):  # an interrupt, or a full disk
            kernels.end_kernels()
            time.sleep(SECONDS_BETWEEN_KILLS)


def _drawn(profile: Profile, begun: Begun) -> Reasons:
    """Wait until the pages are drawn; returns those that failed, with reasons."""
    failed: Reasons = {}
    for future in as_completed(begun):
        page, sources = begun[future]
        try:
            future.result()
            drawn.note(page.notebook, profile, drawn.origin(sources, profile))
        except StorageError:
            raise
        except StudyError as error:
            failed[page.name] = str(error)
    return failed


def _not_drawn(profile: Profile, pages: list[Page]) -> Reasons:
    """Pages of the profile that this run was not asked for and that no run before it has drawn."""
    names = {notebook.stem for notebook in book.figure_notebooks(None)} - {page.name for page in pages}
    folder = profile.folder / "report"
    without = [name for name in sorted(names) if _drawable(profile, name) and not (folder / f"{name}.ipynb").is_file()]
    return dict.fromkeys(without, "not drawn yet")
