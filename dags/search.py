"""Weekly: find the network for the last weeks' log, train it, and let it replace the champion if the gate agrees.

Needs the accelerator for hours, so both long steps stand in the pool `ctr_gpu`. A manual run takes its window from the
form; a backfill (`airflow backfill create --dag-id search ...`) never promotes. See docs/airflow.md.
"""

from airflow.sdk import CronDataIntervalTimetable, dag

from pipeline.on_airflow import train_and_promote, training_form, usual

WINDOW_DAYS = 28  # four whole weeks: every weekday counts alike


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * 1", "UTC"),
    params=training_form(strategy="halving", window_days=WINDOW_DAYS),
    doc_md=__doc__,
    **usual(("weekly",)),
)
def search() -> None:
    """The line up to the bundle, then its promotion."""
    train_and_promote()


search()
