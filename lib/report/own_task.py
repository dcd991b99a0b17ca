"""What a student of one's own came to, as a table and a verdict; and what can be said before anything is computed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from lib.evidence.claims import MORE, SIGNIFICANT, verdict
from lib.evidence.estimates import HOW, Estimate, correct_items, with_bounds
from lib.memory import predictions
from lib.memory.peaks import Setting
from lib.memory.prompt_lengths import real_lengths
from lib.methods.calibration import Calibration
from lib.methods.context_distillation import answers_of
from lib.methods.encoder import encoder_of
from lib.methods.examples import evaluation_items, examples_of, rows_by_length
from lib.methods.records import Run
from lib.methods.table import METHODS
from lib.report import operations
from lib.report.limit import flops_a_second
from lib.runs import preflight
from lib.runs.execution import Sweep, as_paragraphs
from lib.runs.profile import Profile
from lib.runs.store import Result
from lib.tasks.patterns import CONTENT_FREE_TEXTS
from lib.tasks.task import IN_DOMAIN

RIVALS = {"baseline": "the untuned student", "icl": "the student that reads the demonstrations (ICL)"}


@dataclass(frozen=True, repr=False)
class Report:
    """A table of methods, and what it says: text in a terminal, a table in Jupyter."""

    table: pd.DataFrame
    verdict: str
    notes: Sequence[str]

    def __repr__(self) -> str:
        return "\n".join([self.table.to_string(), "", self.verdict, *self.notes])

    def _repr_html_(self) -> str:
        return self.table.to_html() + as_paragraphs([self.verdict, *self.notes])


def report(sweep: Sweep, method: str, size: int, held_back: str) -> Report:
    """The accuracies on held-back rows with their intervals, what a query costs, and whether it was worth it.

    Args:
        sweep: results of `baseline`, `icl`, `teacher_icl` and the method.
        method: how the student was trained.
        size: demonstrations.
        held_back: in words, which rows are evaluated.
    """
    peaks = predictions.of_profile(sweep.profile, [*RIVALS, "teacher_icl", method])
    titles = {
        "teacher_icl": f"teacher, {size} demonstrations",
        "baseline": "student, untuned",
        "icl": f"student, {size} demonstrations (ICL)",
        method: f"student, distilled ({METHODS[method].label})",
    }
    table = pd.DataFrame({title: _row(sweep, name, size, peaks) for name, title in titles.items()}).T
    items = len(sweep.stored[0].outcome.evaluations[IN_DOMAIN].gold)
    notes = [
        f"Accuracy on {items} held-back rows, {held_back}; intervals of 95%, over these rows and over seeds if there "
        "are several. Calibrated: without the method's label prior.",
        "Seconds a query: asked in batches, demonstrations read once for all. GB: the peak of that, weights included, "
        "as measured on a GPU, otherwise as predicted.",
    ]
    return Report(table, worth(sweep, method, size), notes)


def _row(sweep: Sweep, method: str, size: int, peaks: pd.DataFrame) -> dict[str, str]:
    right = {name: _accuracy(sweep, method, size, how) for name, how in HOW.items()}
    seconds = [_seconds(result) for result in sweep.stored if result.run.method == method]
    measured = sweep.results.evaluation_gb[sweep.results.method == method].mean()
    predicted = peaks.peak_gb[(peaks.method == method) & (peaks.phase == "evaluation")].mean()
    gb = predicted if pd.isna(measured) else measured
    return {
        **{name: with_bounds(one.value, *one.bounds()) for name, one in right.items()},
        "seconds a query": f"{sum(seconds) / len(seconds):.3f}",
        "GB": "not known" if pd.isna(gb) else f"{gb:.2f}",
    }


def _accuracy(sweep: Sweep, method: str, size: int, how: Calibration) -> Estimate:
    return correct_items(sweep.stored, IN_DOMAIN, method, how).accuracy(size, sweep.profile.seeds)


def _seconds(result: Result) -> float:
    asked = sum(len(one.gold) + len(CONTENT_FREE_TEXTS) for one in result.outcome.evaluations.values())
    return result.outcome.costs["evaluation"].seconds / asked


def worth(sweep: Sweep, method: str, size: int) -> str:
    """In a sentence, whether distilling was worth it, by the rule of `lib.evidence.claims.verdict`.

    It was where the distilled student is right more often than both rivals, plain and calibrated; it was not where one
    of the four intervals lies below 0. They are wider than those of the table: together they are as sure as one.
    """
    level, verdicts, said = 1 - SIGNIFICANT / (len(RIVALS) * len(HOW)), set(), []
    for rival, title in RIVALS.items():
        shown = []
        for how in HOW.values():
            gain = _accuracy(sweep, method, size, how) - _accuracy(sweep, rival, size, how)
            verdicts.add(verdict(*gain.bounds(level), MORE))
            shown.append(with_bounds(gain.value, *gain.bounds(level), "{:+.2f}".format))
        said.append(f"{shown[0]} (calibrated {shown[1]}) beside {title}")
    answer = "It was not worth it" if "contradicted" in verdicts else "It cannot be told whether it was worth it"
    answer = "It was worth it" if verdicts == {"supported"} else answer
    return f"{answer}: the distilled student's accuracy is {' and '.join(said)}."


def checked(profile: Profile) -> Iterator[str]:
    """What a profile would do, line by line: no weights are read, and nothing is computed but predictions.

    Raises:
        StudyError: a setting cannot work.
    """
    runs = profile.runs()
    refused = preflight.check(runs, weights=False)
    left = [run for run in runs if run not in refused]
    run = max(left, key=lambda run: (run.distillation is not None, run.support_size))
    yield f"Profile {profile.name}: {len(runs)} runs of {', '.join(profile.methods)}; results go to {profile.folder}."
    yield from (f"Left out: {reason}" for reason in dict.fromkeys(refused.values()))
    yield from _of_data(run)
    yield from _of_prompts(run, profile.teacher)
    for peak in predictions.of_profile(profile, [run.method]).itertuples():
        yield f"Memory of {run.method}, {peak.phase}: {peak.peak_gb:.2f} GB at most, weights included (predicted)."
    yield f"Time: about {_minutes(left):.0f} min on this machine as it is now; it may be half or twice as much."


def _of_data(run: Run) -> Iterator[str]:
    task, examples = run.task, examples_of(run)
    rows = {
        "Rows to learn from": rows_by_length(task, IN_DOMAIN, "train")[0],
        "Rows to evaluate": rows_by_length(task, IN_DOMAIN, "evaluation")[0],
        "Of these evaluated, and never learnt from": examples.evaluation[IN_DOMAIN],
        "Demonstrations": examples.support,
    }
    for title, some in rows.items():
        counts = Counter(row.gold for row in some)
        shares = ", ".join(f"{counts[place]} {name}" for place, name in enumerate(task.classes))
        yield f"{title}: {len(some)} ({shares})."
    yield f"Unlabelled queries: {sum(map(len, examples.pool))}."


def _of_prompts(run: Run, teacher: str) -> Iterator[str]:
    example = evaluation_items(run.task, IN_DOMAIN)[0]
    yield from ("One prompt, as the student reads it:", *(f"    {line}" for line in example.text.splitlines()))
    for who, model in {"student": run.model, "teacher": teacher}.items():
        encoder = encoder_of(model)
        spelled = (encoder.tokenizer.convert_ids_to_tokens(ids) for ids in answers_of(encoder, run.task))
        said = ", ".join(f"{name}: {' '.join(one)}" for name, one in zip(run.task.classes, spelled, strict=True))
        yield f"Label words as the {who}'s tokens: {said}."


def _minutes(runs: Sequence[Run]) -> float:
    """Of all phases of the runs, at the share of the speed of a product that the study reaches."""
    settings = {run: Setting(run, real_lengths(run)) for run in runs}
    work = [operations.of_run(one) for one in settings.values()]
    work += [operations.of_labelling(settings[run]) for run in {run.needs: run for run in runs if run.needs}.values()]
    rate = operations.UTILISATION * flops_a_second(runs[0].device)
    return sum(each.total() for each in work) / rate / 60
