"""A small search over training settings: the same cells, run once for each candidate change of a profile."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lib.profiles import read_profile
from lib.sweep import fill


def search(
    profile: str | dict[str, Any], candidates: Mapping[str, Sequence[Mapping[str, Any]]], changes: Mapping[str, Any]
) -> pd.DataFrame:
    """Results of every candidate: the frame of `fill`, with a column `candidate` that says what was changed.

    Args:
        profile: the profile whose settings are searched.
        candidates: for each method, the changes to try, with keys as `--set` takes them.
        changes: what holds for the whole search: seeds and evaluation items that the study does not report.
    """
    frames = []
    for method, tried in candidates.items():
        for candidate in tried:
            results = fill(read_profile(profile, {**changes, **candidate}), [method]).results
            label = ", ".join(f"{name} {value:g}" for name, value in candidate.items())
            frames.append(results.assign(candidate=label))
    return pd.concat(frames, ignore_index=True)
