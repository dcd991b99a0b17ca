"""A browser, where there is one, and what it would do with a page beyond showing it."""

import re
import shutil
from html.parser import HTMLParser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NO_CHROMIUM = "there is no Chromium on this machine"
FROM_A_NETWORK = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
IN_A_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//[^'\")\s]*", re.IGNORECASE)
# A text that would run or load something wherever it became HTML or Markdown unescaped, and a formula in a figure.
HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> [x](javascript:alert(1)) ``` $x_1$ $ | \\"
LOADING = {"src", "srcset", "data", "poster", "background", "xlink:href"}


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.inside = ""
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        if tag in ("script", "iframe", "object", "embed", "base", "form"):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            text = value or ""
            loads = name in LOADING or (name == "href" and tag != "a")
            runs = name.startswith("on") or re.match(r"\s*(javascript|vbscript|data:text)", text, re.IGNORECASE)
            if runs or (loads and FROM_A_NETWORK.match(text)) or (name == "style" and IN_A_STYLE.search(text)):
                self.found.append(f"{tag} {name}={text[:80]}")

    def handle_data(self, data):
        if self.inside == "style":
            self.found += IN_A_STYLE.findall(data)
        self.text += data

    def handle_endtag(self, tag):
        self.inside = ""


def runs_or_loads(page: str) -> list[str]:
    """The scripts of a page, and what it would load from a network: nothing, for a page that can only be read."""
    parser = _Page()
    parser.feed(page)
    return parser.found


def article(page: str) -> str:
    """What a page of the book shows of its source: neither sidebars nor the scripts of the theme."""
    return "<article" + page.partition("<article")[2].partition("</article>")[0]


def visible(page: str) -> str:
    """The text of a page, as a reader sees it."""
    parser = _Page()
    parser.feed(page)
    return parser.text
