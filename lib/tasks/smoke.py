"""The smoke profile's tasks to be learnt in context and relations of facts: a few words of our own each."""

from lib.tasks.task import Split
from lib.tasks.world import SentencePair

_SWAPS = [
    SentencePair("The lawyer thanked the judge.", "The judge thanked the lawyer.", 1),
    SentencePair("The tourist and the guide left.", "The guide left.", 0),
    SentencePair("The singer near the painter danced.", "The painter danced.", 1),
    SentencePair("The chef who met the judge slept.", "The chef slept.", 0),
]

PAIRS: dict[str, dict[Split, list[SentencePair]]] = {
    "pairs": {
        "train": [
            SentencePair("A woman in a red coat waits for the bus.", "A woman waits for the bus.", 0),
            SentencePair("A woman in a red coat waits for the bus.", "Nobody is waiting for the bus.", 1),
            SentencePair("Two boys play chess in the park.", "The boys are in the park.", 0),
            SentencePair("Two boys play chess in the park.", "The boys are asleep at home.", 1),
            SentencePair("The chef cooked soup and rice.", "The chef cooked soup.", 0),
            SentencePair("The chef cooked soup and rice.", "The chef never cooked.", 1),
        ],
        "evaluation": [
            SentencePair("The old dog sleeps under the table.", "A dog sleeps.", 0),
            SentencePair("The old dog sleeps under the table.", "The dog runs in the park.", 1),
            SentencePair("A singer and a painter met at noon.", "A painter met a singer.", 0),
            SentencePair("A singer and a painter met at noon.", "The singer met nobody.", 1),
        ],
    },
    "swaps": {"train": _SWAPS, "evaluation": _SWAPS},
}

_WORDS: dict[str, dict[str, str]] = {
    "kinds": {
        "animal": "dog horse goat mouse owl crab",
        "plant": "oak rose fern moss lily palm",
    },
    "places": {
        "in the sea": "whale reef tide coral squid eel",
        "in the sky": "cloud star comet moon lark kite",
    },
    "times": {
        "morning": "breakfast sunrise dew cockcrow toast alarm",
        "evening": "supper sunset dusk curfew pyjamas bedtime",
    },
    "sizes": {
        "small": "pea ant bead crumb pin seed",
        "medium": "chair sheep barrel door bicycle table",
        "large": "tower ship hill bridge castle glacier",
    },
}

TASK_SPLIT = {"train": ["kinds", "places"], "test": ["times", "sizes"]}


def _rows(by_option: dict[str, str]) -> list[dict[str, object]]:
    """Rows in CrossFit's form; of each option's words the last two are evaluated. Inputs are texts of two tokens."""
    rows: list[dict[str, object]] = []
    for option, words in by_option.items():
        for i, word in enumerate(words.split()):
            split = "test" if i >= 4 else "train"
            rows.append({"input": f"a {word}", "output": option, "options": list(by_option), "split": split})
    return rows


TASKS = {name: _rows(by_option) for name, by_option in _WORDS.items()}

RELATIONS = {
    "home": "[X] lives in the [Y] .",
    "colour": "The colour of [X] is [Y] .",
    "sound": "[X] says [Y] .",
    "maker": "[Y] is made by the [X] .",
}

_FACTS = {
    "home": "dog kennel, horse stable, pony stable, owl tree, lark tree, whale sea, eel sea, crab sea, mouse house",
    "colour": "moss green, fern green, cloud white, snow white, milk white, coal black, night black, rose red",
    "sound": "dog woof, puppy woof, wolf woof, owl hoot, eagle hoot, crow caw, raven caw, sheep baa, lamb baa",
    "maker": "baker bread, potter jar",
}

FACTS = {name: [tuple(fact.split()) for fact in facts.split(", ")] for name, facts in _FACTS.items()}

TEXTS = [
    *(f"{row['input']}\nAnswer: {row['output']}" for rows in TASKS.values() for row in rows),
    *RELATIONS.values(),
    *(word for facts in FACTS.values() for fact in facts for word in fact),
]
