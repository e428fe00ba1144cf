"""Options that many commands have; the words of `--help` stand here once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HERE = Path()
WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", help="The folder that holds params.yaml, logs/, window.yaml and artifacts/.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of words.")]
