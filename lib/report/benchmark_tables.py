"""Figures and tables of in-context learning distillation: scores against k, and the paper's numbers."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.evidence.estimates import summarise
from lib.methods.table import METHODS
from lib.report.figures import REFERENCE_LINE, curves, from_to, house_style, interval_table, legend_below, phase_table
from lib.runs.execution import Sweep
from lib.runs.frames import METRICS, NO_SKILL, PARADIGMS, STUDENTS

COLUMNS = ("teacher_untuned", "untuned", "teacher_ict", *STUDENTS)
SHOWN = {name: METHODS[name] for name in COLUMNS}
UNITS = {"crossfit": "tasks", "lama": "relations"}

# arXiv 2212.10670; what is not published is left out.
_MULTITASK = "32 examples of each target, and 32 for validation"

PAPER_SCALE = {
    "crossfit": {"models": "GPT-2 large, medium, small", "tuned on, Multitask-ICT": _MULTITASK},
    "lama": {"models": "BERT large, base, small", "tuned on, Multitask-ICT": _MULTITASK},
}

NUMBERS = Path(__file__).with_name("in_context_paper_numbers.csv")


def _under_each(means: pd.DataFrame) -> pd.DataFrame:
    """The rows of each paradigm that something was tuned under, by its title; what is not tuned stands under each."""
    parts = [
        means[means.paradigm.isna() | (means.paradigm == name)].assign(paradigm=title)
        for name, title in PARADIGMS.items()
        if name in set(means.paradigm)
    ]
    return pd.concat(parts) if parts else means[:0]


def _summary(means: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """Scores in percent by metric, paradigm, method and number of demonstrations (`support_size`)."""
    table = _under_each(means).rename(columns={"k": "support_size"})
    metrics = METRICS[benchmark]
    return summarise(table, list(metrics), ["paradigm", "method", "support_size"], dict.fromkeys(metrics, 100.0))


def paper_layout(means: pd.DataFrame, benchmark: str, k: int) -> pd.DataFrame:
    """The paper's table: a row a paradigm and metric; the teacher (ICT), then the student's ICT, ICL-D, ICL-D (LM).

    Before them what takes no skill, and what no tuning gives. Runs are means over seeds with 95% intervals.
    """
    rows, metrics = means[means.k == k], METRICS[benchmark]
    taught = rows[rows.method.isin(STUDENTS)].paradigm
    rows = rows[rows.paradigm.isna() | rows.paradigm.isin(taught)]
    summary = _summary(rows, benchmark)
    if summary.empty:
        return pd.DataFrame()
    table = interval_table(summary, SHOWN, ["paradigm", "quantity"], "method", digits=1)
    no_skill = _under_each(rows).groupby("paradigm")[[NO_SKILL[metric] for metric in metrics]].mean()
    table.insert(0, "without skill", [f"{no_skill.loc[title, NO_SKILL[metric]]:.1f}" for title, metric in table.index])
    places = [(title, metric) for title in no_skill.index for metric in metrics]
    return table.reindex(places).rename(index=metrics).rename_axis(index=[None, None])


def cost_table(means: pd.DataFrame) -> pd.DataFrame:
    """What each tuned method cost under each paradigm, as `lib.report.figures.phase_table` shows it.

    The teacher's tuning is shared by the students that it teaches, and is in a column of its own.
    """
    tuned = means[means.paradigm.notna() & (means.k == means.k.max())]
    named = tuned.assign(paradigm=tuned.paradigm.map(PARADIGMS))
    return phase_table(named, SHOWN, ["paradigm", "method"]).rename_axis(index=[None, None])


def paper_table(benchmark: str) -> pd.DataFrame:
    """The paper's own numbers for a benchmark in its own layout: a row a paradigm and pair of models."""
    numbers = pd.read_csv(NUMBERS, comment="#")
    named = numbers[numbers.benchmark == benchmark].assign(
        paradigm=numbers.paradigm.map(PARADIGMS),
        pair=numbers.teacher + " → " + numbers.student,
        text=numbers.value.map("{:.1f}".format),
    )
    table = named.pivot_table("text", ["paradigm", "pair"], "method", aggfunc=" / ".join)
    labels = {name: method.label for name, method in SHOWN.items() if name in table}
    return table[list(labels)].rename(columns=labels).rename_axis(index=["", ""], columns=None)


