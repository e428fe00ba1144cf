"""From the supernet's strengths to one architecture; torch-free, between the supernet and the found network."""

from __future__ import annotations

from typing import Any

import numpy as np

from components.autopi.architecture import NUM_INPUTS, Architecture, Cell, Edge, EpochRecord

Strengths = np.ndarray[Any, np.dtype[np.float64]]


def strengths_of(record: EpochRecord) -> dict[str, Strengths]:
    """softmax(alpha) * softmax(beta) as an epoch left them, (E, O) for each cell; beta's softmax runs over a node's edges."""
    found: dict[str, Strengths] = {}
    logits = {
        "interaction": (record.alpha_interaction, record.beta_interaction),
        "ensemble": (record.alpha_ensemble, record.beta_ensemble),
    }
    for name, (alpha, beta) in logits.items():
        strength_eo, beta_e = _softmax(np.array(alpha, np.float64)), np.array(beta, np.float64)
        start, target = 0, NUM_INPUTS[name]
        while start < len(beta_e):
            strength_eo[start : start + target] *= _softmax(beta_e[start : start + target])[:, None]
            start += target
            target += 1
        found[name] = strength_eo
    return found


def _softmax(logits: Strengths) -> Strengths:
    powers: Strengths = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Strengths = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def discretise(
    strengths: dict[str, Strengths], operators: tuple[str, ...], edges_per_node: int, num_fields: int
) -> Architecture:
    """Keep at each node the strongest operator of each of the `edges_per_node` strongest sources.

    `strengths` holds softmax(alpha) * softmax(beta), (E, O) for each cell, edges ordered by target, then source. A node with
    fewer nodes before it keeps an edge from each of those: the first inner node of the interaction cell keeps one.
    Of equals the first operator and the earliest source win.
    """
    cells = {}
    for name, first in NUM_INPUTS.items():
        nodes = []
        start = 0
        target = first
        while start < len(strengths[name]):
            of_node = strengths[name][start : start + target]
            strongest = of_node.max(axis=1)
            kept = sorted(np.argsort(-strongest, kind="stable")[:edges_per_node])
            nodes.append(
                tuple(
                    Edge(int(source), operators[int(of_node[source].argmax())], round(float(strongest[source]), 4))
                    for source in kept
                )
            )
            start += target
            target += 1
        cells[name] = Cell(first, tuple(nodes))
    return Architecture(num_fields, cells["interaction"], cells["ensemble"])
