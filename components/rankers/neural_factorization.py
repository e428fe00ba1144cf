"""Neural factorization machine: a perceptron over all pairs of fields pooled into one vector.

Shape letters: B rows in a batch, F fields, D embedding width.
"""

from __future__ import annotations

import torch
from torch import nn

from components.rankers.dropout import Dropout
from components.rankers.linear import Linear
from components.rankers.pairs import summed_pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower


class NeuralFactorizationMachine(Ranker):
    """logit = main effects + tower(sum over pairs of v_i * v_j) (He and Chua 2017, eq. 3, 4 and 7).

    The pooled vector goes through batch norm (where use_batch_norm) and dropout before the tower, as in the paper.
    """

    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.norm = nn.BatchNorm1d(params.embedding_width) if params.use_batch_norm else nn.Identity()
        self.dropout = Dropout(params.dropout)
        self.deep = Tower(params.embedding_width, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        main_b: torch.Tensor = self.main(ids_bf)
        deep_b: torch.Tensor = self.deep(self.dropout(self.norm(summed_pairs(self.embedding(ids_bf)))))
        return main_b + deep_b
