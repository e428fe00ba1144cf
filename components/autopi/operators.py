"""The interactions that an edge may carry; the names in OPERATORS are the names in params and in architecture.json."""

from __future__ import annotations

from components.autopi.edge_operator import Operator, uniform_weights
from components.autopi.further_operators import (
    Convolution2d,
    CrossLayer,
    Gate,
    HadamardProduct,
    LogarithmicLayer,
    OuterProduct,
    TwoLayerPerceptron,
)
from components.autopi.paper_operators import (
    Convolution1d,
    FactorizationMachine,
    SelfAttention,
    Senet,
    SingleLayerPerceptron,
    Skip,
)

__all__ = ["OPERATORS", "PAPER_OPERATORS", "Operator", "Skip", "uniform_weights"]

OPERATORS: dict[str, type[Operator]] = {
    "skip": Skip,
    "senet": Senet,
    "self_attention": SelfAttention,
    "fm": FactorizationMachine,
    "single_layer_perceptron": SingleLayerPerceptron,
    "convolution_1d": Convolution1d,
    "hadamard_product": HadamardProduct,
    "outer_product": OuterProduct,
    "cross_layer": CrossLayer,
    "gate": Gate,
    "two_layer_perceptron": TwoLayerPerceptron,
    "logarithmic_layer": LogarithmicLayer,
    "convolution_2d": Convolution2d,
}

# The space that the paper searches; the others above extend it.
PAPER_OPERATORS = ("skip", "senet", "self_attention", "fm", "single_layer_perceptron", "convolution_1d")
