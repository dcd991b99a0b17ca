"""One example followed through all methods, from what is stored: what each model answers and how far it is off."""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.methods.context_distillation import METHODS
from lib.methods.reading import evaluation_items
from lib.models.losses import cross_entropy, kl_divergence
from lib.report.figures import COLOURS, REFERENCE_LINE, house_style
from lib.runs.execution import Sweep
from lib.runs.profile import Profile
from lib.tasks.task import Example


def tour_example(profile: Profile, position: int) -> Example:
    """The in-domain evaluation item at `position`; every method was scored on it."""
    return evaluation_items(profile.task(profile.seeds[0]), profile.in_domain)[position]


def answers(sweep: Sweep, position: int, support_size: int, seed: int) -> pd.DataFrame:
    """What each method answers to one in-domain evaluation item, and its two losses there.

    Returns:
        A row a method: the probability of the entailment word among the two label words, the predicted class's gold
        agreement, KL(teacher with demonstrations ‖ method) and the cross-entropy with the gold label, in nats.
    """
    rows = {}
    teacher = _label_log_probs(sweep, "teacher_icl", position, support_size, seed)
    for method in METHODS:
        found = _label_log_probs(sweep, method, position, support_size, seed)
        if found is None:
            continue
        log_probs, gold = found
        every = torch.tensor([True])
        probability = torch.softmax(log_probs, dim=-1)[0, 0].item()
        rows[METHODS[method].label] = {
            "P(entailment)": probability,
            "right": (probability >= 0.5) == (gold == 0),
            "KL from teacher": kl_divergence(teacher[0], log_probs, every).item() if teacher else float("nan"),
            "CE": cross_entropy(log_probs, torch.tensor([gold]), every).item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _label_log_probs(
    sweep: Sweep, method: str, position: int, support_size: int, seed: int
) -> tuple[torch.Tensor, int] | None:
    wanted = {(support_size, seed)} if METHODS[method].reads_support else {(0, seed), (0, 0)}
    for record in sweep.records:
        run = record["cell"]
        if run["method"] == method and (run["support_size"], run["seed"]) in wanted:
            item = record["outcome"]["in_domain"]
            return torch.tensor([item["label_log_probs"][position]]), int(item["gold"][position])
    return None


def answers_figure(answered: pd.DataFrame, gold: int) -> Figure:
    """Each method's probability of the entailment word; right of the line is the answer entailment."""
    house_style()
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(answered) + 1.2))
    colours = [COLOURS[name] for name, method in METHODS.items() if method.label in answered.index]
    axis.barh(answered.index, answered["P(entailment)"], color=colours)
    axis.axvline(0.5, **REFERENCE_LINE)
    axis.set(
        xlim=(0, 1), xlabel=f"P(entailment) among the two label words; gold is {'entailment' if gold == 0 else 'not'}"
    )
    axis.invert_yaxis()
    figure.tight_layout()
    return figure
