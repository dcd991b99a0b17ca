"""A controlled world for natural language inference: a small English whose labels are right by construction.

Two datasets, after the two that the first paper evaluates on, with templates and a lexicon of our own:

- `annotated`, in domain, holds what annotators write: entailment by dropping modifiers, paraphrase, passive or
  coordination; contradiction by negation, an opposite verb or another place. Entailed hypotheses mostly reuse the
  premise's words and contradictions bring new ones, so word overlap happens to predict the label.
- `overlap`, out of domain, follows the idea of HANS (McCoy et al. 2019, arXiv 1902.01007): every word of the
  hypothesis is in the premise whatever the label, so the overlap shortcut fails.

Pairs come in three splits that share no premise: `pretraining` for the models of the study, `train` for support sets
and query pools, `evaluation` for scores. An event (who did what to whom, in either direction) belongs to one split.
"""

import random
import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

from lib.errors import require_one_of

Split = Literal["pretraining", "train", "evaluation"]


class SentencePair(NamedTuple):
    """A premise and a hypothesis; `label` is 0 where the first entails the second, 1 where it does not."""

    premise: str
    hypothesis: str
    label: int


BUCKETS: dict[Split, range] = {"pretraining": range(0, 8), "train": range(8, 9), "evaluation": range(9, 10)}
SIZES: dict[Split, int] = {"train": 2000, "evaluation": 1000}

PEOPLE = (
    "actor artist author baker banker barber boxer butler carpenter chef clerk coach cook dancer dentist doctor "
    "driver editor farmer firefighter fisher gardener guard guide hunter janitor jeweler judge lawyer librarian "
    "mayor mechanic miner model nurse painter photographer pilot plumber poet porter priest printer professor "
    "programmer reporter sailor scientist sculptor senator singer soldier student surgeon tailor teacher tourist "
    "trader waiter writer"
).split()

# Each line: two words for one action, two for its opposite; a word is its base and its past (and passive) form.
_ACTIONS = """
praise/praised compliment/complimented | criticize/criticized scold/scolded
help/helped assist/assisted | hinder/hindered obstruct/obstructed
trust/trusted believe/believed | doubt/doubted suspect/suspected
welcome/welcomed greet/greeted | ignore/ignored snub/snubbed
like/liked adore/adored | dislike/disliked loathe/loathed
hire/hired employ/employed | fire/fired dismiss/dismissed
defend/defended protect/protected | attack/attacked assault/assaulted
amuse/amused entertain/entertained | bore/bored tire/tired
calm/calmed soothe/soothed | alarm/alarmed frighten/frightened
follow/followed trail/trailed | escape/escaped dodge/dodged
reward/rewarded repay/repaid | punish/punished fine/fined
free/freed release/released | arrest/arrested capture/captured
"""

ADJECTIVES = (
    "tall short young old rich poor brave shy clever sleepy happy sad polite rude busy lazy famous quiet loud gentle "
    "honest proud careful nervous cheerful serious strong thin friendly curious"
).split()

PLACES = (
    "garden kitchen library station market museum harbor office theater park school hotel church castle village "
    "forest cafe bakery tower square tunnel stadium workshop meadow"
).split()

# Words that answer. Which of them means entailment is told by the demonstrations alone.
LABEL_WORDS = (
    "apple pear plum cherry lemon melon grape peach mango olive onion carrot pepper garlic ginger bean corn rice "
    "bread butter cheese honey sugar salt milk tea coffee juice soup salad red blue green yellow purple orange white "
    "black brown gray silver gold copper iron steel glass stone wood paper cotton silk wool leather lion tiger bear "
    "wolf fox deer horse sheep"
).split()

FUNCTION_WORDS = "the and in near who was by did not . ?".split()


@dataclass(frozen=True)
class Verb:
    """One verb of the lexicon; `meaning` is shared by synonyms, and `opposite` is the meaning it excludes."""

    base: str
    past: str
    meaning: int
    opposite: int


def _verbs() -> list[Verb]:
    verbs = []
    for line, actions in enumerate(_ACTIONS.strip().splitlines()):
        for side, words in enumerate(actions.split(" | ")):
            meaning, opposite = 2 * line + side, 2 * line + 1 - side
            verbs += [Verb(*word.split("/"), meaning, opposite) for word in words.split()]
    return verbs


VERBS = _verbs()
SYNONYM = {a: b for a in VERBS for b in VERBS if a != b and a.meaning == b.meaning}


