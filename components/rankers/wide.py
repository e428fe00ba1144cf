"""A wide, memorising part beside a deep, generalising one: Wide & Deep and DeepFM.

Shape letters: B rows in a batch, F fields, D embedding width.
"""

from __future__ import annotations

import torch

from components.rankers.linear import Linear
from components.rankers.pairs import summed_pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower


class WideAndDeep(Ranker):
    """logit = main effects + tower(embeddings) (Cheng et al. 2016, eq. 3).

    The paper's wide part also holds combinations of fields chosen by hand; here it holds the fields alone. One optimizer
    learns both parts (the paper: FTRL for the wide one).
    """

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.deep = Tower(len(field_sizes) * params.embedding_width, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        return self.combine(ids_bf, self.embedding(ids_bf))

    def combine(self, ids_bf: torch.Tensor, x_bfd: torch.Tensor) -> torch.Tensor:
        """Main effects and tower over the embeddings (B, F, D): (B,)."""
        main_b: torch.Tensor = self.main(ids_bf)
        deep_b: torch.Tensor = self.deep(x_bfd.flatten(start_dim=1))
        return main_b + deep_b


class DeepFactorizationMachine(WideAndDeep):
    """DeepFM: logit = factorization machine + tower, both over the same embeddings (Guo et al. 2017, eq. 1, 2 and 4)."""

    fields_needed = 2

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        x_bfd = self.embedding(ids_bf)
        return self.combine(ids_bf, x_bfd) + summed_pairs(x_bfd).sum(1)
