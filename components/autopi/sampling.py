"""Architectures drawn from the search space: blindly, or by what a supernet has learned; torch-free.

Stands beside `discretising`, which takes the strongest instead of drawing. Letters: E edges, O operators.
"""

from __future__ import annotations

import math

import numpy as np

from components.autopi.architecture import NUM_INPUTS, Architecture, Cell, Edge
from components.autopi.discretising import Strengths


def even_strengths(num_nodes: int, num_operators: int) -> dict[str, Strengths]:
    """What a supernet that has learned nothing gives: every operator and every source alike, (E, O) for each cell."""
    found: dict[str, Strengths] = {}
    for name, first in NUM_INPUTS.items():
        targets = [target for target in range(first, first + num_nodes) for _ in range(target)]
        found[name] = np.repeat(1 / (np.array(targets, np.float64)[:, None] * num_operators), num_operators, axis=1)
    return found


def draw_architecture(
    strengths: dict[str, Strengths],
    operators: tuple[str, ...],
    edges_per_node: int,
    num_fields: int,
    generator: np.random.Generator,
) -> Architecture:
    """Draw at each node its sources without replacement, and each source's operator, in proportion to their strengths.

    `strengths` is as for `discretise`; so is the number of edges that a node keeps.
    """
    cells = {}
    for name, first in NUM_INPUTS.items():
        nodes, start, target = [], 0, first
        while start < len(strengths[name]):
            of_node = strengths[name][start : start + target]
            shares = of_node.sum(axis=1) / of_node.sum()
            sources = sorted(generator.choice(target, size=min(edges_per_node, target), replace=False, p=shares))
            nodes.append(tuple(_draw_edge(int(source), of_node[source], operators, generator) for source in sources))
            start += target
            target += 1
        cells[name] = Cell(first, tuple(nodes))
    return Architecture(num_fields, cells["interaction"], cells["ensemble"])


def _draw_edge(source: int, strength_o: Strengths, operators: tuple[str, ...], generator: np.random.Generator) -> Edge:
    return Edge(source, operators[generator.choice(len(operators), p=strength_o / strength_o.sum())], None)


def log_strength(architecture: Architecture, strengths: dict[str, Strengths], operators: tuple[str, ...]) -> float:
    """How much a supernet believes in an architecture: the mean over its edges of the log of their strengths."""
    logs = []
    for name, cell in architecture.cells():
        start = 0
        for target, edges in enumerate(cell.nodes, start=cell.num_inputs):
            logs += [
                math.log(max(strengths[name][start + edge.source, operators.index(edge.operator)], 1e-300))
                for edge in edges
            ]
            start += target
    return sum(logs) / len(logs)
