"""LAMA's T-REx relations for causal models: a fact is a left-to-right template up to its object.

Relations whose template does not end in the object are left out, with the reason. The options of a relation are all
objects that its facts have; the paper (arXiv 2212.10670) had BERT fill a mask instead.
"""

import random
from collections.abc import Sequence
from functools import cache

from lib.errors import StudyError
from lib.tasks import smoke
from lib.tasks.rows import Record, rows_of, words_of
from lib.tasks.task import Benchmark, MissingTaskError, Query

# As published: the facts whose object is one token for BERT, RoBERTa and ALBERT (ParaRel, arXiv 2102.01017), and LAMA's
# templates (OptiPrompt, arXiv 2104.05240).
FACTS = "github:yanaiela/pararel@cb5554678457beb5ac163d888f1ce8cf174b3f0b/data/trex_lms_vocab"
TEMPLATES = (
    "github:princeton-nlp/OptiPrompt@9450bc96f28ac3df01337c79be079a2ac3defb5c/relation_metainfo",
    "LAMA_relations.jsonl",
)
SUBJECT, OBJECT = "[X]", "[Y]"
Fact = tuple[str, str]  # subject and object


class Lama:
    """The relations of a source, in an order that is drawn once; those that are not evaluated may be tuned on."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        templates = _templates(benchmark.source)
        self._before = {name: before for name, text in templates.items() if (before := _before_object(text))}
        self.left_out = {
            name: f"{text!r} does not end in the object" for name, text in templates.items() if name not in self._before
        }
        order = random.Random("relations").sample(sorted(self._before), len(self._before))
        self.names = order, order
        self.doubts: dict[str, str] = {}
        self._facts = cache(self._read_facts)

    def queries(self, name: str) -> tuple[list[Query], list[Query]]:
        """Facts to tune on and to demonstrate, and those to evaluate.

        Raises:
            MissingTaskError: the relation has no facts, or no two objects.
        """
        tuning, evaluated = self._facts(name)
        return self._queries(name, tuning), self._queries(name, evaluated)

    def tuning_queries(self, name: str, targets: Sequence[str]) -> list[Query]:
        """All facts of a relation but those whose subject and object some target is evaluated on; errors alike."""
        evaluated = {fact for target in targets for fact in self._facts(target)[1]}
        return self._queries(name, [fact for part in self._facts(name) for fact in part if fact not in evaluated])

    def _read_facts(self, name: str) -> tuple[list[Fact], list[Fact]]:
        """Facts to tune on, and those to evaluate, which are not among them."""
        facts = _facts_of(self.benchmark.source, name)
        if self.benchmark.tuning_source:
            evaluated = set(facts)
            tuning = _facts_of(self.benchmark.tuning_source, name)
            return [fact for fact in tuning if fact not in evaluated], facts
        order = random.Random(f"facts {name}").sample(facts, len(facts))
        half = len(facts) // 2
        return order[:half], order[half:]

    def _queries(self, name: str, facts: list[Fact]) -> list[Query]:
        """The facts as queries over all objects of the relation in the source; facts of other objects are left out."""
        objects = tuple(sorted({answer for _, answer in _facts_of(self.benchmark.source, name)}))
        if len(objects) < 2:
            raise MissingTaskError(f"{len(objects)} different objects")
        before, places = self._before[name], {answer: place for place, answer in enumerate(objects)}
        texts = [(before.replace(SUBJECT, subject), answer) for subject, answer in facts if answer in places]
        return [
            Query(text, objects, places[answer])
            for text, answer in texts
            if self.benchmark.longest is None or len(text) <= self.benchmark.longest
        ]


def _before_object(template: str) -> str:
    """The template up to its object; empty where more than a full stop comes after it, or no subject before."""
    before, placeholder, after = template.partition(OBJECT)
    return before.strip() if placeholder and SUBJECT in before and not after.strip(" .") else ""


def _templates(source: str) -> dict[str, str]:
    if source == "embedded":
        return dict(smoke.RELATIONS)
    found: dict[str, str] = {}
    for where, row in rows_of(*(TEMPLATES if source == "hub" else (source, "relations.jsonl"))):
        relation, template = (words_of(row, column, where) for column in ("relation", "template"))
        if found.setdefault(relation, template) != template:
            raise StudyError(f"{where}: {relation} has the template {template!r} here, and {found[relation]!r} before.")
    return found


def _facts_of(source: str, name: str) -> list[Fact]:
    """The distinct facts of a relation.

    Raises:
        MissingTaskError: there is no file of them.
    """
    if source == "embedded":
        return list(smoke.FACTS.get(name, []))
    folder = FACTS if source == "hub" else source
    return list(dict.fromkeys(_fact(row, where) for where, row in rows_of(folder, f"{name}.jsonl")))


def _fact(row: Record, where: str) -> Fact:
    return words_of(row, "sub_label", where), words_of(row, "obj_label", where)
