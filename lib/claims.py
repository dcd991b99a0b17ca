"""What a run of the study says to the paper's claims: paired differences between methods, and verdicts by a rule."""

from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from lib.errors import StudyError
from lib.figures import COLOURS, REFERENCE_LINE, house_style
from lib.frames import DOMAINS
from lib.intervals import interval
from lib.methods import METHODS
from lib.sweep import Sweep

SIGNIFICANT = 0.05
LEAST_DISTANCE = 0.1
FEWEST_SEEDS = 3  # two that agree by chance to the last item would pass any test


@dataclass(frozen=True)
class Claim:
    """A statement that one method does better than another in one quantity.

    Attributes:
        statement: in words.
        method: the method of which it is said.
        against: the method that it is compared with.
        quantity: a column of the results.
        better: whether more or less of it is better.
        paper: what the paper says.
    """

    statement: str
    method: str
    against: str
    quantity: str
    better: Literal["more", "less"]
    paper: str


# arXiv 2412.13243: the abstract and section 4; nothing there is said with an interval.
CLAIMS = (
    Claim("CD beats ICL out of domain", "cd", "icl", "out_of_domain_accuracy", "more", "about 50% better"),
    Claim("CD beats PBFT out of domain", "cd", "pbft", "out_of_domain_accuracy", "more", "about 20% better"),
    Claim("CD beats ICL in domain", "cd", "icl", "in_domain_accuracy", "more", "its figure 1"),
    Claim("CD beats PBFT in domain", "cd", "pbft", "in_domain_accuracy", "more", "its figure 1"),
    Claim("CD moves the student out of domain", "cd", "baseline", "out_of_domain_accuracy", "more", "its figure 1"),
    Claim("CD needs less memory than PBFT", "cd", "pbft", "peak_gb", "less", "up to 60% less"),
    Claim("CD + LoRA trains faster than CD", "cd_lora", "cd", "method_seconds", "less", "said; its figure 6 differs"),
    Claim("CD + LoRA beats CD out of domain", "cd_lora", "cd", "out_of_domain_accuracy", "more", "“robust”"),
)


