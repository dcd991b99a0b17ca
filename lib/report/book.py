"""Executing notebooks by papermill, and a page in Markdown over those of a profile; `site` makes a book of them."""

import ast
import base64
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from PIL import Image
from traitlets.config import Config

from lib.errors import StorageError, StudyError, first_line, require_one_of
from lib.paths import NOTEBOOKS
from lib.report.kernels import Kernels
from lib.report.site import NOT_COMPUTED, in_few_colours
from lib.runs.files import replace_file, write_text
from lib.runs.profile import Profile

START_SECONDS = 600  # a kernel may take so long to start, as on a busy machine or a slow disk
LONGEST_FOLDER = 70  # characters; the path of a socket has room for some thirty more
# No word of the interrupt at its end; and no state of widgets, which would be a script of the page.
_KERNEL = {
    "NotebookClient": {
        "kernel_manager_class": Kernels,
        "extra_arguments": ["--IPKernelApp.log_level=50"],
        "store_widget_state": False,
    }
}
_FIGURE = re.compile(r'"(fig\d\w*)"')  # in the code that saves it


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
    """Run a notebook with a profile, and keep it with its outputs among the profile's pages, if it ran to its end.

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
    replace_file(executed, lambda scratch: nbformat.write(_to_keep(content), scratch))
    return executed


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


def _to_keep(content: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook without what is another each time it is executed, and with smaller figures."""
    content.metadata.pop("papermill", None)
    for cell in content.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill's is another one each time
        for shown in [output.data for output in cell.get("outputs", []) if "data" in output]:
            if {"text/html", "image/png"} & shown.keys():
                shown.pop("text/plain", None)  # often an address in memory, and nobody sees it
            if "image/png" in shown:
                shown["image/png"] = _in_few_colours(shown["image/png"])
    return content


def _in_few_colours(figure: str) -> str:
    small = BytesIO()
    with Image.open(BytesIO(base64.b64decode(figure))) as image:
        in_few_colours(image).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


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


def write_index(profile: Profile, failed: dict[str, str]) -> Path:
    """A page in Markdown that links all executed notebooks of a profile, with its figures and what failed.

    Raises:
        StorageError: it cannot be written.
        StudyError: a file among the pages is not a notebook.
    """
    index = profile.folder / "report" / "README.md"
    sections = [_section(profile, page) for page in sorted(index.parent.glob("*.ipynb"))]
    problems = [f"- {_as_it_is(name)}: {_as_it_is(reason)}" for name, reason in failed.items()]
    missing = [NOT_COMPUTED, "\n".join(problems)] if problems else []
    title = [f"# All pages of {_as_it_is(profile.name)}", _as_it_is(profile.about)]
    write_text(index, "\n\n".join([*title, *sections, *missing]) + "\n")
    return index


def _section(profile: Profile, page: Path) -> str:
    """What the index says of a page: its notebook's heading, and its figures, where some were drawn."""
    cells = _cells(page)
    title = f"## [{cells[0].source.splitlines()[0].lstrip('# ')}]({page.name})"
    return "\n\n".join([title, *_figures(profile, cells)])


def _cells(page: Path) -> list[nbformat.NotebookNode]:
    try:
        return nbformat.read(page, as_version=4).cells
    except Exception as error:  # whatever a file holds that is no notebook
        raise StudyError(f"{page} is not a notebook ({first_line(error)}). Draw it again with --only.") from error


def _figures(profile: Profile, cells: list[nbformat.NotebookNode]) -> Iterator[str]:
    """Each figure that the cells save, with the paragraph before it, which says what to see, and its numbers."""
    caption = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            sentences = [part for part in cell.source.split("\n\n") if part[:1] not in "#|-"]
            caption = " ".join("".join(sentences[-1:]).split())
        name, alt = _FIGURE.search(cell.source), cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
        if alt and name and (profile.folder / f"{name[1]}.png").is_file():
            yield f"![{alt}](../{name[1]}.png)\n{caption}\n\nNumbers: [{name[1]}.csv](../{name[1]}.csv)"


def _as_it_is(text: str) -> str:
    """Markdown that shows a text as it is, on one line."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))
