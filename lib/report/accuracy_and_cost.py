"""Figures 1 to 7 of the study: accuracy of the methods in and out of domain, what they cost, effects beside claims."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evidence.claims import CLAIMS, MORE, as_times
from lib.evidence.estimates import summarise
from lib.evidence.scores import over_items
from lib.methods.table import METHODS, Method
from lib.report import figures
from lib.report.figures import PAPER_ALPHA, PAPER_DATASETS, REFERENCE_LINE, SOURCE, paper_points
from lib.runs.execution import Sweep
from lib.runs.frames import PREFIXES
from lib.runs.profile import Profile
from lib.tasks.task import IN_DOMAIN

MOST_ROWS = 3  # classes whose recall has a row of its own below the accuracy
COST = {"memory_gb": "peak memory, GB", "method_seconds": "teacher's soft labels and training, s"}
MEASURED, PREDICTED = "measured on the GPU", "predicted"
REFUSED = {"bitfit": "the model has no bias terms", "lora": "the model takes no LoRA adapter"}
OF_PAPER = "faint: the paper"
SMALL_GB = 0.5  # peaks below are shown in MB, and beside no points of the paper, whose models are far larger
FARTHEST = 2  # effects beyond are named at the figure's edge


def accuracy_columns(profile: Profile) -> list[str]:
    """The scores that belong to an accuracy figure, plain and calibrated, of each domain."""
    scores = ("accuracy", "macro_f1", *_of_classes(profile.classes))
    columns = [*(f"{prefix}{score}" for prefix in PREFIXES for score in scores), "auc", "ties"]
    return [f"{domain}_{column}" for domain in profile.domains for column in columns]


def _of_classes(classes: Sequence[str]) -> dict[str, str]:
    """Scores that show a model that says one thing to everything, and their labels."""
    recall = {f"accuracy_on_{name}": f"accuracy on\n{name}" for name in classes}
    return recall | {f"share_{name}": f"share of answers\n“{name}”" for name in classes[:-1]}


def accuracy_figure(sweep: Sweep, paper_figure: str) -> Figure:
    """Accuracy against support size, plain and calibrated, a column a domain; below, what plain answers say.

    Points are means over seeds with 95% intervals over seeds and items. The lower rows are the recall of each class and
    how often it is predicted. They show a model that says one thing always: recalls of 1 and 0, whose mean is no skill.
    On the paper's own datasets the points of its figure, such as `fig1`, are drawn faintly.
    """
    figures.house_style()
    profile, classes = sweep.profile, sweep.profile.classes
    rows = {"macro_f1": "macro-F1"} if len(classes) > MOST_ROWS else _of_classes(classes)
    heights = [2.4, 2.4, *[1] * len(rows)]
    shape = {"figsize": (5.5 * len(profile.domains), 10 * sum(heights) / 5.4), "height_ratios": heights}
    figure, axes = plt.subplots(len(heights), len(profile.domains), sharex=True, sharey="row", squeeze=False, **shape)
    for column, domain in enumerate(profile.domains):
        _accuracy_panel(axes[0, column], sweep, domain, paper_figure)
        _draw(axes[1, column], sweep, f"{domain}_calibrated_accuracy")
        axes[1, column].axhline(sweep.results[f"{domain}_majority"].iloc[0], zorder=1, **REFERENCE_LINE)
        for axis, score in zip(axes[2:, column], rows, strict=True):
            _draw(axis, sweep, f"{domain}_{score}", intervals=False)
            axis.axhline(1 / len(classes), zorder=1, **REFERENCE_LINE)
            axis.set(ylim=(-0.05, 1.05))
        axes[-1, column].set_xlabel("support examples n")
    drawn = [f"{domain}_{score}" for domain in profile.domains for score in ("accuracy", "calibrated_accuracy")]
    for axis in axes[:2, 0]:
        axis.set_ylim(min(0.2, sweep.results[drawn].min(axis=None) - 0.05), 1.03)
    for axis, label in zip(axes[:, 0], ("accuracy", "calibrated accuracy", *rows.values()), strict=True):
        axis.set_ylabel(label)
    figures.legend_below(figure, "\n".join(_notes(figure, sweep)))
    return figure


def _accuracy_panel(axis: Axes, sweep: Sweep, domain: str, paper_figure: str) -> None:
    """The accuracy in one domain, what its commonest class would score, and the paper's points on its own dataset."""
    profile = sweep.profile
    dataset = dict(zip(profile.domains, (profile.in_domain, *profile.evaluated_elsewhere), strict=True))[domain]
    heading = profile.domains[domain].capitalize()
    axis.set_title(heading if dataset in heading else f"{heading}: {dataset}")
    _draw(axis, sweep, f"{domain}_accuracy")
    if PAPER_DATASETS.get(domain) == dataset:
        _draw_paper(axis, sweep, paper_points(paper_figure, f"{domain}_accuracy"))
    majority = sweep.results[f"{domain}_majority"].iloc[0]
    axis.axhline(majority, zorder=1, label="majority class, balanced share", **REFERENCE_LINE)


