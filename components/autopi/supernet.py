"""The supernet: every operator on every edge of both cells, weighted by softmax(alpha) and softmax(beta).

Stands between the operators and the search. All edges that leave a node run each operator as one kernel (`SourceEdges`);
batch norm is folded into the weighted sum (`mixing`). The batch is the last axis inside. Letters: B rows in a batch,
F fields, D embedding width, O operators, E edges, N inner nodes. Edges of a cell are ordered by target, then source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from components.autopi.architecture import NUM_INPUTS
from components.autopi.kernels import Kernels
from components.autopi.mixing import Mixture
from components.autopi.network import dual_embeddings, input_norm
from components.autopi.operators import OPERATORS, Operator, Skip, uniform_weights


@dataclass(frozen=True)
class Space:
    """What is searched: the operators' names, N inner nodes a cell, the embedding width D, whether embeddings are normalised."""

    operators: tuple[str, ...]
    num_nodes: int
    width: int
    is_normalised: bool


def edges_of(cell: str, num_nodes: int) -> list[tuple[int, int]]:
    """(target, source) of every edge of a cell of the supernet, in the order of alpha's rows."""
    first = NUM_INPUTS[cell]
    return [(target, source) for target in range(first, first + num_nodes) for source in range(target)]


class SourceEdges(nn.Module):
    """All operators on all edges that leave one node."""

    def __init__(
        self, space: Space, num_fields: int, num_edges: int, generator: torch.Generator, kernels: Kernels | None
    ) -> None:
        """Make the weights of each operator for every edge."""
        super().__init__()
        self.operators = nn.ModuleList(
            OPERATORS[name](num_fields, space.width, num_edges, generator) for name in space.operators
        )
        made = [operator for operator in self.operators if isinstance(operator, Operator)]
        self.mixture = Mixture([op.is_rectified for op in made], [op.num_views for op in made], num_fields, kernels)
        for operator in made:
            operator.kernels = kernels

    def forward(
        self, x_fdb: torch.Tensor, strength_eo: torch.Tensor, skip_noise_fdb: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """What each edge adds to its target: (F, D, B) -> E times (F, D, B)."""
        viewed = []
        noisy_fdb = x_fdb if skip_noise_fdb is None else x_fdb + skip_noise_fdb
        for operator in self.operators:
            assert isinstance(operator, Operator)
            viewed.append(operator.view_all(noisy_fdb if isinstance(operator, Skip) else x_fdb))
        parts: tuple[torch.Tensor, ...] = self.mixture(viewed, strength_eo)
        return parts


class SupernetCell(nn.Module):
    """One cell: `num_inputs` given nodes, N inner nodes, an edge from every earlier node to each of them."""

    def __init__(
        self, cell: str, space: Space, num_fields: int, generator: torch.Generator, kernels: Kernels | None
    ) -> None:
        """Make the weights of every edge."""
        super().__init__()
        self.num_inputs = NUM_INPUTS[cell]
        self.num_nodes = space.num_nodes
        self._edges = edges_of(cell, space.num_nodes)
        num_sources = self.num_inputs + self.num_nodes - 1
        leaving = [
            [number for number, (_, start) in enumerate(self._edges) if start == source]
            for source in range(num_sources)
        ]
        for source, numbers in enumerate(leaving):
            self.register_buffer(f"leaving_{source}", torch.tensor(numbers), persistent=False)
        self.sources = nn.ModuleList(
            SourceEdges(space, num_fields, len(numbers), generator, kernels) for numbers in leaving
        )

    def forward(
        self, inputs: Sequence[torch.Tensor], strength_eo: torch.Tensor, noise: SkipNoise | None
    ) -> list[torch.Tensor]:
        """The inner nodes (F, D, B) in order."""
        nodes: list[torch.Tensor | None] = [*inputs, *([None] * self.num_nodes)]
        for source, edges in enumerate(self.sources):
            x_fdb = nodes[source]
            assert x_fdb is not None
            chosen = strength_eo.index_select(0, self.get_buffer(f"leaving_{source}"))
            skip_noise = None if noise is None else noise.draw(x_fdb)
            target = max(self.num_inputs, source + 1)
            for number, part in enumerate(edges(x_fdb, chosen, skip_noise), start=target):
                before = nodes[number]
                nodes[number] = part if before is None else before + part
        return [node for node in nodes[self.num_inputs :] if node is not None]


class SkipNoise:
    """Gaussian noise on skip connections while searching, `share` of the node's standard deviation.

    It is drawn once a node and step: the edges that leave the node share it, as they share the skip itself.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        """Draw from `generator`, whose state belongs into checkpoints."""
        self.share = share
        self.generator = generator

    def draw(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """Noise of the node's shape and scale, cut off from the gradient."""
        drawn = torch.empty_like(x_fdb).normal_(generator=self.generator)
        return drawn.mul_(self.share * x_fdb.detach().std(correction=0))


class Supernet(nn.Module):
    """ids -> logits through all architectures of the space at once."""

    def __init__(
        self, field_sizes: tuple[int, ...], space: Space, generator: torch.Generator, kernels: Kernels | None
    ) -> None:
        """Make embeddings, weights, and alpha and beta at zero (every choice alike).

        `kernels`, compiled for as many fields of the space's width, do most of the work on a CPU; None: torch does all of it.
        """
        super().__init__()
        num_fields, width, num_nodes = len(field_sizes), space.width, space.num_nodes
        self.space = space
        self.embedding_1, self.embedding_2 = dual_embeddings(field_sizes, width, space.is_normalised, generator)
        self.norm_1, self.norm_2 = (input_norm(num_fields, space.is_normalised) for _ in range(2))
        self.interaction = SupernetCell("interaction", space, num_fields, generator, kernels)
        self.ensemble = SupernetCell("ensemble", space, num_fields, generator, kernels)
        self.join_weight = uniform_weights((num_fields, num_nodes * num_fields), num_nodes * num_fields, generator)
        self.join_bias = uniform_weights((num_fields, 1), num_nodes * num_fields, generator)
        self.output_weight = uniform_weights(
            (1, num_nodes * num_fields * width), num_nodes * num_fields * width, generator
        )
        self.output_bias = nn.Parameter(torch.zeros(1))
        num_operators = len(space.operators)
        for cell in NUM_INPUTS:
            num_edges = len(edges_of(cell, num_nodes))
            self.register_parameter(f"alpha_{cell}", nn.Parameter(torch.zeros(num_edges, num_operators)))
            self.register_parameter(f"beta_{cell}", nn.Parameter(torch.zeros(num_edges)))

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Alpha and beta of both cells."""
        return [self.get_parameter(f"{kind}_{cell}") for cell in NUM_INPUTS for kind in ("alpha", "beta")]

    def embedding_parameters(self) -> list[nn.Parameter]:
        """The tables of both embeddings."""
        return [*self.embedding_1.parameters(), *self.embedding_2.parameters()]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything that is neither alpha, beta nor embedding."""
        others = {id(parameter) for parameter in [*self.architecture_parameters(), *self.embedding_parameters()]}
        return [parameter for parameter in self.parameters() if id(parameter) not in others]

    def strength(self, cell: str, temperature: float) -> torch.Tensor:
        """softmax(alpha) * softmax(beta) of every operator on every edge, (E, O); beta's softmax runs over a node's edges."""
        alpha_eo = self.get_parameter(f"alpha_{cell}")
        beta_e = self.get_parameter(f"beta_{cell}")
        sizes = list(node_sizes(cell, self.space.num_nodes))
        shares = torch.cat([part.softmax(0) for part in torch.split(beta_e / temperature, sizes)])
        return (alpha_eo / temperature).softmax(1) * shares.unsqueeze(1)

    def forward(self, ids_bf: torch.Tensor, temperature: float, noise: SkipNoise | None) -> torch.Tensor:
        """Logits (B,) of the rows `ids_bf` (B, F)."""
        first = self.norm_1(self.embedding_1(ids_bf).permute(1, 2, 0).contiguous())
        second = self.norm_2(self.embedding_2(ids_bf).permute(1, 2, 0).contiguous())
        nodes = self.interaction([first], self.strength("interaction", temperature), noise)
        joined = torch.addmm(self.join_bias, self.join_weight, torch.cat(nodes).flatten(1))
        nodes = self.ensemble([joined.view_as(first), second], self.strength("ensemble", temperature), noise)
        return (self.output_weight @ torch.cat(nodes).flatten(0, 1)).squeeze(0) + self.output_bias


def node_sizes(cell: str, num_nodes: int) -> Iterator[int]:
    """How many edges enter each inner node of a cell of the supernet, in order."""
    first = NUM_INPUTS[cell]
    return iter(range(first, first + num_nodes))
