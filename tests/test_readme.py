"""The first page's numbers, computed again from the committed records by code that shares nothing with `lib`."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, special, stats

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATTERN = "{premise}\nquestion: {hypothesis} Yes or No?\nanswer:"
NUMBER = r"[−+]?\d*\.\d+"
SIZES = (1, 4, 8, 12)
QUANTILES = 20_000

AS_IT_IS = {"held_out": "nothing", "pool_shares": None, "ce_on": "support", "temperature": 1.0}
BETTER = AS_IT_IS | {"calibration": "pool", "kl_weight": 1.0}
LARGE = BETTER | {"pool": "both", "pool_size": 2048}
OF_HANS = BETTER | {"pool": "target", "pool_size": 256}
PAPER = AS_IT_IS | {"pool": "train", "pool_size": 256, "calibration": "none", "kl_weight": 0.5}
PBFT = {"learning_rate": 2e-5, "epochs": 10}
CD = {"learning_rate": 5e-5, "epochs": 3}
# Each row of the table: the method, n, its training, its distillation.
ROWS = {
    "teacher with its demonstrations": ("teacher_icl", 4, None, None),
    "teacher without any": ("teacher_icl", 0, None, None),
    "student, untuned": ("baseline", 0, None, None),
    "student, ICL": ("icl", 4, None, None),
    "student, PBFT": ("pbft", 4, PBFT, None),
    "student, CD as in the paper": ("cd", 4, CD, PAPER),
    "second domain in the pool: 256": ("cd", 4, CD | {"epochs": 5}, OF_HANS),
    "second domain in the pool, large": ("cd", 4, CD, LARGE),
}


@cache
def records():
    """Run and outcome of each result with the profile's own pattern on the 1,000 reported items of each set."""
    files = sorted((ROOT / "figures/smollm2/runs").glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    tasks = [one["run"].get("task", {}) for one in found]
    reported = [
        (task.get("eval_seed"), task.get("pattern"), task.get("reserved")) == (0, PATTERN, None) for task in tasks
    ]  # a search reserves these items, and is evaluated on others
    return [(one["run"], one["outcome"]) for one, is_reported in zip(found, reported, strict=True) if is_reported]


def has(part, wanted):
    flat = (part or {}) | (part or {}).get("labelling", {})
    return all(flat.get(name) == value for name, value in (wanted or {}).items())


def results(method, size, training=None, distillation=None):
    """By seed; records from before `calibration_pool` and after it differ in nothing else."""
    found = {}
    for run, outcome in records():
        place = run["method"], run["support_size"], run["demonstration_labels"]
        settings = has(run["training"], training) and has(run["distillation"], distillation)
        if place == (method, size, "true") and settings:
            found.setdefault(run["seed"], outcome)
    return [found[seed] for seed in sorted(found)]


def log_odds(evaluation, calibrated):
    """Of the first class of two, without the prior of other answers where calibrated."""
    first, second = np.array(evaluation["label_log_probs"]).T
    odds = first - second
    if not calibrated:
        return odds

    def prior(answers):
        return special.logit(special.expit(answers).mean())

    if evaluation.get("unlabelled"):
        one, two = np.array(evaluation["unlabelled"]).T
        return odds - prior(one - two)
    halves = np.array_split(np.random.default_rng(0).permutation(len(odds)), 2)
    without = odds.copy()
    for own, other in (halves, halves[::-1]):
        without[own] -= prior(odds[other])
    return without


def right(outcome, domain, calibrated):
    """[items], one half for a tie."""
    evaluation = outcome["evaluations"][domain]
    sign = np.sign(np.round(log_odds(evaluation, calibrated), 9))
    return 0.5 + 0.5 * sign * np.where(np.array(evaluation["gold"]) == 0, 1, -1)


def interval(value, of_seeds, of_items, level=0.95):
    """Seeds depart by Student's t, items by a normal. The sum's tail is a mean over even quantiles of the t."""
    seeds, items = np.linalg.norm(of_seeds), np.linalg.norm(of_items)
    evenly = (np.arange(QUANTILES) + 0.5) / QUANTILES
    moved = seeds * stats.t.ppf(evenly, len(of_seeds) - 1) if seeds else np.zeros(1)
    half = optimize.brentq(
        lambda half: special.ndtr((moved - half) / items).mean() - (1 - level) / 2, 0, 30 * (seeds + items)
    )
    return value, value - half, value + half


def parts(values, gold, clusters):
    """What [seeds, items] owe to each seed and to each item or cluster, items drawn within their class."""
    seeds, items = values.shape
    by_seed = (values.mean(axis=1) - values.mean()) / np.sqrt(max(seeds * (seeds - 1), 1))
    mean = values.mean(axis=0)
    by_item = sum(np.where(gold == one, mean - mean[gold == one].mean(), 0) for one in (0, 1)) / items
    if clusters:
        groups = np.array([by_item[np.array(clusters) == one].sum() for one in sorted(set(clusters))])
        by_item = groups * np.sqrt(len(groups) / (len(groups) - 1))
    return values.mean(), by_seed, by_item


def estimate(outcomes, domain, calibrated):
    """The accuracy, and what it owes to seeds and to items."""
    evaluation = outcomes[0]["evaluations"][domain]
    values = np.stack([right(one, domain, calibrated) for one in outcomes])
    return parts(values, np.array(evaluation["gold"]), evaluation.get("clusters"))


def cells(row):
    """Of a row of a table in the README, by its beginning: the texts of its cells."""
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row}")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def numbers(cell):
    return [float(number.replace("−", "-")) for number in re.findall(NUMBER, cell)]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("column", range(4))
