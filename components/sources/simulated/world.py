"""The simulated marketplace's laws: who sees what, and how likely a click then is; read by `components.sources.simulated`."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from components.strict import Strict

Floats = NDArray[np.float64]
Codes = dict[str, NDArray[Any]]

VALUES = {
    "device": ("phone", "tablet", "desktop", "television"),
    "connection": ("wifi", "mobile", "cable"),
    "country": tuple(f"country-{letter}" for letter in "ABCDEFGHIJ"),
    "segment": tuple(f"segment-{number}" for number in range(1, 9)),
    "category": tuple(f"category-{number:02d}" for number in range(1, 13)),
    "advertiser": tuple(f"advertiser-{number:02d}" for number in range(1, 41)),
    "site": tuple(f"site-{number}" for number in range(1, 9)),
    "position": tuple(str(number) for number in range(1, 7)),
    "creative": tuple(f"creative-{letter}" for letter in "abcdef"),
}
COLUMNS = ("impression", "time", "click", "user", "item", "price", *VALUES)
SKEW = 0.5  # the k-th value of a field is seen in proportion to k ** -SKEW
# Each share is of the variance of the logit that all main effects have together, main_effect_std squared; they sum to 1.
MAIN_SHARES = {
    "user": 0.15,
    "item": 0.15,
    "position": 0.20,
    "device": 0.07,
    "category": 0.11,
    "site": 0.07,
    "creative": 0.04,
    "country": 0.04,
    "segment": 0.07,
    "advertiser": 0.03,
    "hour": 0.04,
    "price": 0.03,
}
# Likewise of interaction_std squared.
PLANTED = {
    ("category", "segment"): 0.30,
    ("device", "position"): 0.20,
    ("country", "creative"): 0.20,
    ("device", "site", "creative"): 0.30,
}
PEAK_HOUR = 20.0
ITEM_POPULARITY_STD = 0.8
USER_POPULARITY_STD = 0.8
CALIBRATION_ROWS = 100_000
TAG_TABLES, TAG_ROWS, TAG_CALIBRATION = 1, 2, 3


@dataclass(frozen=True)
class SimulatedParams(Strict):
    """The world and how large its log is; a quiet world has new_items_per_day, drift_logit and click_delay_hours 0.

    seed                of everything
    first_day           the world's first day (UTC); no window may start before it
    num_days            days from first_day on that an open window asks for
    rows_per_week       rows in seven days
    rows_per_file       at most so many rows in one file, and so in memory; the rows depend on it
    num_users           users that take part
    num_items           items on offer on any one day
    new_items_per_day   items that arrive a day, as many retire
    click_rate          mean click probability without drift
    main_effect_std     standard deviation of the logit owed to all main effects
    interaction_std     standard deviation of the logit owed to all planted interactions
    drift_logit         amplitude of the click rate's slow waves, in logits: one for all rows, one a category
    drift_period_days   length of those waves
    click_delay_hours   mean delay after which a click comes in
    missing_share       share of rows without a price, and of rows without a connection
    """

    seed: int
    first_day: date
    num_days: int
    rows_per_week: int
    rows_per_file: int
    num_users: int
    num_items: int
    new_items_per_day: float
    click_rate: float
    main_effect_std: float
    interaction_std: float
    drift_logit: float
    drift_period_days: float
    click_delay_hours: float
    missing_share: float


@dataclass(frozen=True)
class PlantedTerm:
    """One interaction that was put into the world: a logit for each combination of its fields' values."""

    fields: tuple[str, ...]
    table: Floats

    def coefficients(self, rows: pl.DataFrame) -> Floats:
        """The (R,) logits that this term gives to rows, which have the columns `fields`."""
        return self.of_codes(codes_of(rows, self.fields))

    def of_codes(self, codes: Codes) -> Floats:
        return np.asarray(self.table[tuple(codes[field] for field in self.fields)], np.float64)


