"""What watching yields: every measured number, the findings among them, and beside them Evidently's report for people.

drift.json is the same bytes for the same rows; the report is a picture of a sample and decides nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from components.artifact import link_files, read_json, write_json
from components.errors import IntegrityError
from components.strict import Strict, parse

Status = Literal["nothing_to_compare", "quiet", "drift", "contract"]


@dataclass(frozen=True)
class Measure(Strict):
    """One check of one slice.

    check         a key of CHECKS
    slice         a field's name, or "all"
    measured      PSI, a share, clicks per expected click, AUC, rows or a distance of scores, by the check
    expected      the same of the reference; null where it is 0 by promise
    limit         what `measured` has to pass to be a finding (either side of `expected` for a share or ratio)
    effect        size of the difference in units of the smallest one that matters: 1 or more can be a finding
    significance  its distance from chance in units of what the pager's budget asks: 1 or more can be a finding; null
                  where no chance is involved
    distance      Jensen-Shannon distance (0 to 1) beside a PSI, else null
    num_rows      rows it was measured on
    """

    check: str
    slice: str
    measured: float
    expected: float | None
    limit: float
    effect: float
    significance: float | None
    distance: float | None
    num_rows: int

    @property
    def is_finding(self) -> bool:
        """Large enough to matter, and not by chance."""
        return self.effect >= 1 and (self.significance is None or self.significance >= 1)


@dataclass(frozen=True)
class Finding(Strict):
    """Something that a person should know.

    what     the figures in words
    since    start of the first part of the window that shows it (ISO 8601 UTC); null for a log without time
    rows     which rows it was found on, in words
    """

    check: str
    slice: str
    severity: Literal["page", "ticket", "info"]
    measured: float
    limit: float
    num_rows: int
    what: str
    since: str | None
    rows: str
    meaning: str
    action: str


@dataclass(frozen=True)
class DriftFacts(Strict):
    """The content of drift.json.

    status                 "nothing_to_compare" (see reason), "quiet", "drift", or "contract": a promise is broken
    champion, bundle       the champion's version and digest; null without a champion
    first_time, last_time  of the served rows, ISO 8601 UTC; null for a log without time
    num_settled            rows whose click is known
    figures                mean score, click rate, AUC and log loss of served rows and, as reference_*, of the profile; null
                           where undefined
    notes                  what could not be measured, and why
    findings               the most urgent first, then the largest
    """

    status: Status
    reason: str
    champion: str | None
    bundle: str | None
    first_time: str | None
    last_time: str | None
    num_rows: int
    num_settled: int
    figures: dict[str, float | None]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class Drift:
    """The facts, and the folder that holds Evidently's report.html and report.json; null where nothing was compared."""

    facts: DriftFacts
    folder: Path | None = dataclasses.field(compare=False)

    @property
    def status(self) -> Status:
        """See DriftFacts."""
        return self.facts.status

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See DriftFacts."""
        return self.facts.findings

    def save(self, folder: Path) -> None:
        """Write drift.json and link (or copy) the report beside it."""
        write_json(folder / "drift.json", self.facts)
        if self.folder is not None:
            link_files(self.folder, folder, but={"drift.json"})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the facts; the report stays on disk. Raises IntegrityError for damaged content."""
        place = folder / "drift.json"
        facts = parse(DriftFacts, read_json(place), str(place), IntegrityError)
        return cls(facts, folder)