@dataclass(frozen=True)
class Event:
    """Who did what to whom, with what may be said on top; empty where nothing is said.

    `bystanders` are two people who are not in the event; some templates bring them in.
    """

    agent: str
    verb: Verb
    patient: str
    place: str = ""
    agent_adjective: str = ""
    patient_adjective: str = ""
    bystanders: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Scope:
    """How much of the world is in use: a curriculum may begin with less.

    Attributes:
        people: how many of `PEOPLE`, from the first.
        decoration: the share of events that may have adjectives and a place.
        contrasts: how many of `OVERLAP`, from the first.
    """

    people: int
    decoration: float
    contrasts: int


ADJECTIVE_SHARE, PLACE_SHARE = 0.35, 0.5
MODIFIERS = ("place", "agent_adjective", "patient_adjective")
Pair = tuple[str, str]


def noun(person: str, adjective: str = "") -> str:
    """A noun phrase: `the tall baker`."""
    return f"the {adjective} {person}" if adjective else f"the {person}"


def sentence(*parts: str) -> str:
    """Parts joined to a sentence, empty ones left out."""
    text = " ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}."


def agent(event: Event) -> str:
    """The agent as a noun phrase."""
    return noun(event.agent, event.agent_adjective)


def patient(event: Event) -> str:
    """The patient as a noun phrase."""
    return noun(event.patient, event.patient_adjective)


def place(event: Event) -> str:
    """`in the garden`, or nothing."""
    return f"in the {event.place}" if event.place else ""


def active(event: Event) -> str:
    """`The tall baker praised the pilot in the garden.`"""
    return sentence(agent(event), event.verb.past, patient(event), place(event))


def passive(event: Event, negation: str = "") -> str:
    """`The pilot was praised by the tall baker in the garden.`"""
    return sentence(patient(event), "was", negation, event.verb.past, "by", agent(event), place(event))


def negated(event: Event) -> str:
    """`The tall baker did not praise the pilot in the garden.`"""
    return sentence(agent(event), "did not", event.verb.base, patient(event), place(event))


def bare(event: Event) -> Event:
    """The event without adjectives and place."""
    return Event(event.agent, event.verb, event.patient)


def swapped(event: Event) -> Event:
    """The bare event with its roles exchanged."""
    return Event(event.patient, event.verb, event.agent)


def together(event: Event) -> str:
    """`The tall baker and the judge praised the pilot in the garden.`"""
    other = noun(event.bystanders[0])
    return sentence(agent(event), "and", other, event.verb.past, patient(event), place(event))


def thinned(draw: random.Random, event: Event) -> Event:
    """The event with each adjective and the place left out half of the time."""
    kept = {name: getattr(event, name) for name in MODIFIERS if draw.random() < 0.5}
    return replace(bare(event), **kept)


# In domain: entailment


def drop_modifier(draw: random.Random, event: Event) -> Pair:
    """One adjective less, or the place."""
    said = replace(event, place=event.place or draw.choice(PLACES))
    dropped = draw.choice([name for name in MODIFIERS if getattr(said, name)])
    return active(said), active(replace(said, **{dropped: ""}))


def paraphrase(draw: random.Random, event: Event) -> Pair:
    """A synonym of the verb."""
    return active(event), active(replace(thinned(draw, event), verb=SYNONYM[event.verb]))


def to_passive(draw: random.Random, event: Event) -> Pair:
    """The same event in the passive."""
    return active(event), passive(thinned(draw, event))


def drop_conjunct(draw: random.Random, event: Event) -> Pair:
    """Two did it, one of them is named."""
    one = draw.choice([event.agent, event.bystanders[0]])
    return together(event), active(replace(bare(event), agent=one))


# In domain: contradiction


def negate(draw: random.Random, event: Event) -> Pair:
    """The event did not take place."""
    return active(event), negated(thinned(draw, event))


def negate_passive(draw: random.Random, event: Event) -> Pair:
    """The event did not take place, in the passive."""
    return active(event), passive(thinned(draw, event), "not")


def opposite_verb(draw: random.Random, event: Event) -> Pair:
    """An action that excludes the premise's."""
    verb = draw.choice([verb for verb in VERBS if verb.meaning == event.verb.opposite])
    return active(event), active(replace(thinned(draw, event), verb=verb))


def other_place(draw: random.Random, event: Event) -> Pair:
    """The same event somewhere else."""
    here, there = draw.sample(PLACES, 2)
    elsewhere = replace(thinned(draw, event), place=there)
    return active(replace(event, place=here)), active(elsewhere)


# Out of domain: a premise with an entailed and a not entailed hypothesis, both made of the premise's words

Contrast = tuple[str, str, str]


def exchange_roles(draw: random.Random, event: Event) -> Contrast:
    """Agent and patient change places."""
    return active(event), active(thinned(draw, event)), active(swapped(event))


