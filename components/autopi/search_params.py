"""What people may set about the search; read from params.yaml and logs/<name>.yaml, section `search`."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from components.autopi.operators import OPERATORS
from components.errors import ConfigError
from components.stepping import TermLearning
from components.strict import Strict


@dataclass(frozen=True)
class TrialParams(Strict):
    """How `random` and `halving` train candidates from scratch, and how many.

    num_candidates   architectures that halving begins with; random takes as many as halving's trials would pay for
    supernet_share   share of halving's candidates that are drawn from the alpha and beta of a supernet, which is searched
                     first (as by darts); 0: no supernet
    kept_share       share of the candidates that goes on to the next rung
    num_seeds        trainings from scratch of each candidate of the last rung; their mean AUC on tune decides
    learning_rate    Adam's; constant with averaging, else falling to 0 along a cosine over the last rung
    weight_averaging decay a step of the average of weights that is judged (`components.averaging`), 0 <= d < 1; 0: the last weights
    dropout          as RankerParams has it
    hidden_widths    as RankerParams has it: the head behind the cells
    terms            how the terms beside the cells learn, as in the training
    """

    num_candidates: int
    supernet_share: float
    kept_share: float
    num_seeds: int
    learning_rate: float
    weight_averaging: float
    dropout: float
    hidden_widths: tuple[int, ...]
    terms: TermLearning


@dataclass(frozen=True)
class TermSearchParams(Strict):
    """Which interactions of few fields `halving` looks for before its trials, to stand beside the cells of candidates.

    orders           numbers of fields in a term, two or more each; none: no terms, the paper's space
    screened_orders  the same of terms that learn, or learn again, only where those that were found lack them
                     (`components.autopi.screening`); none: no screening
    max_asked        so many combinations are looked at at most; of more fields than make so many, those that tell most by
                     themselves are combined
    max_learned      so many learn side by side in the first course at most; of more, those that main effects surely lack
    min_agreement    standard errors of agreement between train and tune from which a term is lacking
    max_screened     so many that are lacking join at most
    screened_rows    rows of train, the last ones, and of tune that are asked
    max_epochs       passes over train, of each course
    first_pruning    epochs after which terms are dropped for the first time, and then after each
    min_errors       standard errors of its gain on tune that a term's gain must exceed to stay
    learning_rate    Adam's
    embedding_l2     L2 penalty on the terms' tables
    """

    orders: tuple[int, ...]
    screened_orders: tuple[int, ...]
    max_asked: int
    max_learned: int
    min_agreement: float
    max_screened: int
    screened_rows: int
    max_epochs: int
    first_pruning: int
    min_errors: float
    learning_rate: float
    embedding_l2: float


@dataclass(frozen=True)
class SearchParams(Strict):
    """What is searched, and how.

    strategy             "darts" (first order, as in the paper), "darts_second_order" (alpha one step of the weights ahead, about
                         three times the work), "random" and "halving" (candidates trained from scratch) or "fixed"
    fixed_architecture   the one-line text that "fixed" takes over; null for the other strategies
    seed                 of the halves, the initial weights, the order of rows, the noise and the draws
    operators            names in OPERATORS that an edge may carry
    num_nodes            N, inner nodes a cell
    edges_per_node       edges kept at a node, from as many different nodes (fewer where there are fewer nodes before it)
    embedding_width      D of the supernet's embeddings
    normalises_embeddings  embeddings are brought to mean 0 and variance 1 per field before the cells, here and in the found network
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
    cost_measure         what is paid for: "flops" (operations for one row) or "parameters", both beside the embeddings
    cost_price           per million of that: nats added to the loss by which alpha and beta learn and to the tune log loss that
                         chooses the epoch, and as much taken off a candidate's AUC; 0: quality alone decides
    kernels              what does most of a supernet's work on a CPU: "torch", or "compiled", a C program made for the log's shape
                         as the search begins (needs `cc`), in less than half the time; both the same but for rounding; in
                         trials it is what train.kernels is
    checkpoint_seconds   at most so long between two checkpoints within an epoch
    terms                see TermSearchParams; `random` draws any number blindly, the other strategies have none
    trial                see TrialParams
    term_share           share of halving's candidates beside which the found terms stand; the others have cells alone, and the
                         best of both kinds meet at the last rung
    trial_embedding_l2   L2 penalty on embeddings in trials
    trial_rung_epochs    passes over train after which candidates are compared on tune, ascending; the last is a whole trial
    """

    strategy: Literal["darts", "darts_second_order", "random", "halving", "fixed"]
    fixed_architecture: str | None
    seed: int
    operators: tuple[str, ...]
    num_nodes: int
    edges_per_node: int
    embedding_width: int
    normalises_embeddings: bool
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
    cost_measure: Literal["flops", "parameters"]
    cost_price: float
    kernels: Literal["torch", "compiled"]
    checkpoint_seconds: float
    terms: TermSearchParams
    trial: TrialParams
    term_share: float
    trial_embedding_l2: float
    trial_rung_epochs: tuple[float, ...]


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
    if not 0 <= params.cost_price < math.inf:
        raise ConfigError(f"{where} cost_price: {params.cost_price} must be 0 or more")
    _check_trial(params, where)


def _check_trial(params: SearchParams, where: str) -> None:
    trial, rung_epochs = params.trial, params.trial_rung_epochs
    promises = {
        "trial.num_candidates >= 1": trial.num_candidates >= 1,
        "0 <= trial.supernet_share <= 1": 0 <= trial.supernet_share <= 1,
        "trial_rung_epochs one or more, positive and ascending": len(rung_epochs) > 0
        and rung_epochs[0] > 0
        and all(one < other for one, other in itertools.pairwise(rung_epochs)),
        "0 < trial.kept_share < 1": 0 < trial.kept_share < 1,
        "trial.num_seeds >= 1": trial.num_seeds >= 1,
        "trial.learning_rate > 0": trial.learning_rate > 0,
        "0 <= trial.weight_averaging < 1": 0 <= trial.weight_averaging < 1,
        "0 <= trial.dropout < 1": 0 <= trial.dropout < 1,
        "trial.hidden_widths >= 1": all(width >= 1 for width in trial.hidden_widths),
        "0 <= term_share <= 1": 0 <= params.term_share <= 1,
        "trial_embedding_l2 >= 0": params.trial_embedding_l2 >= 0,
        **{f"trial.{words}": holds for words, holds in trial.terms.promises().items()},
        "terms.orders 2 or more, each once": _are_orders(params.terms.orders),
        "terms.screened_orders 2 or more, each once": _are_orders(params.terms.screened_orders),
        "terms.max_asked >= 1": params.terms.max_asked >= 1,
        "terms.max_learned >= 1": params.terms.max_learned >= 1,
        "terms.max_screened >= 0": params.terms.max_screened >= 0,
        "terms.screened_rows >= 1": params.terms.screened_rows >= 1,
        "terms.max_epochs >= 1": params.terms.max_epochs >= 1,
        "terms.first_pruning >= 1": params.terms.first_pruning >= 1,
        "terms.learning_rate > 0": params.terms.learning_rate > 0,
        "terms.embedding_l2 >= 0": params.terms.embedding_l2 >= 0,
    }
    broken = [promise for promise, holds in promises.items() if not holds]
    if broken:
        raise ConfigError(
            f"{where} promises do not hold: {'; '.join(broken)}; got {trial}, {params.terms}, {params.trial_embedding_l2}, {rung_epochs}"
        )


def _are_orders(orders: tuple[int, ...]) -> bool:
    return all(order >= 2 for order in orders) and len(set(orders)) == len(orders)
