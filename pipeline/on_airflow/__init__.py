"""Airflow: the line of `dvc.yaml` as DAGs; needs yaml and Airflow, never a component (a test holds that).

tasks.py    one command as a task, and what an exit code means
waiting.py  data that has not arrived: deferred to the triggerer
telling.py  failures reach people once
graph.py    the tasks of a DAG
"""

from pipeline.on_airflow.graph import (
    BUNDLE,
    DRIFT,
    train_and_promote,
    training_form,
    usual,
    watch_and_warn,
    watching_form,
)

__all__ = ["BUNDLE", "DRIFT", "train_and_promote", "training_form", "usual", "watch_and_warn", "watching_form"]