def curves_figure(means: pd.DataFrame, benchmark: str) -> Figure:
    """Scores in percent against k, a column a paradigm and a row a metric: means over seeds with 95% intervals.

    Dotted lines are what takes no skill: the commonest answer of each task, for precision at 10 a random order.
    """
    house_style()
    rows, summary = _under_each(means), _summary(means, benchmark)
    metrics, titles = METRICS[benchmark], list(dict.fromkeys(rows.paradigm))
    shape = {"figsize": (11, 3.6 * len(metrics) + 0.6), "sharex": True, "sharey": "row", "squeeze": False}
    figure, axes = plt.subplots(len(metrics), len(titles), **shape)
    for column, title in enumerate(titles):
        of_title = summary[summary.paradigm == title]
        for axis, metric in zip(axes[:, column], metrics, strict=True):
            curves(axis, of_title[of_title.quantity == metric], sorted(means.k.unique()), SHOWN)
            no_skill = rows[rows.paradigm == title][NO_SKILL[metric]].mean()
            axis.axhline(no_skill, label="without skill", **REFERENCE_LINE)
            axis.set_ylim(0, 103)
        axes[0, column].set_title(title)
        axes[-1, column].set_xlabel("demonstrations k")
    for axis, name in zip(axes[:, 0], metrics.values(), strict=True):
        axis.set_ylabel(name)
    legend_below(figure)
    return figure


def scale(sweep: Sweep, benchmark: str) -> pd.DataFrame:
    """How large this run is, beside what is known of the paper's: a row a quantity."""
    runs = [result.run for result in sweep.stored]
    tasks = {task.task: len(task.gold) for result in sweep.stored for task in result.outcome.tasks}
    tuned = next((run for run in runs if run.in_context.episodes), None)
    models, seeds = dict.fromkeys(run.model for run in runs), {(run.in_context.paradigm, run.seed) for run in runs}
    here = {
        "models": ", ".join(Path(model).name for model in models),
        "targets": f"{len(tasks)} {UNITS[benchmark]}, {from_to(tasks.values())} items of each",
        "seeds": _by_paradigm(Counter(paradigm for paradigm, _ in seeds)),
    }
    if tuned:
        steps, batch = tuned.in_context.episodes.steps, tuned.training.batch_size
        limit = tuned.task.training_tasks
        rates = {run.in_context.paradigm: f"{run.training.learning_rate:g}" for run in runs if run.training}
        here |= {
            "tuned on, Meta-ICT": f"{'all other' if limit is None else f'at most {limit}'} {UNITS[benchmark]}",
            "tuned on, Multitask-ICT": f"at most {tuned.task.examples} examples of each target",
            "steps": f"{steps} of {batch} episodes",
            "the student's learning rate": _by_paradigm(rates),
        }
    return pd.DataFrame({"here": here, "the paper": PAPER_SCALE[benchmark]}, index=list(here)).fillna("not known")


def _by_paradigm(values: Mapping[str | None, object]) -> str:
    """Each paradigm's value, or the one value where all are alike; without a paradigm where nothing is tuned."""
    titled = {title: values[name] for name, title in PARADIGMS.items() if name in values} or values
    if len({*titled.values()}) == 1:
        return str(next(iter(titled.values())))
    return ", ".join(f"{value} under {title}" for title, value in titled.items())


def left_out(sweep: Sweep) -> pd.Series:
    """Tasks that the benchmark names and the results do not have, with reasons."""
    reasons: dict[str, str] = {}
    for result in sweep.stored:
        reasons |= result.outcome.left_out
    return pd.Series(reasons, name="left out because", dtype=object)


def by_task(tasks: pd.DataFrame, benchmark: str, k: int) -> pd.DataFrame:
    """The first metric of each target task at k, means over seeds: a row a task, columns paradigm and method.

    Before them how many items are scored, how many options the task has in all, and what takes no skill.
    """
    metric = next(iter(METRICS[benchmark]))
    rows = tasks[tasks.k == k]
    names = rows.assign(
        paradigm=rows.paradigm.map(PARADIGMS).fillna("untuned"),
        method=rows.method.map(lambda name: SHOWN[name].label),
    )
    table = names.pivot_table(metric, "task", ["paradigm", "method"], sort=False).rename_axis(None)
    of_task = names.groupby("task")[["items", "options", NO_SKILL[metric]]].first()
    for place, (title, values) in enumerate(of_task.rename(columns={NO_SKILL[metric]: "without skill"}).items()):
        table.insert(place, ("", title), values)
    return table
