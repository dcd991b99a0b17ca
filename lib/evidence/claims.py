"""What results say to the two papers' claims: effects with intervals, and verdicts by one rule."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from lib.errors import StudyError
from lib.evidence.estimates import (
    LEVEL,
    Correct,
    Estimate,
    correct_items,
    mean,
    over_seeds,
    over_sizes,
    seeds_in_common,
    with_bounds,
)
from lib.methods.calibration import Calibration
from lib.methods.table import METHODS
from lib.runs.execution import Sweep
from lib.runs.frames import METRICS, PHASES

SIGNIFICANT = 0.05
FEWEST_SEEDS = 3  # two that agree by chance would pass any test

# times are compared only between results that were computed alike
ALIKE = {"training_seconds": ["device", "steps"]}
LEAST_DISTANCE = 0.1
LITTLE = 0.02  # a gain below is none to a claim that there is none
NO_GAIN = 0.0
MORE, LESS = 1e-9, -1e-9
WITHOUT_NUMBER = {"more": MORE, "less": LESS, "no gain": NO_GAIN}
SCORE = "score"
ALL_SIZES = "all"
COLUMNS = (
    *("claim", "paper", "quantity", "support_size", "seeds"),
    *("effect", "low", "high", "corrected_low", "corrected_high", "verdict"),
)
DIFFERENCE = ("difference", "difference_low", "difference_high")
Verdict = Literal["supported", "not supported", "contradicted", "cannot be told", "not testable here"]


class Arm(NamedTuple):
    """A method, and in in-context learning distillation the paradigm that it is tuned under."""

    method: str
    paradigm: str | None = None


@dataclass(frozen=True)
class Claim:
    """A statement that one arm has more or less of a quantity than another, and by how much.

    Attributes:
        statement: in words.
        arm: that of which it is said.
        against: that which it is compared with.
        quantity: a domain's accuracy or a column of costs in the results. Of a benchmark `score`, its first metric, or
            `tokens` or `seconds`, those of all phases together.
        effect: the relative difference that is claimed, such as 0.5 for "50% more" or -0.6 for "60% less"; a small one
            of the right sign, `LESS` or `MORE`, where the paper gives no number; `NO_GAIN` where it claims none.
        paper: what the paper says.
    """

    statement: str
    arm: Arm
    against: Arm
    quantity: str
    effect: float
    paper: str


Effects = Mapping[Claim, Mapping[object, Estimate]]  # of each claim the relative difference by support size


def claims_about(results: Literal["study", "benchmarks"]) -> tuple[Claim, ...]:
    """The rows of claims.csv, which names their source."""
    read = {"arm": _arm, "against": _arm, "effect": lambda text: float(WITHOUT_NUMBER.get(text, text))}
    table = pd.read_csv(Path(__file__).with_name("claims.csv"), comment="#", converters=read)
    rows = table[table.about == results].drop(columns="about")
    return tuple(Claim(*row) for row in rows.itertuples(index=False))


def _arm(text: str) -> Arm:
    return Arm(*text.split())


CLAIMS, IN_CONTEXT_CLAIMS = claims_about("study"), claims_about("benchmarks")


def verdict(low: float, high: float, claimed: float) -> Verdict:
    """The rule: what an interval of the effect says to a claim of that effect.

    Measured in the claim's own direction: *supported* where all of the interval has the claimed sign and reaches the
    claimed size; *contradicted* where all of it has the other sign; *not supported* where the claimed size lies beyond
    it; *cannot be told* where it holds both nothing and the claimed size. A claim of `NO_GAIN` is *supported* where all
    of the interval is below `LITTLE`, else *contradicted* where all of it is a gain.
    """
    if claimed == NO_GAIN:
        return _no_gain(low, high)
    sign = 1 if claimed > 0 else -1
    near, far = sorted((sign * low, sign * high))
    if np.isnan(near):
        return "cannot be told"
    if far < 0:
        return "contradicted"
    if far < sign * claimed:
        return "not supported"
    return "supported" if near > 0 else "cannot be told"


def _no_gain(low: float, high: float) -> Verdict:
    if high < LITTLE:
        return "supported"
    return "contradicted" if low > 0 else "cannot be told"


def judge(effects: Effects, at_floor: Collection[Claim] = ()) -> pd.DataFrame:
    """Each claim at each support size that has an effect: the effect, its 95% interval `low` to `high`, the verdict.

    The verdict is by an interval that is wider, of 1 − .05 / (number of claims), `corrected_low` to `corrected_high`.
    So the verdicts at any one size, or those over all, are together as sure as one would be. With fewer than three
    seeds nothing can be told, and claims `at_floor` are not testable. No quantity is below 0, so intervals end where
    nothing is left, at -1. Effects are those of all claims.
    """
    level = 1 - SIGNIFICANT / len(effects)
    rows = [
        _judged(claim, size, effect, level, claim in at_floor)
        for claim, by_size in effects.items()
        for size, effect in by_size.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def differs(difference: Estimate, level: float) -> bool:
    """Whether an interval of this level excludes 0; fewer than three seeds tell nothing."""
    low, high = difference.bounds(level)
    return len(difference.by_seed) >= FEWEST_SEEDS and not low <= 0 <= high


def of_accuracy(accuracy: Estimate) -> dict[str, float]:
    """An accuracy as columns: accuracy, low, high (95%); two seeds' t interval would go beyond what it can be."""
    low, high = np.clip(accuracy.bounds(), 0, 1)
    return {"accuracy": accuracy.value, "low": low, "high": high}


