"""What the models of the world are taught, in which order: stages, and the batches that each is made of.

Learned at once, reading demonstrations is out of a small model's reach: it stays with the overlap shortcut, and
knows neither where a pair ends nor what the label words mean. So every stage adds one difficulty to a model that
has mastered the ones before.

1. Single pairs, answered by fixed words, in a world of few people and bare sentences that then grows.
2. Several pairs in a context, with label words drawn for each context, on top of further layers. Each pair sees
   itself and the label words of the others, nothing else of them. For a while most steps replace all pairs by their
   verdicts, so that looking up a label word is learnt apart from reading.
3. The wall between pairs is lowered step by step until the attention is the plain causal one.
4. Contexts become as long as the study's.
"""

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.tasks import world
from lib.tasks.patterns import CONTENT_FREE_TEXTS, PATTERNS, fill, placeholders
from lib.tasks.prompts import SEPARATOR
from lib.tiny.models import VERDICTS, tokenizer

PATTERN = PATTERNS["minimal"]
CONTENT_FREE_SHARE = 0.02
PAIR_TOKENS = 20  # of a usual pair with its answer
VERDICT_TOKENS = 4  # of one that is told


@dataclass(frozen=True)
class Stage:
    """One stage of a curriculum.

    Attributes:
        name: what is new in it.
        layers: the model's depth.
        scope: how much of the world is in use.
        pairs: pairs in a context; one of these sizes is drawn at each step.
        drawn_words: the share of steps whose contexts draw their label words; in the others `VERDICTS` answer.
        told: the share of pairs whose text is replaced by their verdict, in half of the contexts.
        told_only: the share of steps in which all pairs are.
        wall: what is taken off the attention scores between tokens of different pairs, label words excepted.
        tokens: a step's size, about.
        rate: what the learning rate is multiplied by.
        until: accuracy (a moving average over steps, the lower of the two domains') at which the next stage begins.
        least_steps: steps before the next stage may begin.
        most_steps: steps after which it begins anyhow.
    """

    name: str
    layers: int
    scope: world.Scope = world.WHOLE
    pairs: tuple[int, ...] = (1,)
    drawn_words: float = 0.0
    told: float = 0.0
    told_only: float = 0.0
    wall: float = 0.0
    tokens: int = 1000
    rate: float = 1.0
    until: float = 0.88
    least_steps: int = 100
    most_steps: int = 6000


@dataclass(frozen=True)
class Batch:
    """Contexts of equally many pairs.

    Shapes: `ids` [contexts, tokens]; `attention` [contexts, 1, tokens, tokens], added to the scores; the others
    [contexts, pairs], `words` [contexts, pairs, 2]. `answers` are the positions after which an answer is due,
    `labels` the gold classes, `words` the label words' ids, entailment first; `hard` marks the pairs of `overlap`.
    `drawn` says whether the label words were drawn for each context.
    """

    ids: Tensor
    attention: Tensor
    answers: Tensor
    labels: Tensor
    words: Tensor
    hard: Tensor
    drawn: bool


def growing_world(layers: int) -> list[Stage]:
    """Single pairs, from a dozen people and bare sentences to the whole world."""
    everyone = world.WHOLE.people
    first = Stage("12 people, bare sentences, 3 contrasts", layers, world.Scope(12, 0.0, 3), until=0.95)
    richer = replace(first, until=0.92, most_steps=2000)
    stages = [
        first,
        *(replace(richer, name=f"{count} contrasts", scope=world.Scope(12, 0.0, count)) for count in (4, 5, 6)),
        *(replace(richer, name=f"{people} people", scope=world.Scope(people, 0.0, 6)) for people in (20, 40, everyone)),
    ]
    for share in (0.15, 0.3, 0.5, 0.75, 1.0):
        scope = world.Scope(everyone, share, 6)
        stages.append(replace(richer, name=f"{share:.0%} decorated", scope=scope, until=0.9, rate=0.7))
    return [*stages, replace(stages[-1], name="settling", until=0.96, rate=0.35, most_steps=3000)]


def lowering_walls(layers: int) -> list[Stage]:
    """Contexts of a few pairs, first behind walls, then without."""
    contexts = Stage("label words drawn", layers, pairs=(6,), drawn_words=1.0, tokens=1600, rate=0.5)
    met = replace(contexts, told=0.5, wall=20.0, least_steps=900, most_steps=900)
    told = replace(met, name="verdicts told", told_only=2 / 3, rate=0.7, until=0.95, least_steps=300, most_steps=1500)
    behind = replace(met, name="verdicts to be found", told_only=1 / 6, until=0.9, least_steps=300, most_steps=1500)
    lowered = replace(contexts, told=0.2, most_steps=400)
    heights = (14.0, 10.0, 7.0, 5.0, 3.5, 2.5, 1.7, 1.2, 0.8, 0.4, 0.0)
    return [met, told, behind, *(replace(lowered, name=f"wall {height:g}", wall=height) for height in heights)]


