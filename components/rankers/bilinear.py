"""FiBiNET: how much each field matters, and pairs of fields multiplied through a matrix.

Shape letters: B rows in a batch, F fields, D embedding width, P pairs of fields, S squeezed fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from components.rankers.linear import Linear
from components.rankers.pairs import Pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower


@dataclass(frozen=True)
class BilinearParams(RankerParams):
    """RankerParams and

    reduction  F / reduction numbers say how much each field matters, at least one
    """

    reduction: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        return super().promises() | {"reduction >= 1": self.reduction >= 1}


class Senet(nn.Module):
    """x_f a_f with a = relu(W2 relu(W1 z)), z_f the mean of x_f: (B, F, D) -> (B, F, D) (Huang et al. 2019, eq. 2-4)."""

    def __init__(self, num_fields: int, reduction: int) -> None:
        super().__init__()
        num_squeezed = max(1, num_fields // reduction)
        self.squeeze = nn.Linear(num_fields, num_squeezed, bias=False)
        self.excite = nn.Linear(num_squeezed, num_fields, bias=False)

    def forward(self, x_bfd: torch.Tensor) -> torch.Tensor:
        """Weigh the fields."""
        gates_bf = self.excite(self.squeeze(x_bfd.mean(2)).relu()).relu()
        weighed_bfd: torch.Tensor = x_bfd * gates_bf.unsqueeze(2)
        return weighed_bfd


class _BilinearNetwork(Ranker):
    """logit = main effects + tower(p of the embeddings, q of the weighed ones), both (B, P * D) (Huang et al. 2019, eq. 5-9)."""

    params_kind: ClassVar[type[RankerParams]] = BilinearParams
    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: BilinearParams) -> None:
        super().__init__()
        num_fields, width = len(field_sizes), params.embedding_width
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, width, None)
        self.senet = Senet(num_fields, params.reduction)
        self.pairs = Pairs(num_fields)
        self.plain = self.make_matrices(num_fields, width)
        self.weighed = self.make_matrices(num_fields, width)
        self.deep = Tower(2 * self.pairs.count * width, params)

    def make_matrices(self, num_fields: int, width: int) -> nn.Parameter:
        """The matrices W."""
        raise NotImplementedError

    def multiply(self, x_bfd: torch.Tensor, matrices: nn.Parameter) -> torch.Tensor:
        """(x_i W) * x_j of every pair: (B, F, D) -> (B, P, D)."""
        raise NotImplementedError

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        x_bfd = self.embedding(ids_bf)
        both = [self.multiply(x_bfd, self.plain), self.multiply(self.senet(x_bfd), self.weighed)]
        main_b: torch.Tensor = self.main(ids_bf)
        deep_b: torch.Tensor = self.deep(torch.cat(both, dim=1).flatten(start_dim=1))
        return main_b + deep_b


class BilinearAll(_BilinearNetwork):
    """One matrix for all pairs (the paper's field-all)."""

    def make_matrices(self, num_fields: int, width: int) -> nn.Parameter:  # noqa: ARG002 - one signature for all
        """W (D, D)."""
        return nn.Parameter(nn.init.xavier_normal_(torch.empty(width, width)))

    def multiply(self, x_bfd: torch.Tensor, matrices: nn.Parameter) -> torch.Tensor:
        """See _BilinearNetwork."""
        left_bpd = torch.matmul(x_bfd, matrices).index_select(1, self.pairs.left_p)
        return left_bpd * x_bfd.index_select(1, self.pairs.right_p)


class BilinearEach(_BilinearNetwork):
    """One matrix for each left field (the paper's field-each); the last field is never left."""

    def make_matrices(self, num_fields: int, width: int) -> nn.Parameter:
        """W (F - 1, D, D)."""
        return _matrices(num_fields - 1, width)

    def multiply(self, x_bfd: torch.Tensor, matrices: nn.Parameter) -> torch.Tensor:
        """See _BilinearNetwork."""
        mapped_bfd = torch.bmm(x_bfd[:, :-1].transpose(0, 1), matrices).transpose(0, 1)
        return mapped_bfd.index_select(1, self.pairs.left_p) * x_bfd.index_select(1, self.pairs.right_p)


class BilinearInteraction(_BilinearNetwork):
    """One matrix for each pair (the paper's field-interaction)."""

    def make_matrices(self, num_fields: int, width: int) -> nn.Parameter:
        """W (P, D, D)."""
        return _matrices(num_fields * (num_fields - 1) // 2, width)

    def multiply(self, x_bfd: torch.Tensor, matrices: nn.Parameter) -> torch.Tensor:
        """See _BilinearNetwork."""
        left_bpd, right_bpd = self.pairs.split(x_bfd)
        return torch.bmm(left_bpd.transpose(0, 1), matrices).transpose(0, 1) * right_bpd


def _matrices(count: int, width: int) -> nn.Parameter:
    matrices = torch.empty(count, width, width)
    for matrix in matrices:
        nn.init.xavier_normal_(matrix)
    return nn.Parameter(matrices)
