"""What an act around champions has to say, and where a version's commit keeps the project that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PROJECT = "project"


@dataclass(frozen=True)
class Said:
    """What an act has to say: as JSON, in words, and as an exit code."""

    facts: Any
    words: str
    exit_code: int
