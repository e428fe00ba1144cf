"""FinalMLP: two towers over differently gated embeddings, joined by a bilinear form of their last layers.

Shape letters: B rows in a batch, F fields, D embedding width, W = F * D, N heads, X and Y the towers' last widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from components.rankers.hidden import hidden_layers
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


@dataclass(frozen=True)
class TwoStreamParams(RankerParams):
    """RankerParams and

    second_hidden_widths  units of the second tower's hidden layers (hidden_widths are the first's)
    gate_width            hidden units of each gate
    num_heads             N, parts of the towers' last layers that meet one another; divides both last widths
    """

    second_hidden_widths: tuple[int, ...]
    gate_width: int
    num_heads: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        both = (self.hidden_widths, self.second_hidden_widths)
        is_divided = self.num_heads >= 1 and all(widths and widths[-1] % self.num_heads == 0 for widths in both)
        return super().promises() | {
            "second_hidden_widths >= 1": all(width >= 1 for width in self.second_hidden_widths),
            "gate_width >= 1": self.gate_width >= 1,
            "num_heads divides the last of hidden_widths and of second_hidden_widths": bool(is_divided),
        }


class Gate(nn.Module):
    """2 sigmoid(two layers of a learned context): weights (W,) of a stream's inputs, 1 at first on average (Mao et al. 2023, eq. 6-7).

    The paper's gates may read some fields; where none is named it learns the context instead, as here.
    """

    def __init__(self, context_width: int, gate_width: int, width: int) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.zeros(context_width))
        self.inner = nn.Linear(context_width, gate_width)
        self.outer = nn.Linear(gate_width, width)

    def forward(self) -> torch.Tensor:
        """Give the weights (W,)."""
        weights_w: torch.Tensor = 2 * self.outer(self.inner(self.context).relu()).sigmoid()
        return weights_w


class TwoStreams(Ranker):
    """logit = b + w_x . x + w_y . y + sum over heads of x_n' W_n y_n; x, y the towers' last layers (Mao et al. 2023, eq. 4 and 11)."""

    params_kind: ClassVar[type[RankerParams]] = TwoStreamParams

    def __init__(self, field_sizes: tuple[int, ...], params: TwoStreamParams) -> None:
        super().__init__()
        width = len(field_sizes) * params.embedding_width
        self.num_heads = params.num_heads
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.first_gate = Gate(params.embedding_width, params.gate_width, width)
        self.second_gate = Gate(params.embedding_width, params.gate_width, width)
        self.first = hidden_layers(width, params.hidden_widths, params)
        self.second = hidden_layers(width, params.second_hidden_widths, params)
        last, second_last = params.hidden_widths[-1], params.second_hidden_widths[-1]
        self.output = nn.Linear(last + second_last, 1)
        shape = (params.num_heads, last // params.num_heads, second_last // params.num_heads)
        self.bilinear = nn.Parameter(torch.empty(shape))
        for matrix in self.bilinear.detach():
            nn.init.xavier_normal_(matrix)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        x_bw = self.embedding(ids_bf).flatten(start_dim=1)
        first_bx, second_by = self.first(x_bw * self.first_gate()), self.second(x_bw * self.second_gate())
        first_nbx, second_nby = (
            last.view(last.shape[0], self.num_heads, -1).transpose(0, 1) for last in (first_bx, second_by)
        )
        met_b = (torch.bmm(first_nbx, self.bilinear) * second_nby).sum(dim=(0, 2))
        logits_b: torch.Tensor = self.output(torch.cat([first_bx, second_by], dim=1))[:, 0] + met_b
        return logits_b
