"""The deep part that most rankers share: hidden layers over a flat input, ending in a logit.

Shape letters: B rows in a batch, W numbers of input.
"""

from __future__ import annotations

import torch
from torch import nn

from components.rankers.hidden import hidden_layers
from components.rankers.ranker import RankerParams


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