@dataclass(frozen=True)
class World:
    params: SimulatedParams
    mains: dict[str, Floats]
    users: Codes
    user_cumulated: Floats
    planted: tuple[PlantedTerm, ...]
    drift_phases: Floats
    intercept: float


def planted_terms(params: SimulatedParams) -> tuple[PlantedTerm, ...]:
    """The interactions in the world, two of which share fields."""
    return world_of(params).planted


def true_logits(params: SimulatedParams, rows: pl.DataFrame) -> Floats:
    """The true (R,) logits of any rows with COLUMNS, such as ones that differ from logged rows in a single field."""
    world = world_of(params)
    codes = codes_of(rows, ("user", "item", *VALUES))
    times = (rows["time"].dt.epoch("us") / 1e6).to_numpy() - epoch_seconds(params.first_day)
    return logits_of(world, codes, rows["price"].cast(pl.Float64).log().to_numpy(), times / 86_400)


def codes_of(rows: pl.DataFrame, fields: tuple[str, ...]) -> Codes:
    """Each field's values as numbers from 0; -1 for missing ones."""
    codes: Codes = {}
    for field in fields:
        if field in VALUES:
            column = rows[field].replace_strict(
                list(VALUES[field]), list(range(len(VALUES[field]))), return_dtype=pl.Int64, default=-1
            )
        else:
            column = rows[field].str.slice(1).cast(pl.Int64)
        codes[field] = column.fill_null(-1).to_numpy()
    return codes


def epoch_seconds(day: date) -> float:
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * 86_400.0


def _shares(num_values: int) -> Floats:
    weights = np.arange(1, num_values + 1, dtype=np.float64) ** -SKEW
    return np.asarray(weights / weights.sum(), np.float64)


def _centred(table: Floats, fields: tuple[str, ...], std: float) -> Floats:
    """Take out the weighted mean along each axis, so that nothing of lower order remains, and scale to the standard deviation."""
    weights = np.ones(())
    for axis, field in enumerate(fields):
        share = _shares(len(VALUES[field]))
        table = table - np.expand_dims(np.tensordot(table, share, axes=(axis, 0)), axis)
        weights = np.multiply.outer(weights, share)
    spread = math.sqrt(float((weights * table**2).sum()))
    return np.asarray(table * (std / spread), np.float64)


@functools.lru_cache(maxsize=4)
def world_of(params: SimulatedParams) -> World:
    rng = np.random.default_rng([params.seed, TAG_TABLES])
    stds = {field: params.main_effect_std * math.sqrt(share) for field, share in MAIN_SHARES.items()}
    mains = {
        field: _centred(rng.normal(size=len(VALUES[field])), (field,), stds[field]) for field in VALUES if field in stds
    }
    mains["user"] = rng.normal(size=params.num_users) * stds["user"]
    users: Codes = {
        field: rng.choice(len(VALUES[field]), params.num_users, p=_shares(len(VALUES[field])))
        for field in ("segment", "country")
    }
    user_cumulated = np.cumsum(np.exp(USER_POPULARITY_STD * rng.normal(size=params.num_users)))
    planted = tuple(
        PlantedTerm(
            fields,
            _centred(
                rng.normal(size=[len(VALUES[field]) for field in fields]),
                fields,
                params.interaction_std * math.sqrt(share),
            ),
        )
        for fields, share in PLANTED.items()
    )
    phases = rng.uniform(0, 2 * np.pi, size=1 + len(VALUES["category"]))
    world = World(params, mains, users, user_cumulated / user_cumulated[-1], planted, phases, 0.0)
    codes, log_price = draw(world, 0, CALIBRATION_ROWS, np.random.default_rng([params.seed, TAG_CALIBRATION]))
    days = days_of(np.arange(CALIBRATION_ROWS), CALIBRATION_ROWS, np.full(CALIBRATION_ROWS, 0.5))
    logits = logits_of(world, codes, log_price, days, with_drift=False)
    return dataclasses.replace(world, intercept=_intercept(logits, params.click_rate))


