"""The act itself: a watched window becomes incidents, notices and messages; what was found is said, and said to be over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.watching import CHECKS
from pipeline.alerting.alert import BURN_CHECK, TEST_CHECK, Alert, alert_from, dedup_key, in_words, make_alert
from pipeline.alerting.book import Book, book_at, model_of
from pipeline.alerting.guard import blocking, note_contracts
from pipeline.alerting.objective import burning
from pipeline.alerting.outbox import deliver, num_waiting, put
from pipeline.alerting.params import WarnParams
from pipeline.alerting.receivers import Receivers, read_receivers
from pipeline.alerting.state import (
    Notice,
    Observation,
    State,
    Window,
    observe,
    raise_at_once,
    resolve_at_once,
    same_hours,
)
from pipeline.alerting.textfile import Look, write_metrics
from pipeline.moments import in_utc

if TYPE_CHECKING:  # what measures is imported where a window is looked at
    from components.watching import Drift, WatchParams
    from components.watching.drift import DriftFacts, Measure

_QUALITY_CHECKS = ("calibration", "auc", "concept", "clicks_missing")
_WEEKS = 4
Found = dict[str, tuple[Alert, Literal["contract", "data", "concept", "other"]]]


@dataclass(frozen=True)
class Desk:
    """Where one model's alerts are kept, and who is told of them."""

    book: Book
    metrics: Path
    receivers: Receivers
    params: WarnParams
    environment: str
    model: str


def desk_at(home: Path, environ: Mapping[str, str], params: WarnParams, environment: str, log: str) -> Desk:
    """The desk of a log's champion: CTR_ALERTS (default .ctr/alerts), CTR_METRICS (default .ctr/metrics), and the receivers."""
    model = model_of(log)
    metrics = Path(environ.get("CTR_METRICS") or home / ".ctr" / "metrics")
    return Desk(book_at(home, environ, environment, log), metrics, read_receivers(environ), params, environment, model)


def warn_of(
    desk: Desk, drift: Drift, window: tuple[datetime | None, datetime | None], watch: WatchParams, is_dry_run: bool
) -> int:
    """Tell people what is new, what goes on and what is over; gives the number of findings.

    window  start and end of what was watched; where the end is open, the last row's time, or this moment, stands for it
    Raises OutsideError when a message still waits in the outbox, ConfigError when a receiver refused one.
    """
    now = datetime.now(UTC)
    with desk.book.locked():
        state = desk.book.state()
        seen = _observation(desk, state, drift.facts, _window_of(drift.facts, window, now), watch)
        after, notices = observe(state, seen, desk.params.clean_windows, desk.params.history_windows)
        if is_dry_run:
            lines = [in_words(notice.event, notice.alert) for notice in notices]
            print(
                "\n".join(f"{one.event:<8}{line}" for one, line in zip(notices, lines, strict=True))
                or "Nothing to warn of."
            )
            print(f"Would tell: stderr{''.join(f', {channel}' for channel in desk.receivers.channels)}")
            return 0
        put(desk.book, _with_all_open(after, notices), desk.receivers, desk.params)
        desk.book.write("state.json", after)
        note_contracts(desk.book, after)
    for notice in notices:
        print(in_words(notice.event, notice.alert), file=sys.stderr)
    try:
        send_waiting(desk)
    finally:
        blocks = len(blocking(desk.book))
        waiting = num_waiting(desk.book)
        newest = max(one.end for one in after.windows)
        look: Look = "first" if seen.window.end == newest else "settled"
        write_metrics(desk.metrics, desk.environment, desk.model, drift.facts, look, after, waiting, blocks, now)
    if not seen.found:
        print("Nothing to warn of.", file=sys.stderr)
    return len(seen.found)


def raise_alert(desk: Desk, alert: Alert) -> None:
    """Tell of something that no window shows, such as a failed run or late data; it is open until `settle_alert`."""
    _change_at_once(desk, lambda state, moment: raise_at_once(state, alert, moment))


def settle_alert(desk: Desk, check: str, slice_name: str) -> bool:
    """Say that something raised by `raise_alert` is over; False where it was not open."""
    key = dedup_key(desk.environment, desk.model, check, slice_name)
    return bool(_change_at_once(desk, lambda state, moment: resolve_at_once(state, key, moment)))


def send_test(desk: Desk) -> None:
    """Send an alert that says it is a test, at the highest urgency, and its end, through every receiver."""
    words = "This is a test: somebody ran `warn --test`. Nothing is wrong, and it resolves at once."
    alert = make_alert(TEST_CHECK, "all", "page", words, words, desk.params, desk.environment, desk.model)
    raise_alert(desk, alert)
    settle_alert(desk, TEST_CHECK, "all")


def send_waiting(desk: Desk) -> None:
    """Deliver what waits in the outbox; see `deliver` for what is raised."""
    with desk.book.locked():
        deliver(desk.book, desk.receivers, desk.params, lambda: datetime.now(UTC))


