"""The objective on quality and calibration, and how fast its budget burns: what pages, as one bad window alone does not.

A window is bad if one of the objective's checks found something in it. The burn rate is the share of bad windows over the
share that may be bad; it is looked at over a long and a short span, so that what is over no longer pages (multi-window,
multi-burn-rate alerts: Beyer et al., The Site Reliability Workbook, 2018, chapter 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.errors import ConfigError
from components.strict import Strict


@dataclass(frozen=True)
class Burn(Strict):
    """Page if the budget burnt `rate` times too fast over the last `long_windows` and the last `short_windows` both."""

    long_windows: int
    short_windows: int
    rate: float


@dataclass(frozen=True)
class Objective(Strict):
    """What makes a window bad, how many may be, and when their number pages.

    checks        of watch, of all rows and of slices alike, whose findings make a window bad
    budget_share  share of the measured windows that may be bad
    burns         any of them pages
    """

    checks: tuple[str, ...]
    budget_share: float
    burns: tuple[Burn, ...]

    def __post_init__(self) -> None:
        """Refuse a budget that no number of bad windows could burn."""
        if not 0 < self.budget_share < 1:
            raise ConfigError(
                f"params.yaml [warn] objective: budget_share must lie within (0, 1), got {self.budget_share}"
            )
        for burn in self.burns:
            if burn.rate * self.budget_share > 1 or not 1 <= burn.short_windows <= burn.long_windows:
                raise ConfigError(
                    f"params.yaml [warn] objective: {burn} can never page; lower its rate, or mend its windows"
                )


@dataclass(frozen=True)
class Burning:
    """A burn that pages, and the bad windows it saw."""

    burn: Burn
    num_bad: int
    num_measured: int
    rate: float


def burning(were_bad: Sequence[bool | None], objective: Objective) -> Burning | None:
    """The worst burn that pages; windows oldest first, None where nothing could be measured, which neither burns nor heals."""
    measured = [was_bad for was_bad in were_bad if was_bad is not None]
    found = []
    for burn in objective.burns:
        long, short = measured[-burn.long_windows :], measured[-burn.short_windows :]
        # A span that is not full yet counts as full of good windows, so that the first window alone cannot page.
        rates = (
            sum(long) / burn.long_windows / objective.budget_share,
            sum(short) / burn.short_windows / objective.budget_share,
        )
        if min(rates) >= burn.rate:
            found.append(Burning(burn, sum(long), len(long), rates[0]))
    return max(found, key=lambda one: one.rate / one.burn.rate, default=None)
