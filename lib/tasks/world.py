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
from functools import cache, partial
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
Contrast = tuple[str, str, str]

# The forms of a sentence; `other` is the first bystander.
ACTIVE = "{agent} {past} {patient} {place}"
PASSIVE = "{patient} was {past} by {agent} {place}"
NEGATED = "{agent} did not {base} {patient} {place}"
NEGATED_PASSIVE = "{patient} was not {past} by {agent} {place}"
TOGETHER = "{agent} and {other} {past} {patient} {place}"
NEAR = "{agent} near {other} {past} {patient} {place}"
RELATIVE = "{agent} who {inner} {other} {past} {patient} {place}"
TWO_CLAUSES = "{agent} {past} {patient} and {second}"


def say(event: Event, form: str = ACTIVE, **words: str) -> str:
    """The event in one form: `The tall baker praised the pilot in the garden.`"""
    text = form.format(
        agent=f"the {event.agent_adjective} {event.agent}",
        patient=f"the {event.patient_adjective} {event.patient}",
        place=event.place and f"in the {event.place}",
        other=f"the {event.bystanders[0]}",
        base=event.verb.base,
        past=event.verb.past,
        **words,
    )
    text = " ".join(text.split())  # an adjective or a place that is not said leaves a second space
    return f"{text[0].upper()}{text[1:]}."


def bare(event: Event) -> Event:
    """The event without adjectives and place."""
    return Event(event.agent, event.verb, event.patient)


def thinned(draw: random.Random, event: Event) -> Event:
    """The event with each adjective and the place left out half of the time."""
    kept = {name: getattr(event, name) for name in MODIFIERS if draw.random() < 0.5}
    return replace(bare(event), **kept)


# In domain: a premise with an entailed hypothesis


def drop_modifier(draw: random.Random, event: Event) -> Pair:
    """One adjective less, or the place."""
    said = replace(event, place=event.place or draw.choice(PLACES))
    dropped = draw.choice([name for name in MODIFIERS if getattr(said, name)])
    return say(said), say(replace(said, **{dropped: ""}))


def paraphrase(draw: random.Random, event: Event) -> Pair:
    """A synonym of the verb."""
    return say(event), say(replace(thinned(draw, event), verb=SYNONYM[event.verb]))


def restate(draw: random.Random, event: Event, form: str) -> Pair:
    """The event in another form; whether that is entailed depends on the form."""
    return say(event), say(thinned(draw, event), form)


def drop_conjunct(draw: random.Random, event: Event) -> Pair:
    """Two did it, one of them is named."""
    named = draw.choice([event.agent, event.bystanders[0]])
    return say(event, TOGETHER), say(replace(bare(event), agent=named))


# In domain: a premise with a contradicting hypothesis


def opposite_verb(draw: random.Random, event: Event) -> Pair:
    """An action that excludes the premise's."""
    verb = draw.choice([verb for verb in VERBS if verb.meaning == event.verb.opposite])
    return say(event), say(replace(thinned(draw, event), verb=verb))


def other_place(draw: random.Random, event: Event) -> Pair:
    """The same event somewhere else."""
    here, there = draw.sample(PLACES, 2)
    elsewhere = replace(thinned(draw, event), place=there)
    return say(replace(event, place=here)), say(elsewhere)


# Out of domain: a premise with an entailed and a not entailed hypothesis, both made of the premise's words


def exchange_roles(draw: random.Random, event: Event, form: str) -> Contrast:
    """Agent and patient change places: a passive premise is read in the order of its words."""
    return say(event, form), say(thinned(draw, event)), say(Event(event.patient, event.verb, event.agent))


def attach(draw: random.Random, event: Event) -> Contrast:
    """The person nearest to the verb is not its agent."""
    nearest = replace(bare(event), agent=event.bystanders[0])
    return say(event, NEAR), say(thinned(draw, event)), say(nearest)


def relative_clause(draw: random.Random, event: Event) -> Contrast:
    """The patient of a relative clause stands before the main verb."""
    other = event.bystanders[0]
    inner = Event(event.agent, draw.choice(VERBS), other)
    entailed = draw.choice([thinned(draw, event), inner])
    return say(event, RELATIVE, inner=inner.verb.past), say(entailed), say(replace(bare(event), agent=other))


def coordinate_people(draw: random.Random, event: Event) -> Contrast:
    """Two did it together, not to each other."""
    to_the_other = replace(bare(event), patient=event.bystanders[0])
    return *drop_conjunct(draw, event), say(to_the_other)


def coordinate_clauses(draw: random.Random, event: Event) -> Contrast:
    """Two events side by side, and their agents mixed up."""
    doer, undergoer = event.bystanders
    second = Event(doer, draw.choice([verb for verb in VERBS if verb.meaning != event.verb.meaning]), undergoer)
    premise = say(event, TWO_CLAUSES, second=f"the {doer} {second.verb.past} the {undergoer}")
    mixed = draw.choice([replace(bare(event), agent=doer), replace(second, agent=event.agent)])
    return premise, say(draw.choice([bare(event), second])), say(mixed)


# By label; the order is part of what a seed draws.
ANNOTATED = (
    (drop_modifier, paraphrase, partial(restate, form=PASSIVE), drop_conjunct),
    (partial(restate, form=NEGATED), partial(restate, form=NEGATED_PASSIVE), opposite_verb, other_place),
)
OVERLAP = (
    partial(exchange_roles, form=ACTIVE),
    partial(exchange_roles, form=PASSIVE),
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
