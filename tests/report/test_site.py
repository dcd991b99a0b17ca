"""The book: what it shows of which files, that it shows texts as they are, and that it is built anew where needed."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from lib.errors import StudyError
from lib.report.site import build
from tests.support.browser import HOSTILE, article, runs_or_loads, visible

CLASS = "<script>alert(1)</script>"


def output(kind, **data):
    return nbformat.v4.new_output(kind, **data)


def write_notebook(file, title, *outputs):
    parameters = nbformat.v4.new_code_cell("secret = 1", metadata={"tags": ["injected-parameters"]})
    sentence = nbformat.v4.new_code_cell("words", metadata={"tags": ["sentences"]})
    sentence.outputs = [output("display_data", data={"text/markdown": "Said by *code*."})]
    code = nbformat.v4.new_code_cell("raise SystemExit('executed')", outputs=list(outputs), execution_count=1)
    heading = nbformat.v4.new_markdown_cell(f"# {title}\n\n[The rule](02_rule.ipynb).")
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[heading, parameters, sentence, code]), file)


TEXTS = {
    "README.md": "# The study\n\n[Running](notebooks/running.md), [one](figures/one/README.md#found),"
    " [numbers](figures/one/fig1.csv)",
    "notebooks/adding.md": "# Adding",
    "notebooks/running.md": "# Running\n\n[Back](../README.md)\n\n"
    "| at | interval | command |\n|-|-|-|\n| 1 | .8 [.7, .9] | two |\n| 1 | .8 | `[1, 2]` |\n",
    "figures/one/README.md": "# The first profile\n\n## Found\n\n[Page](report/01_accuracy.ipynb)",
    "figures/one/fig1.csv": "1,2",
    "figures/one/report/README.md": "# All pages of one\n\n![Alt](../fig1.png)\nSee it rise.\n"
    "\n## Not computed\n\n- 03: *broke*\n",
    "figures/two/report/README.md": "# All pages of two\n\nWithout a story.\n",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A study of two profiles, of which nobody has written about the second."""
    folder = tmp_path_factory.mktemp("study")
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    cells = f"<td>{CLASS.replace('<', '&lt;')}</td><td>+5% [+1%, +9%]</td>"
    table = {"text/html": f"<table><tr>{cells}</tr></table>", "text/plain": "table"}
    hostile = [
        output("stream", name="stdout", text=HOSTILE),
        output("display_data", data={"text/plain": HOSTILE}),
        output("display_data", data=table),
    ]
    write_notebook(folder / "figures/one/report/01_accuracy.ipynb", "Figure 1", *hostile)
    write_notebook(folder / "figures/one/report/02_rule.ipynb", "The rule")
    write_notebook(folder / "figures/two/report/01_accuracy.ipynb", "Figure 1 of two")
    guide = [nbformat.v4.new_markdown_cell("# Your own task"), nbformat.v4.new_code_cell("distil()")]
    nbformat.write(nbformat.v4.new_notebook(cells=guide), folder / "notebooks/your_own_task.ipynb")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "README.md").write_text("# Of a library")
    return folder


def build_in_a_process(root):
    """As each run does; a second build of one process takes the theme's changes for other settings."""
    program = "import pathlib, sys; from lib.report.site import build; print(build(pathlib.Path(sys.argv[1])))"
    ran = subprocess.run([sys.executable, "-c", program, root], text=True, capture_output=True, check=True)
    assert ran.stderr == ""
    return Path(ran.stdout.strip()).parent


@pytest.fixture(scope="module")
def site(root):
    return build_in_a_process(root)


def read(site, name):
    return BeautifulSoup((site / name).read_text(), "html.parser")


def test_every_link_leads_to_something(site):
    pages = [*site.glob("*.html"), *site.glob("notebooks/*.html"), *site.glob("figures/**/*.html")]
    assert len(pages) == 13
    missing = []
    for page in pages:
        for link in read(site, page).select("a[href]"):
            target, _, anchor = link["href"].partition("#")
            place = page.parent / target if target else page
            if "://" not in target and not (place.is_file() and (not anchor or read(site, place).find(id=anchor))):
                missing.append((page.name, link["href"]))
    assert missing == [("01_accuracy.html", "#02_rule.ipynb")]  # the second profile has no such page


def test_links_between_markdown_and_notebooks_are_links_between_pages(site):
    links = [link["href"] for link in read(site, "README.html").select("article a.reference")]
    assert links[:2] == ["notebooks/running.html", "figures/one/README.html#found"]
    assert (site / links[2]).read_text() == "1,2"
    assert read(site, "figures/one/README.html").find(href="report/01_accuracy.html")
    assert read(site, "figures/one/report/01_accuracy.html").find("article").find(href="02_rule.html")


def test_the_sidebar_has_the_first_page_the_pages_for_users_and_the_profiles(site):
    titles = [link.text.strip() for link in read(site, "README.html").select(".bd-sidebar-primary nav a.internal")]
    assert titles == ["The study", "Running", "Adding", "Your own task", "one", "two"]


