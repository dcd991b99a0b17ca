"""The explorer in JupyterLab in a real browser: it runs, its widgets answer, and nothing is asked of a network."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lib.paths import NOTEBOOKS, ROOT
from tests.support.browser import CHROMIUM, NO_CHROMIUM

NOTEBOOK = "17_explorer.ipynb"
LONGEST = 180  # seconds that anything may take, on a busy machine
HIGH = {"width": 1300, "height": 4000}  # JupyterLab draws no cell that is out of sight

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab with a copy of the notebook, without a token and with settings of its own; ends with its kernels."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(NOTEBOOKS / NOTEBOOK, folder / NOTEBOOK)
    address = f"http://127.0.0.1:{(port := free_port())}"
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root", f"--notebook-dir={folder}"]
    options += ["--IdentityProvider.token=", "--LabApp.news_url=None"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    places = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    places |= {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
    own = {name: value for name, value in os.environ.items() if name != "FEW_SHOT_BATCH"} | places
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env={**own, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
    try:
        wait_for(address, server, folder / "log")
        yield address
    finally:
        server.terminate()  # which ends its kernels, too
        server.wait(60)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def asked():
    """The addresses that the browser asked for."""
    return []


@pytest.fixture(scope="module")
def page(lab, asked):
    """The notebook, of which all cells have run."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=HIGH)
        page.set_default_timeout(LONGEST * 1000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{lab}/lab/tree/{NOTEBOOK}")
        idle(page).wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        picture(page).wait_for()
        yield page
        browser.close()


def idle(page):
    return page.get_by_text("Python 3 (ipykernel) | Idle").or_(page.get_by_title("Kernel status: Idle")).first


def picture(page):
    return page.locator(".jp-OutputArea img")


def table(page, text):
    return page.locator(".jp-OutputArea table").filter(has_text=text)


def slider(page, name):
    named = page.locator(".widget-slider").filter(has=page.get_by_text(name, exact=True))
    return named.get_by_role("slider").first


def test_all_cells_run_without_an_error(page):
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert table(page, "plain").count() == 2
    assert picture(page).count() == 1


def test_a_slider_changes_the_table_below_it(page):
    before = table(page, "at T = 1").inner_text()
    slider(page, "T").press("ArrowRight")
    table(page, "at T = 1.25").wait_for()
    assert table(page, "at T = 1.25").inner_text() != before


def test_a_demonstrations_label_changes_the_teachers_answer(page):
    row = page.locator(".jp-OutputArea tr").filter(has_text="Teacher ICL").first
    before = row.inner_text()
    choice = page.locator("select").filter(has_text="entailment: ").nth(1)
    choice.select_option(index=1 - choice.evaluate("one => one.selectedIndex"))
    page.get_by_text("1 of 4 labels changed").wait_for()
    assert row.inner_text() != before


def test_the_button_takes_a_step_and_draws_it(page):
    idle(page).wait_for()  # what changed before this is drawn
    before = picture(page).get_attribute("src")
    page.get_by_role("button", name="one step").click()
    page.wait_for_function("before => document.querySelector('.jp-OutputArea img').src != before", arg=before)


def test_no_request_leaves_this_machine(page, lab, asked):
    """It runs last: after all that the browser was made to do."""
    assert len(asked) > 10
    assert [address for address in asked if not address.startswith((f"{lab}/", "data:", "blob:"))] == []
