"""From a frame of results to the study's figures, in one house style. Nothing here runs a model."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.methods.context_distillation import METHODS
from lib.report.estimates import interval, summarise
from lib.report.paper import PAPER_DATASETS, SOURCE, paper_points
from lib.runs.execution import Sweep
from lib.runs.frames import PHASES
from lib.runs.profile import Profile
from lib.tasks.task import IN_DOMAIN

REFERENCE_LINE = {"color": "black", "linewidth": 1, "linestyle": (0, (1, 2))}
PAPER_ALPHA = 0.35
_DODGE = 0.32
MOST_ROWS = 3  # classes whose recall has a row of its own below the accuracy
COST = ["memory_gb", "method_seconds"]
MEASURED, PREDICTED = "measured on the GPU", "predicted"
SMALL_GB = 0.5  # peaks below are shown in MB, and beside no points of the paper, whose models are far larger


def house_style() -> None:
    """Set fonts, grid and resolution for all figures of the study."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams |= {
        "figure.dpi": 110,
        "savefig.dpi": 160,
        "savefig.bbox": "tight",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titleweight": "bold",
        "grid.alpha": 0.5,
        "svg.hashsalt": "few-shot-distillation",  # the same figure is the same file
    }


def accuracy_columns(profile: Profile) -> list[str]:
    """The scores that belong to an accuracy figure, plain and calibrated by content-free inputs, of each domain."""
    first, *_ = classes = profile.classes
    of_classes = [f"accuracy_on_{name}" for name in classes]
    shares = [f"share_{name}" for name in (classes[:-1] if len(classes) > 2 else (first,))]
    return [
        f"{domain}{calibrated}_{score}"
        for domain in profile.domains
        for calibrated in ("", "_calibrated")
        for score in ("accuracy", "macro_f1", *of_classes, *shares)
    ]


def _lower_rows(classes: Sequence[str]) -> dict[str, str]:
    """Below the accuracy: score to axis label. They show a model that says one thing to everything."""
    if len(classes) > MOST_ROWS:
        return {"macro_f1": "macro-F1"}
    recall = {f"accuracy_on_{name}": f"accuracy on\n{name}" for name in classes}
    return recall | {f"share_{name}": f"share of answers\n“{name}”" for name in classes[:-1]}


def accuracy_figure(sweep: Sweep, paper_figure: str) -> Figure:
    """Accuracy against support size, a column a domain; below, the recall of each class and how often it is predicted.

    Points are means over seeds with 95% intervals. The lower rows show a model that says one thing always: recalls of 1
    and 0, whose mean is no skill.

    Args:
        sweep: results of the methods to draw.
        paper_figure: whose points of the paper to draw faintly, such as `fig1`, on the paper's own datasets.
    """
    house_style()
    profile, rows = sweep.profile, _lower_rows(sweep.profile.classes)
    heights = [2.4, *[1] * len(rows)]
    shape = {"figsize": (5.5 * len(profile.domains), 10 * sum(heights) / 5.4), "height_ratios": heights}
    figure, axes = plt.subplots(len(heights), len(profile.domains), sharex=True, sharey="row", squeeze=False, **shape)
    datasets = dict(zip(profile.domains, (profile.in_domain, *profile.evaluated_elsewhere), strict=True))
    for column, (domain, title) in enumerate(profile.domains.items()):
        top, *lower = axes[:, column]
        heading = title.capitalize()
        top.set_title(heading if datasets[domain] in heading else f"{heading}: {datasets[domain]}")
        _curves(top, sweep, f"{domain}_accuracy", _of_paper(paper_figure, domain, datasets[domain]))
        top.axhline(sweep.results[f"{domain}_majority"].iloc[0], zorder=1, **REFERENCE_LINE)
        for axis, quantity in zip(lower, rows, strict=True):
            _curves(axis, sweep, f"{domain}_{quantity}", errorbar=None)
            axis.axhline(1 / len(profile.classes), zorder=1, **REFERENCE_LINE)
            axis.set(ylim=(-0.05, 1.05), xlabel="")
        lower[-1].set_xlabel("support examples n")
    axes[0, 0].set(ylabel="accuracy", ylim=_accuracy_limits(sweep))
    for axis, label in zip(axes[1:, 0], rows.values(), strict=True):
        axis.set_ylabel(label)
    majority = Line2D([], [], label="majority class, balanced share", **REFERENCE_LINE)
    with_paper = any(_of_paper(paper_figure, domain, name) is not None for domain, name in datasets.items())
    _legend(figure, sweep, [majority], with_paper)
    return figure


def _of_paper(paper_figure: str, domain: str, dataset: str) -> pd.DataFrame | None:
    """The paper's points in a domain, where this is the paper's dataset and it has any."""
    if PAPER_DATASETS.get(domain) != dataset:
        return None
    points = paper_points(paper_figure, f"{domain}_accuracy")
    return None if points.empty else points


