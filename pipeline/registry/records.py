"""What the registry is told and what it tells: challengers, registered versions, events, holds, and the one refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.errors import CtrError
from components.strict import Strict

PROD = "prod"
STAGES = ("shadow", "canary", PROD)
RECORD_FORMAT = 1

Bump = Literal["major", "minor", "patch"]
Observe = Callable[[str], None]
"""Told "before X" and "after X" for each effect X of an act, such as "before register"."""


class Refused(CtrError):  # noqa: N818 - an answer, not a failure
    """The gate said no: the champion stays, and nothing was changed."""

    exit_code: int = 4


@dataclass(frozen=True)
class RegistryParams(Strict):
    """How long the registry waits for the world.

    git_timeout_seconds   for one git command
    s3_timeout_seconds    for a connection to the store, and for each answer
    s3_attempts           of one request to the store, with pauses that grow
    clock_wait_seconds    that an assignment may wait until the clock is past the last one's
    """

    git_timeout_seconds: float
    s3_timeout_seconds: float
    s3_attempts: int
    clock_wait_seconds: float


@dataclass(frozen=True)
class Keys:
    """PEM files of a key pair: the private one signs what is promoted, the public one is asked at every load."""

    private: Path | None
    public: Path | None


@dataclass(frozen=True)
class Challenger:
    """A bundle that passed its gates.

    bundle           its folder
    judged_against   digest of the champion that its verdict names; None where there was none
    bump             "major" for another schema, "minor" for another architecture, "patch" for a retraining
    data_first_time, data_last_time  of all its rows, in microseconds; None for a log without time
    why              the verdict's reasons in words
    records          path -> content of what is committed beside it
    """

    bundle: Path
    judged_against: str | None
    bump: Bump
    data_first_time: int | None
    data_last_time: int | None
    why: tuple[str, ...]
    records: Mapping[str, bytes]


@dataclass(frozen=True)
class Record(Strict):
    """What a version's commit says of its bundle, in champion.json."""

    format: int
    log: str
    digest: str
    judged_against: str | None
    data_first_time: int | None
    data_last_time: int | None
    why: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """A registered bundle: the artifact's name, its semantic version, the commit, and the bundle's digest."""

    name: str
    version: str
    commit: str
    digest: str


@dataclass(frozen=True)
class Event:
    """One tag: a version was registered, or assigned to a stage; `when` in ISO 8601, UTC."""

    tag: str
    kind: Literal["register", "assign"]
    version: str
    stage: str | None
    commit: str
    when: str
    seconds: int
    by: str
    why: str


@dataclass(frozen=True)
class Hold(Strict):
    """No promotion to prod until somebody says `release`."""

    reason: str
    since: str


@dataclass(frozen=True)
class StoredObject:
    """One object of the store: its key below the log's prefix, and its size."""

    key: str
    num_bytes: int
