"""The book: README, the pages beside the notebooks and every profile's report as one site that needs no network.

Sphinx builds it, by the extension myst-nb and the theme sphinx-book-theme, from files that GitHub shows as well.
"""

import os
import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from filelock import FileLock
from PIL import Image

from lib.errors import StudyError, first_line

if TYPE_CHECKING:
    from sphinx.application import Sphinx

GUIDES = ["notebooks/*.md", "notebooks/your_own_task.ipynb"]
PAGES = ["README.md", *GUIDES, "figures/*/README.md", "figures/*/report/README.md", "figures/*/report/*.ipynb"]
NOT_WALKED = [".*", "lib", "tests", "notebooks/profiles", "figures/book", "figures/*/runs", "figures/*/soft_labels"]
NOT_COMPUTED = "## Not computed"
_COLOURS = 256  # of a figure: as many look like all
_FIGURE = re.compile(r"^!\[.*\n.*\n", re.MULTILINE)  # with its caption
_INTERVAL = re.compile(r"\[([^\s\[\],]*\d[^\s\[\],]*), ([^\s\[\],]*\d[^\s\[\],]*)\]")  # such as [.80, .85]
_ROW = re.compile(r"^\|[^`\n]*$", re.MULTILINE)  # of a table without code
# What the tags of a cell do to it in the book: cells that only pass parameters, and the code of sentences with numbers.
_TAGS = {
    "injected-parameters": "remove-cell",
    "parameters": "remove-cell",
    "settings": "remove-cell",
    "sentences": "remove-input",
}
_TO_THE_FIRST_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=README.html">
<title>Few-shot distillation</title>
<a href="README.html">Few-shot distillation for language models</a>
</html>
"""
_SETTINGS: dict[str, Any] = {
    "project": "Few-shot distillation",
    "html_title": "Few-shot distillation",
    "extensions": ["myst_nb", __name__],
    "root_doc": "README",
    "include_patterns": PAGES,
    "exclude_patterns": NOT_WALKED,
    "nb_execution_mode": "off",
    "nb_custom_formats": {".ipynb": [f"{__name__}.read_notebook", {}, False]},
    "nb_ipywidgets_js": {},  # they would come from a network
    "nb_code_prompt_show": "Show the code",
    "nb_code_prompt_hide": "Hide the code",
    "myst_heading_anchors": 4,
    "smartquotes": False,  # texts of data stay as they are
    "html_theme": "sphinx_book_theme",
    "html_static_path": [f"{Path(__file__).with_name('book.css')}"],
    "html_css_files": ["book.css"],
    "html_theme_options": {
        "home_page_in_toc": True,
        "collapse_navbar": True,
        "use_fullscreen_button": False,
        "navbar_persistent": [],  # a second field for searches
    },
    "html_context": {"default_mode": "auto"},
    "html_show_search_summary": False,  # it asks for whole pages, which no browser gives to a page that is a file
}


def build(root: Path) -> Path:
    """Build the book of a study, or what has changed of it since it was built last.

    Args:
        root: the study's folder, with `README.md`, `notebooks` and `figures`.

    Returns:
        Its first page, in `figures/book/site`; beside this folder lies what the next build starts from.

    Raises:
        StudyError: it cannot be built.
    """
    book = root / "figures" / "book"
    written, pages = book / "written", sorted(path for pattern in PAGES for path in root.glob(pattern))
    try:
        book.mkdir(parents=True, exist_ok=True)
        with FileLock(book / "lock"):
            # Sphinx takes a page that it was writing when it was killed for a whole one, and would leave out a new one.
            anew = not written.is_file() or written.read_text(encoding="utf-8") != f"{pages}"
            written.unlink(missing_ok=True)
            _build(root, book, anew)
            written.write_text(f"{pages}", encoding="utf-8")
    except Exception as error:  # a book that cannot be built costs no result
        raise StudyError(f"{type(error).__name__}: {first_line(error)}") from error
    return book / "site" / "index.html"


def _build(root: Path, book: Path, anew: bool) -> None:
    """What Sphinx warns of, such as a link to a page that was not drawn, goes to a file and not to the terminal."""
    from sphinx.application import Sphinx  # here, as most commands build no book

    site = book / "site"
    settings = deepcopy(_SETTINGS)  # the theme changes its own, and another setting is another book
    with (book / "warnings.txt").open("w", encoding="utf-8") as warnings:
        sphinx = Sphinx(root, None, site, book / "doctrees", "html", settings, None, warnings, freshenv=anew)
        sphinx.build(force_all=anew)
    for source_map in (site / "_static").rglob("*.map"):  # of the theme, for its developers: a fifth of all bytes
        source_map.unlink()
    for picture in (site / "_images").glob("*.png"):
        with Image.open(picture) as image:
            small = in_few_colours(image)
            small.load()  # before the file is written
        small.save(picture, optimize=True)
    (site / "index.html").write_text(_TO_THE_FIRST_PAGE, encoding="utf-8")


def in_few_colours(image: Image.Image) -> Image.Image:
    """A figure that takes a quarter of the bytes; one that has few colours already stays as it is."""
    return image if image.mode == "P" else image.convert("RGB").quantize(_COLOURS)


def setup(sphinx: "Sphinx") -> dict[str, Any]:
    """What Sphinx calls, since this module is one of its extensions."""
    sphinx.connect("source-read", _complete)
    sphinx.connect("source-read", _keep_rows_whole)
    sphinx.connect("html-page-context", _name_toggles, priority=900)  # after the theme
    return {"parallel_read_safe": True, "env_version": 1}


def read_notebook(text: str) -> nbformat.NotebookNode:
    """A notebook without the cells that are not for readers, and with the code folded whose outputs are there."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        tags = {_TAGS[tag] for tag in cell.metadata.get("tags", []) if tag in _TAGS}
        cell.metadata["tags"] = sorted(tags) or (["hide-input"] if cell.get("execution_count") else [])
        for shown in [output.data for output in cell.get("outputs", []) if "text/html" in output.get("data", {})]:
            shown["text/html"] = _unbroken(shown["text/html"])
    return notebook


