"""What people decide about a bundle; every value stands in params.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from components.errors import ConfigError
from components.profiling import ProfileParams
from components.strict import Strict


@dataclass(frozen=True)
class PackParams(Strict):
    """What a bundle says to people, and how fine its reference profile is.

    intended_use    one sentence on the card: what the scores are for
    unintended_use  one sentence on the card: what they are not for
    card_slices     number of slices in the card's table, those with the most clicks
    profile         see ProfileParams
    """

    intended_use: str
    unintended_use: str
    card_slices: int
    profile: ProfileParams

    def __post_init__(self) -> None:
        """Refuse a card without a table."""
        if self.card_slices < 1:
            raise ConfigError(f"params.yaml [pack]: card_slices must be at least 1, got {self.card_slices}")
