"""Several networks as one: a ranker whose logit is the mean of theirs.

Networks that differ in their initial weights and the order of their rows err differently, and their mean errs less (Hansen
and Salamon 1990, "Neural network ensembles"; Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty
estimation using deep ensembles", who average probabilities). Logits are averaged here: on Frappe that is the better of the
two (docs/log.md), and a shift of all of them, which is what undoes downsampling, stays that shift in the mean.
Shape letters: B rows in a batch, F fields.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from components.rankers.ranker import Ranker


class Ensemble(Ranker):
    """Made of rankers that have learned, each by itself; it scores and is exported, but does not learn as one."""

    def __init__(self, members: Iterable[Ranker]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give the mean (B,) of the members' logits for ids (B, F)."""
        return torch.stack([member(ids_bf) for member in self.members]).mean(0)
