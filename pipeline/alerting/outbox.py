"""Messages on disk until their receiver has taken them: at least once, in order by channel, always under the same keys.

What waits holds no address and no secret: a message is put into the receiver's words when it is sent, so an alert that
waited an hour still says that it ends three windows from now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import tenacity

from components.artifact import read_json
from components.errors import ConfigError, IntegrityError, OutsideError
from components.strict import Strict, parse
from pipeline.alerting.book import Book, write_whole
from pipeline.alerting.params import WarnParams
from pipeline.alerting.receivers import CHANNELS, Receivers, wanted
from pipeline.alerting.sending import Refused, TryAgain, secrets_kept_out_of_logs, send
from pipeline.alerting.state import Notice

_REFUSED = "refused"


@dataclass(frozen=True)
class Waiting(Strict):
    """One message: for which channel, and what it is to say."""

    channel: str
    notices: tuple[Notice, ...]


def put(book: Book, notices: Sequence[Notice], receivers: Receivers, params: WarnParams) -> None:
    """Put what each channel is to be told into the outbox; Alertmanager's waiting messages become one, the newest word first."""
    for channel in receivers.channels:
        told = wanted(channel, notices, params)
        if not told:
            continue
        if channel == "alertmanager":
            waiting = [(path, message) for path, message in _waiting(book) if message.channel == channel]
            newest = {one.alert.dedup_key: one for _, message in waiting for one in message.notices}
            newest |= {one.alert.dedup_key: one for one in told}
            _write(book, Waiting(channel, tuple(newest.values())))
            for path, _ in waiting:
                path.unlink()
        elif channel == "pagerduty":
            for notice in told:
                _write(book, Waiting(channel, (notice,)))
        else:
            _write(book, Waiting(channel, told))


def deliver(book: Book, receivers: Receivers, params: WarnParams, now: Callable[[], datetime]) -> None:
    """Send what waits, channel by channel; what does not get through stays, and the other channels are served all the same.

    Raises OutsideError when something still waits, ConfigError for a message that its receiver refused (kept in refused/).
    """
    stuck: dict[str, str] = {}
    refused: dict[str, str] = {}
    with secrets_kept_out_of_logs(), httpx.Client(timeout=params.timeout_seconds) as client:
        for path, message in _waiting(book):
            if message.channel in stuck:
                continue
            if message.channel not in receivers.secrets:
                stuck[message.channel] = f"{CHANNELS[message.channel]} is not set any more"
                continue
            try:
                _try(partial(send, client, message.channel, message.notices, receivers, params, now), params)
            except TryAgain as error:
                stuck[message.channel] = str(error)
            except Refused as error:
                refused[message.channel] = str(error)
                (book.outbox / _REFUSED).mkdir(exist_ok=True)
                path.replace(book.outbox / _REFUSED / path.name)
            else:
                path.unlink()
    if refused:
        raise ConfigError(
            f"{_in_words(refused)}; check {', '.join(CHANNELS[channel] for channel in refused)}; "
            f"what was refused lies in {book.outbox / _REFUSED}"
        )
    if stuck:
        raise OutsideError(
            f"{_in_words(stuck)} in {params.attempts} attempts each; {num_waiting(book)} messages wait in {book.outbox} "
            "and go out with the next warn"
        )


def num_waiting(book: Book) -> int:
    """Messages that were not delivered yet."""
    return len(list(book.outbox.glob("*.json")))


class _Wait(tenacity.wait.wait_base):
    """Doubling, or as long as the receiver asks for, up to the maximum."""

    def __init__(self, params: WarnParams) -> None:
        self._params = params

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        error = None if outcome is None else outcome.exception()
        asked = error.wait_seconds if isinstance(error, TryAgain) else 0.0
        doubled = self._params.first_wait_seconds * 2 ** (retry_state.attempt_number - 1)
        return float(min(max(asked, doubled), self._params.max_wait_seconds))


def _try(send: Callable[[], None], params: WarnParams) -> None:
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(params.attempts),
        wait=_Wait(params),
        retry=tenacity.retry_if_exception_type(TryAgain),
        reraise=True,
    )
    attempts(send)


def _waiting(book: Book) -> Iterator[tuple[Path, Waiting]]:
    for path in sorted(book.outbox.glob("*.json")):
        yield path, parse(Waiting, read_json(path), str(path), IntegrityError)


def _write(book: Book, message: Waiting) -> None:
    names = [path.name for path in (*book.outbox.glob("*.json"), *(book.outbox / _REFUSED).glob("*.json"))]
    number = 0
    for name in names:
        with suppress(ValueError):
            number = max(number, int(name.partition("-")[0]))
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    write_whole(book.outbox / f"{number + 1:08d}-{stamp}-{message.channel}.json", message)


def _in_words(reasons: dict[str, str]) -> str:
    return "; ".join(f"{channel} did not take its messages (last: {reason})" for channel, reason in reasons.items())
