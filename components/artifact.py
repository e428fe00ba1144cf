"""How the data between two stages is kept: one folder an artifact, the same bytes from the same content.

Stands right after `errors` in the data's way. JSON for facts, Parquet for tables, `.npy` for memory-mapped arrays,
safetensors for weights; never pickle. No file holds a clock time, a run's id or a machine's name.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from components.errors import IntegrityError

if TYPE_CHECKING:  # imported where a table or array is met: the acts around a run meet none, and start in half the time
    import numpy as np
    import polars as pl


class Artifact(Protocol):
    """What a stage yields: it can be written to an empty folder and read back equal."""

    def save(self, folder: Path) -> None:
        """Write the whole content into `folder`, which exists and is empty."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote; large tables and arrays lazily. Raises IntegrityError for damaged content."""
        ...


def write_json(path: Path, content: Any) -> None:
    """Write `content` (dataclasses allowed) as JSON with sorted keys; a number that is not finite is refused."""
    text = json.dumps(_plain(content), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON; raises IntegrityError naming the file when it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: the file is missing; run the stage that makes it again") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{path}: not readable as JSON ({error}); run the stage that makes it again") from error


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table as Parquet (zstd), the same bytes for the same rows."""
    table.write_parquet(path, compression="zstd", statistics=True)


def read_table(path: Path) -> pl.DataFrame:
    """Read a whole Parquet table; raises IntegrityError naming the file when it is absent or damaged."""
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (FileNotFoundError, pl.exceptions.PolarsError, OSError) as error:
        raise IntegrityError(f"{path}: not readable as Parquet ({error}); run the stage that makes it again") from error


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write one array as `.npy`, never with pickled objects."""
    import numpy as np

    np.save(path, array, allow_pickle=False)


def map_array(path: Path) -> np.ndarray[Any, Any]:
    """Memory-map a `.npy` file read-only; raises IntegrityError naming the file when it is absent or damaged."""
    import numpy as np

    try:
        mapped: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, OSError, EOFError) as error:
        raise IntegrityError(
            f"{path}: not readable as an array ({error}); run the stage that makes it again"
        ) from error
    return mapped


def _plain(content: Any) -> Any:
    """Turn dataclasses, paths, dates, tuples and numpy scalars into what JSON knows."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        return {field.name: _plain(getattr(content, field.name)) for field in dataclasses.fields(content)}
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    numpy = sys.modules.get("numpy")  # its scalars are met only where somebody has imported it
    if numpy is not None and isinstance(content, numpy.generic):
        return _plain(content.item())
    if isinstance(content, Path):
        return str(content)
    if isinstance(content, date):  # datetimes are dates
        return content.isoformat()
    if isinstance(content, float) and not math.isfinite(content):
        raise ValueError(f"JSON has no word for {content}: use None where a figure is undefined")
    return content


def flush(path: Path) -> None:
    """Have a file's bytes, or a folder's list of files, on disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_files(source: Path, target: Path, but: frozenset[str] | set[str] = frozenset()) -> None:
    """Hard-link (or, across file systems, copy) every file below `source` into `target`; not the top-level `but`."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        place = path.relative_to(source)
        if place.parts[0] in but:
            continue
        if path.is_dir():
            (target / place).mkdir(parents=True, exist_ok=True)
            continue
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target / place)
        except OSError:
            shutil.copyfile(path, target / place)
