"""Figures and tables of in-context learning distillation: scores against k, and the paper's numbers."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.methods.records import Run
from lib.methods.table import METHODS
from lib.report.estimates import interval, with_interval
from lib.report.figures import REFERENCE_LINE, from_to, house_style
from lib.runs.execution import Sweep
from lib.runs.frames import METRICS, NO_SKILL, PARADIGMS, PHASES, STUDENTS

COLUMNS = ("teacher_untuned", "untuned", "teacher_ict", *STUDENTS)
PERCENT = (0, 100)  # what scores lie between


def paper_layout(means: pd.DataFrame, benchmark: str, k: int) -> pd.DataFrame:
    """The paper's table: a row a paradigm and metric; the teacher (ICT), then the student's ICT, ICL-D, ICL-D (LM).

    Before them what takes no skill, and what no tuning gives. Runs are means over seeds with 95% intervals.
    """
    rows = {}
    for paradigm, title in PARADIGMS.items():
        shown = means[(means.k == k) & (means.paradigm.isna() | (means.paradigm == paradigm))]
        if not shown.method.isin(STUDENTS).any():
            continue
        for metric, name in METRICS[benchmark].items():
            groups = shown.groupby("method", sort=False)[metric]
            found = {method: with_interval(values, digits=1, within=PERCENT) for method, values in groups}
            skill = {"without skill": f"{shown[NO_SKILL[metric]].mean():.1f}"}
            rows[title, name] = skill | {METHODS[one].label: found[one] for one in COLUMNS if one in found}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def cost_table(means: pd.DataFrame) -> pd.DataFrame:
    """What each tuned method cost under each paradigm, means over seeds: tokens, seconds and peak memory by phase.

    The teacher's tuning is shared by the students that it teaches, and is in a column of its own.
    """
    tuned = means[means.paradigm.notna() & (means.k == means.k.max())]
    groups = tuned.groupby(["paradigm", "method"], sort=False)
    columns = {
        f"{phase} {title}": groups[f"{phase}_{quantity}"].mean() * scale
        for quantity, title, scale in (("tokens", "10³ tokens", 1e-3), ("seconds", "s", 1), ("gb", "GB", 1))
        for phase in PHASES
        if f"{phase}_{quantity}" in tuned
    }
    table = pd.DataFrame(columns)
    names = [(PARADIGMS[paradigm], METHODS[method].label) for paradigm, method in table.index]
    return table.set_axis(pd.MultiIndex.from_tuples(names, names=["", ""]))


UNITS = {"crossfit": "tasks", "lama": "relations"}

# arXiv 2212.10670; what is not published is left out.
_MULTITASK = "32 examples of each target, and 32 for validation"

PAPER_SCALE = {
    "crossfit": {"models": "GPT-2 large, medium, small", "tuned on, Multitask-ICT": _MULTITASK},
    "lama": {"models": "BERT large, base, small", "tuned on, Multitask-ICT": _MULTITASK},
}

NUMBERS = Path(__file__).with_name("in_context_paper_numbers.csv")
DODGE = 0.05


def paper_table(benchmark: str) -> pd.DataFrame:
    """The paper's own numbers for a benchmark in its own layout: a row a paradigm and pair of models."""
    numbers = pd.read_csv(NUMBERS, comment="#")
    of_benchmark = numbers[numbers.benchmark == benchmark]
    pairs = of_benchmark.teacher + " → " + of_benchmark.student
    wide = of_benchmark.assign(pair=pairs, paradigm=of_benchmark.paradigm.map(PARADIGMS)).pivot(
        index=["paradigm", "pair"], columns=["method", "metric"], values="value"
    )
    columns = [one for one in COLUMNS if one in wide]
    shown = {METHODS[one].label: _joined(wide[one][list(METRICS[benchmark])]) for one in columns}
    return pd.DataFrame(shown).rename_axis(index=["", ""])


def _joined(values: pd.DataFrame) -> pd.Series:
    return values.apply(lambda row: " / ".join(f"{value:.1f}" for value in row), axis=1)


