"""The numbers that arXiv 2412.13243 shows, read off its figures, to be drawn faintly beside ours."""

from pathlib import Path

import pandas as pd

NUMBERS = Path(__file__).with_name("paper_numbers.csv")

# The datasets of the paper, by domain.
PAPER_DATASETS = {"in_domain": "mnli", "out_of_domain": "hans"}
SOURCE = "arXiv 2412.13243 (OPT-1.3B → OPT-125M), read off its figures by pixel: accuracy ±0.01, GB ±0.03, s ±0.5"


def paper_points(figure: str, quantity: str) -> pd.DataFrame:
    """Points of one quantity in one of the paper's figures: columns method, support_size, value.

    Args:
        figure: `fig1`, `fig5` or `fig6`; figures 2 to 4 could not be read, so they give no rows.
        quantity: `in_domain_accuracy`, `out_of_domain_accuracy`, `peak_memory` (GB) or `training_time` (s).
    """
    numbers = pd.read_csv(NUMBERS, comment="#")
    chosen = numbers[(numbers.figure == figure) & (numbers.quantity == quantity)]
    return chosen[["method", "support_size", "value"]].reset_index(drop=True)
