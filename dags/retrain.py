"""Daily, and when `monitor` announces drift: learn the champion's architecture's weights anew on the last weeks' log.

An event only wakes this DAG; which window is due, the ledger says, so lost and doubled events change nothing. A backfill
never promotes. See docs/airflow.md.
"""

from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, dag

from pipeline.on_airflow import DRIFT, train_and_promote, training_form, usual

WINDOW_DAYS = 28  # four whole weeks: every weekday counts alike


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronDataIntervalTimetable("0 0 * * *", "UTC"), assets=[DRIFT]),
    params=training_form(strategy="fixed", window_days=WINDOW_DAYS),
    doc_md=__doc__,
    **usual(("daily",)),
)
def retrain() -> None:
    """The line up to the bundle, then its promotion."""
    train_and_promote()


retrain()
