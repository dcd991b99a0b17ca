"""The claims of in-context learning distillation, judged by the same rule as those of context distillation."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from lib.report.claims import MORE, NO_GAIN, SIGNIFICANT, judged_row
from lib.report.intervals import interval
from lib.runs.frames import PHASES
from lib.runs.in_context_frames import METRICS, PARADIGMS

SCORE = "score"

COLUMNS = ("claim", "paper", "quantity", "support_size", "seeds", "effect", "low", "high", "verdict")

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


def judge(means: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """Each claim at each k: effect, 95% interval over seeds, verdict; columns as those of `lib.report.claims.judge`.

    An effect is the mean over seeds of the relative difference of the two arms, which share the seed's examples,
    episodes and evaluated items. Verdicts use an interval widened to 1 − .05 / (number of claims); with fewer than
    three seeds nothing can be told. A seed whose second arm is at 0 and the first is not has no relative difference:
    it is left out, as are claims without results. Costs are those of all k together, so they are the same at each.

    Args:
        means: rows of `lib.runs.in_context_frames.seed_means`.
        benchmark: which, for its first metric.

    Returns:
        No rows where no claim has results.
    """
    wide = means.assign(score=means[next(iter(METRICS[benchmark]))])
    for quantity in ("tokens", "seconds"):
        wide[quantity] = wide[[name for phase in PHASES if (name := f"{phase}_{quantity}") in wide]].sum(axis=1)
    rows = [row for claim in IN_CONTEXT_CLAIMS for row in _judged(wide, claim)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _judged(means: pd.DataFrame, claim: InContextClaim) -> Iterator[dict[str, object]]:
    arms = (_arm(means, *arm)[claim.quantity] for arm in (claim.arm, claim.against))
    first, second = next(arms).align(next(arms), join="inner")
    paired = ((first - second) / second.where(second > 0)).mask(first == second, 0.0).dropna()
    for k, effects in paired.groupby(level="k"):
        outer = interval(effects, 1 - SIGNIFICANT / len(IN_CONTEXT_CLAIMS))
        yield judged_row(claim, k, len(effects), effects.mean(), interval(effects), outer)


def _arm(means: pd.DataFrame, method: str, paradigm: str) -> pd.DataFrame:
    return means[(means.method == method) & (means.paradigm == paradigm)].set_index(["k", "seed"])
