"""What every operator is: a map of a node to a node on all edges that leave it; used by the supernet and the found network.

Tensors have the batch as their last axis, which makes batch norm, softmax over fields and elementwise work several times
faster than with the batch first. One module holds the weights of E edges that leave the same node, so that each operator
is one kernel for all of them. Letters: B rows in a batch, F fields, D embedding width, E edges, H hidden.

What an operator yields is rectified (unless it says otherwise) and then normalised by whoever calls it.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from components.autopi.kernels import Kernels
from components.autopi.results import Viewed


def uniform_weights(shape: tuple[int, ...], fan_in: int, generator: torch.Generator | None) -> nn.Parameter:
    """Weights drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's own choice for linear layers."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


class Operator(nn.Module):
    """The same kind of interaction on `num_edges` edges that leave one node: (F, D, B) -> (E, F, D, B).

    An operator without weights is the same on every edge and yields (1, F, D, B).
    """

    is_rectified = True

    kernels: Kernels | None = None
    """Compiled for this shape, where a supernet has them; None: torch does the work."""

    def __init__(self, num_fields: int, width: int, num_edges: int, generator: torch.Generator | None) -> None:
        """Draw the weights of every edge from `generator` (None: torch's default one)."""
        super().__init__()
        self.num_fields = num_fields
        self.width = width
        self.num_edges = num_edges
        self.make_weights(generator)

    @property
    def num_views(self) -> int:
        """How many different results there are: one an edge with weights, one for all edges without."""
        return self.num_edges if any(True for _ in self.parameters()) else 1

    def make_weights(self, generator: torch.Generator | None) -> None:
        """Operators with weights make them here, the edges as the first axis."""

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """Interact: (F, D, B) -> (E, F, D, B), or (1, F, D, B) without weights; before ReLU and batch norm."""
        raise NotImplementedError

    def view_all(self, x_fdb: torch.Tensor) -> Viewed:
        """What `forward` yields, perhaps in parts; without its bias only where there are kernels, which add it as they go."""
        viewed: torch.Tensor = self(x_fdb)
        return viewed

    def count_flops(self) -> int:
        """Multiplications and additions for one row on one edge, ReLU and batch norm left out."""
        raise NotImplementedError

    def count_parameters(self) -> int:
        """Weights of one edge."""
        return sum(parameter.numel() for parameter in self.parameters()) // self.num_edges


class AllFieldsOperator(Operator):
    """One with a W vec(X) + b inside, vec(X) being all fields one after another."""

    def make_weights(self, generator: torch.Generator | None) -> None:
        """W (E, F D, F D) and b (E, F D)."""
        size = self.num_fields * self.width
        self.weight = uniform_weights((self.num_edges, size, size), size, generator)
        self.bias = uniform_weights((self.num_edges, size), size, generator)

    def mix(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """W vec(X) + b on every edge: (F, D, B) -> (E, F, D, B), fresh."""
        mixed = torch.addmm(self.bias.reshape(-1, 1), self.weight.flatten(0, 1), x_fdb.flatten(0, 1))
        return mixed.view(self.num_edges, self.num_fields, self.width, -1)

    def count_mix_flops(self) -> int:
        """One matrix product and the bias."""
        size = self.num_fields * self.width
        return 2 * size * size + size
