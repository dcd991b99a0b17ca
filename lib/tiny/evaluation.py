"""How well a model of the world reads demonstrations: accuracy over many contexts, each with label words of its own."""

import random
from collections.abc import Iterator

import pandas as pd
import torch
from transformers import PreTrainedModel

from lib.models.scoring import class_log_probs
from lib.tasks import world
from lib.tasks.patterns import fill
from lib.tasks.prompts import answer_tokens, encode, prompt
from lib.tasks.task import Query
from lib.tiny.curriculum import PATTERN
from lib.tiny.models import MAX_POSITIONS, tokenizer


def context_accuracies(
    model: PreTrainedModel, support_sizes: list[int], contexts: int, queries: int, seed: int
) -> pd.DataFrame:
    """Accuracy in and out of domain after n demonstrations, one row a context.

    Demonstrations are in domain and balanced as support sets are; pairs are fresh and from the evaluation split, whose
    events no training has seen. Half of the queries are entailed.

    Args:
        model: what is asked.
        support_sizes: n, the numbers of demonstrations.
        contexts: support sets for each n, each with two label words of its own.
        queries: pairs asked about in each context and domain.
        seed: of the contexts.

    Returns:
        Columns `support_size`, `context`, `dataset`, `accuracy`.
    """
    rows = [
        {"support_size": size, "context": context, "dataset": dataset, "accuracy": accuracy}
        for size in support_sizes
        for context in range(contexts)
        for dataset, accuracy in _one_context(model, size, queries, random.Random(f"{seed} {size} {context}"))
    ]
    return pd.DataFrame(rows)


def _one_context(model: PreTrainedModel, size: int, queries: int, draw: random.Random) -> Iterator[tuple[str, float]]:
    words = draw.sample(world.LABEL_WORDS, 2)
    demonstrations = _balanced(draw, "annotated", size, words)
    for dataset in world.DATASETS:
        pairs = _balanced(draw, dataset, queries, words)
        prompts = encode(tokenizer(), [prompt(demonstrations, query) for query in pairs], MAX_POSITIONS)
        answers = answer_tokens(tokenizer(), pairs[0].text, words)
        predicted = class_log_probs(model, prompts, answers, batch_size=64).argmax(1)
        yield dataset, (predicted == torch.tensor([query.gold for query in pairs])).float().mean().item()


def _balanced(draw: random.Random, dataset: str, count: int, words: list[str]) -> list[Query]:
    labels = [label for _ in range(-(-count // 2)) for label in draw.sample([0, 1], 2)][:count]
    pairs = [world.draw_example(draw, dataset, "evaluation", label) for label in labels]
    return [Query(fill(PATTERN, pair._asdict()), tuple(words), pair.label) for pair in pairs]
