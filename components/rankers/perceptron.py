"""A plain multilayer perceptron over the fields' embeddings: when well tuned, the yardstick that most papers miss.

Shape letters: B rows in a batch, F fields, D embedding width, H hidden units.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from components.rankers.dropout import Dropout
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


class Perceptron(Ranker):
    """embeddings (B, F * D) -> [linear, batch norm, ReLU, dropout] for each hidden width -> linear -> logit (B,).

    The "DNN" of the BARS benchmark (Zhu et al. 2022), whose best setting has three layers of 400 on Frappe.
    """

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        widths = (len(field_sizes) * params.embedding_width, *params.hidden_widths)
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            layers.append(nn.Linear(width_in, width_out))
            if params.use_batch_norm:
                layers.append(nn.BatchNorm1d(width_out))
            layers.append(nn.ReLU(inplace=True))
            if params.dropout > 0:
                layers.append(Dropout(params.dropout))
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        hidden_bh = self.hidden(self.embedding(ids_bf).flatten(start_dim=1))
        logits_b1: torch.Tensor = self.output(hidden_bh)
        return logits_b1[:, 0]