def _draw(axis: Axes, sweep: Sweep, quantity: str, intervals: bool = True, **style: str) -> None:
    """Curves of the methods that the sweep has over its support sizes."""
    summary = _summary(sweep, [quantity])
    bounds = {} if intervals else {"low": np.nan, "high": np.nan}
    figures.curves(axis, summary.assign(**bounds), sweep.profile.support_sizes, _present(sweep), **style)


def _draw_paper(axis: Axes, sweep: Sweep, points: pd.DataFrame) -> None:
    """The paper's points of the same methods and support sizes, faintly."""
    looks = {"alpha": PAPER_ALPHA, "linestyle": "none", "label": OF_PAPER}
    figures.curves(axis, points, sweep.profile.support_sizes, _present(sweep), **looks)


def _present(sweep: Sweep) -> dict[str, Method]:
    return {name: method for name, method in METHODS.items() if name in set(sweep.results.method)}


def draw_accuracy(sweep: Sweep, name: str) -> Figure:
    """The accuracy figure of a page, such as `fig1`, with the points of the paper's figure of that name; it is kept."""
    figure = accuracy_figure(sweep, name)
    save(figure, sweep, name, accuracy_columns(sweep.profile))
    return figure


def accuracy_table(sweep: Sweep) -> pd.DataFrame:
    """Each domain's accuracy, plain and calibrated, and the recall of each class: a row a score and method, a column n.

    Cells are means with 95% intervals over seeds and items.
    """
    titles: dict[str, str] = {}
    for domain, title in sweep.profile.domains.items():
        titles[f"{domain}_accuracy"] = f"accuracy {title}"
        titles[f"{domain}_calibrated_accuracy"] = f"… calibrated, {title}"
        titles[f"{domain}_content_free_accuracy"] = f"… calibrated by content-free inputs, {title}"
        titles[f"{domain}_auc"] = f"… area under the ROC curve, {title}"
        titles |= {f"{domain}_accuracy_on_{name}": f"… on items of {name}, {title}" for name in sweep.profile.classes}
    return _tables(sweep, titles)


def draw_cost(costs: Sweep, name: str) -> Figure:
    """The cost figure of a page, such as `fig2`, from `drawn_costs`; else as `draw_accuracy`."""
    figure = cost_figure(costs, name)
    save(figure, costs, name, list(COST))
    return figure


def cost_table(costs: Sweep) -> pd.DataFrame:
    """Peak memory in GB and seconds, from `drawn_costs`: rows by quantity and method, columns by n."""
    return _tables(costs, COST)


def _tables(sweep: Sweep, titles: Mapping[str, str]) -> pd.DataFrame:
    return pd.concat({title: table(sweep, quantity) for quantity, title in titles.items()})


