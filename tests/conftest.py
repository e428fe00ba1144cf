"""What all tests share: one thread for torch, a workbench on a temporary folder, small seeded data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import dvc  # noqa: F401 - its log handlers keep the stderr of their import: not that of a test, which is closed after it

from components.workbench import Workbench


def _no_progress(done: float, total: float, note: str) -> None:
    """Tell nobody."""


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    """A workplace on the CPU that nobody asks to stop."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Workbench(
        scratch=scratch,
        checkpoints=tmp_path / "checkpoints",
        progress=_no_progress,
        device="cpu",
        resume="auto",
        limit_batches=None,
        stop_signal=lambda: None,
        cores=1,
    )


@pytest.fixture(scope="session")
def research_data() -> Path:
    """The folder of real logs; skips where it is absent."""
    folder = Path(os.environ.get("CTR_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no research data in {folder}: set CTR_DATA to the folder that holds frappe/, criteo-sample/, ...")
    return folder
