"""What a search took, beside its result: clock times differ from run to run, so no artifact holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.artifact import read_json, write_json
from components.autopi.architecture import FoundArchitecture
from components.errors import IntegrityError
from components.strict import Strict, parse

FILE_NAME = "cost.json"


@dataclass(frozen=True)
class SearchCost(Strict):
    """Of the search that found `line`, stretches before a stop included, those lost by a kill not.

    seconds        on the wall, of all parts one after the other; candidates may have learned side by side, in less
    core_seconds   of all processes and threads together
    supernet_rows, trial_rows   as FoundArchitecture has them
    """

    strategy: str
    line: str
    seconds: float
    core_seconds: float
    supernet_rows: int
    trial_rows: int


def write_cost(folder: Path, found: FoundArchitecture, seconds: float, core_seconds: float) -> None:
    """Leave the cost beside the checkpoints."""
    line = found.architecture.to_text()
    cost = SearchCost(
        found.strategy, line, round(seconds, 1), round(core_seconds, 1), found.rows_seen, found.trial_rows
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE_NAME, cost)


def read_cost(folder: Path, found: FoundArchitecture) -> SearchCost | None:
    """The cost of this very architecture's search, or None where another search or none left its cost there."""
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    cost = parse(SearchCost, read_json(path), str(path), IntegrityError)
    is_same = (cost.strategy, cost.line) == (found.strategy, found.architecture.to_text())
    return cost if is_same else None
