"""Executing notebooks by papermill, rendering them to HTML, and an index page over them."""

import ast
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from jinja2 import Environment, FileSystemLoader
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from lib.errors import StorageError, StudyError, first_line, require_one_of
from lib.paths import NOTEBOOKS
from lib.runs.files import replace_file, write_text
from lib.runs.profile import Profile

START_SECONDS = 600  # a kernel may take so long to start, as on a busy machine or a slow disk
LONGEST_FOLDER = 70  # characters; the path of a socket has room for some thirty more
# No word of the interrupt at its end; and no state of widgets, which would be a script of the page.
_KERNEL = {"NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=50"], "store_widget_state": False}}
# A page is without the cells that only pass parameters, and without the code of sentences with numbers in them.
_NOT_SHOWN = {"remove_cell_tags": ["injected-parameters", "parameters", "settings"], "remove_input_tags": ["sentences"]}
_REMOVED = {"enabled": True, **_NOT_SHOWN}
_HTML = {
    "template_file": str(Path(__file__).with_name("page.html.jinja")),
    "exclude_input_prompt": True,
    "exclude_output_prompt": True,
}
_PAGE = Config({"TagRemovePreprocessor": _REMOVED, "HTMLExporter": _HTML})

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)


def figure_notebooks(only: list[str] | None) -> list[Path]:
    """The numbered notebooks, or those whose numbers are in `only`, such as `01`.

    Raises:
        StudyError: a number that no notebook has.
    """
    numbered = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    for number in only or []:
        require_one_of("only", number, numbered)
    return [path for number, path in numbered.items() if only is None or number in only]


def methods_of(notebook: Path) -> list[str]:
    """The methods that a notebook names in its parameters cell.

    Raises:
        StudyError: the cell does not set what `execute` passes; papermill itself would only warn.
    """
    declared = papermill.inspect_notebook(str(notebook), parameters=None)
    if not {"profile", "methods"} <= declared.keys():
        raise StudyError(f"{notebook.name}: its parameters cell must set profile, methods; it sets {list(declared)}.")
    return ast.literal_eval(declared["methods"]["default"])


def draw(notebook: Path, profile: Profile, methods: list[str]) -> Path:
    """Run a notebook with a profile, and render it beside the profile's other pages, if it ran to its end.

    Returns:
        The page.

    Raises:
        StorageError: the page, or a figure of it, cannot be written.
        StudyError: a cell raised or took too long, or the kernel died or did not start.
    """
    executed = profile.folder / "report" / notebook.name
    parameters = {"profile": profile.model_dump(mode="json"), "methods": methods}
    try:
        content = _execute(notebook, parameters, profile.page_timeout)
    except PapermillExecutionError as error:
        kind = StorageError if error.ename == StorageError.__name__ else StudyError
        raise kind(f"{notebook.name}: {error.ename}: {error.evalue}") from None
    except DeadKernelError:
        raise StudyError(f"{notebook.name}: its kernel died; was it killed for using too much memory?") from None
    except CellTimeoutError:
        raise StudyError(
            f"{notebook.name}: page_timeout: a cell took longer than {profile.page_timeout:g} s."
        ) from None
    except Exception as error:  # whatever else keeps a kernel from starting: no page may cost the others
        raise StudyError(f"{notebook.name}: {type(error).__name__}: {first_line(error)}") from error
    replace_file(executed, lambda scratch: nbformat.write(content, scratch))
    page, _ = HTMLExporter(config=_PAGE).from_filename(str(executed))
    rendered = executed.with_suffix(".html")
    write_text(rendered, page)
    return rendered


def _execute(notebook: Path, parameters: dict[str, Any], seconds: float) -> nbformat.NotebookNode:
    with _sockets() as manager:
        return papermill.execute_notebook(
            str(notebook),
            None,
            parameters=parameters,
            cwd=str(NOTEBOOKS),
            kernel_name="python3",
            progress_bar=False,
            start_timeout=START_SECONDS,
            execution_timeout=seconds,
            config=Config(_KERNEL | {"KernelManager": manager}),
        )


@contextmanager
def _sockets() -> Iterator[dict[str, str]]:
    """Settings of a kernel whose sockets lie in a folder of its own, since over TCP it warns of eavesdroppers.

    TCP it is where no folder for temporary files has a short path.
    """
    short = [folder for folder in (tempfile.gettempdir(), "/tmp") if _is_short(folder)]
    if not short:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=short[0], ignore_cleanup_errors=True) as sockets:
        yield {"transport": "ipc", "ip": f"{sockets}/socket"}


def _is_short(folder: str) -> bool:
    return len(os.fsencode(folder)) <= LONGEST_FOLDER and os.access(folder, os.W_OK)


def end_kernels() -> None:
    """Kill the kernels of this process, which an interrupt does not reach."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "ipykernel_launcher" in child.cmdline():
                child.kill()


def write_index(profile: Profile, failed: dict[str, str]) -> Path:
    """A page that links all rendered notebooks of a profile, with its figures and what failed."""
    index = profile.folder / "report" / "index.html"
    pages = [page for page in sorted(index.parent.glob("*.html")) if page != index]
    others = [other for other in sorted(profile.folder.parent.glob("*/report/index.html")) if other != index]
    text = _TEMPLATES.get_template("index.html.jinja").render(
        profile=profile,
        others=[(f"../../{page.parts[-3]}/report/{page.name}", page.parts[-3]) for page in others],
        sections=[_section(profile, page) for page in pages],
        problems=failed,
    )
    write_text(index, text)
    return index


def _section(profile: Profile, page: Path) -> dict[str, str]:
    """What the index says of a page: its notebook's heading, and its figure, which is empty where none was drawn."""
    source, figure = NOTEBOOKS / f"{page.stem}.ipynb", f"fig{page.stem[:2].lstrip('0')}"
    drawn = (profile.folder / f"{figure}.png").is_file()
    title = nbformat.read(source, as_version=4).cells[0].source.splitlines()[0] if source.is_file() else page.stem
    return {"page": page.name, "title": title.lstrip("# "), "figure": figure if drawn else ""}
