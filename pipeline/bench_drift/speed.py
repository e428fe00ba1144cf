"""Ten million rows of forty fields through `watch` as the stage runs it: seconds, and the process's peak memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from components.champion import Champion
from components.errors import OutsideError
from components.log import LogRequest, ServedLog, SourceParams, Window, moment_of
from components.strict import parse
from components.watching import WatchParams, watch_served
from components.workbench import Progress, Workbench
from pipeline.bench_drift.world import DIGEST, HOUR, START, make_world

_PART_ROWS = 500_000
_DAY_HOURS = 24


def time_watch(num_rows: int, params: WatchParams, progress: Progress) -> tuple[float, float, int, int]:
    """Write the rows, then watch them in a process of its own; gives seconds from first read to saved drift, by the clock
    and of processors (on a busy machine the second says more), its peak memory and the size of the report for people, in bytes.
    """
    with tempfile.TemporaryDirectory(prefix="ctr-bench-drift-") as name:
        folder = Path(name)
        _write_served(folder, num_rows, progress)
        (folder / "params.json").write_text(json.dumps(asdict(params)), "utf-8")
        script = "import sys; from pipeline.bench_drift.speed import watch_written; watch_written(sys.argv[1])"
        command = [sys.executable, "-c", script, str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise OutsideError(f"the watch of {num_rows:,} rows ended with {done.returncode}: see above")
        seconds, processor_seconds, peak_bytes, report_bytes = json.loads(done.stdout.splitlines()[-1])
        return float(seconds), float(processor_seconds), int(peak_bytes), int(report_bytes)


def _write_served(folder: Path, num_rows: int, progress: Progress) -> None:
    """Half a million rows, drawn once, come again and again in another order, with times and impressions of their own."""
    generator = np.random.default_rng(0)
    world = make_world(40, 1)
    rows = world.rows(generator, min(_PART_ROWS, num_rows), START, HOUR, {})
    scores = world.scorer.score(rows)
    clicks = (generator.random(len(rows)) < scores).astype(np.int8)
    rows = rows.with_columns(pl.Series("score", scores), pl.lit(DIGEST).alias("bundle"), pl.Series("_click", clicks))
    (folder / "served").mkdir()
    writer: pq.ParquetWriter | None = None
    for start in range(0, num_rows, _PART_ROWS):
        part = rows.head(min(_PART_ROWS, num_rows - start)).sample(fraction=1.0, shuffle=True, seed=start)
        moments = START + np.sort(generator.integers(0, _DAY_HOURS * HOUR // (num_rows // len(part)), len(part)))
        impressions = (f"{start:x}-" + pl.Series(np.arange(len(part))).cast(pl.String)).alias("_impression")
        shift = start // _PART_ROWS * (_DAY_HOURS * HOUR // max(num_rows // _PART_ROWS, 1))
        hour_of_day = pl.Series("_time", moments + shift)
        table = part.with_columns(impressions, hour_of_day).to_arrow()
        writer = writer or pq.ParquetWriter(folder / "served" / "rows.parquet", table.schema, compression="zstd")
        writer.write_table(table)
        progress(start + len(part), num_rows, "rows written")
    if writer is not None:
        writer.close()


def watch_written(name: str) -> None:
    """Watch what `time_watch` wrote into the folder `name`, and print seconds, processor seconds, peak memory and the report's size."""
    folder = Path(name)
    params = parse(WatchParams, json.loads((folder / "params.json").read_text("utf-8")), "params", OutsideError)
    world = make_world(40, 1)
    champion: Champion = world.champion(np.random.default_rng(1), 200_000, days=7)
    end = moment_of(START + 2 * _DAY_HOURS * HOUR)
    request = LogRequest(
        "bench", SourceParams("table", ("rows.csv",), {}), world.schema, Window(None, end, end + timedelta(days=2))
    )
    scratch = folder / "scratch"
    scratch.mkdir()
    (folder / "drift").mkdir()
    bench = Workbench(scratch, scratch, lambda *_: None, "cpu", "never", None, lambda: None, 1)
    start, processor_start = time.perf_counter(), time.process_time()
    watch_served(champion, ServedLog(request, folder / "served"), params, bench).save(folder / "drift")
    seconds = time.perf_counter() - start, time.process_time() - processor_start
    report_bytes = (folder / "drift" / "report.html").stat().st_size
    print(json.dumps([*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, report_bytes]))