def exchange_roles_of_passive(draw: random.Random, event: Event) -> Contrast:
    """The premise's word order read as an active sentence."""
    return passive(event), active(thinned(draw, event)), active(swapped(event))


def attach(draw: random.Random, event: Event) -> Contrast:
    """The person nearest to the verb is not its agent."""
    other = event.bystanders[0]
    premise = sentence(agent(event), "near", noun(other), event.verb.past, patient(event), place(event))
    return premise, active(thinned(draw, event)), active(replace(bare(event), agent=other))


def relative_clause(draw: random.Random, event: Event) -> Contrast:
    """The patient of a relative clause stands before the main verb."""
    other = event.bystanders[0]
    inner = Event(event.agent, draw.choice(VERBS), other)
    told = (event.verb.past, patient(event), place(event))
    premise = sentence(agent(event), "who", inner.verb.past, noun(other), *told)
    entailed = draw.choice([thinned(draw, event), inner])
    return premise, active(entailed), active(replace(bare(event), agent=other))


def coordinate_people(draw: random.Random, event: Event) -> Contrast:
    """Two did it together, not to each other."""
    one = draw.choice([event.agent, event.bystanders[0]])
    to_the_other = replace(bare(event), patient=event.bystanders[0])
    return together(event), active(replace(bare(event), agent=one)), active(to_the_other)


def coordinate_clauses(draw: random.Random, event: Event) -> Contrast:
    """Two events side by side, and their agents mixed up."""
    doer, undergoer = event.bystanders
    second = Event(doer, draw.choice([verb for verb in VERBS if verb.meaning != event.verb.meaning]), undergoer)
    first = sentence(agent(event), event.verb.past, patient(event)).rstrip(".")
    premise = f"{first} and the {doer} {second.verb.past} the {undergoer}."
    mixed = draw.choice([replace(bare(event), agent=doer), replace(second, agent=event.agent)])
    return premise, active(draw.choice([bare(event), second])), active(mixed)


ANNOTATED = (
    (drop_modifier, paraphrase, to_passive, drop_conjunct),
    (negate, negate_passive, opposite_verb, other_place),
)

OVERLAP = (
    exchange_roles,
    exchange_roles_of_passive,
    coordinate_people,
    attach,
    relative_clause,
    coordinate_clauses,
)

DATASETS = ("annotated", "overlap")
WHOLE = Scope(people=len(PEOPLE), decoration=1.0, contrasts=len(OVERLAP))


def draw_event(draw: random.Random, split: Split, scope: Scope = WHOLE) -> Event:
    """A decorated event of one split; which split it belongs to is a matter of who, what and whom."""
    people = PEOPLE[: scope.people]
    while True:
        (who, whom, *others), verb = draw.sample(people, 4), draw.choice(VERBS)
        if _bucket(who, whom, verb) in BUCKETS[split]:
            break
    event = Event(who, verb, whom, bystanders=tuple(others))
    if draw.random() >= scope.decoration:
        return event
    adjectives = [draw.choice(ADJECTIVES) if draw.random() < ADJECTIVE_SHARE else "" for _ in range(2)]
    where = draw.choice(PLACES) if draw.random() < PLACE_SHARE else ""
    return replace(event, place=where, agent_adjective=adjectives[0], patient_adjective=adjectives[1])


def _bucket(who: str, whom: str, verb: Verb) -> int:
    return zlib.crc32(f"{min(who, whom)} {max(who, whom)} {verb.meaning}".encode()) % 10


def draw_example(draw: random.Random, dataset: str, split: Split, label: int, scope: Scope = WHOLE) -> SentencePair:
    """One pair of a dataset with the given gold label (0 entailment)."""
    event = draw_event(draw, split, scope)
    if dataset == "annotated":
        return SentencePair(*draw.choice(ANNOTATED[label])(draw, event), label)
    premise, *hypotheses = draw.choice(OVERLAP[: scope.contrasts])(draw, event)
    return SentencePair(premise, hypotheses[label], label)


@cache
def examples(dataset: str, split: Split) -> list[SentencePair]:
    """The fixed rows of a split, as many of each label, all distinct.

    Raises:
        StudyError: an unknown dataset.
    """
    require_one_of("dataset", dataset, DATASETS)
    draw = random.Random(f"{dataset} {split}")
    rows: dict[SentencePair, None] = {}
    while len(rows) < SIZES[split]:
        rows[draw_example(draw, dataset, split, len(rows) % 2)] = None
    return list(rows)


def draw_label_words(seed: int) -> tuple[str, str]:
    """Two label words, the first for entailment: a seed's own, so that no word means entailment by itself."""
    first, second = random.Random(f"label words {seed}").sample(LABEL_WORDS, 2)
    return first, second
