"""What people decide about the board; the section `leaderboard` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from components.errors import ConfigError
from components.strict import Strict


@dataclass(frozen=True)
class LeaderboardParams(Strict):
    """How rankers are tuned and compared.

    num_bootstraps        resamples of the test rows' clusters, and of the seeds, for differences from the best
    significance          differences with a p-value below it, after Holm's correction, are beyond noise
    seed                  of resamples and of the tuning's draws
    embedding_l2_factors  tuning draws the penalty between these multiples of the preset one, evenly in its logarithm
    learning_rate_factors the same of the learning rate
    dropouts              tuning draws one of these, for rankers that have hidden layers
    autorec_epochs        passes over train, at most, of a candidate of the searches in AutoRec's space; as many candidates as
                          search.trial's epochs pay for
    timed_rows            test rows scored to say milliseconds per 1,000 rows
    """

    num_bootstraps: int
    significance: float
    seed: int
    embedding_l2_factors: tuple[float, float]
    learning_rate_factors: tuple[float, float]
    dropouts: tuple[float, ...]
    autorec_epochs: int
    timed_rows: int

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        checks = {
            "num_bootstraps >= 2": self.num_bootstraps >= 2,
            "0 < significance < 1": 0 < self.significance < 1,
            "0 < embedding_l2_factors, rising": 0 < self.embedding_l2_factors[0] <= self.embedding_l2_factors[1],
            "0 < learning_rate_factors, rising": 0 < self.learning_rate_factors[0] <= self.learning_rate_factors[1],
            "0 <= dropouts < 1, at least one": len(self.dropouts) > 0 and all(0 <= one < 1 for one in self.dropouts),
            "autorec_epochs >= 1": self.autorec_epochs >= 1,
            "timed_rows >= 1": self.timed_rows >= 1,
        }
        broken = [words for words, holds in checks.items() if not holds]
        if broken:
            raise ConfigError(f"params.yaml [leaderboard]: {'; '.join(broken)} must hold, got {self}")
