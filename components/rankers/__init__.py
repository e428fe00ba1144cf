"""Hand-made rankers, one file a family; the name in RANKERS is the name in params and artifacts."""

from __future__ import annotations

from collections.abc import Callable

from components.rankers.linear import Linear
from components.rankers.perceptron import Perceptron
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams

RANKERS: dict[str, Callable[[tuple[int, ...], RankerParams], Ranker]] = {
    "linear": Linear,
    "mlp": Perceptron,
}

__all__ = ["RANKERS", "FieldEmbedding", "Ranker", "RankerParams"]
