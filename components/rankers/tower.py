"""The deep part that most rankers share: hidden layers over a flat input, and one that ends in a logit.

Shape letters: B rows in a batch, H hidden units, W numbers of input.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from components.rankers.dropout import Dropout
from components.rankers.ranker import RankerParams


def hidden_layers(input_width: int, hidden_widths: tuple[int, ...], params: RankerParams) -> nn.Sequential:
    """[linear, batch norm, ReLU, dropout] for each hidden width: (B, W) -> (B, H of the last); of params the last two."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise((input_width, *hidden_widths)):
        layers.append(nn.Linear(width_in, width_out))
        if params.use_batch_norm:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(nn.ReLU(inplace=True))
        if params.dropout > 0:
            layers.append(Dropout(params.dropout))
    return nn.Sequential(*layers)


class Tower(nn.Module):
    """Hidden layers and a linear unit: (B, W) -> logits (B,)."""

    def __init__(self, input_width: int, params: RankerParams) -> None:
        super().__init__()
        self.hidden = hidden_layers(input_width, params.hidden_widths, params)
        self.output = nn.Linear((input_width, *params.hidden_widths)[-1], 1)

    def forward(self, x_bw: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        logits_b1: torch.Tensor = self.output(self.hidden(x_bw))
        return logits_b1[:, 0]