def of_difference(difference: Estimate | None, level: float) -> dict[str, float | bool]:
    """A difference of accuracies as columns: difference, difference_low, difference_high (95%), `differs` at the level.

    They are nan and False where there is none.
    """
    if difference is None:
        return dict.fromkeys(DIFFERENCE, np.nan) | {"differs": False}
    bounds = np.clip(difference.bounds(), -1, 1)
    return dict(zip(DIFFERENCE, (difference.value, *bounds), strict=True)) | {"differs": differs(difference, level)}


def shown_differences(frame: pd.DataFrame) -> list[str]:
    """The columns of `of_difference` as text, with a star where it `differs`; blank where there is none."""
    rows = frame[[*DIFFERENCE, "differs"]].itertuples(index=False)
    return [
        "" if np.isnan(value) else with_bounds(value, *bounds, "{:+.2f}".format) + " *" * stands
        for value, *bounds, stands in rows
    ]


def _judged(claim: Claim, size: object, effect: Estimate, level: float, at_floor: bool) -> tuple[object, ...]:
    """One row, in the order of `COLUMNS`."""
    seeds = len(effect.by_seed)
    bounds, outer = (np.clip(effect.bounds(confidence), -1, None) for confidence in (LEVEL, level))
    said = verdict(*outer, claim.effect) if seeds >= FEWEST_SEEDS else "cannot be told"
    said = "not testable here" if at_floor else said
    return (claim.statement, claim.paper, claim.quantity, size, seeds, effect.value, *bounds, *outer, said)


def at_floor(sweep: Sweep, claims: Sequence[Claim] = CLAIMS) -> set[Claim]:
    """Claims about an accuracy of which both methods are at the floor: a student that cannot do a task does not show
    which method is better at it.

    A method is at the floor where its calibrated accuracy, over all support sizes, cannot be told from what one answer
    for everything would score: the 95% interval reaches down to it.
    """
    return {claim for claim in claims if _domain(sweep, claim) and _both_at_floor(sweep, claim)}


def _both_at_floor(sweep: Sweep, claim: Claim) -> bool:
    arms = [
        correct_items(sweep.stored, _domain(sweep, claim), arm.method, "pool") for arm in (claim.arm, claim.against)
    ]
    means = _over_sizes(arms)
    return means is not None and all(accuracy.bounds()[0] <= arms[0].majority for accuracy in means)


def _domain(sweep: Sweep, claim: Claim) -> str | None:
    """The domain whose accuracy a claim is about; None for a cost."""
    domain = claim.quantity.removesuffix("_accuracy")
    return domain if domain in sweep.profile.domains else None


def _over_sizes(arms: Sequence[Correct]) -> list[Estimate] | None:
    """Each arm's mean accuracy over the support sizes, of the seeds that all have at each; None without one."""
    common = over_sizes(arms)
    return common and [mean(right, arm.gold, arm.clusters) for arm, right in zip(arms, common[2], strict=True)]


