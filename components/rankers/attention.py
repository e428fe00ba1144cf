"""Self-attention among the fields: AutoInt, and AutoInt+ with a tower beside it.

Shape letters: B rows in a batch, F fields, D width of what enters a layer, N heads, A width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower


@dataclass(frozen=True)
class AttentionParams(RankerParams):
    """RankerParams and

    num_attention_layers  layers, each one order of interaction more
    num_heads             N, in each layer
    head_width            A, numbers per field and head
    """

    num_attention_layers: int
    num_heads: int
    head_width: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        names = ("num_attention_layers", "num_heads", "head_width")
        return super().promises() | {f"{name} >= 1": getattr(self, name) >= 1 for name in names}


class InteractingLayer(nn.Module):
    """relu(heads side by side + R x_f), a head being sum over g of softmax_g(<Q x_f, K x_g>) V x_g: (B, F, D) -> (B, F, N * A).

    Song et al. 2019, eq. 5-8; the scores are not scaled, as there.
    """

    def __init__(self, width: int, num_heads: int, head_width: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_width = head_width
        # Q, K, V and R in one product.
        self.projections = nn.Linear(width, 4 * num_heads * head_width, bias=False)

    def forward(self, x_bfd: torch.Tensor) -> torch.Tensor:
        """One layer."""
        query, key, value, residual_bfw = self.projections(x_bfd).chunk(4, dim=2)
        query_bnfa, key_bnfa, value_bnfa = (self._by_head(part) for part in (query, key, value))
        weights_bnff = torch.matmul(query_bnfa, key_bnfa.transpose(2, 3)).softmax(3)
        heads_bfna = torch.matmul(weights_bnff, value_bnfa).transpose(1, 2)
        seen_bfw: torch.Tensor = heads_bfna.flatten(start_dim=2) + residual_bfw
        return seen_bfw.relu()

    def _by_head(self, part_bfw: torch.Tensor) -> torch.Tensor:
        return part_bfw.view(*part_bfw.shape[:2], self.num_heads, self.head_width).transpose(1, 2)


class AttentionNetwork(Ranker):
    """AutoInt: logit = linear(all fields' vectors after the last layer) (Song et al. 2019, eq. 9)."""

    params_kind: ClassVar[type[RankerParams]] = AttentionParams
    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: AttentionParams) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        seen_width = params.num_heads * params.head_width
        widths = (params.embedding_width, *[seen_width] * (params.num_attention_layers - 1))
        self.layers = nn.Sequential(*(InteractingLayer(width, params.num_heads, params.head_width) for width in widths))
        self.output = nn.Linear(len(field_sizes) * seen_width, 1)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        return self.attend(self.embedding(ids_bf))

    def attend(self, x_bfd: torch.Tensor) -> torch.Tensor:
        """The logit of the attended embeddings (B, F, D): (B,)."""
        logits_b1: torch.Tensor = self.output(self.layers(x_bfd).flatten(start_dim=1))
        return logits_b1[:, 0]


class AttentionAndTower(AttentionNetwork):
    """AutoInt+: AutoInt's logit + that of a tower over the same embeddings (Song et al. 2019, section 5.5)."""

    def __init__(self, field_sizes: tuple[int, ...], params: AttentionParams) -> None:
        super().__init__(field_sizes, params)
        self.deep = Tower(len(field_sizes) * params.embedding_width, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        x_bfd = self.embedding(ids_bf)
        deep_b: torch.Tensor = self.deep(x_bfd.flatten(start_dim=1))
        return self.attend(x_bfd) + deep_b
