"""What came of putting one fault into quiet hours many times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

MAX_HOURS = 5  # hours after which a trial is given up


@dataclass
class Trials:
    """How often a fault was found in its first hour, and after how many hours at last; what a peer said on the same rows.

    hours                                  to our finding, of the trials that found within MAX_HOURS
    num_peer_trials, num_peer_errors       shown to the peer, and those in which it refused
    peer_column_hours, peer_dataset_hours  to its flag of the column at fault, and of the data set, of those within MAX_HOURS
    """

    num_rows: int
    num_trials: int = 0
    hours: list[int] = field(default_factory=list)
    num_peer_trials: int = 0
    num_peer_errors: int = 0
    peer_column_hours: list[int] = field(default_factory=list)
    peer_dataset_hours: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Found in the first hour."""
        return sum(hour == 1 for hour in self.hours) / self.num_trials

    @property
    def mean_hours(self) -> float:
        """Mean hours to the finding, of those found within MAX_HOURS."""
        return float(np.mean(self.hours)) if self.hours else float("nan")

    def note_peer(self, answers: Iterable[tuple[bool, bool] | None]) -> None:
        """Note what the peer says of one trial hour after hour: of the column, of the data set; None where it refuses.

        It is asked until it has flagged both or refuses; of no hours it was not asked at all.
        """
        column_hours: list[int] = []
        dataset_hours: list[int] = []
        for hour, answer in enumerate(answers, start=1):
            self.num_peer_trials += hour == 1
            if answer is None:
                self.num_peer_errors += 1
                break
            has_column, has_dataset = answer
            column_hours += [hour] if has_column else []
            dataset_hours += [hour] if has_dataset else []
            if column_hours and dataset_hours:
                break
        self.peer_column_hours += column_hours[:1]
        self.peer_dataset_hours += dataset_hours[:1]


def in_words(hours: list[int], num_trials: int) -> str:
    """How many trials were found in the first hour, and where that is not all, within MAX_HOURS and after how many hours."""
    at_once = sum(hour == 1 for hour in hours)
    if at_once == len(hours):
        return f"{at_once} of {num_trials}" + (", 1.00 h" if hours else "")
    return f"{at_once} of {num_trials}; {len(hours)} within {MAX_HOURS} h, {np.mean(hours):.2f} h"