def test_the_main_table_is_what_the_records_hold(row, column):
    domain, calibrated = ("in_domain", "out_of_domain")[column // 2], bool(column % 2)
    expected = np.clip(interval(*estimate(results(*ROWS[row]), domain, calibrated)), 0, 1)
    assert numbers(cells(row)[column]) == pytest.approx(expected, abs=0.0051)


def held_out(row, kind):
    """Answers on HANS and which of them count, a row a seed: of the row's own control where its pool has HANS."""
    method, size, training, distillation = ROWS[row]
    own_control = distillation and distillation["pool"] != "train"
    controls = results("cd", 4, CD | {"epochs": 5}, OF_HANS | {"held_out": kind})
    if own_control:
        controls = results("cd", 4, training, distillation | {"held_out": kind})
        return controls, [one["held_out"] for one in controls]
    masks = [one["held_out"] for one in controls]
    own = results(method, size, training, distillation)
    return [own[seed if len(own) > 1 else 0] for seed in range(len(masks))], masks


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("column", range(4, 8))
def test_the_held_out_columns_are_what_the_records_hold(row, column):
    kind, calibrated = ("templates", "subcases")[(column - 4) // 2], bool(column % 2)
    outcomes, masks = held_out(row, kind)
    told = cells(row)[column]
    if told == "not run":
        assert not outcomes
        return
    evaluation = outcomes[0]["evaluations"]["out_of_domain"]
    gold, clusters = np.array(evaluation["gold"]), evaluation["clusters"]
    taken = np.array(masks, dtype=float)
    values = np.stack([right(one, "out_of_domain", calibrated) for one in outcomes]) * taken
    (whole, *owed), (share, *shared) = parts(values, gold, clusters), parts(taken, gold, clusters)
    moved = [(mine - theirs * whole / share) / share for mine, theirs in zip(owed, shared, strict=True)]
    assert numbers(told) == pytest.approx(np.clip(interval(whole / share, *moved), 0, 1), abs=0.0051)


CLAIMS = {
    "CD against ICL, in domain": ("icl", "in_domain"),
    "CD against PBFT, in domain": ("pbft", "in_domain"),
    "CD against ICL, out of domain": ("icl", "out_of_domain"),
    "CD against PBFT, out of domain": ("pbft", "out_of_domain"),
}


def over_sizes(method, domain, calibrated):
    """The mean over n of the accuracy and of its parts."""
    training, distillation = {"cd": (CD, PAPER), "pbft": (PBFT, None), "icl": (None, None)}[method]
    each = [estimate(results(method, n, training, distillation), domain, calibrated) for n in SIZES]
    return [np.mean(part, axis=0) for part in zip(*each, strict=True)]


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("calibrated", [False, True])
def test_the_paper_s_claims_are_what_the_records_hold(claim, calibrated):
    rival, domain = CLAIMS[claim]
    own, other = over_sizes("cd", domain, calibrated), over_sizes(rival, domain, calibrated)
    quotient = own[0] / other[0]
    moved = [(mine - theirs * quotient) / other[0] for mine, theirs in zip(own[1:], other[1:], strict=True)]
    found = re.findall(r"[−+]\d+(?=%)", cells(claim)[1 + calibrated])
    told = [float(number.replace("−", "-")) / 100 for number in found]
    assert told == pytest.approx(interval(quotient - 1, *moved), abs=0.0051)


def test_the_first_page_is_short():
    assert len(README.splitlines()) < 200
