"""Incidents: what is open, since when, and when it is over; pure, so the same windows in the same order tell the same story.

An incident opens with its first finding, is updated by each later one, and is resolved after clean windows: windows in which
the check could be made and found nothing. A missing or too small window is not clean, and makes nothing unclean either.
A window that was looked at already, or one older than what is known of an incident, changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from components.strict import Strict
from pipeline.alerting.alert import LATE_CHECK, Alert

Event = Literal["open", "update", "resolve"]
DRIFT_KINDS = ("data", "concept")


@dataclass(frozen=True)
class Incident(Strict):
    """Something that is open.

    kind               of the finding: "contract", "data", "concept", or "other" for what is no finding
    opened             end of the window that opened it, ISO 8601 UTC
    last_window        end of the last window that said something of it
    num_clean          clean windows since the last finding
    is_inhibited       nobody was told yet, because late data makes it doubtful
    """

    alert: Alert
    kind: Literal["contract", "data", "concept", "other"]
    opened: str
    last_window: str
    num_clean: int
    is_inhibited: bool


@dataclass(frozen=True)
class Window(Strict):
    """What is remembered of a window.

    start, end  ISO 8601 UTC; start is empty where it is not known
    was_bad     for the objective; None where quality could not be measured
    """

    start: str
    end: str
    num_rows: int
    was_bad: bool | None


@dataclass(frozen=True)
class State(Strict):
    """Everything that survives a restart: incidents by key, keys that were resolved and when, and past windows."""

    incidents: dict[str, Incident]
    resolved: dict[str, str]
    windows: tuple[Window, ...]

    @property
    def is_late(self) -> bool:
        """Data is late, so what drifted may only be missing."""
        return any(incident.alert.check == LATE_CHECK for incident in self.incidents.values())


EMPTY = State({}, {}, ())


@dataclass(frozen=True)
class Notice(Strict):
    """What is to be said of an incident: the event, the alert, and when the incident opened."""

    event: Event
    alert: Alert
    opened: str


@dataclass(frozen=True)
class Observation:
    """One window as seen by one watch.

    found   key -> (alert, kind) of every finding
    clean   keys whose check was made in this window without finding anything
    """

    window: Window
    found: Mapping[str, tuple[Alert, Literal["contract", "data", "concept", "other"]]]
    clean: frozenset[str]


def observe(
    state: State, seen: Observation, clean_windows: int, num_remembered: int
) -> tuple[State, tuple[Notice, ...]]:
    """The state after a window, and what is to be said; the most urgent first."""
    end = seen.window.end
    incidents, resolved = dict(state.incidents), dict(state.resolved)
    notices: list[Notice] = []
    for key, (alert, kind) in seen.found.items():
        known = incidents.get(key)
        if known is None and resolved.get(key, "") >= end:
            continue
        if known is not None and end < known.last_window:
            continue
        is_inhibited = state.is_late and kind in DRIFT_KINDS
        is_told = known is not None and not known.is_inhibited
        opened = known.opened if known is not None else end
        incidents[key] = Incident(alert, kind, opened, end, 0, is_inhibited and not is_told)
        if not incidents[key].is_inhibited:
            notices.append(Notice("update" if is_told else "open", alert, opened))
    for key in sorted(seen.clean & incidents.keys() - seen.found.keys()):
        known = incidents[key]
        if end <= known.last_window:
            continue
        known = replace(known, last_window=end, num_clean=known.num_clean + 1)
        incidents[key] = known
        if known.num_clean >= clean_windows:
            del incidents[key]
            resolved[key] = end
            if not known.is_inhibited:
                notices.append(Notice("resolve", known.alert, known.opened))
    windows = _remember(state.windows, seen.window, num_remembered)
    recent = dict(sorted(resolved.items(), key=lambda pair: pair[1])[-num_remembered:])
    notices.sort(key=lambda notice: ("page", "ticket", "info").index(notice.alert.severity))
    return State(incidents, recent, windows), tuple(notices)


def raise_at_once(state: State, alert: Alert, moment: str) -> tuple[State, tuple[Notice, ...]]:
    """Open an incident that no window tells of, such as a failed run; an open one is updated."""
    known = state.incidents.get(alert.dedup_key)
    opened = known.opened if known is not None else moment
    incident = Incident(alert, "other", opened, moment, 0, is_inhibited=False)
    notice = Notice("open" if known is None else "update", alert, opened)
    return replace(state, incidents={**state.incidents, alert.dedup_key: incident}), (notice,)


def resolve_at_once(state: State, key: str, moment: str) -> tuple[State, tuple[Notice, ...]]:
    """Close an incident by hand; nothing where it is not open."""
    known = state.incidents.get(key)
    if known is None:
        return state, ()
    incidents = {other: incident for other, incident in state.incidents.items() if other != key}
    closed = replace(state, incidents=incidents, resolved={**state.resolved, key: moment})
    return closed, () if known.is_inhibited else (Notice("resolve", known.alert, known.opened),)


def same_hours(windows: tuple[Window, ...], window: Window, num_weeks: int) -> tuple[int, ...]:
    """Rows of the windows that began and ended whole weeks earlier, newest first."""
    from datetime import datetime, timedelta

    if not window.start:
        return ()
    rows = {(past.start, past.end): past.num_rows for past in windows}
    spans = [
        tuple((datetime.fromisoformat(text) - timedelta(weeks=week)).isoformat() for text in (window.start, window.end))
        for week in range(1, num_weeks + 1)
    ]
    return tuple(rows[start, end] for start, end in spans if (start, end) in rows)


def _remember(windows: tuple[Window, ...], window: Window, num_remembered: int) -> tuple[Window, ...]:
    """Each window once, what was measured of it kept where a later look could not measure it."""
    known = {past.end: past for past in windows}
    before = known.get(window.end)
    was_bad = window.was_bad if window.was_bad is not None or before is None else before.was_bad
    known[window.end] = replace(window, was_bad=was_bad)
    return tuple(sorted(known.values(), key=lambda one: one.end)[-num_remembered:])
