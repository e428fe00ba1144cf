"""Every format's reader against rows written and read by hand, and against the real data parsed by plain Python."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import sources
from components.errors import ConfigError
from components.log import Field, LogRequest, LogSchema, RawLog, SourceParams, TimeColumn, Window
from components.strict import parse

ROOT = Path(__file__).parents[1]
OPEN = Window(None, None, None)
TABLE_OPTIONS: dict[str, str | int | float | bool | None] = {
    "separator": None,
    "ignored_columns": None,
    "partition_pattern": None,
}
NOON = 1_772_452_800_000_000  # 2026-03-02 12:00:00 UTC: 20,514 days and 12 hours after 1970


def categorical(name: str) -> Field:
    return Field(name, "categorical", None, 1.0, None, None)


def numeric(name: str) -> Field:
    return Field(name, "numeric", "quantiles", 1.0, None, None)


SHOP = LogSchema(
    "clicked", TimeColumn("shown_at", "iso8601"), "key", None, None, (categorical("device"), numeric("price"))
)
SHOP_ROWS = [
    {"key": "a", "shown_at": "2026-03-02T12:00:00Z", "clicked": 1, "device": "phone", "price": 2.5},
    {"key": "b", "shown_at": "2026-03-02T13:00:00+01:00", "clicked": 0, "device": "", "price": None},
    {"key": "c", "shown_at": "2026-03-02 12:00:01", "clicked": 0, "device": "télé, große", "price": -1.0},
]
SHOP_TABLE = [
    (None, 0, NOON, 1, "a", "phone", 2.5, None),
    (None, 1, NOON, 0, "b", None, None, None),
    (None, 2, NOON + 1_000_000, 0, "c", "télé, große", -1.0, None),
]


def as_csv(separator: str, columns: Sequence[str] = ("key", "shown_at", "clicked", "device", "price")) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(SHOP_ROWS)
    return text.getvalue().encode()


def as_json_lines() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in SHOP_ROWS)


def as_parquet() -> bytes:
    content = io.BytesIO()
    pl.DataFrame(SHOP_ROWS).write_parquet(content)
    return content.getvalue()


def request_for(
    format_name: str, schema: LogSchema, options: dict[str, str | int | float | bool | None], window: Window = OPEN
) -> LogRequest:
    return LogRequest("tried", SourceParams(format_name, (), options), schema, window)  # type: ignore[arg-type]


def fetched(folder: Path, request: LogRequest, files: dict[str, bytes]) -> RawLog:
    """What fetch does, by hand: pick the wanted files, describe them, and keep each under its digest."""
    (folder / "files").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    names = sources.wanted(request, tuple(files))
    found = sources.partitions(request, tuple(sources.SourceFile(name, folder / name) for name in names))
    for partition in found:
        (folder / "files" / partition.sha256).write_bytes(files[partition.name])
    return RawLog(request, found, (), folder)


def rows_of(raw_log: RawLog, but: Sequence[str] = ("_source", "_value")) -> list[tuple[Any, ...]]:
    scratch = raw_log.folder / "scratch"
    return sources.scan(raw_log, scratch).collect(engine="streaming").sort("_number").drop(but).rows()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shop.csv", as_csv(",")),
        ("shop.csv", as_csv(",", ("price", "device", "clicked", "shown_at", "key"))),
        ("shop.csv", as_csv(",").replace(b"\n", b"\r\n")),
        ("shop.csv", b"\xef\xbb\xbf" + as_csv(",")),
        ("shop.csv", as_csv(",").removesuffix(b"\n")),
        ("shop.tsv", as_csv("\t")),
        ("shop.csv.gz", gzip.compress(as_csv(","))),
        ("shop.csv.gz", gzip.compress(as_csv(",")[:50]) + gzip.compress(as_csv(",")[50:]) + b"\0" * 7),
        ("shop.csv.zst", zstandard.compress(as_csv(","))),
        ("shop.csv.zst", zstandard.compress(as_csv(",")[:50]) + zstandard.compress(as_csv(",")[50:])),
        ("shop.jsonl", as_json_lines()),
        ("shop.ndjson.gz", gzip.compress(as_json_lines())),
        ("shop.jsonl.zst", zstandard.compress(as_json_lines())),
        ("shop.parquet", as_parquet()),
    ],
)
def test_a_table_reads_the_same_in_every_kind_of_file(tmp_path: Path, name: str, content: bytes) -> None:
    raw_log = fetched(tmp_path, request_for("table", SHOP, TABLE_OPTIONS), {name: content})
    assert rows_of(raw_log) == SHOP_TABLE
    assert [(p.name, p.num_rows, p.num_bytes, p.part) for p in raw_log.partitions] == [(name, 3, len(content), None)]


def test_the_columns_and_their_types_are_always_these(tmp_path: Path) -> None:
    for number, (name, content) in enumerate(
        {"a.csv": as_csv(","), "a.parquet": as_parquet(), "a.jsonl": as_json_lines()}.items()
    ):
        raw_log = fetched(tmp_path / str(number), request_for("table", SHOP, TABLE_OPTIONS), {name: content})
        assert dict(sources.scan(raw_log, tmp_path / "scratch").collect_schema()) == {
            "_part": pl.String,
            "_source": pl.String,
            "_number": pl.Int64,
            "_time": pl.Int64,
            "_click": pl.Int64,
            "_impression": pl.String,
            "device": pl.String,
            "price": pl.Float64,
            "_broken": pl.String,
            "_value": pl.String,
        }


def test_a_row_number_counts_on_over_all_partitions(tmp_path: Path) -> None:
    raw_log = fetched(
        tmp_path,
        request_for("table", SHOP, TABLE_OPTIONS),
        {"x.csv": as_csv(","), "y.jsonl": as_json_lines(), "z.parquet": as_parquet()},
    )
    rows = rows_of(raw_log, but=("_value",))
    assert [row[2] for row in rows] == list(range(9))
    assert [row[1] for row in rows] == ["x.csv"] * 3 + ["y.jsonl"] * 3 + ["z.parquet"] * 3


@pytest.mark.parametrize(
    ("unit", "text", "micros"),
    [
        ("seconds", "1772452800", NOON),
        ("seconds", "1772452800.25", NOON + 250_000),
        ("milliseconds", "1772452800001", NOON + 1_000),
        ("microseconds", "1772452800000001", NOON + 1),
        ("iso8601", "2026-03-02", NOON - 12 * 3_600_000_000),
        ("iso8601", "2026-03-02T12:00", NOON),
        ("iso8601", "2026-03-02T06:30:00.5-05:30", NOON + 500_000),
        ("%d.%m.%Y %H:%M", "02.03.2026 12:00", NOON),
        ("%Y%m%d%H", "2026030212", NOON),
        ("%d/%m/%y", "02/03/26", NOON - 12 * 3_600_000_000),
    ],
)
def test_a_time_is_read_in_the_declared_unit(tmp_path: Path, unit: str, text: str, micros: int) -> None:
    schema = LogSchema("click", TimeColumn("when", unit), None, None, None, ())
    raw_log = fetched(
        tmp_path, request_for("table", schema, TABLE_OPTIONS), {"t.csv": f"click,when\n1,{text}\n".encode()}
    )
    assert rows_of(raw_log) == [(None, 0, micros, 1, None, None)]


def test_a_typed_time_in_another_zone_is_the_same_moment(tmp_path: Path) -> None:
    schema = LogSchema("click", TimeColumn("when", "iso8601"), None, None, None, ())
    moments = pl.Series([datetime(2026, 3, 2, 12, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo")
    content = io.BytesIO()
    pl.DataFrame({"click": [True], "when": moments}).write_parquet(content)
    raw_log = fetched(tmp_path, request_for("table", schema, TABLE_OPTIONS), {"t.parquet": content.getvalue()})
    assert rows_of(raw_log) == [(None, 0, NOON, 1, None, None)]


def test_values_that_hold_separators_quotes_and_line_ends_stay_whole(tmp_path: Path) -> None:
    schema = LogSchema("click", None, None, None, None, (categorical("text"),))
    content = b'click,text\n1,"a,b"\n0,"he said ""no"""\n0,"two\nlines"\n1,\n0,""\n'
    raw_log = fetched(tmp_path, request_for("table", schema, TABLE_OPTIONS), {"t.csv": content})
    assert [row[5] for row in rows_of(raw_log)] == ["a,b", 'he said "no"', "two\nlines", None, None]


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.integers(0, 1), cells, cells), min_size=1, max_size=8))
def test_any_text_written_by_the_csv_module_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["click", "a", "b"])
    writer.writerows(rows)
    schema = LogSchema("click", None, None, None, None, (categorical("a"), categorical("b")))
    folder = tmp_path_factory.mktemp("any")
    raw_log = fetched(folder, request_for("table", schema, TABLE_OPTIONS), {"t.csv": text.getvalue().encode()})
    assert [(row[3], row[5] or "", row[6] or "") for row in rows_of(raw_log)] == rows


