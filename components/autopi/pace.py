"""How fast a search goes and how long it still takes, for people who watch; decides nothing."""

from __future__ import annotations

import time


class Pace:
    """Of a work of many steps, some of which were done before by a run that was stopped."""

    def __init__(self, steps_before: int) -> None:
        """The clock starts now."""
        self._began = time.monotonic()
        self._steps_before = steps_before

    def found_done(self, steps: int) -> None:
        """So many more had been done before."""
        self._steps_before += steps

    def steps_per_second(self, done: int) -> float:
        """Of this run, when `done` steps are behind it and its forerunners."""
        return (done - self._steps_before) / max(time.monotonic() - self._began, 1e-9)

    def left(self, done: int, total: int) -> str:
        """The time left in words, if the other steps go as fast."""
        rate = self.steps_per_second(done)
        if rate <= 0:
            return "time left unknown"
        seconds = max(total - done, 0) / rate
        return f"{seconds / 60:,.0f} min left" if seconds >= 120 else f"{seconds:.0f} s left"
