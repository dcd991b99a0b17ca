"""One example followed through all methods, from what is stored: what each model answers and how far it is off."""

import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.methods.table import METHODS
from lib.models.losses import cross_entropy, kl_divergence
from lib.report.figures import REFERENCE_LINE, house_style
from lib.runs.execution import Sweep
from lib.tasks.task import IN_DOMAIN


def answers(sweep: Sweep, position: int, support_size: int, seed: int) -> pd.DataFrame:
    """What each method answers to one in-domain evaluation item, and its two losses there.

    Returns:
        A row a method: the probability of each class among the label words, whether the likeliest is right (of tied
        ones a share), KL(teacher with demonstrations ‖ method) and the cross-entropy with the gold label, in nats.
    """
    wanted = {True: [(support_size, seed)], False: [(0, 0), (0, seed)]}  # by whether the support set is read
    evaluations = {
        result.run.method: result.outcome.evaluations[IN_DOMAIN]
        for result in sweep.stored
        if (result.run.support_size, result.run.seed) in wanted[METHODS[result.run.method].reads_support]
    }
    log_probs = {name: torch.tensor([evaluated.label_log_probs[position]]) for name, evaluated in evaluations.items()}
    teacher = log_probs.get("teacher_icl", torch.full((1, len(sweep.profile.classes)), torch.nan))
    rows = {}
    for method in (name for name in METHODS if name in evaluations):
        shares, gold = log_probs[method].softmax(-1)[0].tolist(), evaluations[method].gold[position]
        rows[METHODS[method].label] = {
            **{f"P({name})": share for name, share in zip(sweep.profile.classes, shares, strict=True)},
            "right": evaluations[method].correct()[position],
            "KL from teacher": kl_divergence(teacher, log_probs[method]).item(),
            "CE": cross_entropy(log_probs[method], torch.tensor([gold])).item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def answers_figure(answered: pd.DataFrame, gold: str) -> Figure:
    """Each method's probability of the gold class, from `answers`; right of the line it is likelier than all others."""
    house_style()
    colours = [method.colour for method in METHODS.values() if method.label in answered.index]
    shape = {"figsize": (8, 0.45 * len(answered) + 1.2), "xlim": (0, 1)}
    label = f"P({gold}) among the label words; {gold} is right"
    axis = answered[f"P({gold})"].plot.barh(color=colours, width=0.8, xlabel=label, **shape)
    axis.axvline(0.5, **REFERENCE_LINE)
    axis.invert_yaxis()
    axis.figure.tight_layout()
    return axis.figure
