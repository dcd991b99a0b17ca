"""The numbered notebooks as pages of a profile's report: which there are, the results that they need, drawing them."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from lib.errors import StorageError, StudyError
from lib.memory.predictions import of_profile
from lib.methods.table import ON_BENCHMARKS
from lib.paths import ROOT
from lib.report import book
from lib.runs.ablations import VARIANTS
from lib.runs.execution import BENCHMARK_NOTEBOOKS, Sweep, fill
from lib.runs.files import remove_scratch, require_writable
from lib.runs.profile import Profile
from lib.runs.store import Store
from lib.runs.variants import METHOD, Variants, fill_variants
from lib.tasks.catalogue import EMBEDDED

AT_A_TIME = 2  # most of a notebook's time is one core's, importing libraries
SECONDS_BETWEEN_KILLS = 0.1  # of kernels, until the last page has noticed
ASK_MODELS = ("00_tour", "08_memory", "13_method")  # whatever is stored
SMALL_MODELS = ("13_method",)  # a step without batches is slow on larger ones

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


def draw_report(profile: Profile, only: list[str] | None) -> tuple[Path, Reasons, Reasons]:
    """Compute what is missing, then draw the pages and the index.

    Args:
        profile: the study's settings.
        only: the numbers of the notebooks wanted, such as `01`; None for all.

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
    failed, left_out = _fill(profile, pages)
    failed |= _draw(profile, [page for page in pages if page.name not in left_out])
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


def _fill(profile: Profile, pages: list[Page]) -> tuple[Reasons, Reasons]:
    """Compute what is missing; returns the runs that failed and the pages that cannot be drawn, with reasons."""
    shared = _fill_shared(profile, sorted({name for page in pages for name in page.methods} & {*profile.methods}))
    failed, left_out = dict(shared.failed), {}
    for page in pages:
        failed_here, reason = _fill_page(profile, page, shared)
        failed |= failed_here
        if reason:
            left_out[page.name] = reason
    for method, reason in shared.refused.items():
        print(f"Refused: {method}: {reason}", flush=True)
    return failed, left_out


def _fill_shared(profile: Profile, methods: list[str]) -> Sweep:
    """Results and predicted peaks of the methods, so that the notebooks, two at a time, only read them."""
    if not methods:
        return Sweep(profile, pd.DataFrame())
    sweep = fill(profile, methods)
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


def _draw(profile: Profile, pages: list[Page]) -> Reasons:
    """Execute the pages; returns those that failed, with reasons."""
    failed: Reasons = {}
    pool = ThreadPoolExecutor(AT_A_TIME)
    running = {pool.submit(book.draw, page.notebook, profile, page.methods): page.name for page in pages}
    try:
        for future in as_completed(running):
            try:
                future.result()
                print(f"Drew {running[future]}.", flush=True)
            except StorageError:
                raise
            except StudyError as error:
                failed[running[future]] = str(error)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in running):  # an interrupt, or a full disk
            book.end_kernels()
            time.sleep(SECONDS_BETWEEN_KILLS)
    return failed


def _not_drawn(profile: Profile, pages: list[Page]) -> Reasons:
    """Pages of the profile that this run was not asked for and that no run before it has drawn."""
    names = {notebook.stem for notebook in book.figure_notebooks(None)} - {page.name for page in pages}
    folder = profile.folder / "report"
    without = [name for name in sorted(names) if _drawable(profile, name) and not (folder / f"{name}.ipynb").is_file()]
    return dict.fromkeys(without, "not drawn yet")
