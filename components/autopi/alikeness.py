"""How alike architectures are: what share of their kept edges, operators included, they have in common; torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from components.autopi.architecture import NUM_INPUTS, Architecture

Kept = frozenset[tuple[str, int, int, str]]


def kept_edges(architecture: Architecture) -> Kept:
    """(cell, target, source, operator) of every kept edge."""
    return frozenset(
        (name, target, edge.source, edge.operator)
        for name, cell in architecture.cells()
        for target, edges in enumerate(cell.nodes, start=cell.num_inputs)
        for edge in edges
    )


def share_in_common(first: Architecture, second: Architecture) -> float:
    """Kept edges that both have with the same operator, as a share of those that one of them has on average; 1: the same network.

    Nodes are compared by their number: two networks that differ in the numbering of their nodes alone count as different.
    """
    one, other = kept_edges(first), kept_edges(second)
    return 2 * len(one & other) / (len(one) + len(other))


def mean_share_in_common(architectures: Sequence[Architecture]) -> float:
    """Over all pairs of two or more architectures."""
    shares = [share_in_common(*pair) for pair in itertools.combinations(architectures, 2)]
    return sum(shares) / len(shares)


def share_by_chance(num_nodes: int, edges_per_node: int, num_operators: int) -> float:
    """What two architectures drawn blindly have in common on average.

    A node with n sources keeps k of them; each of the n is kept by both with probability (k / n)^2, and carries the same of O
    operators with 1 / O: so k^2 / (n O) of its k edges are in common.
    """
    in_common = kept = 0.0
    for first in NUM_INPUTS.values():
        for num_sources in range(first, first + num_nodes):
            count = min(edges_per_node, num_sources)
            in_common += count * count / (num_sources * num_operators)
            kept += count
    return in_common / kept
