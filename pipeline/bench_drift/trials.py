"""What came of putting one fault into quiet hours many times."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

MAX_HOURS = 5  # hours after which a trial is given up


@dataclass
class Trials:
    """How often a fault was found in its first hour, and after how many hours at last; what a peer said on the same rows."""

    num_rows: int
    num_trials: int = 0
    hours: list[int] = field(default_factory=list)
    num_peer_trials: int = 0
    num_peer_column: int = 0
    num_peer_dataset: int = 0
    num_peer_errors: int = 0

    @property
    def share(self) -> float:
        """Found in the first hour."""
        return sum(hour == 1 for hour in self.hours) / self.num_trials

    @property
    def mean_hours(self) -> float:
        """Mean hours to the finding, of those found within MAX_HOURS."""
        return float(np.mean(self.hours)) if self.hours else float("nan")