def drawn_memory(sweep: Sweep, predicted: pd.DataFrame) -> Sweep:
    """The sweep with more columns of results: `memory_gb`, the peak that figures draw, and `memory_is`, what it is.

    The peak is what the GPU's allocator said, or, on a CPU, the highest predicted peak: resident memory holds what
    libraries keep for themselves, and is in the table by phase. Predictions are `lib.memory.predictions.of_profile`'s.
    """
    results = sweep.results
    on_gpu = results.peak_measured == "cuda_allocated"
    peaks = _by_run(results, predicted[predicted.highest_phase.astype(bool)], "peak_gb")
    memory = results.peak_gb.where(on_gpu, peaks)
    kinds = on_gpu.map({True: MEASURED, False: PREDICTED})
    without = {f"memory of {name}": reason for name, reason in predicted.attrs.get("unavailable", {}).items()}
    drawn = results.assign(memory_gb=memory, memory_is=kinds)
    return replace(sweep, results=drawn, failed=sweep.failed | without)


def drawn_costs(sweep: Sweep, predicted: pd.DataFrame) -> Sweep:
    """`drawn_memory`, and times that can be averaged: those of one device, and of one way to compute steps of training.

    They are those of most results; what others took is nan.
    """
    sweep = drawn_memory(sweep, predicted)
    results = sweep.results
    device, steps = _timed(results)
    others = (results.device != device) | ~results.steps.isin(["", steps])
    times = [name for name in results if name.endswith("_seconds")]
    return replace(sweep, results=results.assign(**results[times].mask(others)))


def _timed(results: pd.DataFrame) -> tuple[str, str]:
    """The device and the steps of most results that were trained, or of most where none was."""
    trained = results[results.steps != ""]
    return (results if trained.empty else trained)[["device", "steps"]].value_counts().index[0]


def _whose_times(results: pd.DataFrame) -> list[str]:
    """A note on which of the results have times, where it is not all."""
    device, steps = _timed(results)
    all_alike = results.device.nunique() == 1 and len({*results.steps} - {""}) <= 1
    return [] if all_alike else [f"Times are those of {device} and of {steps} steps alone."]


def _devices(results: pd.DataFrame) -> str:
    """What the results were computed on, that of most results first."""
    return " and ".join(results.device.value_counts().index)


def _by_run(results: pd.DataFrame, predicted: pd.DataFrame, quantity: str) -> np.ndarray:
    """What is predicted for the method and support size of each row of the results; nan where nothing is."""
    places = pd.MultiIndex.from_frame(results[["method", "support_size"]])
    return predicted.set_index(["method", "support_size"])[quantity].reindex(places).to_numpy(dtype=float)


def cost_figure(sweep: Sweep, paper_figure: str) -> Figure:
    """Peak memory and time of `drawn_costs` against support size.

    Memory is the highest peak of the teacher's and the training's phases for methods that train, the evaluation's for
    the others; measured peaks are filled, predicted ones hollow. Time is that of the teacher's soft labels and of the
    training, zero where there is neither. The points of a figure of the paper, such as `fig6`, are drawn faintly; they
    are left out beside models a thousand times smaller, and on other data than the paper's.
    """
    figures.house_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4))
    comparable = not sweep.results.memory_gb.max() < SMALL_GB
    of_paper = comparable and sweep.profile.in_domain == PAPER_DATASETS[IN_DOMAIN]
    memory, kinds = sweep.results.memory_gb * (1 if comparable else 1000), sweep.results.memory_is.unique()
    for kind in kinds:
        of_kind = replace(sweep, results=sweep.results.assign(memory=memory.where(sweep.results.memory_is == kind)))
        style = {"intervals": False, "fillstyle": "none"} if kind == PREDICTED else {}
        _draw(left, of_kind, "memory", **style)
    _draw(right, sweep, "method_seconds")
    if of_paper:
        _draw_paper(left, sweep, paper_points(paper_figure, "peak_memory"))
        _draw_paper(right, sweep, paper_points(paper_figure, "training_time"))
    left.set(title="Memory", ylabel=f"peak of tensors, {'GB' if comparable else 'MB'}\n({_filled_and_hollow(kinds)})")
    right.set(title="Time", ylabel="teacher targets + training, s")
    for axis in (left, right):
        axis.set(xlabel="support examples n")
        axis.set_ylim(bottom=0)
    figures.legend_below(figure, "\n".join(_notes(figure, sweep) + _whose_times(sweep.results)))
    return figure