def test_a_row_that_cannot_be_read_has_its_reason_and_a_wild_click_stays_as_found(tmp_path: Path) -> None:
    content = (
        b"key,shown_at,clicked,device,price\n"
        b"a,2026-03-02T12:00:00Z,2,phone,1\n"
        b"b,yesterday,0,phone,1\n"
        b"c,,0,phone,1\n"
        b"d,2026-03-02T12:00:00Z,,phone,1\n"
        b"e,2026-03-02T12:00:00Z,yes,phone,1\n"
        b"f,2026-03-02T12:00:00Z,0.5,phone,1\n"
        b"g,2026-03-02T12:00:00Z,1,phone,cheap\n"
        b"h,2026-03-02T12:00:00Z,1,phone,inf\n"
        b"i,2026-03-02T12:00:00Z,-1,phone,1e400\n"
        b"j,2026-03-02T12:00:00Z,TRUE,phone,1e3\n"
    )
    raw_log = fetched(tmp_path, request_for("table", SHOP, TABLE_OPTIONS), {"t.csv": content})
    assert [(row[4], row[3], *row[-2:]) for row in rows_of(raw_log, but=("_source",))] == [
        ("a", 2, None, None),
        ("b", 0, "time does not fit 'iso8601'", "yesterday"),
        ("c", 0, "time is missing", None),
        ("d", None, None, None),
        ("e", None, "click is not a whole number", "yes"),
        ("f", None, "click is not a whole number", "0.5"),
        ("g", 1, "field 'price' is not a finite number", "cheap"),
        ("h", 1, "field 'price' is not a finite number", "inf"),
        ("i", -1, "field 'price' is not a finite number", "1e400"),
        ("j", 1, None, None),
    ]


