"""The main table: each method's accuracy in every domain, and on kinds of items that its pool lacks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.evidence.claims import SIGNIFICANT, of_accuracy, of_difference, shown_differences
from lib.evidence.estimates import HOW, Array, Estimate, mean, with_bounds
from lib.methods.evaluation import Evaluation
from lib.methods.table import METHODS
from lib.runs.ablations import HALF, PLAIN, control_of
from lib.runs.execution import Sweep
from lib.runs.profile import Profile
from lib.runs.store import Result
from lib.runs.variants import METHOD, Variants
from lib.tasks.task import OUT_OF_DOMAIN

HELD_OUT = {"templates": "held-out templates", "subcases": "held-out subcases"}  # titles of their columns
NOT_RUN = "not run"
ONE_ANSWER = "one answer for everything"

Masks = Mapping[int, Array]  # by seed [items], whether an item's kind is held out
Evaluations = Mapping[tuple[int, int], Evaluation]  # by support size and seed


@dataclass(frozen=True)
class Answers:
    """One method's answers to one set of items, and those of the same method whose pool has all kinds.

    Attributes:
        method: which.
        evaluations: its own.
        masks: the items that count; None for all of them.
        all_kinds: those of a control's ablation itself; empty for what is no control.
    """

    method: str
    evaluations: Evaluations
    masks: Masks | None
    all_kinds: Evaluations

    def seeds(self, size: int) -> list[int]:
        """Those of its results at a support size; one result that no seed moves stands beside those of the masks."""
        if self.masks is not None:
            return [seed for seed in sorted(self.masks) if self.at(size, seed)]
        return sorted(seed for of_size, seed in self.evaluations if of_size == size)

    def at(self, size: int, seed: int) -> Evaluation | None:
        """A result; the same for all seeds where there are no demonstrations and nothing is trained."""
        result = self.evaluations.get((size, seed))
        alone = size == 0 and METHODS[self.method].tuning is None
        return self.evaluations.get((0, 0)) if alone and result is None else result

    def taken(self, seeds: Sequence[int]) -> Array:
        """[seeds, items], whether an item counts."""
        items = len(next(iter(self.evaluations.values())).gold)
        return np.array([np.ones(items, bool) if self.masks is None else self.masks[seed] for seed in seeds])


def main_frame(variants: Variants, others: Sweep) -> pd.DataFrame:
    """Each method and ablation in each domain, and on the templates and the subcases that its pool lacks.

    A method whose pool has no query of the second domain lacks all kinds. It is scored on the items that the controls
    hold out, of the controls' seeds. An ablation with the second domain in its pool is scored there by its own control,
    and has no row where that was not run. `others` are the profile's methods, without demonstrations too.

    Returns:
        Columns name; support_size, 0 for no demonstrations; items, a domain's title or one of `HELD_OUT`; answers
        (plain, calibrated); accuracy, low, high (95%, over seeds and items); majority, the accuracy of one answer to
        these items; auc, the mean area under the ROC curve; of controls all_kinds, the accuracy on the same items of
        the ablation itself, the difference from it, difference_low, difference_high, and `differs`, by intervals
        corrected for the number of controls; seeds.
    """
    level = 1 - SIGNIFICANT / max(1, sum(HALF in name for name in variants.sweeps))
    rows = [
        {"name": name, "support_size": size, "items": items, "answers": how} | scores
        for name, items, answers in _answers(variants, others)
        for size in sorted({size for size, _ in answers.evaluations})
        for how in HOW
        if (scores := _scores(answers, size, how, level))
    ]
    return pd.DataFrame(rows)


def _answers(variants: Variants, others: Sweep) -> Iterator[tuple[str, str, Answers]]:
    """By name and title of the items."""
    masks = _masks(variants)
    methods = [name for name in METHODS if name in set(others.results.method)]
    whole = [(METHODS[name].label, others, name) for name in methods]
    ablations = {name: sweep for name, sweep in variants.sweeps.items() if name != PLAIN and HALF not in name}
    for name, sweep, method in [*whole, *((name, sweep, METHOD) for name, sweep in ablations.items())]:
        for domain, title in others.profile.domains.items():
            yield name, title, Answers(method, _evaluations(sweep.stored, method, domain), None, {})
        own = _evaluations(sweep.stored, method, OUT_OF_DOMAIN)
        for kind, title in HELD_OUT.items():
            if not _has_second_domain(sweep.profile, method):
                yield name, title, Answers(method, own, masks.get(kind, {}), {})
            elif control := variants.sweeps.get(control_of(name, kind)):
                answers = _evaluations(control.stored, method, OUT_OF_DOMAIN)
                yield name, title, Answers(method, answers, masks[kind], own)


def _masks(variants: Variants) -> dict[str, dict[int, Array]]:
    """What is held out, by kind and seed; it is the same for all controls of a seed."""
    masks: dict[str, dict[int, Array]] = {}
    for sweep in variants.sweeps.values():
        for result in sweep.stored:
            if result.outcome.held_out:
                masks.setdefault(sweep.profile.held_out, {})[result.run.seed] = np.array(result.outcome.held_out)
    return masks


def _evaluations(results: Sequence[Result], method: str, domain: str) -> Evaluations:
    return {
        (result.run.support_size, result.run.seed): result.outcome.evaluations[domain]
        for result in results
        if result.run.method == method
    }


def _has_second_domain(profile: Profile, method: str) -> bool:
    return METHODS[method].distils and profile.queries in ("target", "both")


def _scores(answers: Answers, size: int, how: str, level: float) -> dict[str, Any]:
    """The row of one support size; empty without a seed."""
    seeds = answers.seeds(size)
    if not seeds:
        return {}
    own, taken = [answers.at(size, seed) for seed in seeds], answers.taken(seeds)
    right = np.stack([evaluation.correct(HOW[how]) for evaluation in own])
    row: dict[str, Any] = of_accuracy(_mean(right, taken, own[0]))
    row["majority"] = np.mean([max(np.bincount(np.asarray(own[0].gold)[items])) / items.sum() for items in taken])
    row["auc"] = np.mean([evaluation.area_under_curve(items) for evaluation, items in zip(own, taken, strict=True)])
    row |= {"all_kinds": np.nan, "seeds": len(seeds)}
    difference = None
    if all((size, seed) in answers.all_kinds for seed in seeds):
        beside = np.stack([answers.all_kinds[size, seed].correct(HOW[how]) for seed in seeds])
        row["all_kinds"] = beside[taken].mean()
        difference = _mean(right - beside, taken, own[0])
    return row | of_difference(difference, level)


def _mean(values: Array, taken: Array, items: Evaluation) -> Estimate:
    """The mean of values [seeds, items] over the items taken."""
    whole, share = (
        mean(part, np.asarray(items.gold), items.clusters) for part in (values * taken, taken.astype(float))
    )
    return whole if taken.all() else whole / share


def main_table(frame: pd.DataFrame, size: int, profile: Profile) -> pd.DataFrame:
    """`main_frame` at one support size as text: a row a method or ablation, a column a set of items and answers.

    The last row is one answer for everything.
    """
    rows = frame[frame.support_size.isin([0, size])]
    named = rows.name + np.where((rows.support_size == 0) & rows.name.map(_may_read), ", no demonstrations", "")
    texts = rows.assign(name=named, text=list(map(with_bounds, rows.accuracy, rows.low, rows.high)))
    items = [*profile.domains.values(), *HELD_OUT.values()]
    order = {"index": "name", "columns": ["items", "answers"], "aggfunc": "first", "sort": False}
    columns = pd.MultiIndex.from_product([items, HOW])
    table = texts.pivot_table("text", **order).reindex(columns=columns).astype(object).fillna(NOT_RUN)
    table["seeds", ""] = texts.pivot_table("seeds", **order).xs("plain", axis=1, level="answers").apply(_counts, axis=1)
    one_answer = rows.groupby("items").majority.mean().map("{:.2f}".format).reindex(columns.get_level_values(0))
    return pd.concat([table, pd.DataFrame([[*one_answer.fillna(""), ""]], [ONE_ANSWER], table.columns)])


def _may_read(name: str) -> bool:
    return any(name == method.label and method.reads_support for method in METHODS.values())


def _counts(seeds: pd.Series) -> str:
    """Those of one number once."""
    return " / ".join(f"{count:.0f}" for count in dict.fromkeys(seeds.dropna()))


def controls_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What it costs a pool not to have seen a kind, calibrated: a row an ablation, support size and kind of items.

    A star marks a difference that `differs`. Empty without a control beside which its ablation stands.
    """
    rows = frame[frame.difference.notna() & (frame.answers == "calibrated")]
    texts = {
        "accuracy": map(with_bounds, rows.accuracy, rows.low, rows.high),
        "one answer": rows.majority.map("{:.2f}".format),
        "area": rows.auc.map("{:.2f}".format, na_action="ignore"),
        "all kinds in the pool": rows.all_kinds.map("{:.2f}".format),
        "difference": shown_differences(rows),
        "seeds": rows.seeds,
    }
    index = pd.MultiIndex.from_frame(rows[["name", "support_size", "items"]].rename(columns={"support_size": "n"}))
    return pd.DataFrame({title: list(text) for title, text in texts.items()}, index)
