"""What a run did, for people: one self-contained HTML page, and a few lines for the terminal.

Made from the artifacts alone, after the line; nothing reads it back.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.report.page import page_of
from pipeline.report.reading import read_run
from pipeline.report.words import summary_of

__all__ = ["render_report", "summary_lines"]

_DRAWING = Path("bundle", "drawing.svg")


def render_report(artifacts: Path, drift_artifacts: Path | None, params_text: str, output: Path) -> None:
    """Write the page about the artifacts below `artifacts`, whole or not at all; absent ones are said to be absent.

    drift_artifacts  where `drift` lies if another workspace watched; None for the same
    params_text      the params files as people wrote them
    """
    page = page_of(read_run(artifacts, drift_artifacts), params_text)
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.new")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(output)


def summary_lines(artifacts: Path, drift_artifacts: Path | None, report: Path) -> list[str]:
    """Rows, click rate, architecture, figures of challenger and champion, verdict with reasons, and where to look."""
    lines = summary_of(read_run(artifacts, drift_artifacts))
    if report.is_file():
        lines.append(f"report        {report}")
    if (artifacts / _DRAWING).is_file():
        lines.append(f"drawing       {artifacts / _DRAWING}")
    return lines
