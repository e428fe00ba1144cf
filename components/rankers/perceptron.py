"""A plain multilayer perceptron over the fields' embeddings: when well tuned, the yardstick that most papers miss.

Shape letters: B rows in a batch, F fields, D embedding width.
"""

from __future__ import annotations

import torch
from torch import nn

from components.rankers.hidden import hidden_layers
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


class Perceptron(Ranker):
    """embeddings (B, F * D) -> [linear, batch norm, ReLU, dropout] for each hidden width -> linear -> logit (B,).

    The "DNN" of the BARS benchmark (Zhu et al. 2022), whose best setting has three layers of 400 on Frappe.
    """

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        width = len(field_sizes) * params.embedding_width
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.hidden = hidden_layers(width, params.hidden_widths, params)
        self.output = nn.Linear((width, *params.hidden_widths)[-1], 1)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        hidden_bh = self.hidden(self.embedding(ids_bf).flatten(start_dim=1))
        logits_b1: torch.Tensor = self.output(hidden_bh)
        return logits_b1[:, 0]