def test_missing_numbers_of_typed_files_are_no_fault_and_infinite_ones_are(tmp_path: Path) -> None:
    schema = LogSchema("click", None, None, None, None, (numeric("price"), categorical("size")))
    content = io.BytesIO()
    columns = {"click": [0, 1, 1], "price": [None, float("nan"), float("inf")], "size": [3, None, 5]}
    pl.DataFrame(columns).write_parquet(content)
    raw_log = fetched(tmp_path, request_for("table", schema, TABLE_OPTIONS), {"t.parquet": content.getvalue()})
    assert [row[3:] for row in rows_of(raw_log, but=("_source",))] == [
        (0, None, None, "3", None, None),
        (1, None, None, None, None, None),
        (1, None, None, "5", "field 'price' is not a finite number", "inf"),
    ]


def test_only_partitions_that_overlap_the_window_are_wanted() -> None:
    options = {**TABLE_OPTIONS, "partition_pattern": "%Y-%m-%d"}
    window = Window(datetime(2026, 3, 2, 6, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC), None)
    names = ("d-2026-03-04.csv", "d-2026-03-03.b.csv", "d-2026-03-01.csv", "d-2026-03-02.csv", "d-2026-03-03.a.csv")
    wanted = sources.wanted(request_for("table", SHOP, options, window), names)
    assert wanted == ("d-2026-03-02.csv", "d-2026-03-03.a.csv", "d-2026-03-03.b.csv")
    hourly = {**TABLE_OPTIONS, "partition_pattern": "%Y%m%dT%H"}
    night = Window(datetime(2026, 3, 2, 23, 30, tzinfo=UTC), datetime(2026, 3, 3, 0, 30, tzinfo=UTC), None)
    names = ("20260302T22.csv", "20260302T23.csv", "20260303T00.csv", "20260303T01.csv")
    assert sources.wanted(request_for("table", SHOP, hourly, night), names) == names[1:3]


