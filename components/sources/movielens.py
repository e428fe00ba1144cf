"""MovieLens-100K in RecBole's three files: ratings (.inter) joined with users (.user) and films (.item); a click is a good rating.

Columns offered: click, time (seconds), user, item, age, gender, occupation, zip_code, release_year, class (the list of genres as one
value) and first_genre.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.errors import DataError
from components.log import LogRequest, Partition, RawLog
from components.sources.plain import SourceFile, kind_of
from components.sources.reader import Reader, file_of, no_part, options_of
from components.sources.standard import Fault, refuse_unknown_columns, standard_rows
from components.sources.text import TextLayout, count_rows, scan_text
from components.strict import Strict

COLUMNS = (
    *(
        "click",
        "time",
        "user",
        "item",
        "age",
        "gender",
        "occupation",
        "zip_code",
        "release_year",
        "class",
        "first_genre",
    ),
)
FILE_COLUMNS = {
    ".inter": ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
    ".user": ("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"),
    ".item": ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"),
}
PLAIN_NAME = {"user_id:token": "user", "item_id:token": "item", "timestamp:float": "time"}


@dataclass(frozen=True)
class MovielensOptions(Strict):
    """least_click_rating  stars (1 to 5) from which a rating counts as a click."""

    least_click_rating: int


def _wanted(request: LogRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    options_of(request, MovielensOptions)
    found: dict[str, list[str]] = {kind: [name for name in names if kind_of(name) == kind] for kind in FILE_COLUMNS}
    wrong = {kind: of_kind for kind, of_kind in found.items() if len(of_kind) != 1}
    if wrong or len(names) != len(FILE_COLUMNS):
        raise DataError(
            f"raw_log {request.log}: a MovieLens log is one file each of {list(FILE_COLUMNS)} (optionally .gz); "
            f"found {list(names)}; correct source.paths"
        )
    return tuple(of_kind[0] for of_kind in found.values())


def _layout(name: str) -> TextLayout:
    columns = FILE_COLUMNS[kind_of(name)]
    return TextLayout(separator="\t", quote=None, has_header=True, columns=columns, ignored=frozenset())


def _count(request: LogRequest, file: SourceFile) -> int:
    refuse_unknown_columns(request.log, request.schema, COLUMNS, "movielens")
    return count_rows(file, _layout(file.name))


def _scan(raw_log: RawLog, scratch: Path) -> pl.LazyFrame:
    request = raw_log.request
    refuse_unknown_columns(request.log, request.schema, COLUMNS, "movielens")
    options = options_of(request, MovielensOptions)
    partitions = dict(
        zip(
            FILE_COLUMNS,
            (_partition(raw_log, name) for name in _wanted(request, tuple(p.name for p in raw_log.partitions))),
            strict=True,
        )
    )
    ratings, users, items = (_plainly_named(raw_log, partitions[kind], scratch) for kind in FILE_COLUMNS)
    for side, key, kind in ((users, "user", ".user"), (items, "item", ".item")):
        _refuse_doubled(side, key, partitions[kind].name)
    stars = pl.col("rating").cast(pl.Float64, strict=False)
    joined = (
        ratings.join(users.with_columns(_has_user=True).drop("_number"), on="user", how="left", maintain_order="left")
        .join(items.with_columns(_has_item=True).drop("_number"), on="item", how="left", maintain_order="left")
        .with_columns(
            click=(stars >= options.least_click_rating).cast(pl.Int64),
            first_genre=pl.col("class").str.split(" ").list.first(),
            _is_rating=stars.is_between(1, 5),
        )
    )
    faults = (
        Fault(pl.col("_is_rating").not_().fill_null(True), "rating is not a number from 1 to 5", pl.col("rating")),
        Fault(pl.col("_has_user").is_null(), f"user is not in {partitions['.user'].name}", pl.col("user")),
        Fault(pl.col("_has_item").is_null(), f"item is not in {partitions['.item'].name}", pl.col("item")),
    )
    kinds: dict[str, pl.DataType] = {**{name: pl.String() for name in COLUMNS}, "click": pl.Int64()}
    return standard_rows(joined, kinds, request.schema, partitions[".inter"].name, None, 0, faults)


def _partition(raw_log: RawLog, name: str) -> Partition:
    return next(partition for partition in raw_log.partitions if partition.name == name)


def _plainly_named(raw_log: RawLog, partition: Partition, scratch: Path) -> pl.LazyFrame:
    frame, kinds, _ = scan_text(file_of(raw_log, partition), _layout(partition.name), scratch)
    return frame.rename({name: PLAIN_NAME.get(name, name.partition(":")[0]) for name in kinds})


def _refuse_doubled(side: pl.LazyFrame, key: str, name: str) -> None:
    doubled = side.group_by(key).len().filter(pl.col("len") > 1).sort(key).collect()
    if doubled.height:
        raise DataError(
            f"raw_log '{name}': {doubled.height:,} value(s) of '{key}' stand in more than one line, such as '{doubled[key][0]}' "
            f"({doubled['len'][0]} times); each was expected once"
        )


READER = Reader(wanted=_wanted, part=no_part, count=_count, scan=_scan)
