"""Which rows a board is asked for, and with which seeds."""

from __future__ import annotations

from collections.abc import Sequence

from components.errors import ConfigError
from components.log import RawLog
from components.training import AUTOPI
from pipeline.leaderboard.bench import SEARCHED, Bench, known_rows
from pipeline.leaderboard.planted import PLANTED, is_simulated

PLAIN = "plain"
"""What --rankers means by itself: every ranker that searches nothing, and what the workspace's own search found."""
ALL_SEARCHED = "searched"
"""Every row whose seeds begin with a search of their own."""


def rows_asked_for(rankers: Sequence[str], seeds: Sequence[int], bench: Bench) -> dict[str, list[int]]:
    """Row -> its seeds. "mlp:10" asks for the seeds 1 to 10; "plain" and "searched" stand for several rows."""
    request = bench.workspace.read("raw_log", RawLog).request
    groups = {
        PLAIN: [
            name
            for name in known_rows()
            if name not in SEARCHED
            and (name != PLANTED or is_simulated(request))
            and (name != AUTOPI or bench.architecture() is not None)
        ],
        ALL_SEARCHED: list(SEARCHED),
    }
    rows: dict[str, list[int]] = {}
    for asked in rankers or [PLAIN]:
        name, _, number = asked.partition(":")
        if number and not (number.isascii() and number.isdigit() and int(number) > 0):
            raise ConfigError(f"--rankers: {asked!r} asks for no number of seeds; write {name}:3 for three")
        own = list(range(1, int(number) + 1)) if number else list(seeds)
        rows |= dict.fromkeys(groups.get(name, [name]), own)
    unknown = [name for name in rows if name not in known_rows()]
    if unknown:
        choices = ", ".join([*groups, *known_rows()])
        raise ConfigError(f"--rankers: there is no {', '.join(unknown)}; choose among {choices}")
    return rows
