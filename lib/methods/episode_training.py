"""In-context tuning and in-context learning distillation: one objective, one loop, of which both are settings."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from lib.methods.encoder import PromptEncoder
from lib.methods.episodes import Episode, batches, plain_texts
from lib.methods.records import EpisodeObjective, Episodes
from lib.models.forward import pad_right
from lib.models.losses import HARD_WEIGHTS, soft_cross_entropy
from lib.models.scoring import answer_log_probs
from lib.models.shared_tokens import SharedTokens, shared_positions, shared_tokens
from lib.models.training import Step, Training, TrainingLog, optimise


@dataclass(frozen=True)
class TokenizedModel:
    """A model and how it reads: the student, or the teacher."""

    model: PreTrainedModel | torch.nn.Module
    encoder: PromptEncoder


@dataclass
class InContextTuning:
    """A student's in-context tuning, with a teacher or without; the tokens that both read are counted."""

    student: TokenizedModel
    teacher: TokenizedModel | None
    episodes: Episodes
    objective: EpisodeObjective
    tokens: int = 0

    def train(self, settings: Training) -> TrainingLog:
        """Train the student in place.

        Raises:
            StudyError: the tasks or the texts cannot be had, a prompt does not fit, or a loss is not finite.
        """
        steps = self._steps(settings.batch_size)
        losses = optimise(self.student.model, steps, self.episodes.steps, settings, self.episodes.seed)
        return TrainingLog(losses, self.tokens)

    def _steps(self, batch_size: int) -> Iterator[Step]:
        drawn, weight_at = batches(self.episodes, batch_size), HARD_WEIGHTS[self.objective.hard]
        for step, (batch, texts) in enumerate(zip(drawn, self._texts(), strict=True)):
            progress = step / max(1, self.episodes.steps - 1)
            yield [partial(self.loss, batch, texts, self.objective.hard_start * weight_at(progress))]

    def _texts(self) -> Iterator[list[str]]:
        """Each step's plain texts; none where the objective has no language-modelling terms."""
        objective, texts = self.objective, []
        if objective.lm_weight:
            texts = plain_texts(objective.lm_text, self.episodes, objective.lm_characters)
        draw = random.Random(f"texts {self.episodes.seed}")
        for _ in range(self.episodes.steps):
            yield draw.sample(texts, min(objective.lm_batch, len(texts)))

    def loss(self, batch: Sequence[Episode], texts: Sequence[str], weight: float) -> Tensor:
        """a · L_hard + (1 − a) · L_soft of one step, each = L^ICL + b · L^LM; the teacher is asked only where a < 1."""
        teacher = self.teacher if weight < 1 else None
        hard, soft = self._icl_terms(batch, teacher)
        if texts:
            hard_lm, soft_lm = self._lm_terms(texts, teacher)
            hard, soft = hard + self.objective.lm_weight * hard_lm, soft + self.objective.lm_weight * soft_lm
        return weight * hard + (1.0 - weight) * soft

    def _icl_terms(self, batch: Sequence[Episode], teacher: TokenizedModel | None) -> tuple[Tensor, Tensor]:
        """L_hard^ICL and L_soft^ICL, means over episodes; probabilities are over each query's options."""
        own = self._scores(self.student, batch)
        gold = [episode.query.gold for episode in batch]
        hard = torch.stack([-row.log_softmax(0)[right] for row, right in zip(own, gold, strict=True)]).mean()
        if teacher is None:
            return hard, torch.zeros_like(hard)
        with torch.no_grad():
            targets = [row[None].to(hard.device) for row in self._scores(teacher, batch)]
        pairs = zip(targets, own, strict=True)
        soft = [soft_cross_entropy(target, row[None], self.objective.temperature) for target, row in pairs]
        return hard, torch.stack(soft).mean()

    def _scores(self, tokenized: TokenizedModel, batch: Sequence[Episode]) -> list[Tensor]:
        encoded = tokenized.encoder.prompts(batch)
        prompts = [encoded.prefix + suffix for suffix in encoded.suffixes]
        options = [tokenized.encoder.answers(episode.query) for episode in batch]
        self.tokens += sum(map(len, prompts)) + sum(len(option) - 1 for row in options for option in row)
        return answer_log_probs(tokenized.model, prompts, options, length_normalized=self.episodes.length_normalized)

    def _lm_terms(self, texts: Sequence[str], teacher: TokenizedModel | None) -> tuple[Tensor, Tensor]:
        """L_hard^LM, next-token cross-entropy, and L_soft^LM over the tokens that both have, at shared positions."""
        own, read = self._next_tokens(self.student, texts)
        hard = next_token_loss(own, read)
        if teacher is None:
            return hard, torch.zeros_like(hard)
        with torch.no_grad():
            targets, _ = self._next_tokens(teacher, texts)
        tokenizers = [tokenized.encoder.tokenizer for tokenized in (self.student, teacher)]
        positions = [shared_positions(text, *tokenizers) for text in texts]
        return hard, soft_lm_loss(own, targets, positions, self._shared, self.objective.temperature)

    @cached_property
    def _shared(self) -> SharedTokens:
        """The tokens that student and teacher have in common."""
        return shared_tokens(self.student.encoder.tokenizer, self.teacher.encoder.tokenizer)

    def _next_tokens(self, tokenized: TokenizedModel, texts: Sequence[str]) -> tuple[Tensor, list[list[int]]]:
        """Logits [texts, longest, vocabulary] at every position of the texts, and the texts' token ids."""
        read = [tokenized.encoder.tokenizer(text)["input_ids"] for text in texts]
        ids, mask = pad_right(read, tokenized.model.device)
        self.tokens += sum(map(len, read))
        return tokenized.model(input_ids=ids, attention_mask=mask, use_cache=False).logits, read


def next_token_loss(logits: Tensor, read: Sequence[Sequence[int]]) -> Tensor:
    """L_hard^LM: mean over all tokens but each text's first of −log P(token | those before it), in nats.

    Logits are [texts, longest, vocabulary], `read` the token ids of each text.
    """
    rows = torch.cat([logits[i, : len(ids) - 1] for i, ids in enumerate(read)])
    targets = torch.tensor([token for ids in read for token in ids[1:]], device=logits.device)
    return F.cross_entropy(rows.float(), targets) if len(targets) else rows.sum()


def soft_lm_loss(
    student: Tensor,
    teacher: Tensor,
    positions: Sequence[tuple[list[int], list[int]]],
    shared: SharedTokens,
    temperature: float,
) -> Tensor:
    """L_soft^LM: cross-entropy of the two next-token distributions, renormalised over the shared tokens.

    Logits are [texts, longest, own vocabulary]. Positions are those of each text where the two are compared, the
    student's and the teacher's.
    """
    own = torch.cat([student[i, places] for i, (places, _) in enumerate(positions)])
    targets = torch.cat([teacher[i, places] for i, (_, places) in enumerate(positions)]).to(own.device)
    columns, teacher_columns = shared.student.to(own.device), shared.teacher.to(own.device)
    return soft_cross_entropy(targets[:, teacher_columns], own[:, columns], temperature)