def lengthening(layers: int, last_steps: int) -> list[Stage]:
    """Longer contexts; the last stage is that in which the learning rate falls to zero."""
    contexts = Stage("", layers, drawn_words=1.0, told=0.1, tokens=2000, rate=0.5, most_steps=800)
    stages = [
        replace(contexts, name=f"up to {longest} pairs", pairs=sizes)
        for longest, sizes in ((9, (4, 6, 9)), (13, (4, 9, 13)), (33, (5, 13, 13, 33)))
    ]
    return [*stages[:-1], replace(stages[-1], least_steps=last_steps, most_steps=last_steps)]


def meeting_contexts(layers: int, steps: int) -> list[Stage]:
    """What a student sees of contexts: enough to know what they look like, too little to learn to read them."""
    meeting = Stage("contexts met", layers, pairs=(1, 6, 13), drawn_words=0.5, tokens=1600, rate=0.5)
    return [replace(meeting, least_steps=steps, most_steps=steps)]


def draw_batch(draw: random.Random, stage: Stage) -> Batch:
    """A step's contexts, all of one size, from the pretraining split; all chance comes from `draw`."""
    pairs, drawn = draw.choice(stage.pairs), draw.random() < stage.drawn_words
    told_only = stage.told_only > 0.0 and draw.random() < stage.told_only
    count = max(1, round(stage.tokens / (pairs * (VERDICT_TOKENS if told_only else PAIR_TOKENS))))
    contexts = [_draw_context(draw, stage, pairs, drawn, told_only) for _ in range(count)]
    texts, words, labels, hard = zip(*contexts, strict=True)
    ids = tokenizer()(list(texts), padding=True, return_tensors="pt")["input_ids"]
    ends = ids == tokenizer().convert_tokens_to_ids(SEPARATOR)
    answers = ends.nonzero()[:, 1].view(count, pairs) - 2  # before the label word and the blank line
    attention = walled_attention(ends.cumsum(1) - ends.long(), answers + 1, stage.wall)
    words = torch.tensor(words)[:, None].expand(-1, pairs, -1)
    return Batch(ids, attention, answers, torch.tensor(labels), words, torch.tensor(hard), drawn)


def _draw_context(
    draw: random.Random, stage: Stage, pairs: int, drawn: bool, told_only: bool
) -> tuple[str, list[int], list[int], list[bool]]:
    """A context's text, the ids of its two label words, and of each pair the label and whether it is out of domain."""
    share = draw.choice((0.0, 0.5, 0.5, 1.0))
    told = stage.told if draw.random() < 0.5 else 0.0
    told = 1.0 if told_only else told
    words = draw.sample(world.LABEL_WORDS, 2) if drawn else VERDICTS
    labels = [draw.randrange(2) for _ in range(pairs)]
    hard = [draw.random() < share for _ in range(pairs)]
    datasets = ["overlap" if out else "annotated" for out in hard]
    texts = [_text(draw, stage, label, dataset, told) for label, dataset in zip(labels, datasets, strict=True)]
    answered = [f"{text} {words[label]}{SEPARATOR}" for text, label in zip(texts, labels, strict=True)]
    return "".join(answered), tokenizer().convert_tokens_to_ids(list(words)), labels, hard


def _text(draw: random.Random, stage: Stage, label: int, dataset: str, told: float) -> str:
    chance = draw.random()
    if chance < told:
        return f"{VERDICTS[label]} ?"
    if stage.drawn_words and chance > 1.0 - CONTENT_FREE_SHARE:
        return fill(PATTERN, dict.fromkeys(placeholders(PATTERN), draw.choice(CONTENT_FREE_TEXTS)))
    return fill(PATTERN, world.draw_example(draw, dataset, "pretraining", label, stage.scope)._asdict())


def walled_attention(pair_of: Tensor, label_positions: Tensor, wall: float) -> Tensor:
    """The causal mask, with `wall` taken off the attention scores between pairs, except towards label words.

    `pair_of` [contexts, tokens] is the pair that each token belongs to, `label_positions` [contexts, pairs] where the
    label words stand. The mask is [contexts, 1, tokens, tokens], to be added to the scores.
    """
    tokens = pair_of.shape[1]
    is_label = torch.zeros_like(pair_of, dtype=torch.bool).scatter(1, label_positions, True)
    open_to = (pair_of[:, :, None] == pair_of[:, None, :]) | is_label[:, None, :]
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    scores = torch.where(open_to, 0.0, -wall).masked_fill(~causal, torch.finfo(torch.float32).min)
    return scores[:, None]
