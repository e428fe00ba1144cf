"""Search for an architecture on the train split, choosing on tune: one interface, a strategy each.

Stands between the encoded splits and the training. A strategy takes (encoded, params, workbench) and gives a
FoundArchitecture; which one runs is a param.
"""

from __future__ import annotations

from collections.abc import Callable

from components.autopi.architecture import Architecture, FoundArchitecture
from components.autopi.darts import DartsSearch
from components.autopi.halving import search_halving, search_random
from components.autopi.network import check_fits
from components.autopi.search_params import SearchParams, check_params
from components.batching import pick_device
from components.compiling import can_compile
from components.encoding import Encoded
from components.stepping import keep_freed_memory, threads
from components.workbench import Workbench

_HINT = "search.kernels and train.kernels 'compiled' take half to three quarters of the time, and this machine has the compiler for them"

__all__ = ["STRATEGIES", "SearchParams", "search_architecture"]


def search_architecture(encoded: Encoded, params: SearchParams, workbench: Workbench) -> FoundArchitecture:
    """Find an architecture by the strategy that params name; raises ConfigError for params that make no sense."""
    check_params(params)
    keep_freed_memory()
    is_slow = params.kernels == "torch" and params.strategy != "fixed"
    if is_slow and pick_device(workbench.device).type == "cpu" and can_compile():
        workbench.progress(0, 1, _HINT)
    # A step is made of many small tensors: the default log's gradient search had 3,102 rows/s with one, 1,958 with two.
    with threads(1):
        return STRATEGIES[params.strategy](encoded, params, workbench)


def _search_darts(encoded: Encoded, params: SearchParams, workbench: Workbench) -> FoundArchitecture:
    return DartsSearch(encoded, params, workbench).run()


def _take_fixed(encoded: Encoded, params: SearchParams, workbench: Workbench) -> FoundArchitecture:
    """Nothing is searched: the line in params is the answer, if it fits this log's fields."""
    where = "params.yaml [search] fixed_architecture"
    assert params.fixed_architecture is not None
    architecture = Architecture.from_text(params.fixed_architecture, where)
    check_fits(architecture, len(encoded.field_sizes), where)
    return FoundArchitecture(
        architecture, "fixed", params.operators, (), None, None, rows_seen=0, limit_batches=workbench.limit_batches
    )


STRATEGIES: dict[str, Callable[[Encoded, SearchParams, Workbench], FoundArchitecture]] = {
    "darts": _search_darts,
    "darts_second_order": _search_darts,
    "random": search_random,
    "halving": search_halving,
    "fixed": _take_fixed,
}
