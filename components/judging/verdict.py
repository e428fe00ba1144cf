"""What judging is given and what it yields: the gates' limits, and the verdict with a line for each gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from components.artifact import read_json, write_json
from components.errors import ConfigError, IntegrityError
from components.strict import Strict, parse


@dataclass(frozen=True)
class JudgeParams(Strict):
    """The gates' limits. The confidence is the evaluation's own.

    first_min_auc              AUC that a first promotion must reach, with the lower bound of its interval
    max_normalised_entropy     log loss as a share of the click rate's own entropy, with the upper bound of its interval
    max_auc_loss               AUC that a challenger may lose against the champion, with the lower bound of the difference
    max_log_loss_rise_share    rise of log loss as a share of the champion's, with the upper bound of the difference
    ratio_low, ratio_high      band of mean score / click rate outside of which no interval may lie, overall and in
                               every slice large enough for it
    max_ece_excess_share       how far ECE may lie above its null, as a share of the click rate
    max_parity_difference      score of the exported scorer against that of the trained network, absolute
    max_flops_per_row          floating point operations for one row
    max_bundle_bytes           size of the whole bundle
    other_bundle_bytes         of these, set aside for what `pack` writes after the verdict; it refuses to write more
    is_schema_break_allowed    true lets a challenger pass whose fields the champion's clients do not send
    """

    first_min_auc: float
    max_normalised_entropy: float
    max_auc_loss: float
    max_log_loss_rise_share: float
    ratio_low: float
    ratio_high: float
    max_ece_excess_share: float
    max_parity_difference: float
    max_flops_per_row: int
    max_bundle_bytes: int
    other_bundle_bytes: int
    is_schema_break_allowed: bool

    def __post_init__(self) -> None:
        """Refuse a band without room and limits that nothing could meet."""
        if not 0 < self.ratio_low < 1 < self.ratio_high:
            raise ConfigError(
                f"params.yaml [judge]: the band must lie around 1, 0 < ratio_low < 1 < ratio_high, "
                f"got {self.ratio_low} and {self.ratio_high}"
            )
        limits = ("max_auc_loss", "max_log_loss_rise_share", "max_ece_excess_share", "max_parity_difference")
        for name in limits:
            if getattr(self, name) < 0:
                raise ConfigError(f"params.yaml [judge]: {name} must be 0 or more, got {getattr(self, name)}")
        if not 0 < self.other_bundle_bytes < self.max_bundle_bytes:
            raise ConfigError(
                f"params.yaml [judge]: other_bundle_bytes must leave room for the scorer within max_bundle_bytes "
                f"({self.max_bundle_bytes:,}), got {self.other_bundle_bytes:,}"
            )


@dataclass(frozen=True)
class GateCheck(Strict):
    """One line of the verdict: what was measured, what was allowed, and the same in words."""

    name: str
    measured: float | None
    limit: float | None
    passed: bool
    words: str


@dataclass(frozen=True)
class Verdict(Strict):
    """The decision, every check, the reasons in words, and the champion it was reached against (None before the first)."""

    decision: Literal["promote", "keep_champion"]
    reasons: tuple[str, ...]
    checks: tuple[GateCheck, ...]
    champion_version: str | None
    champion_digest: str | None

    @property
    def is_promotion(self) -> bool:
        """The challenger may become the champion."""
        return self.decision == "promote"

    def save(self, folder: Path) -> None:
        """Write verdict.json."""
        write_json(folder / "verdict.json", self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote; raises IntegrityError."""
        return parse(cls, read_json(folder / "verdict.json"), str(folder / "verdict.json"), IntegrityError)