def test_a_profile_has_its_pages_under_it(site):
    links = [link["href"] for link in read(site, "figures/one/README.html").select(".bd-sidebar-primary li.current a")]
    assert links[1:] == ["report/01_accuracy.html", "report/02_rule.html", "report/README.html"]
    links = [link["href"] for link in read(site, "figures/two/report/README.html").select("li.current a.internal")]
    assert "01_accuracy.html" in links


def test_a_profiles_page_says_what_was_not_computed(site):
    assert "03: *broke*".replace("*", "") in read(site, "figures/one/README.html").find("article").text


def test_pages_have_a_previous_one_a_next_one_and_their_notebook(site):
    page = site / "figures/one/report/01_accuracy.html"
    shown = read(site, page)
    assert shown.select_one("a.left-prev")["href"] == "../README.html"
    assert shown.select_one("a.right-next")["href"] == "02_rule.html"
    (download,) = [link["href"] for link in shown.select("a[href$='.ipynb']")]
    assert (page.parent / download).read_text() == (site.parents[1] / "one/report/01_accuracy.ipynb").read_text()


def test_code_is_folded_and_what_only_passes_parameters_is_not_there(site):
    shown = read(site, "figures/one/report/01_accuracy.html").find("article")
    (folded,) = shown.find_all("details")
    assert "executed" in folded.text and "open" not in folded.attrs
    assert "secret" not in shown.text
    assert "Said by code." in shown.text and "words" not in shown.text


def test_intervals_in_tables_stay_on_one_line_and_code_is_as_it_was(site):
    guide = [cell.text for cell in read(site, "notebooks/running.html").select("article td")]
    assert guide == ["1", ".8 [.7,\N{NO-BREAK SPACE}.9]", "two", "1", ".8", "[1, 2]"]
    page = [cell.text for cell in read(site, "figures/one/report/01_accuracy.html").select("article td")]
    assert page == [CLASS, "+5% [+1%,\N{NO-BREAK SPACE}+9%]"]


def test_code_that_was_not_executed_is_not_folded(site):
    shown = read(site, "notebooks/your_own_task.html").find("article")
    assert "distil()" in shown.text
    assert not shown.find_all("details")


@pytest.mark.parametrize("page", ["figures/one/report/01_accuracy.html", "figures/one/README.html"])
def test_texts_of_data_are_shown_as_they_are(site, page):
    shown = article((site / page).read_text())
    assert runs_or_loads(shown) == []
    if "01" in page:
        assert visible(shown).count(HOSTILE) == 2
        assert visible(shown).count(CLASS) == 3


def test_no_page_loads_anything_from_a_network(site):
    for page in site.rglob("*.html"):
        own = ("<script>", "<form>", "button onclick=window.print()")  # the theme's
        assert [one for one in runs_or_loads(page.read_text()) if one not in own] == [], page


def written(site):
    return {page: page.stat().st_mtime_ns for page in site.rglob("*.html")}


def test_only_what_has_changed_is_built_again(site, root):
    before = written(site)
    file = root / "figures/one/report/02_rule.ipynb"
    file.write_text(file.read_text().replace("The rule", "Another rule"))
    build_in_a_process(root)
    changed = {page.relative_to(site).as_posix() for page, when in written(site).items() if before[page] != when}
    assert "figures/one/report/02_rule.html" in changed
    assert not changed & {"notebooks/running.html", "figures/one/report/01_accuracy.html"}


def test_the_list_of_pages_is_without_figures_and_what_they_show(site):
    shown = read(site, "figures/one/report/README.html").find("article")
    assert not shown.select("img")
    assert "See it rise" not in shown.text


def test_a_failure_that_is_known_since_is_on_the_profiles_page(site, root):
    (root / "figures/one/report/README.md").write_text("# All pages of one\n\n## Not computed\n\n- 04: late\n")
    build_in_a_process(root)
    assert "04: late" in read(site, "figures/one/README.html").find("article").text


def test_a_new_page_is_in_the_sidebar_of_the_others(site, root):
    write_notebook(root / "figures/one/report/05_new.ipynb", "New")
    build_in_a_process(root)
    assert read(site, "figures/one/report/01_accuracy.html").select(".bd-sidebar-primary a[href='05_new.html']")


def test_pages_that_a_kill_has_left_in_part_are_written_again(site, root, monkeypatch):
    page = site / "figures/one/report/01_accuracy.html"
    whole = page.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rglob", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(root)
    page.write_text(whole[:1000])
    build(root)
    assert page.read_text() == whole


def test_a_book_that_cannot_be_built_is_one_line(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "book").touch()
    with pytest.raises(StudyError, match=r"\A.*book.*\Z"):
        build(tmp_path)


def test_building_needs_none_of_the_studys_libraries():
    """So that publishing installs little."""
    program = "import sys, lib.report.site; print({'torch', 'transformers', 'pandas', 'papermill'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert ran.stdout.strip() == "set()"
