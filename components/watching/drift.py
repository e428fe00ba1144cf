"""What watching yields: every measured number, the findings among them, and beside them Evidently's report for people.

drift.json is the same bytes for the same rows; the report is a picture of a sample and decides nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from components.artifact import link_files, read_json, write_json
from components.errors import IntegrityError
from components.strict import Strict, parse
from components.watching.distances import discoveries
from components.watching.reference import Interval

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
    p_value       the chance of such a difference if nothing had changed; null where no chance is involved
    level         the chance that the pager's budget leaves to this check: p_value up to it can be a finding
    q_value       false-discovery rate over all checks of the window at which this one is let in; orders what is shown
    distance      Jensen-Shannon distance (0 to 1) beside a PSI, else null
    num_rows      rows it was measured on
    """

    check: str
    slice: str
    measured: float
    expected: float | None
    limit: float
    effect: float
    num_rows: int
    p_value: float | None = None
    level: float | None = None
    q_value: float | None = None
    distance: float | None = None

    @property
    def is_finding(self) -> bool:
        """Large enough to matter, and not by chance."""
        return self.effect >= 1 and (self.p_value is None or self.level is None or self.p_value <= self.level)


def with_discoveries(measures: tuple[Measure, ...]) -> tuple[Measure, ...]:
    """The same measures, each that has a p-value with its q-value among them all."""
    tested = [measure.p_value for measure in measures if measure.p_value is not None]
    if not tested:
        return measures
    q_values = iter(discoveries(np.array(tested)).tolist())
    return tuple(
        measure if measure.p_value is None else dataclasses.replace(measure, q_value=next(q_values))
        for measure in measures
    )


@dataclass(frozen=True)
class Quality(Strict):
    """How good and how honest scores were on rows whose click is final, beside the champion's test evaluation.

    slice                   "all", or field=value
    calibration_ratio       mean score / click rate
    calibration_error       ECE over the reference's bins of scores, and _null: its quantile under perfect calibration (a
                            bootstrap interval of ECE would be biased upwards)
    the figures             with approximate intervals; null where a class is absent
    the reference_* ones    of the same slice in the champion's test evaluation; null where it has none
    """

    slice: str
    num_rows: int
    num_clicks: int
    auc: Interval | None
    log_loss: Interval | None
    normalised_entropy: Interval | None
    calibration_ratio: Interval | None
    calibration_error: float | None
    calibration_error_null: float | None
    reference_auc: float | None
    reference_log_loss: float | None
    reference_normalised_entropy: float | None
    reference_calibration_ratio: float | None
    reference_calibration_error: float | None


@dataclass(frozen=True)
class Quantiles(Strict):
    """Where a numeric field's values lie: at each share of the reference's rows, its value there and that of served rows.

    num_rows  sampled served rows with a value
    """

    field: str
    shares: tuple[float, ...]
    reference: tuple[float, ...]
    served: tuple[float, ...]
    num_rows: int


@dataclass(frozen=True)
class Finding(Strict):
    """Something that a person should know.

    kind     "contract": rows or scores are not what was promised; "data": other rows come; "concept": clicks given the
             score are others
    what     the figures in words
    since    start of the first part of the window that shows it (ISO 8601 UTC); null for a log without time
    rows     which rows it was found on, in words
    """

    check: str
    slice: str
    severity: Literal["page", "ticket", "info"]
    kind: Literal["contract", "data", "concept"]
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
    num_settled            rows whose click is final
    figures                mean score, click rate, AUC and log loss of served rows and, as reference_*, of the champion's
                           test rows, as expected_* of its test rows at the same hours; as estimated_*, what calibrated scores promise of the rows whose click is not final
                           yet; null where undefined
    quality                of rows whose click is final: all of them first, then slice by slice
    notes                  what could not be measured, and why
    notable                measures that the false-discovery rate lets in although they are no finding, in order
    findings               the most urgent first, then the surest, then the largest
    quantiles              of numeric fields, in the profile's order
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
    quality: tuple[Quality, ...]
    notes: tuple[str, ...]
    notable: tuple[str, ...]
    findings: tuple[Finding, ...]
    measures: tuple[Measure, ...]
    quantiles: tuple[Quantiles, ...] = ()


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
