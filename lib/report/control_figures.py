"""What context distillation distils, the context or the task: controls beside the students that they vary."""

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evidence.claims import SIGNIFICANT, of_accuracy, of_difference, shown_differences
from lib.evidence.estimates import HOW, Array, Correct, Estimate, correct_items, mean, with_bounds
from lib.methods.calibration import Calibration
from lib.methods.table import METHODS
from lib.report.figures import REFERENCE_LINE, error_lengths, house_style, legend_below
from lib.runs.ablations import CONTROLLED, reference_of
from lib.runs.profile import Profile
from lib.runs.provenance import key
from lib.runs.variants import METHOD, Variants

TEACHER = CONTROLLED[0]


def controls_frame(variants: Variants, profile: Profile) -> pd.DataFrame:
    """Each control's teacher and student in each domain, plain and calibrated, with 95% intervals.

    Columns: name, method, domain, answers (plain, calibrated); accuracy, low, high, over seeds and items; `auc`, the
    mean area under the ROC curve; of a control's student the difference from its reference, difference_low,
    difference_high, on the seeds that both have, and `differs`, by intervals corrected for the number of such
    differences; seeds; majority, the accuracy of one answer for everything.
    """
    students = sum(reference_of(name, variants.sweeps) is not None for name in variants.sweeps)
    level = 1 - SIGNIFICANT / max(1, students * len(profile.domains))
    rows = [
        {"name": name, "domain": domain, "answers": answers, "method": method} | row
        for domain in profile.domains
        for answers, how in HOW.items()
        for method in CONTROLLED
        for name, row in _rows(variants, domain, method, how, level)
    ]
    return pd.DataFrame(rows)


def _rows(
    variants: Variants, domain: str, method: str, how: Calibration, level: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    of_name = {name: correct_items(sweep.stored, domain, method, how) for name, sweep in variants.sweeps.items()}
    seen: set[frozenset[str]] = set()  # controls share a teacher, which has a row once
    for name, correct in of_name.items():
        runs = frozenset(key(result.run) for result in variants.sweeps[name].stored if result.run.method == method)
        if not runs or runs in seen:
            continue
        seen.add(runs)
        results = variants.sweeps[name].results
        row = of_accuracy(_estimate(correct, _right(correct))) | {"seeds": len(correct.items)}
        row["auc"] = results[results.method == method][f"{domain}_auc"].mean()
        row["majority"] = correct.majority
        reference = of_name.get(reference_of(name, of_name) or "")
        compared = method == METHOD and reference and reference.items
        yield name, row | of_difference(_difference(correct, reference) if compared else None, level)


def _right(correct: Correct) -> dict[int, Array]:
    """By seed, [items] that are right; a control has one support size."""
    return {seed: items for (_, seed), items in correct.items.items()}


def _estimate(correct: Correct, by_seed: dict[int, Array]) -> Estimate:
    return mean(np.stack(list(by_seed.values())), correct.gold, correct.clusters)


def _difference(correct: Correct, reference: Correct) -> Estimate | None:
    """On the seeds that both have."""
    own, other = _right(correct), _right(reference)
    both = sorted({*own} & {*other})
    return _estimate(correct, {seed: own[seed] - other[seed] for seed in both}) if both else None


def controls_table(frame: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """`controls_frame` as text: a row a control and method, columns by domain; a star where a difference `differs`."""
    texts = frame.assign(
        accuracy=list(map(with_bounds, frame.accuracy, frame.low, frame.high)),
        difference=shown_differences(frame),
        auc=frame.auc.map("{:.2f}".format),
        domain=frame.domain.map(profile.domains),
        method=frame.method.map(lambda name: "teacher" if name == TEACHER else "student"),
    )
    calibrated = texts[texts.answers == "calibrated"].set_index(["name", "method", "domain"])
    plain = texts[texts.answers == "plain"].set_index(["name", "method", "domain"])
    columns = {"plain": plain.accuracy, "calibrated": calibrated.accuracy, "area": calibrated.auc}
    columns |= {"less its reference, calibrated": calibrated.difference, "seeds": calibrated.seeds.map(str)}
    table = pd.DataFrame(columns).unstack("domain").swaplevel(axis=1)
    order = list(dict.fromkeys(zip(texts.name, texts.method, strict=True)))
    domains = list(profile.domains.values())
    return table.reindex(sorted(order, key=lambda place: list(texts.name.unique()).index(place[0])))[domains].fillna("")


def controls_figure(frame: pd.DataFrame, profile: Profile) -> Figure:
    """Calibrated accuracies of `controls_frame`: a row a control, teacher and student, and a panel a domain."""
    house_style()
    rows = frame[frame.answers == "calibrated"]
    names = list(rows.name.unique())[::-1]
    shape = {"figsize": (5.5 * len(profile.domains) + 2, 0.45 * len(names) + 1.5), "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, len(profile.domains), **shape)
    for axis, (domain, title) in zip(axes[0], profile.domains.items(), strict=True):
        _panel(axis, rows[rows.domain == domain], names)
        axis.set(title=title.capitalize(), xlabel="calibrated accuracy")
    axes[0, 0].set_yticks(range(len(names)), [_label(name, names) for name in names])
    out = "All rows have the second domain in the pool but those as in the paper and all of the first domain."
    legend_below(figure, f"Profile {profile.name}; 95% intervals over seeds and items.\n{out}")
    return figure


def _label(name: str, names: Sequence[str]) -> str:
    """A control's name without that of its reference, below which it stands."""
    reference = reference_of(name, names)
    return name if reference is None else "…" + name.removeprefix(f"{reference},")


def _panel(axis: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    for method, shift in zip(CONTROLLED, (0.12, -0.12), strict=True):
        own = rows[rows.method == method]
        places = [names.index(name) + shift for name in own.name]
        looks = {"color": METHODS[method].colour, "marker": METHODS[method].marker, "linestyle": "none"}
        label = "teacher" if method == TEACHER else "student"
        axis.plot(own.accuracy, places, label=label, **looks)
        errors = error_lengths(own.accuracy, own.low, own.high)
        axis.errorbar(own.accuracy, places, xerr=errors, fmt="none", ecolor=looks["color"], capsize=3)
    axis.axvline(rows.majority.max(), label="one answer for everything", **REFERENCE_LINE)
    axis.yaxis.grid(False)