def draw_accuracy(sweep: Sweep, name: str) -> Figure:
    """The accuracy figure of a page, such as `fig1`, with the points of the paper's figure of that name; it is kept."""
    figure = accuracy_figure(sweep, name)
    save(figure, sweep, name, accuracy_columns(sweep.profile))
    return figure


def accuracy_table(sweep: Sweep) -> pd.DataFrame:
    """Each domain's accuracy, plain and calibrated, and the recall of each class: a row a score and method, a column n.

    Cells are means with 95% intervals over seeds.
    """
    parts: dict[str, pd.DataFrame] = {}
    for domain, title in sweep.profile.domains.items():
        parts[f"accuracy {title}"] = table(sweep, f"{domain}_accuracy")
        parts[f"… calibrated by content-free inputs, {title}"] = table(sweep, f"{domain}_calibrated_accuracy")
        for name in sweep.profile.classes:
            parts[f"… on items of {name}, {title}"] = table(sweep, f"{domain}_accuracy_on_{name}")
    return pd.concat(parts)


def draw_cost(sweep: Sweep, predicted: pd.DataFrame, name: str) -> Figure:
    """The cost figure of a page, such as `fig2`; it is kept.

    Args:
        sweep: results of the methods to draw.
        predicted: rows of `lib.runs.predictions.of_profile`.
        name: the figure's, and that of the paper's figure whose points are drawn faintly.
    """
    drawn = drawn_costs(sweep, predicted)
    figure = cost_figure(drawn, name)
    save(figure, drawn, name, COST)
    return figure


def cost_table(sweep: Sweep, predicted: pd.DataFrame) -> pd.DataFrame:
    """Peak memory in GB and seconds as drawn: rows by quantity and method, columns by n, with 95% intervals."""
    drawn = drawn_costs(sweep, predicted)
    titles = {"memory_gb": "peak memory, GB", "method_seconds": "teacher's soft labels and training, s"}
    return pd.concat({title: table(drawn, quantity) for quantity, title in titles.items()})


def drawn_memory(sweep: Sweep, predicted: pd.DataFrame) -> Sweep:
    """The sweep with more columns of results: `memory_gb`, the peak that figures draw; `memory_is`, what it is;
    `weights_gb`, what the weights of the evaluated model take, in memory and in a checkpoint.

    The peak is what the GPU's allocator said, or, on a CPU, the highest predicted peak: resident memory holds what
    libraries keep for themselves, and is in the table by phase.

    Args:
        sweep: results.
        predicted: rows of `lib.runs.predictions.of_profile`.
    """
    results = sweep.results
    on_gpu = results.peak_measured == "cuda_allocated"
    peaks = _by_run(results, predicted[predicted.highest_phase.astype(bool)], "peak_gb")
    weights = _by_run(results, predicted[predicted.phase == "evaluation"], "parameters")
    memory = results.peak_gb.where(on_gpu, peaks)
    kinds = on_gpu.map({True: MEASURED, False: PREDICTED})
    return replace(sweep, results=results.assign(memory_gb=memory, memory_is=kinds, weights_gb=weights))


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


def _devices(results: pd.DataFrame) -> list[str]:
    """What the results were computed on, that of most results first."""
    return list(results.device.value_counts().index)


def _by_run(results: pd.DataFrame, predicted: pd.DataFrame, quantity: str) -> np.ndarray:
    """What is predicted for the method and support size of each row of the results; nan where nothing is."""
    places = pd.MultiIndex.from_frame(results[["method", "support_size"]])
    return predicted.set_index(["method", "support_size"])[quantity].reindex(places).to_numpy(dtype=float)


def cost_figure(sweep: Sweep, paper_figure: str) -> Figure:
    """Peak memory and time against support size.

    Memory is the highest peak of the teacher's and the training's phases for methods that train, the evaluation's for
    the others; measured peaks are filled, predicted ones hollow. Time is that of the teacher's soft labels and of the
    training, zero where there is neither. The paper's points are left out beside models a thousand times smaller, and
    on other data than the paper's.

    Args:
        sweep: results of the methods to draw, from `drawn_costs`.
        paper_figure: whose points of the paper to draw faintly, such as `fig6`.
    """
    house_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4))
    comparable = not sweep.results.memory_gb.max() < SMALL_GB
    of_paper = comparable and sweep.profile.in_domain == PAPER_DATASETS[IN_DOMAIN]
    paper = [paper_points(paper_figure, name) if of_paper else None for name in ("peak_memory", "training_time")]
    kinds = list(sweep.results.memory_is.unique())
    for i, kind in enumerate(kinds):
        of_kind = sweep.results[(sweep.results.memory_is == kind) & sweep.results.memory_gb.notna()]
        if of_kind.empty:
            continue
        shown = of_kind.assign(memory=of_kind.memory_gb * (1 if comparable else 1000))
        looks = {"fillstyle": "none", "errorbar": None} if kind == PREDICTED else {}
        _curves(left, replace(sweep, results=shown), "memory", None if i else paper[0], **looks)
    _curves(right, sweep, "method_seconds", paper[1])
    left.set(title="Memory", ylabel=f"peak of tensors, {'GB' if comparable else 'MB'}\n({_filled_and_hollow(kinds)})")
    right.set(title="Time", ylabel="teacher targets + training, s")
    for axis in (left, right):
        axis.set(xlabel="support examples n")
        axis.set_ylim(bottom=0)
    _legend(figure, sweep, [], paper[0] is not None and not paper[0].empty, _whose_times(sweep.results))
    return figure


