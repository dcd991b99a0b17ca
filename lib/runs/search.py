"""A small search over training settings: the same runs, run once for each candidate change of a profile."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lib.runs.execution import fill
from lib.runs.frames import seed_means
from lib.runs.profile import read_profile

Candidates = Mapping[str, Sequence[Mapping[str, Any]]]


def search(
    profile: str | dict[str, Any], candidates: Candidates, changes: Mapping[str, Any], benchmark: str | None = None
) -> pd.DataFrame:
    """Results of every candidate, with a column `candidate` of what was changed for its method.

    Args:
        profile: the profile whose settings are searched.
        candidates: for each method, the changes to try, with keys as `--set` takes them.
        changes: what holds for the whole search: seeds and evaluation items or tasks that the study does not report.
        benchmark: `crossfit` or `lama` where methods of in-context tuning are searched.

    Returns:
        The rows of `fill`, or of `seed_means` for a benchmark.
    """
    frames = []
    for method, tried in candidates.items():
        for candidate in tried:
            changed = read_profile(profile, {**changes, **candidate})
            sweep = fill(changed, [method], benchmark)
            results = seed_means(sweep.results) if benchmark else sweep.results
            label = ", ".join(f"{name.removesuffix(f'.{method}')} {value:g}" for name, value in candidate.items())
            frames.append(results.assign(candidate=label))
    return pd.concat(frames, ignore_index=True)


def learning_rates(rates: Mapping[str, Sequence[float]]) -> Candidates:
    """Candidates that change nothing but a method's own learning rate, in the order given."""
    return {method: [{f"learning_rate.{method}": rate} for rate in tried] for method, tried in rates.items()}


def best(found: pd.DataFrame, measure: str = "in_domain_accuracy", by: Sequence[str] = ("method",)) -> pd.Series:
    """The candidate of each method with the highest mean of `measure` over seeds.

    Where a method's closest candidates were tried on further seeds, the choice is among those with the most; ties go to
    the candidate that is listed first.

    Args:
        found: the frame of `search`.
        measure: the column that decides.
        by: the columns within which candidates compete.
    """
    within = list(by)
    tried = found.groupby([*within, "candidate"], sort=False)[measure].agg(["mean", "count"])
    most = tried["count"].groupby(within, sort=False).transform("max")
    means = tried["mean"][tried["count"] == most]
    return means.groupby(within, sort=False).idxmax().map(lambda place: place[-1]).rename("setting")
