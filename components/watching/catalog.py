"""Everything that can be found, in one table: how urgent it is, what it means and what to do about it.

Each entry's alert name is the name of its page in docs/runbooks/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["page", "ticket", "info"]
Kind = Literal["contract", "data", "concept"]


@dataclass(frozen=True)
class Check:
    """One kind of finding.

    kind        "contract": rows or scores are not what was promised, so a next ranker would learn the fault; "data": other
                rows come than before; "concept": the same rows are clicked otherwise
    stands_for  checks of the same slice that are not reported beside this one, which says the same more exactly
    """

    alertname: str
    severity: Severity
    kind: Kind
    meaning: str
    action: str
    stands_for: tuple[str, ...]


CHECKS: dict[str, Check] = {
    "columns": Check(
        "CtrColumnsMissing",
        "page",
        "contract",
        "The served log lacks a column that the champion reads, or holds it in another type: the served schema is another one.",
        "Compare the client's rows and the served log with the bundle's schema.json; do not retrain before it is mended.",
        (),
    ),
    "field_empty": Check(
        "CtrFieldEmpty",
        "page",
        "contract",
        "No row has a value where the reference has one: whoever fills this field has stopped, and every score is made without it.",
        "Ask the field's producer; if scores suffer, roll back what was deployed last; do not retrain before it is mended.",
        ("field_promise", "field_missing", "field_unseen", "field_drift", "field_vanished"),
    ),
    "field_promise": Check(
        "CtrFieldPromiseBroken",
        "page",
        "contract",
        "More rows lack a value than the schema promises at most.",
        "Ask the field's producer; if the new share is right, change max_missing_share in the log's preset.",
        ("field_missing",),
    ),
    "field_range": Check(
        "CtrFieldOutOfRange",
        "page",
        "contract",
        "Numbers lie outside the range that the schema promises: often an overflow, or a placeholder such as -1 or 9999.",
        "Compare the moved buckets with the reference; have the producer mend the unit; do not retrain before that.",
        ("field_drift",),
    ),
    "field_unit": Check(
        "CtrFieldUnit",
        "page",
        "contract",
        "All quantiles of a number have moved by one and the same factor: it comes in another unit than the champion knows.",
        "Ask the field's producer what changed, seconds or milliseconds, cents or euros; do not retrain before it is mended.",
        ("field_range", "field_drift"),
    ),
    "field_missing": Check(
        "CtrFieldMissing",
        "ticket",
        "data",
        "The share of rows without a value differs from the reference by more than chance and the agreed minimum.",
        "Find out since when, and what was deployed then; if it is here to stay, retrain.",
        (),
    ),
    "field_unseen": Check(
        "CtrFieldUnseen",
        "ticket",
        "data",
        "Many more rows than usual have a value that is unknown to the champion: new items, or a vocabulary that was replaced.",
        "Look at the new values; new items call for a retraining, a changed spelling for mending the producer.",
        (),
    ),
    "field_drift": Check(
        "CtrFieldDrift",
        "ticket",
        "data",
        "The field's values are distributed otherwise than in the reference at the same hours.",
        "Look at the moved values; a campaign or season calls for a retraining, a fault for mending the producer.",
        ("field_vanished",),
    ),
    "field_vanished": Check(
        "CtrFieldVanished",
        "ticket",
        "data",
        "Values that the reference has often do not come any more: items that ended, or a client that no longer sends.",
        "Look at what the vanished values have in common; ended campaigns call for a retraining, a silent client for mending.",
        (),
    ),
    "score_invalid": Check(
        "CtrScoreInvalid",
        "page",
        "contract",
        "Scores were served that are no probabilities: missing, not a number, or outside [0, 1].",
        "Roll back to the last champion; keep the rows, they reproduce the fault.",
        (),
    ),
    "score_skew": Check(
        "CtrScoreSkew",
        "page",
        "contract",
        "The champion gives served rows another score than the one that was served: serving and bundle do not agree.",
        "Restart the service from the registered bundle; compare library versions; do not retrain before they agree.",
        (),
    ),
    "score_drift": Check(
        "CtrScoreDrift",
        "ticket",
        "data",
        "Scores are distributed otherwise than in the reference at the same hours.",
        "Look first at findings on fields, which cause it; without any, look at the traffic's mix and retrain.",
        ("score_mean", "score_click_rate", "score_lowest", "score_highest"),
    ),
    "score_mean": Check(
        "CtrScoreMean",
        "ticket",
        "data",
        "The mean score is another than the reference's at the same hours: so many more or fewer clicks are promised.",
        "Look first at findings on fields, which cause it; when clicks are final, see whether they followed the scores.",
        ("score_click_rate", "score_lowest", "score_highest"),
    ),
    "score_click_rate": Check(
        "CtrScoreClickRate",
        "ticket",
        "data",
        "The mean score is not the click rate that the reference has at these hours, though scores have hardly moved from its own.",
        "The champion was off at these hours before: see in its evaluation by hour; when clicks are final, recalibrate or retrain.",
        (),
    ),
    "score_lowest": Check(
        "CtrScoreLowest",
        "ticket",
        "data",
        "Another share of the rows than in the reference has a score among its lowest ones.",
        "Look at the rows with such scores, and at findings on fields; all alike means that an input is lost.",
        (),
    ),
    "score_highest": Check(
        "CtrScoreHighest",
        "ticket",
        "data",
        "Another share of the rows than in the reference has a score among its highest ones.",
        "Look at the rows with such scores, and at findings on fields: bids are highest there, and errors dearest.",
        (),
    ),
    "stale_bundle": Check(
        "CtrStaleBundle",
        "ticket",
        "contract",
        "Rows were scored by a bundle that was not champion at their time: a rollout has not finished, or was forgotten.",
        "Compare the digest that /metrics shows on each replica with the champion's; restart those that lag behind.",
        (),
    ),
    "duplicates": Check(
        "CtrServedDuplicates",
        "ticket",
        "contract",
        "The same impression stands in the served log more than once: partitions were delivered twice, or clients repeat requests.",
        "Look for a part that was copied twice; do not retrain on the window before it is mended.",
        (),
    ),
    "unreadable": Check(
        "CtrServedUnreadable",
        "ticket",
        "contract",
        "Lines of the served log are torn, so rows were served that nobody can watch, bill or learn from.",
        "Look at why processes that serve are killed so often, and at their disk; what is torn cannot be mended.",
        (),
    ),
    "outside": Check(
        "CtrRowsOutsideWindow",
        "ticket",
        "contract",
        "Rows carry a time outside the window they were fetched for: a partition under a wrong day, or a clock or zone that moved.",
        "Compare the times of the newest partition with its name; do not retrain on these days before it is mended.",
        (),
    ),
    "rows": Check(
        "CtrRowCount",
        "ticket",
        "contract",
        "No rows, or many more or fewer than in the same hours of past weeks: a part is missing, doubled, or traffic moved.",
        "Look at the service's own count on /metrics: if it agrees, traffic changed; if not, the served log lost or doubled rows.",
        (),
    ),
    "rows_late": Check(
        "CtrRowsLate",
        "ticket",
        "contract",
        "Rows came into the served log after their window had been looked at: the first look was at a part of them only.",
        "Look at what carries the served log here, and at its clock; what was said of the window at first is said again of all rows.",
        (),
    ),
    "clicks_missing": Check(
        "CtrClicksMissing",
        "ticket",
        "contract",
        "Of rows old enough for their click to be final nobody said whether they were clicked: quality goes unwatched.",
        "Look at the job that joins clicks to the served log; do not retrain before clicks arrive again.",
        (),
    ),
    "concept": Check(
        "CtrConceptDrift",
        "ticket",
        "concept",
        "Rows of the same score are clicked otherwise than in the reference, some scores more and others less: people changed.",
        "If the fields are quiet this is no fault of the data: retrain, and look at the scores named above.",
        (),
    ),
    "calibration": Check(
        "CtrCalibration",
        "ticket",
        "concept",
        "Clicks per expected click differ from the reference: bids and forecasts made from the scores are off by that factor.",
        "Check that clicks were joined whole; if they were, roll back if the champion is new, else recalibrate or retrain.",
        (),
    ),
    "auc": Check(
        "CtrAucDrop",
        "ticket",
        "concept",
        "The champion ranks clicks worse than when it was evaluated.",
        "Check that clicks were joined by the right key; look at findings on fields; roll back if the champion is new, else retrain.",
        (),
    ),
}