def _change_at_once(desk: Desk, change: Callable[[State, str], tuple[State, tuple[Notice, ...]]]) -> tuple[Notice, ...]:
    with desk.book.locked():
        state, notices = change(desk.book.state(), datetime.now(UTC).isoformat())
        put(desk.book, notices, desk.receivers, desk.params)
        desk.book.write("state.json", state)
    for notice in notices:
        print(in_words(notice.event, notice.alert), file=sys.stderr)
    send_waiting(desk)
    return notices


def _window_of(facts: DriftFacts, window: tuple[datetime | None, datetime | None], now: datetime) -> Window:
    start, end = (None if moment is None else in_utc(moment).isoformat() for moment in window)
    return Window(start or "", end or facts.last_time or now.isoformat(), facts.num_rows, None)


def _observation(desk: Desk, state: State, facts: DriftFacts, window: Window, watch: WatchParams) -> Observation:
    from components.watching.words import describe

    was_judged = facts.reason == "compared"
    found: Found = {}
    for finding in facts.findings:
        alert = alert_from(finding, desk.params, desk.environment, desk.model)
        found[alert.dedup_key] = alert, finding.kind
    measures = {(one.check, one.slice): one for one in facts.measures}
    for measure in (_volume(state, window, watch, facts), _late(state, window, watch, facts)):
        if measure is None or (measure.check, "all") in measures:
            continue
        measures[measure.check, "all"] = measure
        if measure.is_finding:
            check = CHECKS[measure.check]
            said = describe(measure), f"{check.meaning} What to do: {check.action}"
            alert = make_alert(measure.check, "all", check.severity, *said, desk.params, desk.environment, desk.model)
            found[alert.dedup_key] = alert, "contract"
    was_bad = None
    if ("calibration", "all") in measures or ("auc", "all") in measures:
        was_bad = any(finding.check in desk.params.objective.checks for finding in facts.findings)
    window = Window(window.start, window.end, window.num_rows, was_bad)
    past = [one.was_bad for one in state.windows if one.end < window.end]
    burnt = burning([*past, was_bad], desk.params.objective)
    if burnt is not None and was_bad is not None:
        allowed = desk.params.objective.budget_share
        words = (
            f"{burnt.num_bad} of the last {burnt.num_measured} measured windows broke the objective on quality: the budget of "
            f"{allowed:.0%} burns {burnt.rate:.1f} times too fast"
        )
        description = f"What broke it: {', '.join(desk.params.objective.checks)}; see the tickets of the same model."
        alert = make_alert(BURN_CHECK, "all", "page", words, description, desk.params, desk.environment, desk.model)
        found[alert.dedup_key] = alert, "other"
    clean = {
        key
        for key, incident in state.incidents.items()
        if key not in found and _is_clean(incident.alert, measures, was_judged, was_bad is not None and burnt is None)
    }
    return Observation(window, found, frozenset(clean))


def _is_clean(
    alert: Alert, measures: Mapping[tuple[str, str], Measure], was_judged: bool, does_objective_hold: bool
) -> bool:
    """Whether this window shows that an alert's trouble is over: its check was made, and found nothing."""
    measure = measures.get((alert.check, alert.labels["slice"]))
    if measure is not None:
        return was_judged and not measure.is_finding
    if alert.check == BURN_CHECK:
        return does_objective_hold
    return was_judged and alert.check in ("columns", "rows")


def _volume(state: State, window: Window, watch: WatchParams, facts: DriftFacts) -> Measure | None:
    from components.watching.measuring import measure_volume

    num_fields = len({one.slice for one in facts.measures if one.check == "field_missing"})
    num_slices = max(len(facts.quality) - 1, 0)
    levels = watch.levels(max(num_fields, 1), num_slices)
    return measure_volume(window.num_rows, same_hours(state.windows, window, _WEEKS), watch, levels)


def _late(state: State, window: Window, watch: WatchParams, facts: DriftFacts) -> Measure | None:
    """The rows that came after the first look; known at the second one, when clicks are final, and only then."""
    from components.watching.measuring import measure_share

    before = next((past for past in state.windows if (past.start, past.end) == (window.start, window.end)), None)
    if before is None or facts.num_settled == 0 or window.num_rows == 0:
        return None
    return measure_share("rows_late", max(window.num_rows - before.num_rows, 0), window.num_rows, watch.max_late_share)


def _with_all_open(state: State, notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
    """What is new, and everything else that is open, which Alertmanager must hear of in each window or it ends there."""
    said = {notice.alert.dedup_key for notice in notices}
    open_ones = [one for key, one in state.incidents.items() if key not in said and not one.is_inhibited]
    return (*notices, *(Notice("update", one.alert, one.opened) for one in open_ones))