def _filled_and_hollow(kinds: Sequence[str]) -> str:
    if len(kinds) > 1:
        return f"filled: {MEASURED}, hollow: {PREDICTED}"
    return f"{kinds[0]}, hollow" if kinds == [PREDICTED] else MEASURED


def table(sweep: Sweep, quantity: str) -> pd.DataFrame:
    """Methods by support sizes: mean and, where seeds differ, the 95% interval over them, as text."""
    summary = _summary(sweep, [quantity])
    digits = 2 if summary["mean"].max() > SMALL_GB else 4
    shown = summary[["mean", "low", "high"]].map(f"{{:.{digits}f}}".format).itertuples(index=False)
    differ = (summary["high"] - summary["low"]).round(digits) > 0
    text = [f"{mean} [{low}, {high}]" if seen else mean for (mean, low, high), seen in zip(shown, differ, strict=True)]
    runs = summary.assign(text=text).pivot(index="method", columns="support_size", values="text")
    order = [method for method in METHODS if method in runs.index]
    return runs.loc[order].rename(index=lambda name: METHODS[name].label).rename_axis("n =", axis=1).fillna("")


def phase_table(sweep: Sweep) -> pd.DataFrame:
    """Methods and support sizes by phase: mean seconds, tokens and peak in GB, and the trainable parameters.

    On CUDA the peak is shown twice: allocated to tensors, and reserved by the caching allocator.
    """
    results = sweep.results.assign(method=[METHODS[name].label for name in sweep.results.method])
    peaks = {"cuda_allocated": "GB", "cuda_reserved": "GB reserved", "rss": "GB", "tensors": "GB"}
    columns = {"trainable_parameters": "trained parameters"}
    for phase in (phase for phase in PHASES if f"{phase}_seconds" in results):
        columns |= {f"{phase}_{name}": f"{phase} {name}" for name in ("seconds", "tokens")}
        for name, label in peaks.items():
            if f"{phase}_{name}" in results and results[f"{phase}_{name}"].notna().any():
                results[f"{phase}_{name}"] = results[f"{phase}_{name}"].astype(float) / 1e9
                columns[f"{phase}_{name}"] = f"{phase} {label}"
    means = results.groupby(["method", "support_size"], sort=False)[list(columns)].mean().rename(columns=columns)
    whole = [name for name in means if name.endswith(("tokens", "parameters"))]
    text = {name: (lambda x: "" if pd.isna(x) else f"{x:,.0f}") if name in whole else _three_digits for name in means}
    return means.apply(lambda column: column.map(text[column.name]))


