"""Means and 95% intervals over seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95

ANYWHERE = (-np.inf, np.inf)


def interval(
    values: Sequence[float], level: float = LEVEL, within: tuple[float, float] = ANYWHERE
) -> tuple[float, float]:
    """Student's t interval for the mean of independent seeds; (nan, nan) for fewer than two values.

    It is wide for two or three seeds, as it should be: its half-width is 9.0 or 2.5 standard deviations there. It ends
    where the values must: `within` is the lowest and the highest that there can be.
    """
    sample = np.asarray(values, dtype=float)
    sample = sample[~np.isnan(sample)]
    if len(sample) < 2:
        return (np.nan, np.nan)
    half = stats.t.ppf((1 + level) / 2, len(sample) - 1) * stats.sem(sample)
    low, high = np.clip([sample.mean() - half, sample.mean() + half], *within)
    return (float(low), float(high))


def with_interval(values: pd.Series, digits: int, within: tuple[float, float] = ANYWHERE) -> str:
    """The mean with its 95% interval (Student's t) as text, the mean alone where there is one value."""
    low, high = interval(values, within=within)
    mean = f"{values.mean():.{digits}f}"
    return mean if np.isnan(low) else f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def summarise(results: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Long table of method, support_size, quantity, mean, low, high, seeds, in the order that they come in."""
    long = results.melt(["method", "support_size", "seed"], list(quantities), "quantity").dropna(subset="value")
    groups = long.groupby(["quantity", "method", "support_size"], sort=False)["value"]
    table = groups.agg(["mean", "count"]).rename(columns={"count": "seeds"})
    bounds = pd.DataFrame(groups.apply(interval).tolist(), index=table.index, columns=["low", "high"])
    return table.join(bounds).reset_index()[["quantity", "method", "support_size", "mean", "low", "high", "seeds"]]
