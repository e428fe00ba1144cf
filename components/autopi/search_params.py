"""What people may set about the search; read from params.yaml and logs/<name>.yaml, section `search`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.autopi.operators import OPERATORS
from components.errors import ConfigError
from components.strict import Strict


@dataclass(frozen=True)
class SearchParams(Strict):
    """What is searched, and how.

    strategy             "darts" (first order, as in the paper), "random" (one architecture drawn) or "fixed"
    fixed_architecture   the one-line text that "fixed" takes over; null for the other strategies
    seed                 of the halves, the initial weights, the order of rows, the noise and the draw
    operators            names in OPERATORS that an edge may carry
    num_nodes            N, inner nodes a cell
    edges_per_node       edges kept at a node, from as many different nodes (fewer where there are fewer nodes before it)
    embedding_width      D of the supernet's embeddings
    batch_rows           rows a step, for weights and for alpha alike
    max_epochs           T, passes over the half that trains weights
    weight_rate          learning rate of weights and embeddings at the start (momentum SGD); falls to 0 along a cosine
    weight_momentum      momentum, 0 to 1
    weight_decay         L2 penalty on weights
    embedding_l2         L2 penalty on embeddings
    alpha_rate           learning rate of alpha and beta (Adam)
    alpha_momenta        Adam's two decay rates
    alpha_decay          L2 penalty on alpha and beta
    use_annealing        temperature (1 + log T) / (1 + log t) in epoch t; 1 without
    skip_noise_share     standard deviation of the noise on skip, as a share of the node's; 0 for none
    checkpoint_seconds   at most so long between two checkpoints within an epoch
    """

    strategy: Literal["darts", "random", "fixed"]
    fixed_architecture: str | None
    seed: int
    operators: tuple[str, ...]
    num_nodes: int
    edges_per_node: int
    embedding_width: int
    batch_rows: int
    max_epochs: int
    weight_rate: float
    weight_momentum: float
    weight_decay: float
    embedding_l2: float
    alpha_rate: float
    alpha_momenta: tuple[float, float]
    alpha_decay: float
    use_annealing: bool
    skip_noise_share: float
    checkpoint_seconds: float


def check_params(params: SearchParams) -> None:
    """Raise ConfigError for values that make no search."""
    where = "params.yaml [search]"
    unknown = sorted(set(params.operators) - set(OPERATORS))
    if unknown or not params.operators or len(set(params.operators)) < len(params.operators):
        raise ConfigError(
            f"{where} operators: {list(params.operators)} must be one or more of {sorted(OPERATORS)}, each once"
        )
    for name in ("num_nodes", "edges_per_node", "embedding_width", "max_epochs"):
        if getattr(params, name) < 1:
            raise ConfigError(f"{where} {name}: {getattr(params, name)} must be at least 1")
    if params.batch_rows < 2:
        raise ConfigError(f"{where} batch_rows: {params.batch_rows} must be at least 2, batch norm needs them")
    if (params.fixed_architecture is not None) != (params.strategy == "fixed"):
        raise ConfigError(
            f"{where}: strategy {params.strategy!r} with fixed_architecture {params.fixed_architecture!r}; "
            "the strategy 'fixed' needs one line of architecture, the others take null"
        )
