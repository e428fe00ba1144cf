"""The served log: what was scored for the world, written so that no crash loses a row that was answered, and read back.

    <folder>/2026-03-02/14-<writer>.jsonl        rows of one hour (UTC) from one process of the service, appended
    <folder>/2026-03-02/batch-<id>-00000.parquet rows of one day from one scored log, written whole or not at all

A row lies under its own time, so a window is found by name. Each writer has files of its own: a line torn by a crash can
only be a file's last, and is counted when it is read. Scoring the same log with the same bundle again replaces its files.

columns  what a row of it holds
writing  the service's writer and that of a scored log
reading  the rows of a window
joining  clicks joined to rows, and the artifact served_log that watching starts from
"""
