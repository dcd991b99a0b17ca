"""The world's labels, checked by an interpreter that reads the sentences and knows nothing of how they were made."""

import random
import re
from dataclasses import dataclass

import pytest

from lib.errors import StudyError
from lib.tasks import world

PAST = {verb.past: verb for verb in world.VERBS}
BASE = {verb.base: verb for verb in world.VERBS}


def any_of(words):
    return f"(?:{'|'.join(words)})"


def noun_phrase(name):
    return rf"the (?:(?P<{name}_adjective>{any_of(world.ADJECTIVES)}) )?(?P<{name}>{any_of(world.PEOPLE)})"


DID = any_of(PAST)
WHERE = rf"(?: in the (?P<place>{any_of(world.PLACES)}))?"
FORMS = {
    "plain": rf"{noun_phrase('a')} (?P<verb>{DID}) {noun_phrase('b')}{WHERE}",
    "together": rf"{noun_phrase('a')} and {noun_phrase('c')} (?P<verb>{DID}) {noun_phrase('b')}{WHERE}",
    "near": rf"{noun_phrase('a')} near {noun_phrase('c')} (?P<verb>{DID}) {noun_phrase('b')}{WHERE}",
    "who": rf"{noun_phrase('a')} who (?P<inner>{DID}) {noun_phrase('c')} (?P<verb>{DID}) {noun_phrase('b')}{WHERE}",
    "clauses": rf"{noun_phrase('a')} (?P<verb>{DID}) {noun_phrase('b')} and "
    rf"{noun_phrase('c')} (?P<inner>{DID}) {noun_phrase('d')}",
    "passive": rf"{noun_phrase('b')} was (?P<not>not )?(?P<verb>{DID}) by {noun_phrase('a')}{WHERE}",
    "negated": rf"{noun_phrase('a')} did not (?P<base>{any_of(BASE)}) {noun_phrase('b')}{WHERE}",
}


@dataclass(frozen=True)
class Fact:
    agent: str
    meaning: int
    patient: str
    place: str | None = None
    holds: bool = True


def read(sentence):
    """The facts and the adjectives that one sentence states; exactly one form must fit."""
    text = sentence.lower().removesuffix(".")
    fits = {name: match for name, form in FORMS.items() if (match := re.fullmatch(form, text))}
    assert len(fits) == 1, f"{sentence!r} reads as {list(fits)}"
    (form, match), *_ = fits.items()
    part = match.groupdict()
    verb = PAST.get(part.get("verb")) or BASE[part["base"]]
    holds = form != "negated" and not part.get("not")
    facts = {Fact(part["a"], verb.meaning, part["b"], part.get("place"), holds)}
    if form == "together":
        facts.add(Fact(part["c"], verb.meaning, part["b"], part["place"]))
    if form == "who":
        facts.add(Fact(part["a"], PAST[part["inner"]].meaning, part["c"]))
    if form == "clauses":
        facts.add(Fact(part["c"], PAST[part["inner"]].meaning, part["d"]))
    adjectives = {(part[x], part[f"{x}_adjective"]) for x in "abcd" if part.get(x) and part[f"{x}_adjective"]}
    return facts, adjectives


def entails(premise, hypothesis):
    (facts, adjectives), (claims, descriptions) = read(premise), read(hypothesis)
    return descriptions <= adjectives and all(any(supports(fact, claim) for fact in facts) for claim in claims)


def supports(fact, claim):
    same = (fact.agent, fact.meaning, fact.patient, fact.holds) == (
        claim.agent,
        claim.meaning,
        claim.patient,
        claim.holds,
    )
    return same and claim.place in (None, fact.place)


def contradicts(premise, hypothesis):
    (facts, _), (claims, _) = read(premise), read(hypothesis)
    opposite = {verb.meaning: verb.opposite for verb in world.VERBS}

    def excludes(fact, claim):
        if (fact.agent, fact.patient) != (claim.agent, claim.patient):
            return False
        if not claim.holds:
            return claim.meaning == fact.meaning and claim.place in (None, fact.place)
        elsewhere = claim.meaning == fact.meaning and None not in (claim.place, fact.place)
        return claim.meaning == opposite[fact.meaning] or (elsewhere and claim.place != fact.place)

    return any(excludes(fact, claim) for fact in facts for claim in claims)


def drawn(dataset, count, scope=world.WHOLE):
    draw = random.Random(0)
    return [world.draw_example(draw, dataset, "pretraining", i % 2, scope) for i in range(count)]


def rows(dataset):
    return [*world.examples(dataset, "train"), *world.examples(dataset, "evaluation"), *drawn(dataset, 2000)]


