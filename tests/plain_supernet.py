"""The supernet as one would write it down first: edge by edge, operator by operator, the batch first, autograd throughout.

Kept as the reference for outputs and gradients, and as what `bench search` is measured against.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from components.autopi.architecture import NUM_INPUTS
from components.autopi.supernet import Space, Supernet, edges_of


class PlainSenet(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        hidden = max(1, num_fields // 3)
        self.squeeze = nn.Linear(num_fields, hidden, bias=False)
        self.excite = nn.Linear(hidden, num_fields, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = torch.relu(self.excite(torch.relu(self.squeeze(x.mean(2)))))
        return x * gates.unsqueeze(2)


class PlainAttention(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.bmm(self.query(x), self.key(x).transpose(1, 2)) / math.sqrt(x.shape[2])
        return torch.bmm(torch.softmax(scores, 2), self.value(x))


class PlainFm(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.sum(1, keepdim=True) - x)


class PlainPerceptron(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_fields * width, num_fields * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)).view_as(x)


class PlainConvolution(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(num_fields, num_fields, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x)


class PlainSkip(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


PLAIN = {
    "skip": PlainSkip,
    "senet": PlainSenet,
    "self_attention": PlainAttention,
    "fm": PlainFm,
    "single_layer_perceptron": PlainPerceptron,
    "convolution_1d": PlainConvolution,
}


class MixedEdge(nn.Module):
    def __init__(self, operators: tuple[str, ...], num_fields: int, width: int) -> None:
        super().__init__()
        self.names = operators
        self.operators = nn.ModuleList(PLAIN[name](num_fields, width) for name in operators)
        self.norms = nn.ModuleList(nn.BatchNorm1d(num_fields, affine=False) for _ in operators)

    def forward(self, x: torch.Tensor, strength_o: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        total = torch.zeros_like(x)
        for number, (name, operator, norm) in enumerate(zip(self.names, self.operators, self.norms, strict=True)):
            if name == "skip":
                y = x if noise is None else x + noise
            else:
                y = torch.relu(operator(x))
            total = total + strength_o[number] * norm(y)
        return total


class PlainSupernet(nn.Module):
    def __init__(self, field_sizes: tuple[int, ...], space: Space) -> None:
        super().__init__()
        fields, width, nodes = len(field_sizes), space.width, space.num_nodes
        self.space = space
        self.offsets = torch.tensor([sum(field_sizes[:field]) for field in range(fields)])
        self.tables = nn.ModuleList(nn.Embedding(sum(field_sizes), width) for _ in range(2))
        self.edges = nn.ModuleDict(
            {
                cell: nn.ModuleList(MixedEdge(space.operators, fields, width) for _ in edges_of(cell, nodes))
                for cell in NUM_INPUTS
            }
        )
        self.join = nn.Conv1d(nodes * fields, fields, 1)
        self.output = nn.Linear(nodes * fields * width, 1)
        self.alpha = nn.ParameterDict(
            {cell: torch.zeros(len(edges_of(cell, nodes)), len(space.operators)) for cell in NUM_INPUTS}
        )
        self.beta = nn.ParameterDict({cell: torch.zeros(len(edges_of(cell, nodes))) for cell in NUM_INPUTS})

    def forward(
        self, ids: torch.Tensor, temperature: float, noises: dict[str, list[torch.Tensor]] | None
    ) -> torch.Tensor:
        first, second = (table(ids.long() + self.offsets) for table in self.tables)
        joined = self.join(torch.cat(self.cell("interaction", [first], temperature, noises), 1))
        nodes = self.cell("ensemble", [joined, second], temperature, noises)
        return self.output(torch.cat(nodes, 1).flatten(1)).squeeze(1)

    def cell(
        self, cell: str, inputs: list[torch.Tensor], temperature: float, noises: dict[str, list[torch.Tensor]] | None
    ) -> list[torch.Tensor]:
        nodes = list(inputs)
        for target in range(len(inputs), len(inputs) + self.space.num_nodes):
            entering = [
                (number, source)
                for number, (end, source) in enumerate(edges_of(cell, self.space.num_nodes))
                if end == target
            ]
            shares = torch.softmax(torch.stack([self.beta[cell][number] for number, _ in entering]) / temperature, 0)
            total = torch.zeros_like(inputs[0])
            for share, (number, source) in zip(shares, entering, strict=True):
                strengths = torch.softmax(self.alpha[cell][number] / temperature, 0) * share
                noise = None if noises is None else noises[cell][source]
                total = total + self.edges[cell][number](nodes[source], strengths, noise)
            nodes.append(total)
        return nodes[len(inputs) :]


def copy_weights(supernet: Supernet, plain: PlainSupernet) -> list[tuple[str, nn.Parameter, torch.Tensor]]:
    """Give `plain` the weights of `supernet`; return (name, plain parameter, the same part of the supernet's parameter's gradient).

    The last of each triple is a function of the supernet's gradients as they are when it is called.
    """
    pairs = pair_weights(supernet, plain)
    with torch.no_grad():
        for _, mine, theirs, pick in pairs:
            mine.copy_(pick(theirs))
    return [(name, mine, theirs) for name, mine, theirs, _ in pairs]


def pair_weights(supernet: Supernet, plain: PlainSupernet):  # type: ignore[no-untyped-def]
    """(name, plain parameter, supernet parameter, which part of the latter the former is)."""

    def whole(like: torch.Tensor):  # type: ignore[no-untyped-def]
        return lambda tensor: tensor.reshape(like.shape)

    def edge_part(edge: int, like: torch.Tensor):  # type: ignore[no-untyped-def]
        return lambda tensor: tensor[edge].reshape(like.shape)

    pairs = []
    for number, embedding in enumerate((supernet.embedding_1, supernet.embedding_2)):
        pairs.append((f"table {number}", plain.tables[number].weight, embedding.table))
    pairs.append(("join weight", plain.join.weight, supernet.join_weight))
    pairs.append(("join bias", plain.join.bias, supernet.join_bias))
    pairs.append(("output weight", plain.output.weight, supernet.output_weight))
    pairs.append(("output bias", plain.output.bias, supernet.output_bias))
    for cell in NUM_INPUTS:
        pairs.append((f"alpha {cell}", plain.alpha[cell], supernet.get_parameter(f"alpha_{cell}")))
        pairs.append((f"beta {cell}", plain.beta[cell], supernet.get_parameter(f"beta_{cell}")))
    triples = [(name, mine, theirs, whole(mine)) for name, mine, theirs in pairs]
    for cell in NUM_INPUTS:
        grouped = getattr(supernet, cell)
        leaving: dict[int, int] = {}
        for number, (_, source) in enumerate(edges_of(cell, supernet.space.num_nodes)):
            place = leaving.get(source, 0)
            leaving[source] = place + 1
            for name, mine, theirs in zip(
                supernet.space.operators,
                plain.edges[cell][number].operators,
                grouped.sources[source].operators,
                strict=True,
            ):
                for (label, left), right in zip(mine.named_parameters(), theirs.parameters(), strict=True):
                    triples.append((f"{cell} edge {number} {name} {label}", left, right, edge_part(place, left)))
    return triples
