"""A task of one's own, from a profile alone: by one command, from a clean copy, to figures and pages."""

import json

import pandas as pd
import pytest
import yaml

from lib.methods.table import ON_TASKS
from tests.support.browser import HOSTILE, article, runs_or_loads, visible
from tests.support.clone import copy_of_the_study, run_all
from tests.support.own_data import TWO_TOKEN_WORDS, WORDS, hostile_things, things

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("data", "words", "suffix", "pages"),
    [
        (hostile_things, WORDS, ".csv", "00,01,02,03,05,07,09,10,14"),
        (things, dict(list(TWO_TOKEN_WORDS.items())[:2]), ".tsv", "01,03,05"),  # which name every method
    ],
    ids=["csv of hostile texts", "tsv"],
)
def test_a_task_of_ones_own_runs_from_a_profile_alone(tmp_path, data, words, suffix, pages):
    clone = copy_of_the_study(tmp_path)
    settings = yaml.safe_load((clone / "notebooks" / "profiles" / "smoke.yaml").read_text())["profile"]
    settings |= data(tmp_path, words, name="own", seeds=[0], support_sizes=[len(words)], pool_size=3, epochs=1)
    if suffix == ".tsv":
        table = (tmp_path / "things.csv").read_text().replace(",", "\t")
        (tmp_path / "things.tsv").write_text(table)
        settings["datasets"]["things"]["source"] = str(tmp_path / "things.tsv")
    settings.pop("in_context")
    settings |= {"choices": ["kl_weight"], "ablations": ["larger pool"]}
    if data is hostile_things:
        more = {f"{name} {HOSTILE}": settings["datasets"][name] for name in (*settings["datasets"],)}
        settings["datasets"] |= more
        settings["out_of_domain"] = [*more, "things"]
        settings["datasets"]["things"] = settings["datasets"][HOSTILE]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"profile": settings}))
    ran = run_all(clone, "--profile", str(tmp_path / "own.yaml"), "--only", pages)
    assert ran.returncode == 0, ran.stderr
    folder = clone / "figures" / "own"
    assert all((folder / f"fig{int(page)}.png").is_file() for page in pages.split(",") if page != "00")
    drawn = pd.read_csv(folder / "fig1.csv")
    assert {f"in_domain_accuracy_on_{name}" for name in settings["label_words"]} <= set(drawn.quantity)
    assert {json.loads(file.read_text())["run"]["method"] for file in (folder / "runs").iterdir()} == set(ON_TASKS)
    for drawing in folder.glob("*.svg"):
        assert runs_or_loads(drawing.read_text()) == [], drawing.name
    shown = list((clone / "figures/book/site/figures/own/report").glob("*.html"))
    assert len(shown) == len(pages.split(",")) + 1
    for page in shown:
        text = article(page.read_text())
        assert runs_or_loads(text) == [], page.name
        assert page.stem == "00_tour" or settings["about"] in visible(text), page.name
