"""What an architecture costs to run, beside its embeddings, and what the search makes it pay for that.

Stands between the networks and the strategies. Counted are operations for one row or parameters, as Table 4 of the paper
has them. Letters: E edges of a cell, O operators.
"""

from __future__ import annotations

import torch

from components.autopi.architecture import NUM_INPUTS, Architecture, TrialRecord
from components.autopi.edge_operator import Operator
from components.autopi.network import FoundNetwork
from components.autopi.search_params import SearchParams
from components.autopi.supernet import SourceEdges, Supernet, node_sizes
from components.rankers.ranker import RankerParams

# What a price is per.
MILLION = 1e6


def trial_shape(params: SearchParams) -> RankerParams:
    """The found network as candidates are trained, and so as it is counted."""
    return RankerParams(
        embedding_width=params.embedding_width,
        hidden_widths=params.trial.hidden_widths,
        dropout=params.trial.dropout,
        use_batch_norm=True,
    )


def price_of_trial(record: TrialRecord, params: SearchParams) -> float:
    """What is taken off a candidate's AUC; 0 without a price."""
    count = record.num_flops if params.cost_measure == "flops" else record.num_parameters
    return params.cost_price * count / MILLION


def price_of_line(line: str, field_sizes: tuple[int, ...], params: SearchParams) -> float:
    """What is added to the tune log loss of the epoch that a supernet would be discretised to `line` after."""
    if params.cost_price == 0:
        return 0.0
    with torch.device("meta"):
        network = FoundNetwork(field_sizes, Architecture.from_text(line, "the search's history"), trial_shape(params))
    count = network.count_flops() if params.cost_measure == "flops" else network.count_parameters()
    return params.cost_price * count / MILLION


class ExpectedPrice:
    """The price of what a supernet's alpha and beta would keep, as a function of them that has a gradient.

    Each node keeps k edges (`edges_per_node`, or as many as there are); were each drawn with the shares softmax(beta) among the
    node's edges and softmax(alpha) among the operators, their expected cost would be k * sum over edges and operators of
    softmax(beta) * softmax(alpha) * the operator's cost. What all architectures have alike (join, head, batch norm, sums) has no
    gradient and is left out.
    """

    def __init__(self, supernet: Supernet, params: SearchParams) -> None:
        """Count each operator on one edge."""
        self._supernet = supernet
        self._price = params.cost_price / MILLION
        edges = supernet.interaction.sources[0]
        assert isinstance(edges, SourceEdges)
        operators = [one for one in edges.operators if isinstance(one, Operator)]
        costs = [one.count_flops() if params.cost_measure == "flops" else one.count_parameters() for one in operators]
        device = supernet.output_bias.device
        self._cost_o = torch.tensor(costs, dtype=torch.float32, device=device)
        self._kept_e = {}
        for cell in NUM_INPUTS:
            sizes = list(node_sizes(cell, supernet.space.num_nodes))
            kept = [min(params.edges_per_node, size) for size in sizes for _ in range(size)]
            self._kept_e[cell] = torch.tensor(kept, dtype=torch.float32, device=device)

    def __call__(self, temperature: float) -> torch.Tensor:
        """The price at this temperature, a scalar; nats where it is added to a log loss."""
        total = self._cost_o.new_zeros(())
        for cell, kept_e in self._kept_e.items():
            total = total + (kept_e @ self._supernet.strength(cell, temperature) @ self._cost_o)
        return total * self._price