def study_effects(sweep: Sweep, how: Calibration = "pool", claims: Sequence[Claim] = CLAIMS) -> Effects:
    """The effect of each claim at each support size, and over all of them (`ALL_SIZES`).

    Of accuracies, which `how` calibrates, it is the relative difference of two means over seeds, as an estimate over
    seeds and items together. Of costs it is the mean of each seed's relative difference, as an estimate over seeds. At
    each size it is over the seeds that are there, over all sizes over those that are there at each.
    """
    return {claim: _study_effects(sweep, claim, how) for claim in claims}


def _study_effects(sweep: Sweep, claim: Claim, how: Calibration) -> dict[object, Estimate]:
    if domain := _domain(sweep, claim):
        return _accuracy_effects(sweep, domain, claim, how)
    return _cost_effects(sweep.results, claim)


def _accuracy_effects(sweep: Sweep, domain: str, claim: Claim, how: Calibration) -> dict[object, Estimate]:
    arms = [correct_items(sweep.stored, domain, arm.method, how) for arm in (claim.arm, claim.against)]
    effects: dict[object, Estimate] = {
        size: _relative(*(arm.accuracy(size, seeds) for arm in arms)) for size, seeds in seeds_in_common(arms).items()
    }
    means = _over_sizes(arms)
    return effects | ({ALL_SIZES: _relative(*means)} if means else {})


def _relative(first: Estimate, second: Estimate) -> Estimate:
    return (first - second) / second


def _cost_effects(results: pd.DataFrame, claim: Claim) -> dict[object, Estimate]:
    """Of methods with a support set; times are compared where they are `ALIKE`."""
    table = results[results.support_size > 0]
    if claim.quantity not in table or table.empty:
        return {}
    alike = table.groupby(ALIKE[claim.quantity]) if claim.quantity in ALIKE else [(ALL_SIZES, table)]
    paired = pd.concat([_paired(rows, claim) for _, rows in alike]).groupby(level=0).mean()
    effects = _of_sizes(paired.sort_index(axis=1))
    everywhere = paired[list(effects)].dropna().mean(axis=1)
    return effects | ({ALL_SIZES: over_seeds(everywhere)} if len(everywhere) else {})


def benchmark_effects(means: pd.DataFrame, benchmark: str, claims: Sequence[Claim] = IN_CONTEXT_CLAIMS) -> Effects:
    """The effect of each claim at each k: the mean over seeds of the relative difference of the two arms.

    The arms share a seed's examples, episodes and evaluated items. The score is the benchmark's first metric. Costs are
    those of all k together, so they are the same at each. Means are rows of `lib.runs.frames.seed_means`.
    """
    quantities = {SCORE: means[next(iter(METRICS[benchmark]))]}
    for cost in ("tokens", "seconds"):
        quantities[cost] = means[[name for phase in PHASES if (name := f"{phase}_{cost}") in means]].sum(axis=1)
    table = means.assign(**quantities).rename(columns={"k": "support_size"})
    return {claim: _of_sizes(_paired(table, claim)) for claim in claims}