def _filled_and_hollow(kinds: Collection[str]) -> str:
    if len(kinds) > 1:
        return f"filled: {MEASURED}, hollow: {PREDICTED}"
    return f"{PREDICTED}, hollow" if PREDICTED in kinds else MEASURED


def table(sweep: Sweep, quantity: str) -> pd.DataFrame:
    """Methods by support sizes: mean and, where seeds differ, the 95% interval over them, as text."""
    summary = _summary(sweep, [quantity])
    digits = 2 if summary["mean"].max() > SMALL_GB else 4
    differ = (summary.high - summary.low).round(digits) > 0
    summary = summary.assign(low=summary.low.where(differ)).sort_values("support_size")
    text = figures.interval_table(summary, METHODS, "method", "support_size", digits)
    return text.rename_axis("n =", axis=1)


def save(figure: Figure, sweep: Sweep, name: str, quantities: Sequence[str]) -> None:
    """Keep a figure with what it draws: means, intervals, seeds, devices."""
    summary = _summary(sweep, quantities)
    figures.save_with(figure, sweep.profile, name, summary.assign(device=_devices(sweep.results)))


def _summary(sweep: Sweep, quantities: Sequence[str]) -> pd.DataFrame:
    """Means over seeds with 95% intervals: of scores over seeds and items, of costs over seeds."""
    highest = dict.fromkeys(accuracy_columns(sweep.profile), 1.0)
    return over_items(summarise(sweep.results, quantities, highest=highest), sweep.stored)


def _notes(figure: Figure, sweep: Sweep) -> list[str]:
    seeds = figures.of_seeds(_seeds(sweep.results))
    notes = [f"Profile {sweep.profile.name}; {seeds}; {_devices(sweep.results)}."]
    notes += [f"{METHODS[method].label}: refused, {REFUSED[METHODS[method].tuning]}." for method in sweep.refused]
    notes += [f"{name}: failed, not drawn." for name in sweep.failed]
    with_paper = any(line.get_label() == OF_PAPER for axis in figure.axes for line in axis.lines)
    return notes + ([f"Paper: {SOURCE}."] if with_paper else [])


def _seeds(results: pd.DataFrame) -> Collection[int]:
    """How many there are of each method that reads a support set, at each size; of all where none reads one."""
    reads_support = results.method.map(lambda name: METHODS[name].reads_support)
    counts = results[reads_support].groupby(["method", "support_size"])["seed"].nunique()
    return counts if len(counts) else [results.seed.nunique()]


def effects_figure(judged: pd.DataFrame, size: object) -> Figure:
    """The effect of each claim at one support size with its 95% interval, and where the paper puts it."""
    figures.house_style()
    rows = judged[judged.support_size == size].iloc[::-1]
    claimed = {claim.statement: claim.effect for claim in CLAIMS}
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(rows) + 1))
    places = range(len(rows))
    errors = figures.error_lengths(rows.effect, rows.low, rows.high)
    axis.errorbar(rows.effect, places, xerr=errors, fmt="o", color=METHODS["cd"].colour, capsize=3, label="here")
    numbers = rows.claim.map(claimed).reset_index(drop=True)
    numbers = numbers[numbers.abs() > MORE]
    axis.plot(numbers, numbers.index, "k|", markersize=14, markeredgewidth=2, label="the paper")
    axis.axvline(0, **REFERENCE_LINE)
    axis.set(yticks=places, yticklabels=rows.claim, xlabel="relative difference", ylim=(-0.6, len(rows) - 0.4))
    right = min(max(axis.get_xlim()[1], 1), FARTHEST)
    axis.set_xlim(-1.05, right)
    for place, effect in zip(places, rows.effect, strict=True):
        if effect > right:
            axis.text(right, place, f"{as_times(effect)} →", ha="right", va="bottom", color=METHODS["cd"].colour)
    axis.legend(loc="upper right", fontsize=9)
    figure.tight_layout()
    return figure
