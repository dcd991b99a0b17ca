"""The smoke profile's world: a dozen pairs of our own and two random OPT models, made in place in a second.

Nothing can be learned from it about distillation. It shows that every part of the study runs, offline and quickly.
"""

from functools import cache

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from lib import smoke_tasks
from lib.data import Example, Split
from lib.prompts import CONTENT_FREE, PATTERNS

_IN_DOMAIN = [
    Example("A woman in a red coat waits for the bus.", "A woman waits for the bus.", 0),
    Example("A woman in a red coat waits for the bus.", "Nobody is waiting for the bus.", 1),
    Example("Two boys play chess in the park.", "The boys are in the park.", 0),
    Example("Two boys play chess in the park.", "The boys are asleep at home.", 1),
    Example("The chef cooked soup and rice.", "The chef cooked soup.", 0),
    Example("The chef cooked soup and rice.", "The chef never cooked.", 1),
]
_MORE_IN_DOMAIN = [
    Example("The old dog sleeps under the table.", "A dog sleeps.", 0),
    Example("The old dog sleeps under the table.", "The dog runs in the park.", 1),
    Example("A singer and a painter met at noon.", "A painter met a singer.", 0),
    Example("A singer and a painter met at noon.", "The singer met nobody.", 1),
]
_OUT_OF_DOMAIN = [
    Example("The lawyer thanked the judge.", "The judge thanked the lawyer.", 1),
    Example("The tourist and the guide left.", "The guide left.", 0),
    Example("The singer near the painter danced.", "The painter danced.", 1),
    Example("The chef who met the judge slept.", "The chef slept.", 0),
]
PAIRS: dict[str, dict[Split, list[Example]]] = {
    "pairs": {"train": _IN_DOMAIN, "evaluation": _MORE_IN_DOMAIN},
    "swaps": {"train": _OUT_OF_DOMAIN, "evaluation": _OUT_OF_DOMAIN},
}

# Hidden width of each random two-layer OPT; both share one tokenizer.
WIDTHS = {"random-opt-teacher": 64, "random-opt-student": 32}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the pairs, the patterns and their label words; words include the space before."""
    split = pre_tokenizers.Split(Regex(r" ?\w+|\n| ?[^\w\s]| "), behavior="isolated")
    texts = [text for dataset in PAIRS.values() for rows in dataset.values() for row in rows for text in row[:2]]
    texts += [text for row in CONTENT_FREE for text in row[:2]]
    texts += smoke_tasks.TEXTS
    texts += [f"{p.template} {' '.join(p.label_words)}" for p in PATTERNS.values()]
    pieces = [piece for text in texts for lead in ("", " ") for piece, _ in split.pre_tokenize_str(lead + text)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(["<unk>", "</s>", "\n", *pieces]))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = split
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>")


def config(name: str) -> OPTConfig:
    """Configuration of one of the random models."""
    width = WIDTHS[name]
    return OPTConfig(
        vocab_size=len(tokenizer()),
        hidden_size=width,
        word_embed_proj_dim=width,
        ffn_dim=4 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        dropout=0.0,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=1,
    )


def model(name: str) -> OPTForCausalLM:
    """One of the random models; its weights follow from its name alone."""
    with torch.random.fork_rng():
        torch.manual_seed(WIDTHS[name])
        return OPTForCausalLM(config(name))
