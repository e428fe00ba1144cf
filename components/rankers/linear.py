"""Logistic regression: one weight per id and a bias, nothing but main effects; the yardstick below all others."""

from __future__ import annotations

import torch
from torch import nn

from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


class Linear(Ranker):
    """logit = bias + sum over fields of the id's weight (Richardson et al. 2007); of the params it reads none."""

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__(field_sizes, params)
        self.weights = FieldEmbedding(field_sizes, 1, None)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        return self.weights(ids_bf).sum(dim=(1, 2)) + self.bias
