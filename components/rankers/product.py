"""Product-based networks: products of the fields' vectors stand beside the vectors as input of a tower.

Shape letters: B rows in a batch, F fields, D embedding width, P pairs of fields.
"""

from __future__ import annotations

import torch

from components.rankers.pairs import Pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower


class InnerProductNetwork(Ranker):
    """tower(embeddings, <v_i, v_j> of every pair): (B, F * D + P) -> logit (Qu et al. 2016, IPNN).

    The tower's first layer is the paper's l_z + l_p + b; its weights over the products are not factorised (the paper
    does that to save memory).
    """

    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        num_fields = len(field_sizes)
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.pairs = Pairs(num_fields)
        self.deep = Tower(num_fields * params.embedding_width + self.pairs.count, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        x_bfd = self.embedding(ids_bf)
        logits_b: torch.Tensor = self.deep(torch.cat([x_bfd.flatten(start_dim=1), self.pairs.dots(x_bfd)], dim=1))
        return logits_b


class OuterProductNetwork(Ranker):
    """tower(embeddings, s s') with s = sum of v_i, flattened: (B, F * D + D * D) -> logit (Qu et al. 2016, OPNN, eq. 10).

    As in the paper all outer products are superposed, which makes them one of the sums.
    """

    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        width = params.embedding_width
        self.embedding = FieldEmbedding(field_sizes, width, None)
        self.deep = Tower(len(field_sizes) * width + width * width, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        x_bfd = self.embedding(ids_bf)
        sum_bd = x_bfd.sum(1)
        outer_bdd = sum_bd.unsqueeze(2) * sum_bd.unsqueeze(1)
        logits_b: torch.Tensor = self.deep(torch.cat([x_bfd.flatten(start_dim=1), outer_bdd.flatten(start_dim=1)], 1))
        return logits_b