def test_a_log_of_criteo_reads_its_forty_columns_and_its_row_order_is_its_time(tmp_path: Path) -> None:
    schema = preset("criteo").schema
    first = ["1", "5", "-2", *[""] * 11, *[f"c{number}" for number in range(1, 27)]]
    second = ["0", *[str(number) for number in range(13)], *[""] * 26]
    content = "".join("\t".join(row) + "\n" for row in (first, second)).encode()
    rows = rows_of(fetched(tmp_path, request_for("criteo", schema, {}), {"day_0.txt": content}))
    assert rows[0] == (None, 0, 0, 1, None, 5.0, -2.0, *[None] * 11, *first[14:], None)
    assert rows[1] == (None, 1, 1, 0, None, *[float(number) for number in range(13)], *[None] * 26, None)


def test_a_log_of_avazu_reads_hour_as_time_and_id_as_impression(tmp_path: Path) -> None:
    request = preset("avazu")
    header = "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
    header += "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
    values = [f"v{number}" for number in range(21)]
    content = f"{header}\n10000169349117863715,1,14102105,{','.join(values)}\n".encode()
    rows = rows_of(fetched(tmp_path, request, {"avazu.csv": content}))
    five = int(datetime(2014, 10, 21, 5, tzinfo=UTC).timestamp()) * 1_000_000
    assert rows == [(None, 0, five, 1, "10000169349117863715", *values, None)]


def test_a_libfm_log_keeps_the_part_a_row_came_in(tmp_path: Path) -> None:
    schema = LogSchema("click", None, None, "user", "item", (categorical("user"), categorical("item")))
    request = request_for("libfm", schema, {"train": "tr.libfm", "valid": "va.libfm", "test": "te.libfm"})
    files = {"te.libfm": b"1 7:1 9:1", "tr.libfm": b"-1 3:1 8:1\n1 3:1 9:0.5\n", "va.libfm": b"0 5:1 x:1\n2 5:1 8:1\n"}
    raw_log = fetched(tmp_path, request, files)
    assert rows_of(raw_log, but=("_source",)) == [
        ("train", 0, 0, 0, None, "3", "8", None, None),
        ("train", 1, 1, 1, None, "3", "9:0.5", "field 'item' is not index:1", "9:0.5"),
        ("valid", 2, 2, 0, None, "5", "x", "field 'item' is not index:1", "x"),
        ("valid", 3, 3, 2, None, "5", "8", None, None),
        ("test", 4, 4, 1, None, "7", "9", None, None),
    ]
    unpublished = request_for("libfm", schema, {"train": None, "valid": None, "test": None})
    assert [p.part for p in fetched(tmp_path / "one", unpublished, {"all.libfm": b"1 7:1 9:1\n"}).partitions] == [None]


def test_movielens_joins_users_and_items_and_a_good_rating_is_a_click(tmp_path: Path) -> None:
    files = {
        "ml.item": b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        b'7\tA "quoted" film\t1995\tDrama War\n',
        "ml.user": b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t00501\n",
        "ml.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"1\t7\t4\t881250949\n1\t7\t3\t881250950\n2\t7\t5\t881250951\n1\t8\t5\t881250952\n1\t7\t6\t881250953\n",
    }
    rows = rows_of(fetched(tmp_path, preset("movielens"), files), but=("_source",))
    known = ("1", "7", "24", "M", "writer", "00501", "1995", "Drama War", "Drama")
    assert rows[0] == (None, 0, 881_250_949_000_000, 1, None, *known, None, None)
    assert rows[1] == (None, 1, 881_250_950_000_000, 0, None, *known, None, None)
    assert [(row[1], *row[-2:]) for row in rows[2:]] == [
        (2, "user is not in ml.user", "2"),
        (3, "item is not in ml.item", "8"),
        (4, "rating is not a number from 1 to 5", "6"),
    ]


