"""When the line runs: Airflow DAGs, each a schedule and the order of acts."""
