"""What is missing on this machine, in words, each with what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = (
    "torch",
    "great_expectations",
    "dvc",
    "evidently",
    "boto3",
    "gto",
    "onnxruntime",
    "polars",
    "apache-airflow",
)
_LEAST_FREE_GIGABYTES = 5.0
_GIGABYTE = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is as it must be, whether the line needs it, and in words."""

    is_well: bool
    is_needed: bool
    words: str


def examine(root: Path) -> int:
    """Print what was found; 0 if all that the line needs is there, else 2."""
    findings = list(_findings(root))
    for finding in findings:
        mark = "ok     " if finding.is_well else ("MISSING" if finding.is_needed else "absent ")
        print(f"{mark}  {finding.words}")
    return 2 if any(finding.is_needed and not finding.is_well for finding in findings) else 0


def _findings(root: Path) -> Iterator[Finding]:
    version = sys.version.split()[0]
    yield Finding(sys.version_info[:2] == (3, 11), True, f"Python {version} (3.11 is what the lock file is made for)")
    for package in _PACKAGES:
        yield _package(package)
    yield _program("git", True, "the registry of champions is a git repository")
    yield _program(
        "cc",
        False,
        "compiles search.kernels and train.kernels where they are 'compiled', and the faults of `make faults`",
    )
    yield _program("chromium", False, "only to look at reports without a screen")
    free = shutil.disk_usage(root).free / _GIGABYTE
    yield Finding(
        free >= _LEAST_FREE_GIGABYTES, True, f"{free:.0f} GB free here (at least {_LEAST_FREE_GIGABYTES:.0f})"
    )
    for name in ("params.yaml", "window.yaml", "dvc.yaml", ".dvc/config"):
        yield Finding((root / name).is_file(), True, f"{root / name}: restore with `git checkout -- {name}` if missing")
    yield _gpu()
    yield _research_data(root)
    threads = os.cpu_count() or 1
    yield Finding(True, False, f"{threads} processors")


def _package(name: str) -> Finding:
    try:
        return Finding(True, True, f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(False, True, f"{name} is not installed: `make setup`")


def _program(name: str, is_needed: bool, why: str) -> Finding:
    place = shutil.which(name)
    return Finding(place is not None, is_needed, f"{name}{'' if place else ' is not on the PATH'} ({why})")


def _gpu() -> Finding:
    there = Path("/proc/driver/nvidia").exists()
    return Finding(there, False, "NVIDIA GPU" if there else "no NVIDIA GPU: search and training run on the processor")


def _research_data(root: Path) -> Finding:
    folder = Path(os.environ.get("CTR_DATA", root / ".." / "shared" / "data"))
    words = f"research data in {folder} (only for `log: frappe` and its like; another place: CTR_DATA)"
    return Finding(folder.is_dir(), False, words)