def preset(name: str) -> LogRequest:
    content = yaml.safe_load((ROOT / "logs" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert set(content) == {"source", "schema", "check", "split", "search", "train", "evaluate"}
    source = parse(SourceParams, content["source"], name, ConfigError)
    return LogRequest(name, source, parse(LogSchema, content["schema"], name, ConfigError), OPEN)


@pytest.mark.parametrize("path", sorted((ROOT / "logs").glob("*.yaml")), ids=lambda path: str(path.stem))
def test_every_preset_is_a_request_that_its_own_format_takes(path: Path) -> None:
    request = preset(path.stem)
    names = tuple(Path(place).name for place in request.source.paths) or ("2026-03-02.parquet",)
    if request.source.format == "table":
        names = tuple(name.replace("*", "2026-03-02") for name in names)
    assert sorted(sources.wanted(request, names)) == sorted(names)


def data_folder() -> Path:
    folder = Path(os.environ.get("CTR_DATA", ROOT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the research data is absent: {folder} is no folder (set CTR_DATA)")
    return folder


def real_log(tmp_path: Path, name: str) -> tuple[RawLog, dict[str, bytes]]:
    folder = data_folder()
    request = preset(name)
    paths = [Path(place.replace("$CTR_DATA", str(folder))) for place in request.source.paths]
    files = {path.name: path.read_bytes() for path in paths}
    return fetched(tmp_path, request, files), files


def lines_of(content: bytes, separator: str) -> list[list[str]]:
    return [line.split(separator) for line in gzip.decompress(content).decode().splitlines()]


def frappe_by_hand(files: dict[str, bytes]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for part in ("train", "valid", "test"):
        for label, *values in lines_of(files[f"{part}.libfm.gz"], " "):
            number = len(rows)
            rows.append((part, number, number, int(label == "1"), None, *[v.split(":")[0] for v in values], None))
    return rows


def movielens_by_hand(files: dict[str, bytes]) -> list[tuple[Any, ...]]:
    users = {row[0]: row[1:] for row in lines_of(files["ml-100k.user.gz"], "\t")[1:]}
    items = {row[0]: row[2:] for row in lines_of(files["ml-100k.item.gz"], "\t")[1:]}
    return [
        (
            None,
            n,
            int(t) * 1_000_000,
            int(int(stars) >= 4),
            None,
            u,
            i,
            *users[u],
            *items[i],
            items[i][1].split()[0],
            None,
        )
        for n, (u, i, stars, t) in enumerate(lines_of(files["ml-100k.inter.gz"], "\t")[1:])
    ]


def avazu_by_hand(files: dict[str, bytes]) -> list[tuple[Any, ...]]:
    moment = int(datetime(2014, 10, 21, tzinfo=UTC).timestamp()) * 1_000_000
    return [
        (None, number, moment, int(row[1]), row[0], *row[3:], None)
        for number, row in enumerate(lines_of(files["avazu.csv.gz"], ",")[1:])
    ]


def criteo_by_hand(files: dict[str, bytes]) -> list[tuple[Any, ...]]:
    return [
        (
            None,
            n,
            n,
            int(row[0]),
            None,
            *[float(v) if v else None for v in row[1:14]],
            *[v or None for v in row[14:]],
            None,
        )
        for n, row in enumerate(lines_of(files["criteo.txt.gz"], "\t"))
    ]


@pytest.mark.parametrize(
    ("name", "by_hand", "num_rows", "click_rate"),
    [
        ("frappe", frappe_by_hand, 202_027 + 57_722 + 28_860, 0.333),
        ("movielens", movielens_by_hand, 100_000, 0.554),
        ("avazu", avazu_by_hand, 8_999, 0.174),
        ("criteo", criteo_by_hand, 8_000, 0.216),
    ],
)
def test_real_logs_read_as_plain_python_reads_them(
    tmp_path: Path,
    name: str,
    by_hand: Callable[[dict[str, bytes]], list[tuple[Any, ...]]],
    num_rows: int,
    click_rate: float,
) -> None:
    raw_log, files = real_log(tmp_path, name)
    rows = rows_of(raw_log)
    assert rows == by_hand(files)
    assert len(rows) == num_rows
    assert round(sum(row[3] for row in rows) / num_rows, 3) == click_rate
