"""Cross networks: each layer multiplies once more by the input, so L layers reach products of L + 1 fields.

Shape letters: B rows in a batch, F fields, D embedding width, W = F * D numbers of input, L cross layers, K experts,
R rank (of this file's low-rank matrices only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from components.rankers.hidden import hidden_layers
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


@dataclass(frozen=True)
class CrossParams(RankerParams):
    """RankerParams and

    num_cross_layers  L, each raises the degree of the products by one
    """

    num_cross_layers: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        return super().promises() | {"num_cross_layers >= 1": self.num_cross_layers >= 1}


@dataclass(frozen=True)
class MixtureParams(CrossParams):
    """CrossParams and

    rank         R of each expert's matrices
    num_experts  K, low-rank crossings in a layer, mixed by a softmax gate
    """

    rank: int
    num_experts: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        own = {"rank >= 1": self.rank >= 1, "num_experts >= 1": self.num_experts >= 1}
        return super().promises() | own


class VectorCross(nn.Module):
    """x0 (x . w) + b + x, (B, W) twice -> (B, W) (Wang et al. 2017, eq. 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, first_bw: torch.Tensor, x_bw: torch.Tensor) -> torch.Tensor:
        """One layer."""
        crossed_bw: torch.Tensor = first_bw * self.weight(x_bw) + self.bias + x_bw
        return crossed_bw


class MatrixCross(nn.Module):
    """x0 * (M x + b) + x, (B, W) twice -> (B, W) (Wang et al. 2021, eq. 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, first_bw: torch.Tensor, x_bw: torch.Tensor) -> torch.Tensor:
        """One layer."""
        crossed_bw: torch.Tensor = torch.addcmul(x_bw, first_bw, self.linear(x_bw))
        return crossed_bw


class MixtureCross(nn.Module):
    """x + sum over experts of g_k x0 * (U_k tanh(C_k tanh(V_k' x)) + b), g = softmax(gate x) (Wang et al. 2021, eq. 3-5)."""

    def __init__(self, width: int, rank: int, num_experts: int) -> None:
        super().__init__()
        self.num_experts, self.rank = num_experts, rank
        self.gate = nn.Linear(width, num_experts, bias=False)
        self.into = nn.Linear(width, num_experts * rank, bias=False)  # all V_k' below one another: one product for all
        self.between = nn.Parameter(torch.empty(num_experts, rank, rank))
        self.back = nn.Linear(num_experts * rank, width, bias=False)  # all U_k beside one another
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.uniform_(self.between, -(rank**-0.5), rank**-0.5)

    def forward(self, first_bw: torch.Tensor, x_bw: torch.Tensor) -> torch.Tensor:
        """One layer; the gates weigh the experts before U, where it is cheap, and add up to 1 before b."""
        gates_bk = self.gate(x_bw).softmax(1)
        inner_kbr = self.into(x_bw).tanh().view(-1, self.num_experts, self.rank).transpose(0, 1)
        inner_bkr = torch.bmm(inner_kbr, self.between.transpose(1, 2)).tanh().transpose(0, 1)
        mixed_bw = self.back((inner_bkr * gates_bk.unsqueeze(2)).flatten(start_dim=1))
        crossed_bw: torch.Tensor = first_bw * (mixed_bw + self.bias) + x_bw
        return crossed_bw


class _Crossing(Ranker):
    """What the family shares: embeddings, a stack of cross layers, perhaps hidden layers beside it, one linear output."""

    params_kind: ClassVar[type[RankerParams]] = CrossParams
    is_deep: ClassVar[bool] = True

    def __init__(self, field_sizes: tuple[int, ...], params: CrossParams) -> None:
        super().__init__()
        width = len(field_sizes) * params.embedding_width
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.crosses = nn.ModuleList(self.make_cross(width, params) for _ in range(params.num_cross_layers))
        self.hidden = hidden_layers(width, params.hidden_widths, params) if self.is_deep else None
        deep_width = (width, *params.hidden_widths)[-1] if self.is_deep else 0
        self.output = nn.Linear(width + deep_width, 1)

    def make_cross(self, width: int, params: CrossParams) -> nn.Module:  # noqa: ARG002 - the mixture reads params
        """One cross layer."""
        return VectorCross(width)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        first_bw = self.embedding(ids_bf).flatten(start_dim=1)
        x_bw = first_bw
        for cross in self.crosses:
            x_bw = cross(first_bw, x_bw)
        if self.hidden is None:
            return self.output(x_bw)[:, 0]  # type: ignore[no-any-return]
        # The output's weights in two parts: joining (B, W) and (B, H) would copy both, forwards and back.
        weight_1w, width = self.output.weight, x_bw.shape[1]
        crossed_b1 = functional.linear(x_bw, weight_1w[:, :width], self.output.bias)
        return (crossed_b1 + functional.linear(self.hidden(first_bw), weight_1w[:, width:]))[:, 0]


class CrossNetwork(_Crossing):
    """The cross network alone: logit = linear(x_L) (Wang et al. 2017, section 2.2); it has no hidden layers."""

    is_deep = False


class DeepAndCross(_Crossing):
    """DCN: logit = linear(x_L, last hidden layer), both from the same embeddings (Wang et al. 2017, eq. 5)."""


class DeepAndCross2(_Crossing):
    """DCN-V2, parallel, with full matrices (Wang et al. 2021, eq. 1 and figure 1b)."""

    def make_cross(self, width: int, params: CrossParams) -> nn.Module:  # noqa: ARG002
        """One cross layer."""
        return MatrixCross(width)


class DeepAndCross2Mixture(_Crossing):
    """DCN-V2, parallel, with a mixture of low-rank experts (Wang et al. 2021, eq. 3-5); gates by softmax, g = tanh."""

    params_kind: ClassVar[type[RankerParams]] = MixtureParams

    def make_cross(self, width: int, params: CrossParams) -> nn.Module:
        """One cross layer."""
        assert isinstance(params, MixtureParams)
        return MixtureCross(width, params.rank, params.num_experts)
