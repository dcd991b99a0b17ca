"""One example followed through all methods, from what is stored: what each model answers and how far it is off."""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.methods.context_distillation import METHODS
from lib.methods.examples import evaluation_items
from lib.models.losses import cross_entropy, kl_divergence
from lib.report.figures import REFERENCE_LINE, house_style
from lib.runs.execution import Sweep
from lib.runs.profile import Profile
from lib.tasks.task import IN_DOMAIN, Query


def tour_example(profile: Profile, position: int) -> Query:
    """The in-domain evaluation item at `position`; every method was scored on it."""
    return evaluation_items(profile.task(profile.seeds[0]), IN_DOMAIN)[position]


def answers(sweep: Sweep, position: int, support_size: int, seed: int) -> pd.DataFrame:
    """What each method answers to one in-domain evaluation item, and its two losses there.

    Returns:
        A row a method: the probability of each class among the label words, whether the likeliest is right,
        KL(teacher with demonstrations ‖ method) and the cross-entropy with the gold label, in nats.
    """
    rows = {}
    teacher = _label_log_probs(sweep, "teacher_icl", position, support_size, seed)
    for method in METHODS:
        found = _label_log_probs(sweep, method, position, support_size, seed)
        if found is None:
            continue
        log_probs, gold = found
        shares = torch.softmax(log_probs, dim=-1)[0].tolist()
        rows[METHODS[method].label] = {
            **{f"P({name})": share for name, share in zip(sweep.profile.classes, shares, strict=True)},
            "right": shares[gold] == max(shares),
            "KL from teacher": kl_divergence(teacher[0], log_probs).item() if teacher else float("nan"),
            "CE": cross_entropy(log_probs, torch.tensor([gold])).item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _label_log_probs(
    sweep: Sweep, method: str, position: int, support_size: int, seed: int
) -> tuple[torch.Tensor, int] | None:
    wanted = {(support_size, seed)} if METHODS[method].reads_support else {(0, seed), (0, 0)}
    for result in sweep.stored:
        if result.run.method == method and (result.run.support_size, result.run.seed) in wanted:
            evaluation = result.outcome.evaluations[IN_DOMAIN]
            return torch.tensor([evaluation.label_log_probs[position]]), evaluation.gold[position]
    return None


def answers_figure(answered: pd.DataFrame, gold: str) -> Figure:
    """Each method's probability of the gold class; right of the line it is more likely than all others together.

    Args:
        answered: from `answers`.
        gold: the gold class.
    """
    house_style()
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(answered) + 1.2))
    colours = [method.colour for method in METHODS.values() if method.label in answered.index]
    axis.barh(answered.index, answered[f"P({gold})"], color=colours)
    axis.axvline(0.5, **REFERENCE_LINE)
    axis.set(xlim=(0, 1), xlabel=f"P({gold}) among the label words; {gold} is right")
    axis.invert_yaxis()
    figure.tight_layout()
    return figure