def _intercept(logits: Floats, click_rate: float) -> float:
    low, high = -50.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        if float(sigmoid(logits + middle).mean()) < click_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), np.float64)


def _uniforms(seed: int, numbers: NDArray[Any], salt: int) -> Floats:
    """Uniform numbers in (0, 1) hashed from item numbers (SplitMix64), so that an item has its traits without any history."""
    mask = (1 << 64) - 1
    offset = (seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) & mask
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(offset)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53, np.float64)


def _normals(seed: int, numbers: NDArray[Any], salt: int) -> Floats:
    radius = np.sqrt(-2.0 * np.log(_uniforms(seed, numbers, salt)))
    return np.asarray(radius * np.cos(2 * np.pi * _uniforms(seed, numbers, salt + 1)), np.float64)


def draw(world: World, day: int, num_rows: int, rng: np.random.Generator) -> tuple[Codes, Floats]:
    """Who saw what where: the codes of all fields and the item's log price."""
    params = world.params
    first_item = math.floor(day * params.new_items_per_day)
    offered = np.arange(first_item, first_item + params.num_items)
    popularity = np.cumsum(np.exp(ITEM_POPULARITY_STD * _normals(params.seed, offered, 10)))
    codes: Codes = {
        "user": np.searchsorted(world.user_cumulated, rng.random(num_rows), side="right"),
        "item": offered[np.searchsorted(popularity / popularity[-1], rng.random(num_rows), side="right")],
    }
    for field in ("segment", "country"):
        codes[field] = world.users[field][codes["user"]]
    for salt, field in ((20, "category"), (30, "advertiser")):
        traits = np.searchsorted(
            np.cumsum(_shares(len(VALUES[field])))[:-1], _uniforms(params.seed, offered, salt), side="right"
        )
        codes[field] = traits[codes["item"] - first_item]
    for field in ("device", "connection", "site", "position", "creative"):
        codes[field] = np.searchsorted(np.cumsum(_shares(len(VALUES[field])))[:-1], rng.random(num_rows), side="right")
    log_price = np.round(np.exp(3.0 + _normals(params.seed, offered, 40)), 2)
    return codes, np.log(log_price[codes["item"] - first_item])


def days_of(rows: NDArray[Any], num_rows: int, jitter: Floats) -> Floats:
    """When within its day each row came, rising, as a share of the day: twice as many rows at the peak as on average."""
    grid = np.linspace(0.0, 1.0, 97)
    density = 1.0 + 0.6 * np.cos(2 * np.pi * (grid - PEAK_HOUR / 24))
    cumulated = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.asarray(np.interp((rows + jitter) / num_rows, cumulated / cumulated[-1], grid), np.float64)


def logits_of(world: World, codes: Codes, log_price: Floats, days: Floats, with_drift: bool = True) -> Floats:
    params = world.params
    logits = np.full(len(days), world.intercept)
    for field, effects in world.mains.items():
        logits += effects[codes[field]]
    logits += params.main_effect_std * math.sqrt(MAIN_SHARES["item"]) * _normals(params.seed, codes["item"], 50)
    hour_std, price_std = (params.main_effect_std * math.sqrt(MAIN_SHARES[field]) for field in ("hour", "price"))
    logits += hour_std * math.sqrt(2) * np.cos(2 * np.pi * (np.floor(days * 24) / 24 - PEAK_HOUR / 24))
    logits -= price_std * np.nan_to_num(log_price - 3.0)
    for term in world.planted:
        logits += term.of_codes(codes)
    if with_drift:
        wave = 2 * np.pi * days / params.drift_period_days
        phases = world.drift_phases
        logits += (
            params.drift_logit
            * (np.sin(wave + phases[0]) + np.sin(wave + phases[1 + codes["category"]]))
            / math.sqrt(2)
        )
    return logits
