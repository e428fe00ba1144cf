"""The supernet as one would write it down first: edge by edge, operator by operator, the batch first, autograd throughout.

Kept as the reference for outputs and gradients, and as what `bench search` is measured against.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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
        flat: torch.Tensor = self.linear(x.flatten(1))
        return flat.view_as(x)


class PlainConvolution(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(num_fields, num_fields, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.convolution(x)
        return mixed


class PlainSkip(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class PlainHadamard(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.empty(num_fields, num_fields))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.einsum("fg,bgd->bfd", self.mix, x)


class PlainOuter(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width * width, num_fields * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.sum(1)
        flat: torch.Tensor = self.linear(torch.einsum("bi,bj->bij", total, total).flatten(1))
        return flat.view_as(x)


class PlainCross(PlainPerceptron):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * super().forward(x) + x


class PlainGate(PlainPerceptron):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(super().forward(x))


class PlainTwoLayers(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        size = num_fields * width
        self.layers = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat: torch.Tensor = self.layers(x.flatten(1))
        return flat.view_as(x)


class PlainLogarithm(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.powers = nn.Linear(num_fields, num_fields)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logs = torch.log(torch.maximum(x.abs(), torch.tensor(1e-4))).transpose(1, 2)
        return torch.exp(torch.minimum(self.powers(logs), torch.tensor(10.0))).transpose(1, 2)


class PlainConvolution2d(nn.Module):
    def __init__(self, num_fields: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.convolution(x.unsqueeze(1))
        return seen.squeeze(1)


# What is passed on as it is; everything else is rectified.
NOT_RECTIFIED = {"skip", "cross_layer", "gate", "logarithmic_layer"}

Noises = dict[str, list[torch.Tensor]] | None

PLAIN: dict[str, Callable[[int, int], nn.Module]] = {
    "skip": PlainSkip,
    "senet": PlainSenet,
    "self_attention": PlainAttention,
    "fm": PlainFm,
    "single_layer_perceptron": PlainPerceptron,
    "convolution_1d": PlainConvolution,
    "hadamard_product": PlainHadamard,
    "outer_product": PlainOuter,
    "cross_layer": PlainCross,
    "gate": PlainGate,
    "two_layer_perceptron": PlainTwoLayers,
    "logarithmic_layer": PlainLogarithm,
    "convolution_2d": PlainConvolution2d,
}


class MixedEdge(nn.Module):
    def __init__(self, operators: tuple[str, ...], num_fields: int, width: int) -> None:
        super().__init__()
        self.names = operators
        self.operators = nn.ModuleList(PLAIN[name](num_fields, width) for name in operators)
        self.norms = nn.ModuleList(nn.BatchNorm1d(num_fields, affine=False) for _ in operators)

    def forward(self, x: torch.Tensor, strength_o: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        total = torch.zeros_like(x)
        noisy = x if noise is None else x + noise
        for number, (name, operator, norm) in enumerate(zip(self.names, self.operators, self.norms, strict=True)):
            y = operator(noisy if name == "skip" else x)
            y = y if name in NOT_RECTIFIED else torch.relu(y)
            total = total + strength_o[number] * norm(y)
        return total


class PlainSupernet(nn.Module):
    def __init__(self, field_sizes: tuple[int, ...], space: Space) -> None:
        super().__init__()
        fields, width, nodes = len(field_sizes), space.width, space.num_nodes
        self.space = space
        self.offsets = torch.tensor([sum(field_sizes[:field]) for field in range(fields)])
        self.table_1 = nn.Embedding(sum(field_sizes), width)
        self.table_2 = nn.Embedding(sum(field_sizes), width)
        self.norm_1, self.norm_2 = (
            nn.BatchNorm1d(fields, 1e-10, affine=False) if space.is_normalised else nn.Identity() for _ in range(2)
        )
        self.edges = nn.ModuleDict(
            {
                cell: nn.ModuleList(MixedEdge(space.operators, fields, width) for _ in edges_of(cell, nodes))
                for cell in NUM_INPUTS
            }
        )
        self.join = nn.Conv1d(nodes * fields, fields, 1)
        self.output = nn.Linear(nodes * fields * width, 1)
        for cell in NUM_INPUTS:
            num_edges = len(edges_of(cell, nodes))
            self.register_parameter(f"alpha_{cell}", nn.Parameter(torch.zeros(num_edges, len(space.operators))))
            self.register_parameter(f"beta_{cell}", nn.Parameter(torch.zeros(num_edges)))

    def architecture_parameters(self) -> list[nn.Parameter]:
        return [self.get_parameter(f"{kind}_{cell}") for cell in NUM_INPUTS for kind in ("alpha", "beta")]

    def forward(self, ids: torch.Tensor, temperature: float, noises: Noises) -> torch.Tensor:
        rows = ids.long() + self.offsets
        first, second = self.norm_1(self.table_1(rows)), self.norm_2(self.table_2(rows))
        joined = self.join(torch.cat(self.cell("interaction", [first], temperature, noises), 1))
        nodes = self.cell("ensemble", [joined, second], temperature, noises)
        logits: torch.Tensor = self.output(torch.cat(nodes, 1).flatten(1))
        return logits.squeeze(1)

    def cell(self, cell: str, inputs: list[torch.Tensor], temperature: float, noises: Noises) -> list[torch.Tensor]:
        nodes = list(inputs)
        alpha, beta = self.get_parameter(f"alpha_{cell}"), self.get_parameter(f"beta_{cell}")
        edges = edges_of(cell, self.space.num_nodes)
        for target in range(len(inputs), len(inputs) + self.space.num_nodes):
            entering = [(number, source) for number, (end, source) in enumerate(edges) if end == target]
            shares = torch.softmax(torch.stack([beta[number] for number, _ in entering]) / temperature, 0)
            total = torch.zeros_like(inputs[0])
            for share, (number, source) in zip(shares, entering, strict=True):
                strengths = torch.softmax(alpha[number] / temperature, 0) * share
                noise = None if noises is None else noises[cell][source]
                edge = self.get_submodule(f"edges.{cell}.{number}")
                total = total + edge(nodes[source], strengths, noise)
            nodes.append(total)
        return nodes[len(inputs) :]


Pick = Callable[[torch.Tensor], torch.Tensor]


def pair_weights(supernet: Supernet, plain: PlainSupernet) -> list[tuple[str, nn.Parameter, nn.Parameter, Pick]]:
    """(name, plain parameter, supernet parameter, which part of the latter the former is) of every plain parameter."""

    def whole(like: torch.Tensor) -> Pick:
        return lambda tensor: tensor.reshape(like.shape)

    def edge_part(edge: int, like: torch.Tensor) -> Pick:
        return lambda tensor: tensor[edge].reshape(like.shape)

    names = {
        "table_1.weight": "embedding_1.table",
        "table_2.weight": "embedding_2.table",
        "join.weight": "join_weight",
        "join.bias": "join_bias",
        "output.weight": "output_weight",
        "output.bias": "output_bias",
        **{f"{kind}_{cell}": f"{kind}_{cell}" for kind in ("alpha", "beta") for cell in NUM_INPUTS},
    }
    found: list[tuple[str, nn.Parameter, nn.Parameter, Pick]] = []
    for name, other in names.items():
        own = plain.get_parameter(name)
        found.append((name, own, supernet.get_parameter(other), whole(own)))
    for cell in NUM_INPUTS:
        leaving: dict[int, int] = {}
        for number, (_, source) in enumerate(edges_of(cell, supernet.space.num_nodes)):
            place = leaving.get(source, 0)
            leaving[source] = place + 1
            mixed = plain.get_submodule(f"edges.{cell}.{number}.operators").children()
            grouped = supernet.get_submodule(f"{cell}.sources.{source}.operators").children()
            for name, single, group in zip(supernet.space.operators, mixed, grouped, strict=True):
                for left, right in zip(single.parameters(), group.parameters(), strict=True):
                    found.append((f"{cell} edge {number} {name}", left, right, edge_part(place, left)))
    return found
