"""How many tokens the prompts of a run have: from its real data, or of a typical draw where data or tokenizer lack."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PretrainedConfig

from lib.errors import require_one_of
from lib.methods.context_distillation import answers_of, teacher_prompts
from lib.methods.encoder import PromptEncoder, encoder_of
from lib.methods.examples import examples_of
from lib.methods.records import Run
from lib.methods.table import METHODS
from lib.models.cached_prompts import is_padded, rows, sizes_in_row
from lib.tasks.patterns import content_free
from lib.tasks.prompts import EncodedPrompts
from lib.tasks.task import Query, Split

TABLE = Path(__file__).with_name("prompt_lengths.csv")

# Validation sets without neutral and, of HANS, lexical overlap alone.
FULL_SIZES = {"mnli": 6692, "hans": 10000}

# A demonstration is a query, its label word and a blank line.
DEMONSTRATION_ENDS = 3

# OPT's tokenizer puts </s> in front of every prompt.
START = 1


@dataclass(frozen=True)
class Prefixed:
    """Prompts that share a prefix: its tokens, and those of the rest of each."""

    prefix: int
    suffixes: tuple[int, ...]

    @classmethod
    def of(cls, prompts: EncodedPrompts) -> "Prefixed":
        """The lengths of these prompts."""
        return cls(len(prompts.prefix), tuple(map(len, prompts.suffixes)))

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return self.prefix + max(self.suffixes)

    def without_content(self) -> EncodedPrompts:
        """Prompts of these lengths whose tokens mean nothing."""
        return EncodedPrompts([0] * self.prefix, [[0] * length for length in self.suffixes])


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of all that a run's phases read.

    Attributes:
        teacher: by context, what the teacher is asked; empty without distillation.
        support: the support set's examples as the student reads them in training.
        pool: the pool's queries, likewise.
        evaluation: by domain, what the evaluated model is asked.
        answers: token ids of each label word; which they are does not matter, only whether their first ones differ.
    """

    teacher: tuple[Prefixed, ...]
    support: tuple[int, ...]
    pool: tuple[int, ...]
    evaluation: tuple[Prefixed, ...]
    answers: tuple[tuple[int, ...], ...] = ((0,), (1,))


def real_lengths(run: Run) -> PromptLengths:
    """Of the run's own data under its models' tokenizers; errors as these raise when they are read."""
    encoder, examples = encoder_of(run.model), examples_of(run)
    labelling = run.distillation.labelling if run.distillation else None
    asked = teacher_prompts(labelling, encoder_of(labelling.teacher)) if labelling else []
    shown = examples.demonstrations if METHODS[run.method].demonstrations else []
    last = content_free(run.task)
    return PromptLengths(
        teacher=tuple(map(Prefixed.of, asked)),
        support=_each(encoder, examples.support) if run.training else (),
        pool=_each(encoder, [query for part in examples.pool for query in part]),
        evaluation=tuple(Prefixed.of(encoder.encode(shown, [*items, *last])) for items in examples.evaluation.values()),
        answers=tuple(map(tuple, answers_of(encoder, run.task))),
    )


def _each(encoder: PromptEncoder, queries: Sequence[Query]) -> tuple[int, ...]:
    return tuple(len(encoder.ids(query)) for query in queries)


def typical_lengths(run: Run) -> PromptLengths:
    """Of a seeded draw from the lengths of MNLI and HANS in the gpt-3 pattern under OPT's byte-pair encoding.

    Support sets of a seed are nested, as real ones are. The pool is `train`.

    Raises:
        StudyError: a dataset whose lengths are not shipped.
    """
    support = _draw(run.task.in_domain.name, "train", run.support_size, run.seed)
    context = START + sum(length + DEMONSTRATION_ENDS for length in support) if run.support_size else 0
    labelling = run.distillation.labelling if run.distillation else None
    pool = _draw(run.task.in_domain.name, "train", labelling.pool_size, run.seed + 1_000_000) if labelling else ()
    shown = context if METHODS[run.method].demonstrations else 0
    return PromptLengths(
        teacher=(_after(context, pool),) if labelling else (),
        support=tuple(START + length for length in support) if run.training else (),
        pool=tuple(START + length for length in pool),
        evaluation=tuple(
            _after(shown, _spread(dataset.name, run.task.eval_limit)) for dataset in run.task.domains.values()
        ),
    )


def _after(context: int, queries: Sequence[int]) -> Prefixed:
    return Prefixed(context, tuple(length if context else START + length for length in queries))


def _draw(dataset: str, split: Split, count: int, seed: int) -> tuple[int, ...]:
    return _quantiles(dataset, split, np.random.default_rng(seed).random(count))


def _spread(dataset: str, limit: int | None) -> tuple[int, ...]:
    """A whole evaluation set, or an even sample of it."""
    require_one_of("data", dataset, FULL_SIZES)
    return _quantiles(dataset, "evaluation", np.linspace(0, 1, limit or FULL_SIZES[dataset]))


def _quantiles(dataset: str, split: Split, at: np.ndarray) -> tuple[int, ...]:
    table = pd.read_csv(TABLE, comment="#")
    require_one_of("data", dataset, table[table.split == split].dataset.unique())
    rows = table[(table.dataset == dataset) & (table.split == split)]
    return tuple(np.interp(100 * at, rows.percentile, rows.tokens).round().astype(int).tolist())


def largest_batch(
    config: PretrainedConfig, asked: Prefixed, answers: Sequence[Sequence[int]] | None, batch_size: int
) -> Prefixed:
    """The one row of `asked` with the most tokens, or batch that is padded to most; all prompts have these answers."""
    of_each = None if answers is None else [answers] * len(asked.suffixes)
    prompts = asked.without_content().suffixes
    if is_padded(config, asked.prefix, prompts, of_each, batch_size):
        ordered = sorted(asked.suffixes)
        cut = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
        return Prefixed(asked.prefix, tuple(max(cut[-2:], key=lambda batch: len(batch) * (asked.prefix + batch[-1]))))
    suffixes = (tuple(asked.suffixes[i] for i in row) for row in rows(sizes_in_row(prompts, of_each), batch_size))
    return Prefixed(asked.prefix, max(suffixes, key=sum))
