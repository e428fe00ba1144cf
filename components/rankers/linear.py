"""Logistic regression: one weight per id and a bias, nothing but main effects; the yardstick below all others."""

from __future__ import annotations

import torch
from torch import nn

from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


class Linear(Ranker):
    """logit = bias + sum over fields of the id's weight (Richardson et al. 2007); of the params it reads none."""

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()
        self.weights = FieldEmbedding(field_sizes, 1, None)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        weights_bf1: torch.Tensor = self.weights(ids_bf)
        return weights_bf1.sum(dim=(1, 2)) + self.bias
