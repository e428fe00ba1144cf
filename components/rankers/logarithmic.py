"""Adaptive factorization network: in the logarithm a product of powers is a weighted sum, so orders are learned.

Shape letters: B rows in a batch, F fields, D embedding width, L logarithmic neurons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower

# Below it a number's logarithm says nothing but that it is small; FuxiCTR found it better than the paper's 1e-7.
_SMALLEST = 1e-5


@dataclass(frozen=True)
class LogarithmicParams(RankerParams):
    """RankerParams and

    num_neurons  L, products of powers that are learned
    """

    num_neurons: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        return super().promises() | {"num_neurons >= 1": self.num_neurons >= 1}


class LogarithmicNetwork(Ranker):
    """AFN: y_l = exp(sum over fields of w_lf ln|x_f| + b_l), number by number; logit = tower(all y) (Cheng et al. 2020, eq. 5-8).

    As in the paper embeddings are made positive, and batch norm follows both the logarithm (per field) and the exponential
    (per neuron); it stays on where use_batch_norm is not, because nothing else keeps the exponential finite.
    """

    params_kind: ClassVar[type[RankerParams]] = LogarithmicParams

    def __init__(self, field_sizes: tuple[int, ...], params: LogarithmicParams) -> None:
        super().__init__()
        num_fields = len(field_sizes)
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.log_norm = nn.BatchNorm1d(num_fields)
        self.powers = nn.Linear(num_fields, params.num_neurons)
        self.exp_norm = nn.BatchNorm1d(params.num_neurons)
        self.over_products = Tower(params.num_neurons * params.embedding_width, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        logarithms_bfd = self.log_norm(self.embedding(ids_bf).abs().clamp(min=_SMALLEST).log())
        # Neurons are the last axis throughout: of these, the largest tensors here, no copy in another order is made.
        exponents_bdl = self.powers(logarithms_bfd.transpose(1, 2))
        products_cl = self.exp_norm(exponents_bdl.exp().flatten(end_dim=1))
        logits_b: torch.Tensor = self.over_products(products_cl.view_as(exponents_bdl).flatten(start_dim=1))
        return logits_b


class LogarithmicAndTower(LogarithmicNetwork):
    """AFN+: a w + (1 - a) u of AFN's logit w and that of a tower over embeddings of its own, u; here both are scaled freely.

    Cheng et al. 2020, section 3.5: the two parts share no embeddings.
    """

    def __init__(self, field_sizes: tuple[int, ...], params: LogarithmicParams) -> None:
        super().__init__(field_sizes, params)
        self.own_embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.deep = Tower(len(field_sizes) * params.embedding_width, params)
        self.output = nn.Linear(2, 1)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        deep_b = self.deep(self.own_embedding(ids_bf).flatten(start_dim=1))
        logits_b1: torch.Tensor = self.output(torch.stack([super().forward(ids_bf), deep_b], dim=1))
        return logits_b1[:, 0]
