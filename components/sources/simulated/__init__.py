"""A simulated marketplace whose true click probability is known: the default log, and the oracle that rankers are measured by.

logit = intercept + main effects of fields + planted interactions of two and three fields + drift of the day and category

Main effects belong to single fields (users, items, position, ...; hour of day; price). The planted terms (PLANTED) are tables of
normal numbers whose weighted mean over each of their fields is taken out, so no main effect can stand in for them. Items arrive and
retire day by day (an item's traits are hashed from its number, so any day knows them); the click rate drifts in a slow wave, overall
and by category; a click comes in after an exponential delay and is in the log only if it came before `as_of`. Each file is drawn from
(seed, day, number of the file within the day) alone: it is the same in whatever window it is asked for. Difficulty is fixed by the
shares below and the options in logs/simulated.yaml, set before any ranker was tried on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from components.errors import ConfigError
from components.log import IMPRESSION, LogRequest, RawLog
from components.sources.plain import SourceFile
from components.sources.reader import Reader, no_part, options_of, refuse_none
from components.sources.simulated.world import (
    COLUMNS,
    TAG_ROWS,
    VALUES,
    PlantedTerm,
    SimulatedParams,
    World,
    days_of,
    draw,
    epoch_seconds,
    logits_of,
    planted_terms,
    sigmoid,
    true_logits,
    world_of,
)
from components.sources.standard import refuse_unknown_columns
from components.sources.table import open_parquet, scan_parquet_partitions

__all__ = [
    "COLUMNS",
    "READER",
    "PlantedTerm",
    "SimulatedFile",
    "SimulatedParams",
    "planted_terms",
    "simulate",
    "simulate_request",
    "true_logits",
]


@dataclass(frozen=True)
class SimulatedFile:
    """A day's rows, or a part of them where a day has more than rows_per_file, and their true click probabilities beside them.

    rows   COLUMNS, sorted by time
    truth  _impression, probability: of a click ever coming in
    """

    name: str
    rows: pl.DataFrame
    truth: pl.DataFrame


def simulate(params: SimulatedParams, start_day: date, num_days: int, as_of: datetime) -> Iterator[SimulatedFile]:
    """The log from start_day on, file by file in constant memory; clicks that came in after `as_of` (UTC) are not known yet.

    Raises ConfigError for a day before the world's first.
    """
    if start_day < params.first_day:
        raise ConfigError(f"window.start {start_day} lies before the simulated world's first day {params.first_day}")
    world = world_of(params)
    for day in range((start_day - params.first_day).days, (start_day - params.first_day).days + num_days):
        num_rows = _rows_of_day(params, day)
        num_files = math.ceil(num_rows / params.rows_per_file)
        for number in range(num_files):
            first = number * params.rows_per_file
            rows = np.arange(first, min(first + params.rows_per_file, num_rows))
            label = f"{params.first_day + timedelta(days=day):%Y-%m-%d}"
            name = f"{label}.parquet" if num_files == 1 else f"{label}.{number:04d}.parquet"
            yield _file(world, day, number, rows, num_rows, name, as_of)


def simulate_request(request: LogRequest) -> Iterator[SimulatedFile]:
    """The files that a request for a simulated log asks for; raises ConfigError for options that do not fit or an empty window."""
    params = options_of(request, SimulatedParams)
    _refuse_impossible(request, params)
    window = request.window
    first = datetime.combine(params.first_day, time(), UTC)
    start = first if window.start is None else _utc(window.start)
    end = first + timedelta(days=params.num_days) if window.end is None else _utc(window.end)
    as_of = end if window.as_of is None else _utc(window.as_of)
    if start >= end:
        raise ConfigError(f"window.yaml: start {start} is not before end {end}")
    last_day = (end - timedelta(microseconds=1)).date()
    return simulate(params, start.date(), (last_day - start.date()).days + 1, as_of)


def _rows_of_day(params: SimulatedParams, day: int) -> int:
    of_week = day % 7
    return params.rows_per_week * (of_week + 1) // 7 - params.rows_per_week * of_week // 7


def _file(
    world: World, day: int, number: int, rows: NDArray[Any], num_rows: int, name: str, as_of: datetime
) -> SimulatedFile:
    params = world.params
    rng = np.random.default_rng([params.seed, TAG_ROWS, day, number])
    codes, log_price = draw(world, day, len(rows), rng)
    seconds = np.floor(days_of(rows, num_rows, rng.random(len(rows))) * 86_400) + day * 86_400
    has_price, has_connection = (rng.random(len(rows)) >= params.missing_share for _ in range(2))
    log_price = np.where(has_price, log_price, np.nan)
    probability = sigmoid(logits_of(world, codes, log_price, seconds / 86_400))
    is_click = rng.random(len(rows)) < probability
    click_seconds = seconds + rng.exponential(size=len(rows)) * params.click_delay_hours * 3_600
    is_known = click_seconds <= as_of.timestamp() - epoch_seconds(params.first_day)
    label = f"{params.first_day + timedelta(days=day):%Y%m%d}"
    impressions = pl.Series("impression", rows).cast(pl.String).str.zfill(9)
    frame = pl.DataFrame(
        {
            "impression": pl.select(pl.lit(f"{label}-") + impressions).to_series(),
            "time": pl.Series(((seconds + epoch_seconds(params.first_day)) * 1e6).astype(np.int64)).cast(
                pl.Datetime("us", "UTC")
            ),
            "click": (is_click & is_known).astype(np.int8),
            "user": "u" + pl.Series(codes["user"]).cast(pl.String),
            "item": "i" + pl.Series(codes["item"]).cast(pl.String),
            "price": pl.Series(np.exp(log_price)).round(2).fill_nan(None),
            **{field: pl.Series(VALUES[field]).gather(codes[field]) for field in VALUES},
        }
    ).with_columns(connection=pl.when(pl.Series(has_connection)).then(pl.col("connection")))
    truth = frame.select(pl.col("impression").alias(IMPRESSION), pl.Series("probability", probability))
    return SimulatedFile(name, frame.select(COLUMNS), truth)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _refuse_impossible(request: LogRequest, params: SimulatedParams) -> None:
    at_least_one = ("num_days", "rows_per_week", "rows_per_file", "num_users", "num_items")
    at_least_zero = (
        "seed",
        "new_items_per_day",
        "main_effect_std",
        "interaction_std",
        "drift_logit",
        "click_delay_hours",
    )
    shares = ("click_rate", "missing_share")
    wrong = [f"{name} must be 1 or more" for name in at_least_one if not getattr(params, name) >= 1]
    wrong += [f"{name} must be 0 or more" for name in at_least_zero if not getattr(params, name) >= 0]
    wrong += [f"{name} must be from 0 up to, not including, 1" for name in shares if not 0 <= getattr(params, name) < 1]
    wrong += [] if params.drift_period_days > 0 else ["drift_period_days must be more than 0"]
    wrong += [] if params.click_rate > 0 else ["click_rate must be more than 0"]
    if wrong:
        raise ConfigError(f"logs/{request.log}.yaml source.options (simulated): {'; '.join(wrong)}")


def _wanted(request: LogRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    _refuse_impossible(request, options_of(request, SimulatedParams))
    refuse_none(request, names)
    return tuple(sorted(names))


def _count(request: LogRequest, file: SourceFile) -> int:
    return open_parquet(request.schema, frozenset(COLUMNS), file)[2]


def _scan(raw_log: RawLog, _scratch: Path) -> pl.LazyFrame:
    refuse_unknown_columns(raw_log.request.log, raw_log.request.schema, COLUMNS, "simulated")
    return scan_parquet_partitions(raw_log, frozenset(COLUMNS))


READER = Reader(wanted=_wanted, part=no_part, count=_count, scan=_scan)
