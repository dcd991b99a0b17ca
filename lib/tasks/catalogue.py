"""The datasets that the study knows by name: what is particular to each stands in its entry."""

from dataclasses import replace

from lib.errors import require_one_of
from lib.tasks import smoke, world
from lib.tasks.task import DROPPED, Dataset

# Natural language inference without neutral, as in Mosbach et al. 2023 (arXiv 2305.16938).
CLASSES = ("entailment", "non-entailment")
LABELS = (
    ("entailment", "entailment"),
    ("contradiction", "non-entailment"),
    ("non-entailment", "non-entailment"),
    ("not_entailment", "non-entailment"),
    ("neutral", DROPPED),
)
# Of HANS (McCoy et al. 2019, arXiv 1902.01007) the heuristic that the study evaluates.
HANS = {"where": (("heuristic", "lexical_overlap"),), "kind": ("subcase", "template")}
IN_FOLDERS = {"hans": HANS}

# As published. HANS is a script dataset on the hub, which `datasets` no longer runs: its authors' files are read.
ON_THE_HUB = {
    "mnli": Dataset(
        "mnli",
        "hub:nyu-mll/glue",
        labels=(("0", "entailment"), ("1", DROPPED), ("2", "non-entailment")),
        evaluation=("validation_matched",),
        config="mnli",
        revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    ),
    "hans": Dataset(
        "hans",
        "github:tommccoy1/hans@7299f6f657089ce06a0f98e7e81f8d0f5b7741ce",
        columns=(("premise", "sentence1"), ("hypothesis", "sentence2")),
        label="gold_label",
        labels=LABELS,
        train=("heuristics_train_set.jsonl",),
        evaluation=("heuristics_evaluation_set.jsonl",),
        **HANS,
    ),
}
EMBEDDED = {"world": world.DATASETS, "embedded": tuple(smoke.PAIRS)}


def known(source: str, name: str) -> Dataset:
    """A dataset of natural language inference in a source: `hub`, `world`, `embedded`, or a folder.

    Raises:
        StudyError: the source does not have a dataset of that name; what lies in a folder is seen when it is read.
    """
    if source == "hub":
        require_one_of("dataset", name, ON_THE_HUB)
        return ON_THE_HUB[name]
    if source in EMBEDDED:
        require_one_of("dataset", name, EMBEDDED[source])
        return Dataset(name, source)
    return replace(Dataset(name, source, labels=LABELS), **IN_FOLDERS.get(name, {}))
