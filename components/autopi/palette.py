"""Operators in pictures: colours and short names; torch-free."""

from __future__ import annotations

# Told apart by people who do not see red and green alike (Okabe and Ito); further operators share the last one.
COLOURS = {
    "skip": "#6b6b6b",
    "senet": "#d98e00",
    "self_attention": "#0072b2",
    "fm": "#d55e00",
    "single_layer_perceptron": "#00855f",
    "convolution_1d": "#b5478f",
}
_OTHER_COLOUR = "#3a9ad9"
WORDS = {
    "skip": "skip",
    "senet": "SENET",
    "self_attention": "attention",
    "fm": "FM",
    "single_layer_perceptron": "perceptron",
    "convolution_1d": "conv",
}


def colour_of(operator: str) -> str:
    """The operator's colour in all pictures."""
    return COLOURS.get(operator, _OTHER_COLOUR)


def words_of(operator: str) -> str:
    """The operator's name for people, short."""
    return WORDS.get(operator, operator.replace("_", " "))
