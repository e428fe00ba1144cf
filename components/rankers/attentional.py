"""Attentional factorization machine: pairs of fields weighted by how much they matter in this very row.

Shape letters: B rows in a batch, F fields, D embedding width, P pairs of fields, A attention units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from components.rankers.dropout import Dropout
from components.rankers.linear import Linear
from components.rankers.pairs import Pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


@dataclass(frozen=True)
class AttentionalParams(RankerParams):
    """RankerParams and

    attention_width  A, units of the network that weighs the pairs
    """

    attention_width: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        return super().promises() | {"attention_width >= 1": self.attention_width >= 1}


class AttentionalFactorizationMachine(Ranker):
    """logit = main effects + p . sum over pairs of a_ij (v_i * v_j), a = softmax(h . relu(W (v_i * v_j) + b)) (Xiao et al. 2017, eq. 5-6).

    dropout is of the weighted sum, as in the paper; it has no hidden layers. The paper's L2 on W is left out: all rankers
    here share one penalty, that on embeddings.
    """

    params_kind: ClassVar[type[RankerParams]] = AttentionalParams
    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: AttentionalParams) -> None:
        super().__init__()
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.pairs = Pairs(len(field_sizes))
        self.attention = nn.Linear(params.embedding_width, params.attention_width)
        self.importance = nn.Linear(params.attention_width, 1, bias=False)
        self.dropout = Dropout(params.dropout)
        self.output = nn.Linear(params.embedding_width, 1, bias=False)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        main_b: torch.Tensor = self.main(ids_bf)
        left_bpd, right_bpd = self.pairs.split(self.embedding(ids_bf))
        products_bpd = left_bpd * right_bpd
        weights_bp1 = self.importance(self.attention(products_bpd).relu()).softmax(1)
        pooled_bd = self.dropout((weights_bp1 * products_bpd).sum(1))
        pairs_b1: torch.Tensor = self.output(pooled_bd)
        return main_b + pairs_b1[:, 0]
