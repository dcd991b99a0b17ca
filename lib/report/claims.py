"""What a run of the study says to the paper's claims: effects with intervals, and verdicts by one rule."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.errors import StudyError
from lib.methods.context_distillation import METHODS
from lib.report.correct_items import Correct, correct_items, seeds_in_common
from lib.report.estimates import Array, Estimate, interval
from lib.report.figures import REFERENCE_LINE, house_style
from lib.runs.execution import Sweep
from lib.runs.frames import METRICS, PARADIGMS, PHASES

SIGNIFICANT = 0.05
FEWEST_SEEDS = 3  # two that agree by chance would pass any test
EXACT = ("weights_gb",)  # no seed changes it, so that one tells

# times are compared only between results that were computed alike
ALIKE = {"training_seconds": ["device", "steps"], "queries_per_second": ["device"]}
LEAST_DISTANCE = 0.1
LITTLE = 0.02  # a gain below is none to a claim that there is none
NO_GAIN = 0.0
FARTHEST = 2  # effects beyond are named at the figure's edge
Verdict = Literal["supported", "not supported", "contradicted", "cannot be told"]


class AnyClaim(Protocol):
    """What a verdict needs to know of a claim, whatever two things it compares."""

    statement: str
    quantity: str
    effect: float
    paper: str


@dataclass(frozen=True)
class Claim:
    """A statement that one method has more or less of a quantity than another, and by how much.

    Attributes:
        statement: in words.
        method: the method of which it is said.
        against: the method that it is compared with.
        quantity: `in_domain_accuracy`, `out_of_domain_accuracy`, or a column of costs in the results.
        effect: the relative difference that is claimed, such as 0.5 for "50% more" or -0.6 for "60% less"; a small one
            of the right sign, `LESS` or `MORE`, where the paper gives no number; `NO_GAIN` where it claims none.
        paper: what the paper says.
    """

    statement: str
    method: str
    against: str
    quantity: str
    effect: float
    paper: str


MORE, LESS = 1e-9, -1e-9

# arXiv 2412.13243: the abstract and section 4; nothing there is said with an interval.
CLAIMS = (
    Claim(
        "CD against ICL, out of domain",
        "cd",
        "icl",
        "out_of_domain_accuracy",
        0.5,
        "about 50% better: .58–.64 / .40–.50",
    ),
    Claim(
        "CD against PBFT, out of domain",
        "cd",
        "pbft",
        "out_of_domain_accuracy",
        0.2,
        "about 20% better: .58–.64 / .49–.55",
    ),
    Claim("CD against ICL, in domain", "cd", "icl", "in_domain_accuracy", LESS, "worse: .58–.61 / .70–.90"),
    Claim("CD against PBFT, in domain", "cd", "pbft", "in_domain_accuracy", MORE, "better: .58–.61 / .41–.59"),
    Claim(
        "CD against the untuned student, out of domain",
        "cd",
        "baseline",
        "out_of_domain_accuracy",
        0.29,
        "its figure 1: .58–.64 / .48",
    ),
    Claim("Memory of CD against PBFT", "cd", "pbft", "memory_gb", -0.6, "up to 60% less"),
    Claim("Size on disk of student against teacher", "cd", "teacher_icl", "weights_gb", -0.9, "2.5 GB to 0.25 GB"),
    Claim(
        "Training time of CD + LoRA against CD",
        "cd_lora",
        "cd",
        "training_seconds",
        LESS,
        "faster; its figure 6: 53–56 s / 27–50 s",
    ),
    Claim(
        "CD against CD + LoRA, out of domain",
        "cd",
        "cd_lora",
        "out_of_domain_accuracy",
        NO_GAIN,
        "no better, LoRA is “robust”: .60–.63 / .51–.64",
    ),
    Claim("Queries per second of student against teacher", "cd", "teacher_icl", "queries_per_second", MORE, "not said"),
)


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


def judge(sweep: Sweep, claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """Each claim at each support size and over all of them (`support_size` "all"): effect, intervals, verdict.

    An effect is the relative difference of two means over seeds for accuracies, whose interval is over seeds and items
    together, and the mean of each seed's relative difference for costs, with Student's t interval over seeds. At each
    size it is over the seeds that are there, over all sizes over those that are there at each. `low` and `high` bound
    95%; the verdict is by an interval that is wider, of 1 − .05 / (number of claims), so that the verdicts at any one
    size, or those over all, are together as sure as one would be. With fewer than three seeds nothing can be told but
    what is the same for all. Claims without results are left out.

    Raises:
        StudyError: no claim has results.
    """
    rows = [row for claim in claims for row in _judged(sweep, claim, 1 - SIGNIFICANT / len(claims))]
    if not rows:
        raise StudyError("claims: none can be judged; cd and one of icl, pbft, baseline, cd_lora need results.")
    return pd.DataFrame(rows)


def _judged(sweep: Sweep, claim: Claim, level: float) -> list[dict[str, object]]:
    accuracy = claim.quantity.removesuffix("_accuracy")
    if accuracy in sweep.profile.domains:
        effects = _accuracy_effects(correct_items(sweep.stored, accuracy, (claim.method, claim.against)), claim)
        found = {size: (len(one.by_seed), one.value, one.bounds(), one.bounds(level)) for size, one in effects.items()}
    else:
        found = {
            size: (len(values), values.mean(), interval(values), interval(values, level))
            for size, values in _cost_effects(sweep.results, claim).items()
        }
    return [judged_row(claim, size, *told) for size, told in found.items()]


def judged_row(
    claim: AnyClaim, size: object, seeds: int, effect: float, inner: tuple[float, float], outer: tuple[float, float]
) -> dict[str, object]:
    """One claim at one size: the effect with its 95% interval `inner`, and the verdict by the wider `outer`.

    With fewer than three seeds nothing can be told, unless the quantity is `EXACT`. No quantity is below 0, so `inner`
    ends where nothing is left, at -1.
    """
    enough = seeds >= FEWEST_SEEDS
    low, high = np.clip(inner, -1, None)
    if claim.quantity in EXACT:
        outer, enough = (effect, effect), True
    return {
        "claim": claim.statement,
        "paper": claim.paper,
        "quantity": claim.quantity,
        "support_size": size,
        "seeds": seeds,
        "effect": effect,
        "low": low,
        "high": high,
        "verdict": verdict(*outer, claim.effect) if enough else "cannot be told",
    }


def _accuracy_effects(by_size: Mapping[int, Correct], claim: Claim) -> dict[object, Estimate]:
    """The relative difference at each size and over all."""
    effects: dict[object, Estimate] = {}
    for size, correct in by_size.items():
        first, second = _accuracies(correct, claim, correct.seeds)
        effects[size] = (first - second) / second
    if everywhere := seeds_in_common(by_size.values()):
        pairs = [_accuracies(correct, claim, everywhere) for correct in by_size.values()]
        first, second = (reduce(add, one) for one in zip(*pairs, strict=True))
        effects["all"] = (first - second) / second
    return effects


def _accuracies(correct: Correct, claim: Claim, seeds: Sequence[int]) -> tuple[Estimate, Estimate]:
    """Those of both methods over these seeds."""
    first, second = (correct.accuracy(correct.of_seeds(name, seeds)) for name in (claim.method, claim.against))
    return first, second


def _cost_effects(results: pd.DataFrame, claim: Claim) -> dict[object, Array]:
    """The relative difference of each seed at each size, and of its mean over sizes; of times, where `ALIKE`."""
    if claim.quantity not in results:
        return {}
    table = results[results.support_size.gt(0) | ~results.method.map(lambda name: METHODS[name].reads_support)]
    alike = table.groupby(ALIKE[claim.quantity]) if claim.quantity in ALIKE else [("all", table)]
    paired = pd.concat([_paired(rows, claim) for _, rows in alike])
    paired = paired.groupby(level=0).mean().dropna(axis=1, how="all").sort_index(axis=1)
    if paired.empty:
        return {}
    effects: dict[object, Array] = {size: paired[size].dropna().to_numpy() for size in paired.columns}
    everywhere = paired.dropna(axis=0).mean(axis=1).to_numpy()
    return effects | ({"all": everywhere} if len(everywhere) else {})


def _paired(table: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """Relative differences, seeds by sizes; empty where a method has no results."""
    wide = table.pivot_table(claim.quantity, ["method", "seed"], "support_size")
    if not {claim.method, claim.against} <= set(wide.index.get_level_values("method")):
        return pd.DataFrame()
    first, second = (_everywhere(wide.loc[name], wide) for name in (claim.method, claim.against))
    return first.div(second).sub(1)


def _everywhere(of_method: pd.DataFrame, wide: pd.DataFrame) -> pd.DataFrame:
    """Seeds by sizes above 0; one level where the method reads no support set."""
    sizes = [size for size in wide.columns if size > 0]
    if 0 in of_method and of_method[0].notna().any():
        seeds = wide.index.get_level_values("seed").unique()
        return pd.DataFrame({size: of_method[0].reindex(seeds, method="nearest") for size in sizes})
    return of_method.reindex(columns=sizes)


def headline(judged: pd.DataFrame) -> object:
    """What the table shows: "all" where most claims have three seeds at every support size, or where no size has more
    seeds than all together; else the support size that has most seeds in all, over the claims.
    """
    everywhere = judged[judged.support_size == "all"]
    if 2 * (everywhere.seeds >= FEWEST_SEEDS).sum() > judged.claim.nunique():
        return "all"
    seeds = judged.groupby("support_size", sort=False)["seeds"].sum()
    return "all" if seeds.get("all", 0) == seeds.max() else seeds.idxmax()


def about_headline(judged: pd.DataFrame, size: object) -> str:
    """In words, which numbers of support examples the effects at a `headline` are over."""
    sizes = sorted(n for n in judged.support_size.unique() if n != "all")
    if size == "all":
        return f"over n = {', '.join(map(str, sizes))}"
    return f"at n = {size}, which has more seeds than the others of n = {', '.join(map(str, sizes))}"


def verdict_table(judged: pd.DataFrame, size: object) -> pd.DataFrame:
    """A row a claim: what the paper says, the effect at one support size with its 95% interval, the verdict."""
    whole = judged[judged.support_size == size].set_index("claim")
    shown = [_with_bounds(row.effect, row.low, row.high) for row in whole.itertuples()]
    return pd.DataFrame({"the paper": whole.paper, "here": shown, "verdict": whole.verdict, "seeds": whole.seeds})


def _with_bounds(effect: float, low: float, high: float) -> str:
    told, *ends = map(_as_times if effect >= 1 else "{:+.0%}".format, (effect, low, high))
    return told if np.isnan(low) else f"{told} [{', '.join(ends)}]"


def _as_times(effect: float) -> str:
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
        parts.append(f"<details><summary><b>{claim}</b>{said}</summary>{text}</details>")
    return "\n".join(parts)


def recovered(sweep: Sweep, method: str = "cd") -> pd.DataFrame:
    """Share of the distance from baseline to teacher that a method covers, with 95% intervals: domains by sizes.

    Intervals are over seeds and items. The teacher's and the method's accuracies stand beside it. Where the teacher is
    less than .1 above the baseline there is no distance to speak of, and no share.
    """
    rows = {}
    for domain, name in sweep.profile.domains.items():
        for size, correct in correct_items(sweep.stored, domain, ("baseline", "teacher_icl", method)).items():
            of = {one: correct.accuracy(items) for one, items in correct.by_method.items()}
            share = share_recovered(of["baseline"], of["teacher_icl"], of[method])
            rows |= {
                (name, "teacher", size): f"{of['teacher_icl'].value:.2f}",
                (name, METHODS[method].label, size): f"{of[method].value:.2f}",
                (name, "share", size): "" if share is None else shown_share(share),
                (name, "seeds", size): str(len(correct.seeds)),
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
    low, high = share.bounds()
    return f"{share.value:.0%} [{low:.0%}, {high:.0%}]"


def effects_figure(judged: pd.DataFrame, size: object) -> Figure:
    """The effect of each claim at one support size with its 95% interval, and where the paper puts it."""
    house_style()
    shown = judged[judged.support_size == size].iloc[::-1]
    claimed = {claim.statement: claim.effect for claim in CLAIMS}
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(shown) + 1))
    places = range(len(shown))
    errors = [(shown.effect - shown.low).clip(lower=0), (shown.high - shown.effect).clip(lower=0)]
    axis.errorbar(shown.effect, places, xerr=errors, fmt="o", color=METHODS["cd"].colour, capsize=3, label="here")
    numbers = [(claimed.get(row.claim, 0), i) for i, row in enumerate(shown.itertuples())]
    told = [(value, i) for value, i in numbers if abs(value) > abs(MORE)]
    axis.plot(*zip(*told, strict=True), "k|", markersize=14, markeredgewidth=2, label="the paper")
    axis.axvline(0, **REFERENCE_LINE)
    axis.set(yticks=places, yticklabels=shown.claim, xlabel="relative difference", ylim=(-0.6, len(shown) - 0.4))
    right = min(max(axis.get_xlim()[1], 1), FARTHEST)
    axis.set_xlim(-1.05, right)
    for place, effect in zip(places, shown.effect, strict=True):
        if effect > right:
            axis.text(right, place, f"{_as_times(effect)} →", ha="right", va="bottom", color=METHODS["cd"].colour)
    axis.legend(loc="upper right", fontsize=9)
    figure.tight_layout()
    return figure


SCORE = "score"
CLAIM_COLUMNS = ("claim", "paper", "quantity", "support_size", "seeds", "effect", "low", "high", "verdict")
Arm = tuple[str, str]  # method and paradigm


@dataclass(frozen=True)
class InContextClaim:
    """A statement that one method under one paradigm has more or less of a quantity than another.

    `quantity` is `score`, the benchmark's first metric, or `tokens` or `seconds` of teacher, training and evaluation
    together. `effect` and `paper` are as in `lib.report.claims.Claim`.
    """

    statement: str
    arm: Arm
    against: Arm
    quantity: str
    effect: float
    paper: str


# arXiv 2212.10670: abstract and tables; none of its numbers has an interval.
IN_CONTEXT_CLAIMS = (
    *(
        InContextClaim(f"{label} against ICT, {title}", (method, paradigm), ("ict", paradigm), SCORE, MORE, "better")
        for method, label in (("icl_d", "ICL-D"), ("icl_d_lm", "ICL-D (LM)"))
        for paradigm, title in PARADIGMS.items()
    ),
    InContextClaim(
        "LM terms, Multitask-ICT", ("icl_d_lm", "multitask"), ("icl_d", "multitask"), SCORE, MORE, "complementary"
    ),
    InContextClaim("LM terms, Meta-ICT", ("icl_d_lm", "meta"), ("icl_d", "meta"), SCORE, NO_GAIN, "mostly do not help"),
    InContextClaim("Multitask- against Meta", ("icl_d", "multitask"), ("icl_d", "meta"), SCORE, MORE, "better"),
    *(
        InContextClaim(
            f"Multitask- against Meta, {what}", ("icl_d", "multitask"), ("icl_d", "meta"), what, MORE, "dearer"
        )
        for what in ("tokens", "seconds")
    ),
)


def judge_benchmark(means: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """Each claim at each k: effect, 95% interval over seeds, verdict; columns as those of `lib.report.claims.judge`.

    An effect is the mean over seeds of the relative difference of the two arms, which share the seed's examples,
    episodes and evaluated items. Verdicts use an interval widened to 1 − .05 / (number of claims); with fewer than
    three seeds nothing can be told. A seed whose second arm is at 0 and the first is not has no relative difference:
    it is left out, as are claims without results. Costs are those of all k together, so they are the same at each.

    Args:
        means: rows of `lib.runs.frames.seed_means`.
        benchmark: which, for its first metric.

    Returns:
        No rows where no claim has results.
    """
    wide = means.assign(score=means[next(iter(METRICS[benchmark]))])
    for quantity in ("tokens", "seconds"):
        wide[quantity] = wide[[name for phase in PHASES if (name := f"{phase}_{quantity}") in wide]].sum(axis=1)
    rows = [row for claim in IN_CONTEXT_CLAIMS for row in _judged_benchmark(wide, claim)]
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


def _judged_benchmark(means: pd.DataFrame, claim: InContextClaim) -> Iterator[dict[str, object]]:
    arms = (_arm(means, *arm)[claim.quantity] for arm in (claim.arm, claim.against))
    first, second = next(arms).align(next(arms), join="inner")
    paired = ((first - second) / second.where(second > 0)).mask(first == second, 0.0).dropna()
    for k, effects in paired.groupby(level="k"):
        outer = interval(effects, 1 - SIGNIFICANT / len(IN_CONTEXT_CLAIMS))
        yield judged_row(claim, k, len(effects), effects.mean(), interval(effects), outer)


def _arm(means: pd.DataFrame, method: str, paradigm: str) -> pd.DataFrame:
    return means[(means.method == method) & (means.paradigm == paradigm)].set_index(["k", "seed"])
