"""Choosing settings: each method's candidates, tried on support sets and items that no study reports."""

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import median_low
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lib.errors import StudyError
from lib.methods.table import METHODS, TRAINED
from lib.runs.ablations import patterns
from lib.runs.execution import Sweep, fill_together
from lib.runs.frames import seed_means
from lib.runs.profile import Profile
from lib.runs.store import Result

MEASURE = "in_domain_calibrated_accuracy"  # what decides

Candidates = Mapping[str, Sequence[Mapping[str, Any]]]  # by method, changes to a profile


def search_settings(profile: Profile) -> pd.DataFrame:
    """Results of a profile's search: a row a method, candidate and seed.

    Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943), where seeds are the resource: all candidates are
    tried on the first seed, and on each further one the share `keep` with the highest means so far, at least two. Where
    a method's best rate is then the lowest or the highest of those tried, the next rate on that side is tried too, on
    all seeds.

    Returns:
        The columns of `search`; a setting that a method's candidates do not change is nan.

    Raises:
        StudyError: as `unreported` and `search`.
    """
    here, seeds = unreported(profile), list(profile.search.seeds)
    left = candidates(profile)
    results = search(profile, left, here | {"seeds": seeds[:1]})
    for seed in seeds[1:]:
        left = leading(results, left, profile.search.keep)
        results = pd.concat([results, search(profile, left, here | {"seeds": [seed]})])
    further = search(profile, beyond_the_edge(results), here | {"seeds": seeds})
    order = {"key": lambda methods: methods.map(list(METHODS).index), "kind": "stable"}
    return pd.concat([results, further]).sort_values("method", **order, ignore_index=True)


def candidates(profile: Profile) -> Candidates:
    """As many rates and epochs for each trained method of a profile; for ICL the patterns, if there are several."""
    own = profile.search
    tried: dict[str, list[dict[str, Any]]] = {}
    if "icl" in profile.methods and patterns(profile):
        tried["icl"] = [{"pattern": name} for name in patterns(profile)]
    for name in [name for name in profile.methods if name in TRAINED]:
        rates, epochs = own.rates[METHODS[name].tuning], own.epochs["cd" if METHODS[name].distils else "pbft"]
        tried[name] = [_candidate(name, rate, passes) for passes in epochs for rate in rates]
    return tried


def _candidate(method: str, rate: float, epochs: int) -> dict[str, Any]:
    return {f"learning_rate.{method}": rate, f"epochs.{method}": epochs}


def unreported(profile: Profile) -> dict[str, Any]:
    """The change to a profile by which its search shares no seed and no evaluated item with what it reports.

    One support size, the middle one. Evaluated is in domain alone: what lies out of domain must not be chosen by.

    Raises:
        StudyError: the profile reports every item or one of the seeds.
    """
    if profile.eval_limit is None:
        raise StudyError(
            f"eval_limit: profile {profile.name} reports every item of {profile.in_domain}, so that none is left for a "
            "search. Set a number of items."
        )
    if shared := sorted({*profile.search.seeds} & {*profile.seeds}):
        raise StudyError(f"search.seeds: {shared} are among the seeds that are reported, {list(profile.seeds)}.")
    return {
        "support_sizes": [median_low(filter(None, profile.support_sizes))],
        "eval_limit": profile.search.items,
        "reserved": [max(profile.search.reserved, profile.eval_limit), profile.eval_seed],
        "out_of_domain": profile.out_of_domain if profile.queries in ("target", "both") else [],
    }


def search(
    profile: Profile, tried: Candidates, changes: Mapping[str, Any], benchmark: str | None = None
) -> pd.DataFrame:
    """Results of every candidate, those that are stored already included; what is missing is computed as one list.

    Args:
        profile: the profile whose settings are searched.
        tried: for each method, the changes to try, with keys as `--set` takes them.
        changes: what holds for the whole search: seeds and evaluation items or tasks that the study does not report.
        benchmark: `crossfit` or `lama` where methods of in-context tuning are searched.

    Returns:
        The rows of `fill`, or of `seed_means` for a benchmark, with `candidate`, what was changed, and a column for
        each change. Where students are trained on the profile's task also `queries`, how many their training went
        through, and `final_loss`, the mean of the last epoch. A run that failed has the reason as `failed`.

    Raises:
        StudyError: every method is refused, or under `stored_only` a result is missing.
    """
    trials = [(method, change) for method, several in tried.items() for change in several]
    if not trials:
        return pd.DataFrame()
    variants = [(profile.changed({**changes, **change}), [method]) for method, change in trials]
    sweeps = fill_together(variants, benchmark)
    if missing := [name for sweep in sweeps for name in sweep.missing]:
        raise StudyError(f"stored_only: {len(missing)} results of the search are missing, such as {missing[0]}.")
    pairs = zip(trials, sweeps, strict=True)
    return pd.concat([_rows(sweep, benchmark).assign(**_named(*trial)) for trial, sweep in pairs], ignore_index=True)


