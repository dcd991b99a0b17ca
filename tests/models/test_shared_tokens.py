"""Where two tokenizers stand at the same character, against the bytes that their tokens spell."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lib.models import random_models
from lib.models.shared_tokens import shared_positions, shared_tokens

CORPUS = [
    "The old dog sleeps under the table while two boys play chess in the park.",
    "A singer and a painter met at noon, and the chef cooked soup and rice.",
    "好好 study 好 and 🙂 smiles, 好 study and 🙂🙂 smile.",
    "Çedilla, naïve façade; 好好 study 好 and 🙂 smiles 🙂.",
]
TEXTS = [
    *CORPUS,
    "The  chef   slept.\n\nTwo\tdogs! ",
    " a leading space",
    "🙂🙃 ñandú 漢字",
    "word",
    "x",
]


def byte_level(size, split=None, front=None, trim=False):
    """A byte-level BPE tokenizer; every token of the text spells the bytes that it stands for."""
    bpe = Tokenizer(models.BPE())
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    own = [pre_tokenizers.Split(Regex(split), behavior="isolated")] if split else []
    bpe.pre_tokenizer = pre_tokenizers.Sequence([*own, as_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=as_bytes.alphabet(),
        special_tokens=[front] if front else [],
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS * 3, trainer)
    if front:
        bpe.post_processor = processors.TemplateProcessing(single=f"{front} $A", special_tokens=[(front, 0)])
    elif trim:
        bpe.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


TOKENIZERS = {
    "bytes": byte_level(256),
    "small": byte_level(300),
    "large": byte_level(420),
    "front": byte_level(340, front="<s>"),
    "whole sentences": byte_level(420, split=r"[^.]+\.?"),
    "trimmed": byte_level(400, trim=True),
}
every_pair = pytest.mark.parametrize(
    ("student", "teacher"),
    [(one, other) for one in TOKENIZERS.values() for other in TOKENIZERS.values()],
    ids=[f"{one}, {other}" for one in TOKENIZERS for other in TOKENIZERS],
)


def bytes_read(tokenizer, ids):
    """How many bytes of the text are read after each token; a byte-level token has one character for each byte."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    sizes = [0 if token == "<s>" else len(token) for token in tokens]
    return [sum(sizes[: i + 1]) for i in range(len(sizes))]


@every_pair
def test_positions_are_all_that_stand_after_the_same_whole_characters(student, teacher):
    for text in TEXTS:
        own, others = shared_positions(text, student, teacher)
        first, second = (bytes_read(one, one(text)["input_ids"]) for one in (student, teacher))
        after_characters = {len(text[:i].encode()) for i in range(1, len(text))}
        common = sorted(after_characters & set(first) & set(second))
        assert [first[position] for position in own] == common
        assert [second[position] for position in others] == common


def test_the_tokenizers_cut_texts_differently_and_still_meet():
    student, teacher = TOKENIZERS["bytes"], TOKENIZERS["large"]
    own, others = shared_positions(CORPUS[0], student, teacher)
    assert 5 < len(own) < len(student(CORPUS[0])["input_ids"]) - 1
    assert own != others


@pytest.mark.parametrize("name", TOKENIZERS)
def test_turned_about_the_positions_are_turned_about(name):
    one, other = TOKENIZERS[name], TOKENIZERS["small"]
    assert shared_positions(CORPUS[2], one, other) == shared_positions(CORPUS[2], other, one)[::-1]


@pytest.mark.parametrize("text", CORPUS[:2])
def test_one_tokenizer_for_both_meets_after_every_token_but_the_last(text):
    for tokenizer in (TOKENIZERS["large"], random_models.tokenizer()):
        every = list(range(len(tokenizer(text)["input_ids"]) - 1))
        assert shared_positions(text, tokenizer, tokenizer) == (every, every)


def test_a_token_that_stands_in_front_is_no_place_to_compare():
    tokenizer = TOKENIZERS["front"]
    ids, (positions, _) = tokenizer("The dog")["input_ids"], shared_positions("The dog", tokenizer, tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "<s>"
    assert 0 not in positions
    assert len(positions) == len(ids) - 2


@pytest.mark.parametrize("text", ["", "x"])
def test_a_text_of_one_character_or_none_has_no_position(text):
    assert shared_positions(text, TOKENIZERS["small"], TOKENIZERS["large"]) == ([], [])


@every_pair
def test_shared_tokens_are_all_that_are_spelled_alike_each_once(student, teacher):
    shared = shared_tokens(student, teacher)
    spelled = student.convert_ids_to_tokens(shared.student.tolist())
    assert spelled == teacher.convert_ids_to_tokens(shared.teacher.tolist())
    assert len(set(spelled)) == len(spelled)
    assert set(spelled) == student.get_vocab().keys() & teacher.get_vocab().keys()


def test_shared_tokens_are_fewer_than_either_vocabulary_and_have_other_ids():
    student, teacher = TOKENIZERS["large"], TOKENIZERS["front"]
    shared = shared_tokens(student, teacher)
    assert 256 <= len(shared.student) < min(len(student), len(teacher))
    assert not torch.equal(shared.student, shared.teacher)


@pytest.mark.parametrize("tokenizer", [*TOKENIZERS.values(), random_models.tokenizer()], ids=[*TOKENIZERS, "smoke"])
def test_one_tokenizer_shares_its_whole_vocabulary_in_order(tokenizer):
    shared = shared_tokens(tokenizer, tokenizer)
    assert shared.student.tolist() == shared.teacher.tolist() == list(range(len(tokenizer)))


def test_a_special_token_that_the_other_lacks_is_not_shared():
    student, teacher = TOKENIZERS["front"], TOKENIZERS["small"]
    assert 0 not in shared_tokens(student, teacher).student
    assert 0 in shared_tokens(student, student).student


def test_the_columns_of_shared_tokens_read_the_same_from_both_models():
    student, teacher = TOKENIZERS["large"], TOKENIZERS["front"]
    shared = shared_tokens(student, teacher)
    by_name = {token: float(len(token)) for token in student.get_vocab().keys() | teacher.get_vocab().keys()}
    own, told = (
        torch.tensor([by_name[one] for one in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
        for tokenizer in (student, teacher)
    )
    assert torch.equal(own[shared.student], told[shared.teacher])
