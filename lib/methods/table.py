"""The methods of both papers: who answers, with what in its prompt, trained on what, and how figures show it."""

from dataclasses import dataclass

from lib.models.tuning import Tuning


@dataclass(frozen=True)
class Method:
    """What sets a method apart.

    Attributes:
        label: its name in figures.
        colour: of its lines and points.
        marker: of its points; empty for a level line.
        teacher_answers: the teacher is evaluated, not the student.
        demonstrations: the evaluated model reads demonstrations in its prompt.
        tuning: what of the student is trained on its support set or pool, None for nothing.
        distils: the student learns from the teacher's answers.
        on_benchmark: it belongs to in-context learning distillation, and is evaluated on a benchmark's tasks.
        episodes: the evaluated model is in-context tuned: trained on episodes of a benchmark's tasks.
        plain_text: the language-modelling terms are in the loss.
    """

    label: str
    colour: str
    marker: str
    teacher_answers: bool = False
    demonstrations: bool = False
    tuning: Tuning | None = None
    distils: bool = False
    on_benchmark: bool = False
    episodes: bool = False
    plain_text: bool = False

    @property
    def reads_support(self) -> bool:
        """Its result depends on the support set."""
        return self.demonstrations or self.tuning is not None


def _on_benchmark(label: str, colour: str, marker: str, **what: bool) -> Method:
    return Method(label, colour, marker, demonstrations=True, on_benchmark=True, **what)


# In the order in which they are run. Colours are those of seaborn's colour-blind palette, and greys.
METHODS = {
    # context distillation (arXiv 2412.13243)
    "baseline": Method("Baseline", "#949494", ""),
    "icl": Method("ICL", "#DE8F05", "o", demonstrations=True),
    "teacher_icl": Method("Teacher ICL", "#262626", "*", teacher_answers=True, demonstrations=True),
    "pbft": Method("PBFT", "#0173B2", "s", tuning="full"),
    "pbft_lora": Method("PBFT + LoRA", "#CC78BC", "^", tuning="lora"),
    "pbft_bitfit": Method("PBFT + BitFit", "#CA9161", "v", tuning="bitfit"),
    "cd": Method("CD", "#029E73", "D", tuning="full", distils=True),
    "cd_lora": Method("CD + LoRA", "#D55E00", "P", tuning="lora", distils=True),
    "cd_bitfit": Method("CD + BitFit", "#56B4E9", "X", tuning="bitfit", distils=True),
    # in-context learning distillation (arXiv 2212.10670)
    "untuned": _on_benchmark("untuned", "#DE8F05", "o"),
    "teacher_untuned": _on_benchmark("teacher, untuned", "#999999", "*", teacher_answers=True),
    "teacher_ict": _on_benchmark("teacher (ICT)", "#262626", "*", teacher_answers=True, episodes=True),
    "ict": _on_benchmark("ICT", "#0173B2", "s", episodes=True),
    "icl_d": _on_benchmark("ICL-D", "#029E73", "D", episodes=True, distils=True),
    "icl_d_lm": _on_benchmark("ICL-D (LM)", "#D55E00", "P", episodes=True, distils=True, plain_text=True),
}
ON_BENCHMARKS = tuple(name for name, method in METHODS.items() if method.on_benchmark)
ON_TASKS = tuple(name for name, method in METHODS.items() if not method.on_benchmark)
TRAINED = tuple(name for name, method in METHODS.items() if method.tuning)
