"""How fast, and in how much memory, a Criteo-format file goes through check, split and encode: `bench encode`.

The file is the research sample's rows again and again: frequent values stay, rare ones become fresh ones with a long
tail, and counts are scattered, so that vocabularies grow with the file. The stages run in a process of their own, whose
peak of resident memory is the figure; pages of files that it mapped count as its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from components import sources
from components.checking import CheckParams, check_log
from components.encoding import EncodeParams, encode_log
from components.errors import ConfigError, OutsideError
from components.log import LogRequest, RawLog
from components.sources import SourceFile
from components.sources.criteo import COLUMNS
from components.splitting import SPLIT_NAMES, SplitParams, split_log
from components.workbench import Workbench
from pipeline.outside import read_environment
from pipeline.params import Settings, read_settings

_SAMPLE = "criteo-sample/criteo.txt.gz"
_COPIES_AT_ONCE = 25  # 200,000 rows: a few hundred MB
_RARE_COUNT = 2  # a value so rare in the sample stands for a tail
_NUM_COUNTS = 13
_SEED = 1


def run_bench_encode(rows: int) -> dict[str, Any]:
    """Make the file, run the three stages in a fresh process, and return the figures; raises ConfigError without the sample."""
    root = Path(__file__).parents[1]
    sample = read_environment(root).data / _SAMPLE
    if not sample.is_file():
        raise ConfigError(f"bench encode needs {sample}; CTR_DATA may name the folder of research data")
    with tempfile.TemporaryDirectory(prefix="bench-encode-") as folder:
        file = Path(folder) / "criteo.txt"
        _say(f"writing {rows:,} rows")
        make_criteo_file(sample, rows, file)
        _say(f"{file.stat().st_size / 1e9:.2f} GB written; check, split and encode in a process of their own")
        command = [sys.executable, "-m", "pipeline.bench_encode", str(root), folder]
        ended = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=False)
        if ended.returncode:
            raise OutsideError(f"the measured process ended with {ended.returncode}; what it said stands above")
        figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return figures


def make_criteo_file(sample: Path, num_rows: int, target: Path) -> None:
    """Write `num_rows` rows in Criteo's format, the same for the same sample and number."""
    names = list(COLUMNS)
    rows = pl.read_csv(sample, separator="\t", has_header=False, new_columns=names, infer_schema=False, quote_char=None)
    counts, categories = names[1 : 1 + _NUM_COUNTS], names[1 + _NUM_COUNTS :]
    is_rare = {
        name: rows.select((pl.len().over(name) <= _RARE_COUNT) & pl.col(name).is_not_null()).to_series()
        for name in categories
    }
    rng = np.random.default_rng(_SEED)
    num_variants = -(-num_rows // rows.height)
    with target.open("wb") as file:
        written = 0
        while written < num_rows:
            num_copies = min(_COPIES_AT_ONCE, -(-(num_rows - written) // rows.height))
            many = pl.concat([rows] * num_copies)
            fresh = [_scattered(many[name].cast(pl.Float64), rng) for name in counts]
            for name in categories:
                rare = pl.concat([is_rare[name]] * num_copies)
                fresh.append(_with_fresh_tail(many[name], rare, num_variants, rng))
            block = pl.DataFrame([many[names[0]], *fresh]).head(num_rows - written)
            block.write_csv(file, separator="\t", include_header=False)
            written += block.height


def _scattered(values: pl.Series, rng: np.random.Generator) -> pl.Series:
    """Counts above 2 change by up to a quarter; small ones, zero and missing ones mean something and stay."""
    numbers = values.to_numpy()
    moved = np.where(numbers > 2, np.floor(numbers * rng.uniform(0.8, 1.25, len(numbers))), numbers)
    return pl.Series(values.name, moved, nan_to_null=True).cast(pl.Int64)


def _with_fresh_tail(values: pl.Series, is_rare: pl.Series, num_variants: int, rng: np.random.Generator) -> pl.Series:
    """A rare value becomes one of its many variants, the first of them more often than the last: (share of variants)^(1/3)."""
    known = values.str.to_integer(base=16, strict=False).fill_null(0).cast(pl.UInt64).to_numpy()
    variant = np.floor(num_variants * rng.random(len(values)) ** 3).astype(np.uint64)
    mixed = known * np.uint64(0x9E3779B97F4A7C15) + (variant + np.uint64(1)) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    digits = (mixed >> np.uint64(32)).astype(">u4").tobytes().hex().encode()
    offsets = np.arange(0, 8 * len(values) + 1, 8, dtype=np.int32)
    words = pa.Array.from_buffers(
        pa.string(), len(values), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(digits)]
    )
    tail = pl.Series(pl.from_arrow(words))
    return pl.select(pl.when(is_rare).then(tail).otherwise(values).alias(values.name)).to_series()


def measure(root: Path, folder: Path) -> dict[str, Any]:
    """Run the stages on folder/criteo.txt with the repository's own params; in this process, so that its peak is theirs."""
    settings = _criteo_settings(root)
    asked = settings.request()
    source = replace(asked.source, paths=("criteo.txt",))
    request = LogRequest(asked.log, source, asked.schema, asked.window)
    raw_log = _as_fetched(request, folder)
    num_rows = sum(partition.num_rows for partition in raw_log.partitions)
    seconds: dict[str, float] = {}

    def bench_of(name: str) -> Workbench:
        place = folder / name
        place.mkdir()
        return Workbench(place, place, _Progress(name), "cpu", "never", None, lambda: None, 1)

    started = time.perf_counter()
    clean_log = check_log(raw_log, request, settings.section("check", CheckParams), bench_of("check"))
    seconds["check"] = time.perf_counter() - started
    started = time.perf_counter()
    splits = split_log(clean_log, settings.section("split", SplitParams))
    seconds["split"] = time.perf_counter() - started
    started = time.perf_counter()
    encoded = encode_log(clean_log, splits, settings.section("encode", EncodeParams), bench_of("encode"))
    seconds["encode"] = time.perf_counter() - started
    total = sum(seconds.values())
    return {
        "benchmark": "encode",
        "rows": num_rows,
        "file_bytes": (folder / "criteo.txt").stat().st_size,
        "seconds": round(total, 2),
        "rows_per_second": round(num_rows / total),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "cpu_seconds": round(time.process_time(), 2),
        "cores": len(os.sched_getaffinity(0)),
        "encoded_rows": sum(encoded.num_rows[name] for name in SPLIT_NAMES),
        "ids": sum(encoded.field_sizes),
        **{f"{name}_seconds": round(spent, 2) for name, spent in seconds.items()},
    }


def _criteo_settings(root: Path) -> Settings:
    """The repository's params, for the Criteo preset whatever log they name."""
    import yaml

    settings = read_settings(root)
    preset = yaml.safe_load((root / "logs" / "criteo.yaml").read_text(encoding="utf-8"))
    return replace(settings, log="criteo", preset=preset, window={"start": None, "end": None, "as_of": None})


def _as_fetched(request: LogRequest, folder: Path) -> RawLog:
    """The file as fetch leaves it; linked, not copied."""
    file = SourceFile("criteo.txt", folder / "criteo.txt")
    partitions = sources.partitions(request, (file,))
    (folder / "files").mkdir()
    (folder / "files" / partitions[0].sha256).hardlink_to(file.path)
    return RawLog(request, partitions, (), folder)


class _Progress:
    """Says a line each fifth of the way."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._told = -1.0

    def __call__(self, done: float, total: float, note: str) -> None:
        if done / total >= self._told + 0.2:
            self._told = done / total
            _say(f"{self._stage}: {note}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))