def _name_toggles(_: "Sphinx", _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Say to those who do not see the page what opens and closes in the sidebar, which the theme does not."""
    of_theme = context["generate_toctree_html"]

    def contents(*words: Any, **settings: Any) -> Any:  # noqa: ANN401 (the theme's own)
        made = of_theme(*words, **settings)
        for toggle in made.find_all("summary") if made else ():
            toggle["aria-label"] = "Pages"
        return made

    context["generate_toctree_html"] = contents


def _complete(sphinx: "Sphinx", page: str, source: list[str]) -> None:
    """Add to the first page and to each profile's what the book's contents are made of.

    A report's own page goes without its figures: they are on the pages, and would double the size of the book.
    """
    root, place = sphinx.srcdir, page.split("/")
    if page == "README":
        pages = [path.relative_to(root).as_posix() for pattern in GUIDES for path in sorted(root.glob(pattern))]
        fronts = [front for folder in sorted(root.glob("figures/*")) if (front := _front(folder, root))]
        named = [f"{front.split('/')[1]} <{front}>" for front in _as_mentioned(fronts, source[0])]
        source[0] += _contents("Using it", _as_mentioned(pages, source[0])) + _contents("Results", named)
    elif place[0] == "figures" and place[-1] == "README":
        report = root / "figures" / place[1] / "report"
        if place[2] == "report":
            source[0] = _FIGURE.sub("", source[0])
        elif (report / "README.md").is_file():
            sphinx.env.note_dependency(report / "README.md", docname=page)
            source[0] += "".join((report / "README.md").read_text(encoding="utf-8").partition(NOT_COMPUTED)[1:])
        if f"{page}.md" == _front(report.parent, root):
            others = [os.path.relpath(path, (root / page).parent) for path in sorted(report.glob("*.*"))]
            source[0] += _contents("Pages", [name for name in others if name.endswith(("/README.md", ".ipynb"))])


def _keep_rows_whole(_: "Sphinx", _page: str, source: list[str]) -> None:
    source[0] = _ROW.sub(lambda row: _unbroken(row[0]), source[0])


def _unbroken(text: str) -> str:
    """A text whose intervals stay on one line in a narrow column of a table."""
    return _INTERVAL.sub("[\\1,\N{NO-BREAK SPACE}\\2]", text)


def _as_mentioned(pages: list[str], text: str) -> list[str]:
    """Pages in the order in which a text links them last, then as they are."""
    return sorted(pages, key=lambda page: text.rfind(page) if page in text else len(text))


def _front(folder: Path, root: Path) -> str | None:
    """A profile's first page: what somebody wrote of it, or else the list of its pages."""
    there = [folder / name for name in ("README.md", "report/README.md") if (folder / name).is_file()]
    return there[0].relative_to(root).as_posix() if there else None


def _contents(title: str, pages: list[str]) -> str:
    return "\n".join(["", "", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])
