"""The smoke profile's world: a dozen pairs of our own and two random OPT models, made in place in a second.

Nothing can be learned from it about distillation. It shows that every part of the study runs, offline and quickly.
"""

from functools import cache

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from lib.tasks import smoke
from lib.tasks.patterns import CONTENT_FREE_TEXTS, LABEL_WORDS, PATTERNS
from lib.tasks.smoke import PAIRS

# Hidden width of each random two-layer OPT; both share one tokenizer.
WIDTHS = {"random-opt-teacher": 64, "random-opt-student": 32}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the pairs, the patterns and their label words; words include the space before."""
    split = pre_tokenizers.Split(Regex(r" ?\w+|\n| ?[^\w\s]| "), behavior="isolated")
    texts = [text for dataset in PAIRS.values() for rows in dataset.values() for row in rows for text in row[:2]]
    texts += CONTENT_FREE_TEXTS
    texts += smoke.TEXTS
    texts += [f"{pattern} {' '.join(LABEL_WORDS[name])}" for name, pattern in PATTERNS.items()]
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
