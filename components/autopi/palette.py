"""Operators in pictures: colours and short names; torch-free."""

from __future__ import annotations

# Told apart by people who do not see red and green alike: the paper's six by Okabe and Ito, the others by lightness too.
COLOURS = {
    "skip": "#6b6b6b",
    "senet": "#d98e00",
    "self_attention": "#0072b2",
    "fm": "#d55e00",
    "single_layer_perceptron": "#00855f",
    "convolution_1d": "#b5478f",
    "hadamard_product": "#8a7a00",
    "outer_product": "#5b3a9e",
    "cross_layer": "#1c1c1c",
    "gate": "#7a3b12",
    "two_layer_perceptron": "#6fae1e",
    "logarithmic_layer": "#0f7f8c",
    "convolution_2d": "#8f2d56",
}
_OTHER_COLOUR = "#3a9ad9"
WORDS = {
    "skip": "skip",
    "senet": "SENET",
    "self_attention": "attention",
    "fm": "FM",
    "single_layer_perceptron": "perceptron",
    "convolution_1d": "conv",
    "hadamard_product": "Hadamard",
    "outer_product": "outer",
    "cross_layer": "cross",
    "gate": "gate",
    "two_layer_perceptron": "2 layers",
    "logarithmic_layer": "log layer",
    "convolution_2d": "2d conv",
}


def colour_of(operator: str) -> str:
    """The operator's colour in all pictures."""
    return COLOURS.get(operator, _OTHER_COLOUR)


def words_of(operator: str) -> str:
    """The operator's name for people, short."""
    return WORDS.get(operator, operator.replace("_", " "))
