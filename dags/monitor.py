"""Hourly: hold what was served against what the champion knew; warn people and announce drift where it differs.

Two looks a run: at the hour that has ended, and at the one a label delay back, whose clicks are final by now.
See docs/airflow.md, and docs/runbooks for what a warning means.
"""

from airflow.sdk import CronDataIntervalTimetable, dag

from pipeline.on_airflow import usual, watch_and_warn, watching_form


@dag(
    schedule=CronDataIntervalTimetable("0 * * * *", "UTC"),
    params=watching_form(window_hours=1),
    doc_md=__doc__,
    **usual(("hourly",)),
)
def monitor() -> None:
    """Watch what the rows of both hours say, and warn."""
    watch_and_warn()


monitor()
