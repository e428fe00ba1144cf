"""Scoring a whole raw log, chunk by chunk, into the served log: what `score` does; no torch.

Rows that cannot be read are counted by reason and left out, as the check stage would set them aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components import sources
from components.errors import ConfigError
from components.log import CLICK, IMPRESSION, TIME, RawLog, Window, microseconds
from components.scoring import Scorer
from components.sources import BROKEN, NUMBER, SOURCE
from components.workbench import Progress
from pipeline.served.writing import BatchWriter


@dataclass(frozen=True)
class ScoredBatch:
    """What a batch came to: rows scored, rows outside the window, rows left out by reason, and where the scores lie."""

    num_rows: int
    num_outside_window: int
    num_broken: dict[str, int]
    files: str


def score_raw_log(
    raw_log: RawLog, scorer: Scorer, digest: str, folder: Path, chunk_rows: int, scratch: Path, progress: Progress
) -> ScoredBatch:
    """Score every readable row of the request's window into `folder`/<log>, with its click where that is 0 or 1.

    folder  of the served log, above the logs' own

    Raises ConfigError where the log's fields are not the scorer's, DataError for rows that no served log can hold.
    """
    request = raw_log.request
    if request.schema.fields != scorer.schema.fields:
        ours, theirs = ({field.name: field for field in schema.fields} for schema in (request.schema, scorer.schema))
        unlike = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise ConfigError(
            f"logs/{request.log}.yaml schema: the fields are not those of the bundle, in which {unlike or 'their order'} "
            f"are missing, other or not there yet; score with the preset that the bundle was made with"
        )
    sources_read = tuple(partition.sha256 for partition in raw_log.partitions)
    writer = BatchWriter(folder / request.log, request.schema, digest, sources_read)
    num_all = sum(partition.num_rows for partition in raw_log.partitions)
    num_seen = num_rows = num_outside = 0
    broken: dict[str, int] = {}
    window = request.window if request.schema.time is not None else Window(None, None, None)
    with sources.reading(raw_log, scratch):
        for chunk in sources.scan(raw_log, scratch).collect_batches(chunk_size=chunk_rows, maintain_order=True):
            for reason, count in chunk[BROKEN].drop_nulls().value_counts().iter_rows():
                broken[reason] = broken.get(reason, 0) + count
            sound = _with_keys(chunk.filter(pl.col(BROKEN).is_null()))
            inside = sound.filter(_inside(window))
            if inside.height:
                writer.append(inside, scorer.score(inside))
            num_rows += inside.height
            num_outside += sound.height - inside.height
            num_seen += chunk.height
            progress(num_seen, num_all, "rows scored")
    writer.close()
    return ScoredBatch(num_rows, num_outside, broken, writer.files)


def _with_keys(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without an impression get one that is the same each time; a click that is neither 0 nor 1 is unknown."""
    place = pl.concat_str(pl.col(SOURCE), pl.lit(":"), pl.col(NUMBER).cast(pl.String))
    return rows.with_columns(
        pl.coalesce(IMPRESSION, place).alias(IMPRESSION),
        pl.when(pl.col(CLICK).is_in([0, 1])).then(pl.col(CLICK)).cast(pl.Int8).alias(CLICK),
    )


def _inside(window: Window) -> pl.Expr:
    inside = pl.lit(True)
    if window.start is not None:
        inside &= pl.col(TIME) >= microseconds(window.start)
    if window.end is not None:
        inside &= pl.col(TIME) < microseconds(window.end)
    return inside