def words(text):
    return set(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize("dataset", world.DATASETS)
def test_every_label_is_what_the_interpreter_says(dataset):
    for example in rows(dataset):
        assert entails(example.premise, example.hypothesis) == (example.label == 0), example


def test_in_domain_what_is_not_entailed_is_contradicted():
    for example in rows("annotated"):
        assert contradicts(example.premise, example.hypothesis) == (example.label == 1), example


@pytest.mark.parametrize(
    ("premise", "hypothesis", "truth"),
    [
        ("The tall baker praised the pilot.", "The baker praised the pilot.", True),
        ("The baker praised the pilot.", "The tall baker praised the pilot.", False),
        ("The baker praised the pilot.", "The pilot praised the baker.", False),
        ("The baker praised the pilot.", "The pilot was complimented by the baker.", True),
        ("The baker near the judge praised the pilot.", "The judge praised the pilot.", False),
        ("The baker who helped the judge praised the pilot in the park.", "The baker assisted the judge.", True),
        ("The baker praised the pilot and the judge helped the poet.", "The baker helped the poet.", False),
    ],
)
def test_the_interpreter_itself_on_pairs_judged_by_hand(premise, hypothesis, truth):
    assert entails(premise, hypothesis) is truth


@pytest.mark.parametrize("dataset", world.DATASETS)
def test_rows_are_distinct_balanced_and_the_same_each_time(dataset):
    for split, size in world.SIZES.items():
        found = world.examples(dataset, split)
        assert len({example[:2] for example in found}) == size
        assert sum(example.label for example in found) == size // 2
        world.examples.cache_clear()
        assert world.examples(dataset, split) == found


def test_splits_share_neither_premises_nor_events():
    def events(examples):
        first = [next(iter(read(example.premise)[0])) for example in examples]
        return {(frozenset((fact.agent, fact.patient)), fact.meaning) for fact in first}

    train, evaluation = world.examples("annotated", "train"), world.examples("annotated", "evaluation")
    plain = [[e for e in rows if " and " not in e.premise] for rows in (train, evaluation, drawn("annotated", 4000))]
    sets = [events(rows) for rows in plain]
    assert sets[0].isdisjoint(sets[1]) and sets[0].isdisjoint(sets[2]) and sets[1].isdisjoint(sets[2])
    premises = [
        {example.premise for dataset in world.DATASETS for example in rows}
        for dataset in world.DATASETS
        for rows in (world.examples(dataset, "train"), world.examples(dataset, "evaluation"), drawn(dataset, 4000))
    ]
    assert len(set().union(*premises[:3])) == sum(map(len, premises[:3]))
    assert len(set().union(*premises[3:])) == sum(map(len, premises[3:]))


def test_word_overlap_predicts_the_label_in_domain_and_tells_nothing_out_of_domain():
    def by_shortcut(dataset):
        examples = world.examples(dataset, "evaluation")
        guesses = [words(example.hypothesis) <= words(example.premise) for example in examples]
        return sum(guess == (e.label == 0) for guess, e in zip(guesses, examples, strict=True)) / len(examples)

    assert by_shortcut("annotated") > 0.7
    assert by_shortcut("overlap") == 0.5


def test_out_of_domain_every_word_of_a_hypothesis_is_in_its_premise():
    assert all(words(example.hypothesis) <= words(example.premise) for example in rows("overlap"))


def test_no_word_has_two_jobs():
    verbs = {form for verb in world.VERBS for form in (verb.base, verb.past)}
    jobs = [world.PEOPLE, verbs, world.ADJECTIVES, world.PLACES, world.LABEL_WORDS, world.FUNCTION_WORDS]
    assert len(set().union(*jobs)) == sum(map(len, jobs))


def test_each_verb_has_a_synonym_and_an_opposite_that_points_back():
    for verb in world.VERBS:
        assert world.SYNONYM[world.SYNONYM[verb]] == verb
        opposites = {other.opposite for other in world.VERBS if other.meaning == verb.opposite}
        assert opposites == {verb.meaning} != {verb.opposite}


def test_a_narrow_scope_uses_its_people_and_bare_sentences_only():
    known = set(world.PEOPLE[:12])
    for dataset in world.DATASETS:
        for example in drawn(dataset, 500, world.Scope(people=12, decoration=0.0, contrasts=1)):
            named = words(f"{example.premise} {example.hypothesis}")
            assert named & set(world.PEOPLE) <= known
            assert not named & set(world.ADJECTIVES)


def test_a_dataset_that_is_not_of_the_world_is_refused_naming_those_that_are():
    with pytest.raises(StudyError, match=r"dataset: 'overlapp' .*annotated, overlap"):
        world.examples("overlapp", "train")


def test_label_words_are_drawn_by_seed_and_no_word_has_a_side():
    pairs = [world.draw_label_words(seed) for seed in range(3000)]
    assert pairs == [world.draw_label_words(seed) for seed in range(3000)]
    assert all(first != second for first, second in pairs)
    firsts = {word: sum(pair[0] == word for pair in pairs) for word in world.LABEL_WORDS}
    seconds = {word: sum(pair[1] == word for pair in pairs) for word in world.LABEL_WORDS}
    assert min(firsts.values()) > 20 < min(seconds.values())
