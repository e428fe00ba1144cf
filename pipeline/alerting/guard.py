"""What drift does to training: it may wake it, at most once a window and not too often; a broken contract blocks it.

A ranker trained on a fault learns the fault, so what is a matter of contract (schema, units, skew, doubled or missing rows)
blocks retraining and promotion until a person has acknowledged it, also when it has gone away by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from components.errors import ConfigError
from components.strict import Strict
from pipeline.alerting.book import Book
from pipeline.alerting.state import DRIFT_KINDS, Incident, State

_BLOCKS, _WAKES = "blocks.json", "wakes.json"
_NUM_REMEMBERED = 500


@dataclass(frozen=True)
class Block(Strict):
    """A broken contract that was found, and what a person said of it.

    key              of the incident
    what             the figures in words, when it was found
    opened           end of the window that opened the incident, ISO 8601 UTC
    acknowledged     when, by whom and why; null until then
    """

    key: str
    what: str
    opened: str
    acknowledged: str | None
    by: str | None
    because: str | None


@dataclass(frozen=True)
class Blocks(Strict):
    """Every block, by incident, the oldest first."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Wakes(Strict):
    """Ends of the windows whose drift woke a retraining, the oldest first."""

    ends: tuple[str, ...]


def note_contracts(book: Book, state: State) -> None:
    """Block training for every open incident that is a matter of contract; one incident blocks once. The book is locked."""
    known = _blocks(book)
    there = {(block.key, block.opened) for block in known}
    new = [
        Block(key, incident.alert.annotations["summary"], incident.opened, None, None, None)
        for key, incident in state.incidents.items()
        if incident.kind == "contract" and (key, incident.opened) not in there
    ]
    if new:
        book.write(_BLOCKS, Blocks((*known, *new)[-_NUM_REMEMBERED:]))


def blocking(book: Book) -> tuple[Block, ...]:
    """What nobody has acknowledged yet."""
    return tuple(block for block in _blocks(book) if block.acknowledged is None)


def acknowledge(book: Book, key: str, by: str, because: str, now: datetime) -> int:
    """Let training go on after the incident of `key`; gives the number of blocks that end. Raises ConfigError for none."""
    if not by.strip() or not because.strip():
        raise ConfigError("who acknowledges, and why, must be said: --by NAME --because WHY")
    with book.locked():
        blocks = _blocks(book)
        chosen = [block.key == key and block.acknowledged is None for block in blocks]
        if not any(chosen):
            open_keys = sorted({block.key for block in blocking(book)})
            raise ConfigError(f"'{key}' blocks nothing; what does: {open_keys or 'nothing'}")
        book.write(
            _BLOCKS,
            Blocks(
                tuple(
                    replace(block, acknowledged=now.isoformat(), by=by, because=because) if is_chosen else block
                    for block, is_chosen in zip(blocks, chosen, strict=True)
                )
            ),
        )
    return sum(chosen)


def wake(book: Book, end: str, cooldown_hours: float) -> str | None:
    """Note that the drift of the window that ends at `end` wakes a retraining; None if it does, else why it does not.

    Asked again for the same window the answer is the same, so a task that is tried again changes nothing.
    """
    with book.locked():
        drifted = [incident for incident in book.state().incidents.values() if _is_drift(incident, end)]
        blocks = blocking(book)
        if blocks:
            return f"blocked until acknowledged: {', '.join(sorted({block.key for block in blocks}))}"
        if not drifted:
            return f"no drift is open in the window that ends at {end}"
        wakes = book.read(_WAKES, Wakes) or Wakes(())
        if end in wakes.ends:
            return None
        rest = datetime.fromisoformat(end) - timedelta(hours=cooldown_hours)
        recent = [woken for woken in wakes.ends if datetime.fromisoformat(woken) > rest]
        if recent:
            return f"the window that ended at {recent[-1]} woke one less than {cooldown_hours:g} hours earlier"
        book.write(_WAKES, Wakes(tuple(sorted((*wakes.ends, end)))[-_NUM_REMEMBERED:]))
    return None


def refuse_if_blocked(book: Book) -> None:
    """Raise ConfigError while a broken contract waits for a person; for whoever trains or promotes."""
    blocks = blocking(book)
    if blocks:
        words = "; ".join(f"{block.key} ({block.what})" for block in blocks)
        raise ConfigError(
            f"training and promotion are blocked by {words}; look, then "
            f"`python -m pipeline acknowledge '{blocks[0].key}' --by NAME --because WHY`"
        )


def _is_drift(incident: Incident, end: str) -> bool:
    return incident.kind in DRIFT_KINDS and incident.num_clean == 0 and incident.last_window == end


def _blocks(book: Book) -> tuple[Block, ...]:
    return (book.read(_BLOCKS, Blocks) or Blocks(())).blocks
