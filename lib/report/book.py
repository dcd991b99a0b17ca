"""Executing notebooks by papermill, rendering them to HTML, and an index page over them."""

import ast
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jinja2 import Environment, FileSystemLoader
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from lib.errors import StudyError
from lib.paths import NOTEBOOKS
from lib.runs.profile import Profile
from lib.runs.store import replace_file

_KERNEL = {"NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=50"]}}  # no word of the interrupt at its end
# A page is without the cells that only pass parameters, and without the code of sentences with numbers in them.
_NOT_SHOWN = {"remove_cell_tags": ["injected-parameters", "parameters", "settings"], "remove_input_tags": ["sentences"]}
_REMOVED = {"enabled": True, **_NOT_SHOWN}
_PROMPTS = {"exclude_input_prompt": True, "exclude_output_prompt": True}
_PAGE = Config({"TagRemovePreprocessor": _REMOVED, "HTMLExporter": _PROMPTS})

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)


def figure_notebooks(only: list[str] | None) -> list[Path]:
    """The numbered notebooks, or those whose numbers are in `only`, such as `01`.

    Raises:
        StudyError: a number that no notebook has.
    """
    numbered = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    unknown = [number for number in only or [] if number not in numbered]
    if unknown:
        raise StudyError(f"only: no notebook {', '.join(unknown)}. Allowed: {', '.join(numbered)}.")
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
        StudyError: a cell raised, or the kernel died; the message is the error's last line.
    """
    executed = profile.folder / "report" / notebook.name
    content = _execute(notebook, {"profile": profile.model_dump(mode="json"), "methods": methods})
    replace_file(executed, lambda scratch: nbformat.write(content, scratch))
    page, _ = HTMLExporter(config=_PAGE).from_filename(str(executed))
    rendered = executed.with_suffix(".html")
    rendered.write_text(page, encoding="utf-8")
    return rendered


def _execute(notebook: Path, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """Over sockets in a folder of the kernel's own, since over TCP a kernel warns of eavesdroppers."""
    with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as sockets:
        try:
            return papermill.execute_notebook(
                str(notebook),
                None,
                parameters=parameters,
                cwd=str(NOTEBOOKS),
                kernel_name="python3",
                progress_bar=False,
                config=Config(_KERNEL | {"KernelManager": {"transport": "ipc", "ip": f"{sockets}/socket"}}),
            )
        except PapermillExecutionError as error:
            raise StudyError(f"{notebook.name}: {error.ename}: {error.evalue}") from None
        except DeadKernelError:
            raise StudyError(f"{notebook.name}: its kernel died; was it killed for using too much memory?") from None


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
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(text, encoding="utf-8")
    return index


def _section(profile: Profile, page: Path) -> dict[str, str]:
    """What the index says of a page: its notebook's heading, and its figure, which is empty where none was drawn."""
    source, figure = NOTEBOOKS / f"{page.stem}.ipynb", f"fig{page.stem[:2].lstrip('0')}"
    drawn = (profile.folder / f"{figure}.png").is_file()
    title = nbformat.read(source, as_version=4).cells[0].source.splitlines()[0] if source.is_file() else page.stem
    return {"page": page.name, "title": title.lstrip("# "), "figure": figure if drawn else ""}
