"""DLRM: a tower over the inner products of the fields' vectors alone.

Shape letters: B rows in a batch, F fields, D embedding width, P pairs of fields.
"""

from __future__ import annotations

import torch

from components.rankers.pairs import Pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower


class DotProductRanker(Ranker):
    """tower(<v_i, v_j> of every pair): (B, P) -> logit (Naumov et al. 2019, section 2).

    The paper has a bottom tower for numeric fields whose output joins the vectors; here numeric fields are bucketed and
    have vectors of their own, so there is none, and hidden_widths are those of the top tower.
    """

    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.pairs = Pairs(len(field_sizes))
        self.deep = Tower(self.pairs.count, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        logits_b: torch.Tensor = self.deep(self.pairs.dots(self.embedding(ids_bf)))
        return logits_b