def _rows(sweep: Sweep, benchmark: str | None) -> pd.DataFrame:
    if benchmark:
        return seed_means(sweep.results)
    trained = pd.DataFrame([_of_training(result) for result in sweep.stored])
    failed = [
        {"seed": run.seed, "failed": sweep.failed[run.name]} for run in sweep.profile.runs() if run.name in sweep.failed
    ]
    return pd.concat([sweep.results.join(trained), pd.DataFrame(failed)])


def _of_training(result: Result) -> dict[str, float]:
    run, losses = result.run, result.outcome.losses
    if not run.training:
        return {}
    each = run.distillation.labelling.pool_size if run.distillation else run.support_size
    last = losses[-(len(losses) // run.training.epochs) :]
    return {"queries": run.training.epochs * each, "final_loss": float(np.mean(last))}


def _named(method: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that say of what a row is."""
    own = {name.removesuffix(f".{method}"): value for name, value in change.items()}
    return {"method": method, "candidate": label(own), **own}


def label(change: Mapping[str, Any]) -> str:
    """A candidate in words."""
    texts = {name: value if isinstance(value, str) else f"{value:g}" for name, value in change.items()}
    return ", ".join(f"{name} {value}" for name, value in texts.items())


def leading(results: pd.DataFrame, tried: Candidates, keep: float) -> Candidates:
    """The share `keep` of each method's candidates, at least two, with the highest means; the first of equal ones."""
    means = results.groupby(["method", "candidate"], sort=False)[MEASURE].mean()
    kept: dict[str, list[Mapping[str, Any]]] = {}
    for method in means.index.unique("method"):
        changes = {_named(method, change)["candidate"]: change for change in tried[method]}
        count = max(2, ceil(keep * len(changes)))
        highest = means[method].reindex(list(changes)).nlargest(count).index
        kept[method] = [change for name, change in changes.items() if name in highest]
    return kept


def beyond_the_edge(results: pd.DataFrame) -> Candidates:
    """For each method whose best rate is the lowest or the highest of its own, the next one, with the best's epochs."""
    further: dict[str, list[dict[str, Any]]] = {}
    for method, best_one in best_settings(results).dropna(subset="learning_rate").iterrows():
        rates = sorted(results.learning_rate[results.method == method].unique())
        if rate := _next(rates, best_one.learning_rate):
            further[method] = [_candidate(method, rate, int(best_one.epochs))]
    return further


def _next(rates: Sequence[float], best_one: float) -> float | None:
    """By the ratio of the two outermost, to two digits; None where the best is neither lowest nor highest."""
    beside = {rates[0]: rates[1], rates[-1]: rates[-2]}.get(best_one)
    return None if beside is None else float(f"{best_one**2 / beside:.2g}")


def best(results: pd.DataFrame, measure: str = MEASURE, by: Sequence[str] = ("method",)) -> pd.Series:
    """The candidate of each method with the highest mean over seeds of a column of `search`, the `measure`.

    The choice is among those that were tried on the most seeds; ties go to the candidate that is listed first.
    Candidates compete within the same values of `by`.
    """
    within = list(by)
    tried = results.dropna(subset=measure).groupby([*within, "candidate"], sort=False)[measure].agg(["mean", "count"])
    most = tried["count"].groupby(within, sort=False).transform("max")
    means = tried["mean"][tried["count"] == most]
    return means.groupby(within, sort=False).idxmax().map(lambda place: place[-1]).rename("setting")


def best_settings(results: pd.DataFrame) -> pd.DataFrame:
    """The settings of each method's best candidate, a row a method."""
    settings = results.drop_duplicates(["method", "candidate"]).set_index(["method", "candidate"])
    columns = [name for name in ("learning_rate", "epochs", "pattern") if name in results]
    return settings.loc[list(best(results).items()), columns].droplevel("candidate")


def profile_lines(results: pd.DataFrame) -> str:
    """The chosen settings as lines of a profile file; the pattern is ICL's best."""
    settings = best_settings(results)
    trained = settings.dropna(subset="learning_rate")
    lines: dict[str, Any] = {
        "learning_rate": trained.learning_rate.to_dict(),
        "epochs": trained.epochs.astype(int).to_dict(),
    }
    if "pattern" in settings:
        lines["pattern"] = settings.pattern.dropna().item()
    return yaml.safe_dump(lines, sort_keys=False)