def paired_differences(results: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """Method minus other, seed by seed: seeds by support sizes above 0 at which both have a result.

    Methods that read no support set are compared at every size.
    """
    table = results.pivot_table(claim.quantity, ["method", "seed"], "support_size")
    first, second = (_by_seed(table, name) for name in (claim.method, claim.against))
    return first.sub(second).dropna(axis=1, how="all").filter(items=[size for size in table.columns if size > 0])


def _by_seed(table: pd.DataFrame, method: str) -> pd.DataFrame:
    of_method = table.loc[method] if method in table.index.get_level_values(0) else table.iloc[:0].droplevel(0)
    if METHODS[method].reads_support or of_method.empty:
        return of_method
    level = of_method[0].reindex(table.index.get_level_values("seed").unique(), method="nearest")
    return pd.DataFrame({size: level for size in table.columns})


def judge(sweep: Sweep, claims: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """Each claim at each support size: mean paired difference, its 95% interval, corrected p, and the verdict there.

    p is that of Student's t over seeds, two-sided, times the number of comparisons in the table (Bonferroni). A claim
    is supported where the difference has the claimed sign and p < .05, contradicted where it has the other sign and
    p < .05; otherwise, and with fewer than three seeds, it cannot be told. Claims without results are left out.

    Raises:
        StudyError: no claim has results.
    """
    rows = [
        _judged(claim, size, differences.dropna().to_numpy())
        for claim in claims
        for size, differences in paired_differences(sweep.results, claim).items()
    ]
    if not rows:
        raise StudyError("claims: none can be judged; cd and one of icl, pbft, baseline, cd_lora need results.")
    table = pd.DataFrame(rows)
    table["p"] = (table["p"] * len(table)).clip(upper=1.0)
    sign = np.where(table.better == "more", 1, -1) * np.sign(table.difference)
    verdicts = np.select([sign > 0, sign < 0], ["supported", "contradicted"], "cannot be told")
    return table.assign(verdict=np.where(table.p < SIGNIFICANT, verdicts, "cannot be told"))


def _judged(claim: Claim, size: int, differences: np.ndarray) -> dict[str, object]:
    low, high = interval(differences)
    return {
        "claim": claim.statement,
        "paper": claim.paper,
        "better": claim.better,
        "quantity": claim.quantity,
        "support_size": size,
        "seeds": len(differences),
        "difference": differences.mean(),
        "low": low,
        "high": high,
        "p": _p_value(differences),
    }


def _p_value(differences: np.ndarray) -> float:
    if len(differences) < FEWEST_SEEDS:
        return 1.0
    if np.ptp(differences) == 0:  # a count that no seed changes; t is not defined
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def verdict_table(judged: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: what the paper says, the verdict with the support sizes that it holds at, the differences."""
    rows = {}
    for claim, group in judged.groupby("claim", sort=False):
        sizes = group.groupby("verdict", sort=False).support_size.apply(lambda of: ", ".join(map(str, of)))
        said = [f"{verdict} (n = {where})" if len(sizes) > 1 else verdict for verdict, where in sizes.items()]
        rows[claim] = {"the paper": group.paper.iloc[0], "here": "; ".join(said)}
        rows[claim] |= {f"n = {row.support_size}": _shown(row) for row in group.itertuples()}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _shown(row: tuple) -> str:
    factor, digits, unit = {"peak_gb": (1000, 0, " MB"), "method_seconds": (1, 2, " s")}.get(row.quantity, (1, 2, ""))
    middle, low, high = (f"{value * factor:+.{digits}f}" for value in (row.difference, row.low, row.high))
    return f"{middle} [{low}, {high}]{unit}"


def recovered(sweep: Sweep) -> pd.DataFrame:
    """Share of the distance from baseline to teacher that CD covers, of means over seeds: domains by support sizes.

    The teacher's and the student's means stand beside it. Where the teacher is less than .1 above the baseline there
    is no distance to speak of, and no share.
    """
    rows = {}
    for domain, name in DOMAINS.items():
        means = sweep.results.pivot_table(f"{domain}_accuracy", "method", "support_size")
        teacher, student, untuned = means.reindex(["teacher_icl", "cd", "baseline"]).to_numpy()
        start = np.nanmean(untuned) if np.isfinite(untuned).any() else np.nan
        gap = np.where(teacher > start + LEAST_DISTANCE, teacher - start, np.nan)
        rows |= {(name, "teacher"): teacher, (name, "CD"): student, (name, "share"): (student - start) / gap}
    table = pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows), means.columns.rename("n ="))
    return table.map(lambda value: "" if pd.isna(value) else f"{value:.2f}")


def differences_figure(judged: pd.DataFrame) -> Figure:
    """Paired differences in accuracy with their 95% intervals, a panel a claim about accuracy."""
    house_style()
    shown = judged[judged.quantity.str.endswith("accuracy")]
    claims = list(dict.fromkeys(shown.claim))
    figure, axes = plt.subplots(1, len(claims), figsize=(2.6 * len(claims), 3.6), sharey=True, squeeze=False)
    for axis, claim in zip(axes[0], claims, strict=True):
        rows = shown[shown.claim == claim]
        errors = [rows.difference - rows.low, rows.high - rows.difference]
        places = range(len(rows))
        axis.errorbar(places, rows.difference, yerr=errors, fmt="o", color=COLOURS["cd"], capsize=3)
        axis.axhline(0, **REFERENCE_LINE)
        axis.set(xticks=places, xticklabels=rows.support_size, xlim=(-0.5, len(rows) - 0.5), xlabel="n")
        axis.set_title(claim.replace(" in domain", "\nin domain").replace(" out of", "\nout of"), fontsize=9)
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("difference in accuracy,\npaired by seed")
    figure.tight_layout()
    return figure
