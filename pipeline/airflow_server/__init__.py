"""Airflow's four processes on loopback, for development and tests: set up, started, watched, and stopped without leavings.

settings.py   where a server runs, and what its processes are told
processes.py  the four processes while they live
calling.py    the REST API
database.py   a PostgreSQL cluster of its own
serving.py    all of it until Ctrl-C: `python -m pipeline airflow`

Needs only the standard library; Airflow itself runs in the child processes.
"""

from pipeline.airflow_server.calling import Refused
from pipeline.airflow_server.database import postgres, postgres_tools
from pipeline.airflow_server.processes import Running, running
from pipeline.airflow_server.serving import serve_airflow
from pipeline.airflow_server.settings import AirflowServer, free_port

__all__ = [
    "AirflowServer",
    "Refused",
    "Running",
    "free_port",
    "postgres",
    "postgres_tools",
    "running",
    "serve_airflow",
]
