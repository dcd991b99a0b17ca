"""The numbered notebooks as pages of a profile's report: which there are, the results that they need, drawing them."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from lib.errors import StorageError, StudyError
from lib.memory.predictions import of_profile
from lib.methods.table import ON_BENCHMARKS
from lib.paths import ROOT
from lib.report import book, drawn
from lib.runs.ablations import VARIANTS
from lib.runs.execution import BENCHMARK_NOTEBOOKS, Sweep, fill
from lib.runs.files import remove_scratch, require_writable
from lib.runs.profile import Profile
from lib.runs.store import Store
from lib.runs.variants import METHOD, Variants, fill_variants
from lib.tasks.catalogue import EMBEDDED

AT_A_TIME = 2  # most of a notebook's time is one core's, importing libraries
SECONDS_BETWEEN_KILLS = 0.1  # of kernels, until the last page has noticed
ASK_MODELS = ("00_tour", "08_memory", "13_method", "17_explorer")  # whatever is stored
SMALL_MODELS = ("13_method", "17_explorer")  # they train students, which is slow on larger ones

Reasons = dict[str, str]  # by the name of a page or a run


@dataclass(frozen=True)
class Page:
    """A notebook, those of its methods that the profile has, and what fills its own runs, where it has such."""

    notebook: Path
    methods: list[str]
    fill: Callable[[], Sweep | Variants] | None

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

        first = next((page for page in pages if page.methods and not page.fill and page.name not in ASK_MODELS), None)
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
    name, own = notebook.stem, None
    if name in BENCHMARK_NOTEBOOKS:
        own = partial(fill, profile, benchmark=BENCHMARK_NOTEBOOKS[name])
    elif name in VARIANTS and METHOD in profile.methods:
        variants, tried = VARIANTS[name]
        own = partial(fill_variants, profile, variants(profile), tried)
    allowed = ON_BENCHMARKS if name in BENCHMARK_NOTEBOOKS else profile.methods
    return Page(notebook, [method for method in book.methods_of(notebook) if method in allowed], own)


def _fill(
    profile: Profile, pages: list[Page], first: Page | None, first_done: Callable[[], None]
) -> tuple[Reasons, Reasons]:
    """Compute what is missing; returns the runs that failed and the pages that cannot be drawn, with reasons.

    What the first page needs is computed first; `first_done` is called when it is there, unless it was there before.

    Raises:
        StudyError: a setting cannot work, or no page is left but those of benchmarks whose data cannot be read.
    """
    methods = sorted({name for page in pages for name in page.methods} & {*profile.methods})
    shared = _fill_shared(profile, methods, first.methods if first else [], first_done)
    failed, left_out = dict(shared.failed), {}
    for page in pages:
        failed_here, reason = _fill_page(profile, page, shared)
        failed |= failed_here
        if reason:
            left_out[page.name] = reason
    nothing_drawn = {*left_out} == {page.name for page in pages} <= {*BENCHMARK_NOTEBOOKS}
    if nothing_drawn and not failed and not profile.stored_only:
        raise StudyError("\n".join(dict.fromkeys(left_out.values())))
    for method, reason in shared.refused.items():
        print(f"Refused: {method}: {reason}", flush=True)
    return failed, left_out


def _fill_shared(profile: Profile, methods: list[str], first: list[str], first_done: Callable[[], None]) -> Sweep:
    """Results and predicted peaks of the methods, so that the notebooks, two at a time, only read them."""
    if not methods:
        return Sweep(profile, pd.DataFrame())
    sweep = fill(profile, methods, first=first, first_done=first_done)
    print(f"{len(sweep.results)} results in {os.path.relpath(profile.folder, ROOT)}/runs.", flush=True)
    of_profile(profile, methods)
    return sweep


def _fill_page(profile: Profile, page: Page, shared: Sweep) -> tuple[Reasons, str | None]:
    """The runs of the page's own that failed, and why the page cannot be drawn, or None where it can."""
    found = shared
    if page.fill:
        print(f"{page.name}:", flush=True)
        try:
            found = page.fill()
        except StudyError as error:
            if page.name in VARIANTS and not profile.stored_only:
                raise  # a benchmark's data are apart from the rest's, which can still be drawn
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
            book.end_kernels()
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