def _paired(results: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """Relative differences of the two arms, seeds by sizes: 0 where both are alike, nan where only the second is at 0.

    Seeds and sizes are those that both have.
    """
    tables = []
    for method, paradigm in (claim.arm, claim.against):
        own = results[results.method == method]
        own = own[own.paradigm == paradigm] if paradigm else own
        tables.append(own.pivot_table(claim.quantity, "seed", "support_size"))
    first, second = tables[0].align(tables[1], join="inner")
    return ((first - second) / second.where(second > 0)).mask(first == second, 0.0)


def _of_sizes(paired: pd.DataFrame) -> dict[object, Estimate]:
    """Relative differences, seeds by sizes, as estimates over the seeds that each size has."""
    return {size: over_seeds(effects.dropna()) for size, effects in paired.items() if effects.notna().any()}


def summary_size(judged: pd.DataFrame) -> object:
    """What the table shows: "all" where most claims have three seeds at every support size, or where no size has more
    seeds than all together; else the support size that has most seeds in all, over the claims.

    Raises:
        StudyError: no claim has results.
    """
    if not len(judged):
        raise StudyError("claims: none can be judged; cd and one of icl, pbft, baseline, cd_lora need results.")
    everywhere = judged[judged.support_size == ALL_SIZES]
    if 2 * (everywhere.seeds >= FEWEST_SEEDS).sum() > judged.claim.nunique():
        return ALL_SIZES
    seeds = judged.groupby("support_size", sort=False)["seeds"].sum()
    return ALL_SIZES if seeds.get(ALL_SIZES, 0) == seeds.max() else seeds.idxmax()


def about_summary(judged: pd.DataFrame, size: object) -> str:
    """In words, which numbers of support examples the effects at a `summary_size` are over."""
    sizes = sorted(n for n in judged.support_size.unique() if n != ALL_SIZES)
    if size == ALL_SIZES:
        return f"over n = {', '.join(map(str, sizes))}"
    return f"at n = {size}, which has more seeds than the others of n = {', '.join(map(str, sizes))}"


def verdict_table(judged: pd.DataFrame, size: object, plain: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row a claim: what the paper says, the effect at one support size with its 95% interval, the verdict.

    From `judge`. Effects of plain answers may stand beside those that are calibrated, of which the verdicts are.
    """
    whole = judged[judged.support_size == size].set_index("claim")
    effects = {"here": _effects(whole)}
    if plain is not None:
        beside = plain[plain.support_size == size].set_index("claim").reindex(whole.index)
        accuracies = whole.quantity.str.endswith("_accuracy")
        effects = {"here, plain": _effects(beside), "calibrated": _effects(whole).where(accuracies, "")}
    corrected = map(_percent_bounds, whole.corrected_low, whole.corrected_high)
    columns = {**effects, "verdict's interval": list(corrected), "verdict": whole.verdict, "seeds": whole.seeds}
    return pd.DataFrame({"the paper": whole.paper, **columns})


def _effects(rows: pd.DataFrame) -> pd.Series:
    forms = [as_times if effect >= 1 else "{:+.0%}".format for effect in rows.effect]
    return pd.Series(list(map(with_bounds, rows.effect, rows.low, rows.high, forms)), rows.index)


def _percent_bounds(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{low:+.0%} to {high:+.0%}"


def as_times(effect: float) -> str:
    """A relative difference as what it multiplies by."""
    return f"{1 + effect:.2g}×"


def details(judged: pd.DataFrame, size: object) -> str:
    """HTML: each claim as a line that opens to its effects at each support size."""
    parts = []
    for claim, rows in judged.groupby("claim", sort=False):
        table = rows[["support_size", "effect", "low", "high", "verdict", "seeds"]].rename(
            columns={"support_size": "n"}
        )
        text = table.to_html(index=False, float_format="{:+.2f}".format, na_rep="", border=0)
        whole = rows[rows.support_size == size].verdict
        said = f": {whole.iloc[0]}" if len(whole) else ""
        parts.append(f"<details><summary><b>{escape(claim)}</b>{escape(said)}</summary>{text}</details>")
    return "\n".join(parts)


def recovered(sweep: Sweep, method: str = "cd", how: Calibration = "pool") -> pd.DataFrame:
    """Share of the distance from baseline to teacher that a method covers, with 95% intervals: domains by sizes.

    All three are calibrated alike. Intervals are over seeds and items. The teacher's and the method's accuracies stand
    beside it. Where the teacher is less than .1 above the baseline there is no distance to speak of, and no share.
    """
    rows: dict[tuple[str, str, int], str] = {}
    for domain, title in sweep.profile.domains.items():
        several = [correct_items(sweep.stored, domain, one, how) for one in ("baseline", "teacher_icl", method)]
        for size, seeds in seeds_in_common(several).items():
            start, teacher, reached = (one.accuracy(size, seeds) for one in several)
            share = share_recovered(start, teacher, reached)
            rows |= {
                (title, "teacher", size): f"{teacher.value:.2f}",
                (title, METHODS[method].label, size): f"{reached.value:.2f}",
                (title, "share", size): "" if share is None else shown_share(share),
                (title, "seeds", size): str(len(seeds)),
            }
    table = pd.Series(rows, dtype=object)
    return table.unstack(sort=False).rename_axis("n =", axis=1).fillna("") if len(table) else pd.DataFrame()


def share_recovered(start: Estimate, teacher: Estimate, reached: Estimate) -> Estimate | None:
    """The share of the distance from the untuned student to the teacher; None where there is no distance."""
    if teacher.value - start.value < LEAST_DISTANCE:
        return None
    return (reached - start) / (teacher - start)


def shown_share(share: Estimate) -> str:
    """A share in percent with its 95% interval."""
    return with_bounds(share.value, *share.bounds(), "{:.0%}".format)
