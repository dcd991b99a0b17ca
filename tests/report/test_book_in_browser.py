"""The book of the committed pages in a real browser, as a reader opens it: from a folder, without a network."""

import re
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

from lib.paths import ROOT
from lib.report.site import PAGES, build
from tests.support.browser import CHROMIUM, NO_CHROMIUM

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
pytestmark = pytest.mark.slow
LONGEST = 180  # seconds that anything may take, on a busy machine
OPENED = [
    "README.html",
    "figures/smollm2/README.html",
    "figures/smollm2/report/01_accuracy.html",
    "figures/smollm2/report/07_claims.html",
    "figures/smollm2/report/README.html",
]
DRAWN_HERE = {"tiny", "smoke"}  # by the default, and by tests


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book of what is committed."""
    root = tmp_path_factory.mktemp("study")
    for pattern in (*PAGES, "figures/*/*.png", "figures/*/*.csv"):
        for file in (one for one in ROOT.glob(pattern) if not DRAWN_HERE & {*one.relative_to(ROOT).parts}):
            place = root / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    return build(root).parent


def test_the_book_is_small(site):
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < 15e6


def test_every_link_of_the_book_leads_to_something(site):
    read = {page: BeautifulSoup(page.read_text(), "html.parser") for page in site.rglob("*.html")}
    anchors = {page: {tag["id"] for tag in text.find_all(id=True)} for page, text in read.items()}
    missing = set()
    for page, text in read.items():
        for link in text.select("article a[href], nav a[href]"):
            target, _, anchor = link["href"].partition("#")
            place = (page.parent / target).resolve() if target else page
            known = place.is_file() and (not anchor or place.suffix != ".html" or anchor in anchors[place])
            if "://" not in target and not known:
                missing.add((page.relative_to(site).as_posix(), link["href"]))
    assert missing == set()


def test_every_figure_says_in_words_what_it_shows(site):
    silent = []
    for page in site.rglob("*.html"):
        images = BeautifulSoup(page.read_text(), "html.parser").select("article img")
        silent += [page.name for image in images if len(image.get("alt", "").split()) < 5]
    assert silent == []


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, site):
    """Opens a page of the book without a network; every request that leaves the folder fails the test."""
    asked, contexts = [], []

    def open_page(name, query="", **settings):
        context = chromium.new_context(offline=True, reduced_motion="reduce", **settings)  # no colour is in between
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LONGEST * 1000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / name).as_uri() + query)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []


@pytest.mark.browser
@in_a_browser
def test_links_lead_through_the_book(opened):
    page = opened("index.html")
    page.wait_for_url("**/README.html")
    page.get_by_role("link", name="smollm2", exact=True).first.click()
    page.get_by_role("link", name="verdicts").first.click()
    page.wait_for_url("**/07_claims.html")
    before = page.url
    page.locator("a.right-next").click()
    page.locator("a.left-prev").click()
    page.wait_for_url(before)


@pytest.mark.browser
@in_a_browser
def test_a_word_is_found(opened):
    page = opened("search.html", "?q=calibrated")
    page.locator("#search-results li a[href*='01_accuracy.html']").first.wait_for()  # they come one by one


def luminance(colour):
    """The mean of `rgb(r, g, b)`, 0 to 255."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3


@pytest.mark.browser
@in_a_browser
def test_the_page_turns_dark_and_light(opened):
    page = opened("README.html", color_scheme="light")
    seen = []
    for mode in ("Dark", "Light"):
        page.get_by_role("button", name="Color mode").filter(visible=True).click()
        page.get_by_role("button", name=mode).or_(page.get_by_text(mode, exact=True)).filter(visible=True).first.click()
        seen.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert luminance(seen[0]) < 64 < 192 < luminance(seen[1])


@pytest.mark.browser
@in_a_browser
def test_code_unfolds(opened):
    page = opened(OPENED[2])
    code = page.locator("article details pre").first
    assert not code.is_visible()
    page.locator("article details summary").first.click()
    assert code.is_visible()


@pytest.mark.browser
@in_a_browser
@pytest.mark.parametrize("name", OPENED)
def test_a_page_fits_on_a_phone_and_wide_tables_scroll(opened, name):
    page = opened(name, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cut = """() => [...document.querySelectorAll('article table')].filter(table => {
        let box = table.parentElement;
        while (box.tagName != 'ARTICLE' && !['auto', 'scroll'].includes(getComputedStyle(box).overflowX))
            box = box.parentElement;
        return box.tagName == 'ARTICLE' && table.scrollWidth > box.clientWidth;
    }).length"""
    assert page.evaluate(cut) == 0


@pytest.mark.browser
@in_a_browser
def test_a_page_prints_to_pdf(opened, tmp_path):
    page = opened(OPENED[2])
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.browser
@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", OPENED)
def test_nothing_serious_keeps_anybody_from_reading(opened, name, scheme):
    found = Axe().run(opened(name, color_scheme=scheme)).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"], len(one["nodes"])) for one in serious] == []
