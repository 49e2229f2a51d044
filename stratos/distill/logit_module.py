"""The Lightning module of logit distillation (white-box alignment)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from stratos.config import TrainerConfig
from stratos.distill.data import Batch
from stratos.distill.module import TextModule
from stratos.distill.objectives import Objective
from stratos.distill.recipe import Rates
from stratos.distill.signal import SignalSource
from stratos.distill.signal.cache import CachedSource
from stratos.distill.signal.local import LocalSource
from stratos.distill.signal.served import ServedSource


class LogitModule(TextModule):
    """A student that is told how likely its teacher finds each token of a text.

    The text is the corpus's, or the student's own (on-policy, see `OnPolicyLoader`).
    """

    def __init__(
        self,
        model: Any,
        trainer_config: TrainerConfig,
        n_steps: int,
        source: SignalSource,
        objective: Objective,
        hidden_match: float = 0.0,
        rates: Rates | None = None,
    ) -> None:
        """Take the teacher's signal from `source`, and match its layers with this weight."""
        super().__init__(model, trainer_config, n_steps, rates)
        if hidden_match and source.layers is not None:
            self.learner.match_layers(*source.layers, hidden_match)
        self._source, self._objective = source, objective
        # What the student wrote is no text to learn by heart.
        self._own_text = replace(objective, cross_entropy=0.0)

    @property
    def divides(self) -> bool:
        """Return whether forked processes can ask the teacher, too: one that is in this memory."""
        return super().divides and isinstance(self._source, LocalSource | CachedSource)

    def split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return what Muon trains, and what AdamW does: the projections are among the latter."""
        matrices, others = super().split_parameters()
        if self.learner.match is not None:
            others.extend(self.learner.match.parameters())
        return matrices, others

    def trial_loss(self, batch: Batch) -> Tensor:
        """Return a loss that takes as long as `loss`; a server is not asked, and paid, for it."""
        if isinstance(self._source, ServedSource):
            return super().loss(batch)
        return self.loss(batch)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of one packed row.

        Where the teacher says nothing (it has no token that begins there) the corpus's text is
        learned: places that nothing is learned from would be noise in the midst of what the student
        writes. What it has written itself is left out there.
        """
        if not batch.n_trained:  # a part of a row without documents: there is nothing to ask
            return super().loss(batch)
        signal, places = self._source.signal(batch), self._source.places(batch)
        objective = self._own_text if batch.written else self._objective
        if places is not None and batch.written:
            n_learned = len(batch.rows_M)
            batch = replace(
                batch,
                rows_M=batch.rows_M[places],
                targets_M=batch.targets_M[places],
                n_tokens=batch.n_tokens * len(places) / max(1, n_learned),
            )
            places = None
        loss: Tensor = self.learner(batch, signal, objective, places).total
        return loss