def curves_figure(means: pd.DataFrame, benchmark: str) -> Figure:
    """Scores in percent against k, a column a paradigm and a row a metric: means over seeds with 95% intervals.

    Dotted lines are what takes no skill: the commonest answer of each task, for precision at 10 a random order.
    """
    house_style()
    metrics = METRICS[benchmark]
    paradigms = {name: title for name, title in PARADIGMS.items() if (means.paradigm == name).any()}
    shape = {"figsize": (11, 3.6 * len(metrics) + 0.6), "sharex": True, "sharey": "row", "squeeze": False}
    figure, axes = plt.subplots(len(metrics), len(paradigms), **shape)
    for column, (paradigm, title) in enumerate(paradigms.items()):
        shown = means[means.paradigm.isna() | (means.paradigm == paradigm)]
        for axis, (metric, name) in zip(axes[:, column], metrics.items(), strict=True):
            _lines(axis, shown, metric)
            axis.set(title=title if axis is axes[0, column] else "", ylabel=name if column == 0 else "", ylim=(0, 103))
            axis.axhline(shown[NO_SKILL[metric]].mean(), label="without skill", **REFERENCE_LINE)
        axes[-1, column].set(xlabel="demonstrations k", xticks=sorted(means.k.unique()))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.1 / len(metrics))}
    figure.legend(handles, labels, ncols=4, frameon=False, **place)
    figure.tight_layout()
    return figure


def _lines(axis: Axes, means: pd.DataFrame, metric: str) -> None:
    present = [method for method in COLUMNS if (means.method == method).any()]
    for place, method in enumerate(present):
        groups = means[means.method == method].groupby("k")[metric]
        heights = groups.mean()
        low, high = np.array([interval(values, within=PERCENT) for _, values in groups]).T
        errors = np.nan_to_num([heights - low, high - heights])
        shown = METHODS[method]
        places = heights.index + DODGE * (place - len(present) / 2)
        looks = {"color": shown.colour, "marker": shown.marker, "label": shown.label}
        axis.errorbar(places, heights, errors, capsize=2, **looks)


def scale(sweep: Sweep, benchmark: str) -> pd.DataFrame:
    """How large this run is, beside what is known of the paper's: a row a quantity."""
    runs = [result.run for result in sweep.stored]
    tasks = {task.task: len(task.gold) for result in sweep.stored for task in result.outcome.tasks}
    tuned = next((run for run in runs if run.in_context.episodes), None)
    models = {run.model: None for run in runs}
    here = {
        "models": ", ".join(Path(model).name for model in models),
        "targets": f"{len(tasks)} {UNITS[benchmark]}, {from_to(tasks.values())} items of each",
        "seeds": _seeds(runs),
    }
    if tuned:
        steps, batch = tuned.in_context.episodes.steps, tuned.training.batch_size
        limit = tuned.task.training_tasks
        here |= {
            "tuned on, Meta-ICT": f"{'all other' if limit is None else f'at most {limit}'} {UNITS[benchmark]}",
            "tuned on, Multitask-ICT": f"at most {tuned.task.examples} examples of each target",
            "steps": f"{steps} of {batch} episodes",
            "the student's learning rate": _rates(runs),
        }
    return pd.DataFrame({"here": here, "the paper": PAPER_SCALE[benchmark]}, index=list(here)).fillna("not known")


def _seeds(runs: Sequence[Run]) -> str:
    """How many there are, or how many under each paradigm of what is tuned."""
    of = {title: {run.seed for run in runs if run.in_context.paradigm == name} for name, title in PARADIGMS.items()}
    told = ", ".join(f"{len(seeds)} under {title}" for title, seeds in of.items() if seeds)
    return told or str(len({run.seed for run in runs}))


def _rates(runs: Sequence[Run]) -> str:
    """The learning rate of tuned students, or that under each paradigm where they differ."""
    of = {run.in_context.paradigm: f"{run.training.learning_rate:g}" for run in runs if run.training}
    if len({*of.values()}) == 1:
        return next(iter(of.values()))
    return ", ".join(f"{of[name]} under {title}" for name, title in PARADIGMS.items() if name in of)


def left_out(sweep: Sweep) -> pd.Series:
    """Tasks that the benchmark names and the results do not have, with reasons."""
    reasons: dict[str, str] = {}
    for result in sweep.stored:
        reasons |= result.outcome.left_out
    return pd.Series(reasons, name="left out because", dtype=object)


def by_task(tasks: pd.DataFrame, benchmark: str, k: int, methods: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """The first metric of each target task at k, means over seeds: a row a task, columns paradigm and method.

    Before them how many items are scored, how many options the task has in all, and what takes no skill.
    """
    metric = next(iter(METRICS[benchmark]))
    shown = tasks[(tasks.k == k) & tasks.method.isin(methods)]
    names = shown.assign(
        paradigm=shown.paradigm.map(PARADIGMS).fillna("untuned"),
        method=shown.method.map(lambda name: METHODS[name].label),
    )
    table = names.pivot_table(metric, "task", ["paradigm", "method"], sort=False).rename_axis(None)
    of_task = names.groupby("task")[["items", "options", NO_SKILL[metric]]].first()
    for place, (title, values) in enumerate(of_task.rename(columns={NO_SKILL[metric]: "without skill"}).items()):
        table.insert(place, ("", title), values)
    return table