def _three_digits(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save(figure: Figure, sweep: Sweep, name: str, quantities: Sequence[str]) -> None:
    """Keep a figure with what it draws: means, intervals, seeds, devices."""
    summary = _summary(sweep, quantities)
    save_with(figure, sweep.profile, name, summary.assign(device=" and ".join(_devices(sweep.results))))


def _summary(sweep: Sweep, quantities: Sequence[str]) -> pd.DataFrame:
    """Means and intervals over seeds, which end where the values must: no score is over 1, nothing is below 0."""
    summary = summarise(sweep.results, quantities)
    highest = np.where(summary.quantity.isin(accuracy_columns(sweep.profile)), 1, np.inf)
    return summary.assign(low=summary.low.clip(lower=0), high=summary.high.clip(upper=highest))


def save_with(figure: Figure, profile: Profile, name: str, drawn: pd.DataFrame) -> None:
    """Write `<name>.png`, `.svg` and, of what is drawn, `.csv` to the profile's folder."""
    save_table(drawn, profile, name)
    figure.savefig(profile.folder / f"{name}.png")
    figure.savefig(profile.folder / f"{name}.svg", metadata={"Date": None})


def save_table(drawn: pd.DataFrame, profile: Profile, name: str) -> None:
    """Write `<name>.csv` to the profile's folder."""
    profile.folder.mkdir(parents=True, exist_ok=True)
    drawn.assign(profile=profile.name).to_csv(profile.folder / f"{name}.csv", index=False, float_format="%.6g")


def _curves(
    axis: Axes,
    sweep: Sweep,
    quantity: str,
    paper: pd.DataFrame | None = None,
    errorbar: Callable[[Sequence[float]], tuple[float, float]] | None = interval,
    fillstyle: str = "full",
) -> None:
    """One line a method over the support sizes; methods without a support set are level lines."""
    sizes = list(sweep.profile.support_sizes)
    reads_support = sweep.results.method.map(lambda name: METHODS[name].reads_support)
    for name, height in sweep.results[~reads_support].groupby("method")[quantity].mean().items():
        axis.axhline(height, color=METHODS[name].colour, linewidth=1.8, linestyle="--", zorder=1)
    curves = sweep.results[reads_support]
    shown = [method for method in METHODS if method in set(curves.method)]
    style = {
        "x": "support_size",
        "hue": "method",
        "hue_order": shown,
        "order": sizes,
        "palette": [METHODS[method].colour for method in shown],
        "markers": [METHODS[method].marker for method in shown],
        "dodge": _DODGE if len(shown) > 1 else False,
        "legend": False,
        "ax": axis,
    }
    looks = {"capsize": 0.06, "linewidth": 1.6, "err_kws": {"linewidth": 1.2}, "fillstyle": fillstyle}
    sns.pointplot(curves, y=quantity, errorbar=errorbar, **looks, **style)
    if paper is not None:
        known = paper[paper.method.isin(shown) & paper.support_size.isin(sizes)]
        if len(known):
            looks = {"linestyle": "none", "alpha": PAPER_ALPHA, "markeredgewidth": 2}
            sns.pointplot(known, y="value", errorbar=None, **looks, **style)
        for value in paper[paper.method == "baseline"].value.unique():
            style = {"alpha": PAPER_ALPHA, "linewidth": 3, "linestyle": ":", "zorder": 1}
            axis.axhline(value, color=METHODS["baseline"].colour, **style)


def _accuracy_limits(sweep: Sweep) -> tuple[float, float]:
    """From .2 (or what is lower) to a little above 1: intervals of few seeds may reach further and are cut there."""
    lowest = min(sweep.results[f"{domain}_accuracy"].min() for domain in sweep.profile.domains)
    return (min(0.2, lowest - 0.05), 1.03)


def _legend(
    figure: Figure, sweep: Sweep, further: Sequence[Line2D], with_paper: bool, notes: Sequence[str] = ()
) -> None:
    """One legend under the panels, and under it what the figure cannot draw."""
    present = [method for method in METHODS if method in set(sweep.results.method)]
    handles = [
        Line2D(
            [],
            [],
            color=METHODS[name].colour,
            marker=METHODS[name].marker,
            linestyle="-" if METHODS[name].marker else "--",
            label=METHODS[name].label,
        )
        for name in present
    ]
    if with_paper:
        handles.append(
            Line2D(
                [], [], color="grey", alpha=PAPER_ALPHA + 0.2, marker="o", linestyle="none", label="faint: the paper"
            )
        )
    figure.tight_layout()
    legend = figure.legend(
        handles=[*handles, *further], loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False
    )
    figure.canvas.draw()
    below = figure.transFigure.inverted().transform(legend.get_window_extent())[0][1]
    told = "\n".join([*_notes(sweep, with_paper), *notes])
    figure.text(0.5, below - 0.01, told, ha="center", va="top", size=9, color="0.35")


def _notes(sweep: Sweep, with_paper: bool) -> list[str]:
    seeds = of_seeds(_seeds(sweep.results))
    notes = [f"Profile {sweep.profile.name}; {seeds}; {' and '.join(_devices(sweep.results))}."]
    notes += [f"{METHODS[method].label}: refused, the model has no bias terms." for method in sweep.refused]
    notes += [f"{name}: failed, not drawn." for name in sweep.failed]
    return notes + ([f"Paper: {SOURCE}."] if with_paper else [])


def _seeds(results: pd.DataFrame) -> Collection[int]:
    """How many there are of each method that reads a support set, at each size; of all where none reads one."""
    reads_support = results.method.map(lambda name: METHODS[name].reads_support)
    counts = results[reads_support].groupby(["method", "support_size"])["seed"].nunique()
    return counts if len(counts) else [results.seed.nunique()]


def of_seeds(counts: Collection[int]) -> str:
    """What a figure's points and bars are, by the numbers of seeds behind them, in words."""
    return "one seed" if max(counts) == 1 else f"{from_to(counts)} seeds, mean and 95% interval"


def from_to(counts: Collection[int]) -> str:
    """The least and the most of some counts in words, or the one number that all of them are."""
    fewest, most = min(counts), max(counts)
    return f"{most}" if fewest == most else f"{fewest} to {most}"
