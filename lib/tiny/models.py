"""The tokenizer made for the world of `lib.tasks.world`, and the shape of the two models that learn to read it."""

from functools import cache

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import GPTNeoXConfig, PreTrainedTokenizerFast

from lib.tasks import world
from lib.tasks.prompts import SEPARATOR

# The words that answer single pairs in pretraining, entailment first; never label words of a context.
VERDICTS = ("true", "false")
MAX_POSITIONS = 1024


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, lower case; every other character outside the world's words is `<unk>`."""
    verbs = [form for verb in world.VERBS for form in (verb.base, verb.past)]
    words = [*world.FUNCTION_WORDS, *world.PEOPLE, *verbs, *world.ADJECTIVES, *world.PLACES, *world.LABEL_WORDS]
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", SEPARATOR, *words, *VERDICTS])}
    word_level = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    word_level.normalizer = normalizers.Lowercase()
    word_level.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n\n|\w+|[^\w\s]"), behavior="isolated"),
            pre_tokenizers.Split(Regex(r"^[ \t]+$"), behavior="removed"),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=word_level, unk_token="<unk>", pad_token="<pad>")


def config(width: int, layers: int, heads: int) -> GPTNeoXConfig:
    """A GPT-NeoX of the given shape: biases everywhere, rotary positions on half of each head, tied embeddings.

    Weights start wide (standard deviation .06): at the usual .02 the models stay with the overlap shortcut for long.
    """
    return GPTNeoXConfig(
        vocab_size=len(tokenizer()),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=MAX_POSITIONS,
        rotary_pct=0.5,
        use_parallel_residual=False,
        tie_word_embeddings=True,
        initializer_range=0.06,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=tokenizer().pad_token_id,
    )
