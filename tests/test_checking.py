"""Check: what holds of a log is kept, what does not is set aside and counted, and what breaks too much is refused in words."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import sources
from components.checking import CheckParams, check_log
from components.checking.ordering import OrderedRows, order_rows
from components.checking.reading import Reading, read_log
from components.encoding import Encoded, EncodeParams, encode_log
from components.errors import ConfigError, DataError
from components.log import CleanLog, Field, LogRequest, LogSchema, RawLog, SourceParams, TimeColumn, Window
from components.splitting import SplitParams, Splits, split_log
from components.workbench import Workbench

START = 1_772_409_600  # 2026-03-02, in seconds
PARAMS = CheckParams(
    seed=3,
    sample_rows=200,
    sort_rows=1_000,
    max_quarantine_share=0.05,
    min_partition_rows=50,
    max_distinct_share=0.9,
    min_rows=20,
    click_rate_band=(0.05, 0.6),
)
FIELDS = (
    Field("site", "categorical", None, 0.1, None, None),
    Field("price", "numeric", "quantiles", 0.2, 0.0, 100.0),
    Field("hour", "hour", None, 0.0, None, None),
)
SCHEMA = LogSchema("click", TimeColumn("time", "seconds"), "key", None, None, FIELDS)
HEADER = ("click", "time", "key", "site", "price")
Row = tuple[Any, ...]


def make_request(schema: LogSchema = SCHEMA, window: Window | None = None) -> LogRequest:
    options: dict[str, str | int | float | bool | None] = {
        "separator": None,
        "ignored_columns": None,
        "partition_pattern": None,
    }
    return LogRequest("made", SourceParams("table", ("made",), options), schema, window or Window(None, None, None))


def write_log(
    folder: Path, files: dict[str, Sequence[Row]], request: LogRequest, header: Sequence[str] = HEADER
) -> RawLog:
    """A raw log of CSV files as fetch would leave it."""
    found = []
    (folder / "files").mkdir(parents=True)
    for name, rows in files.items():
        path = folder / name
        lines = [",".join(header), *(",".join("" if value is None else str(value) for value in row) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        found.append(sources.SourceFile(name, path))
    partitions = sources.partitions(request, tuple(found))
    for partition, file in zip(partitions, found, strict=True):
        file.path.rename(folder / "files" / partition.sha256)
    return RawLog(request, partitions, (), folder)


def make_rows(num_rows: int, seed: int = 1) -> list[Row]:
    rng = random.Random(seed)
    return [
        (int(rng.random() < 0.3), START + 60 * number, f"k{number}", rng.choice("abcd"), round(rng.random() * 50, 2))
        for number in range(num_rows)
    ]


def read_and_order(raw_log: RawLog, folder: Path, sort_rows: int = 1_000) -> tuple[Reading, OrderedRows]:
    """What check does before the promises, without Great Expectations."""
    folder.mkdir()
    reading = read_log(sources.pieces(raw_log, folder / "plain"), raw_log, folder)
    return reading, order_rows(reading, raw_log.request.schema, sort_rows, folder)


def check(tmp_path: Path, workbench: Workbench, rows: Sequence[Row], **changes: Any) -> CleanLog:
    request = changes.pop("request", make_request())
    raw_log = write_log(tmp_path / "raw", {"day.csv": rows}, request)
    return check_log(raw_log, request, replace(PARAMS, **changes), workbench)


def digest_of(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


# ------------------------------------------------------------------------------------------------ a log that holds


def test_a_sound_log_is_kept_whole_and_reads_back_equal(tmp_path: Path, workbench: Workbench) -> None:
    rows = make_rows(300)
    clean_log = check(tmp_path, workbench, rows)
    table = clean_log.scan().collect()
    assert table.columns == ["_row", "_time", "_click", "_impression", "site", "price"]
    assert table["_row"].to_list() == list(range(300))
    assert table["_time"].to_list() == [row[1] * 1_000_000 for row in rows]
    assert table["_click"].to_list() == [row[0] for row in rows]
    assert table["price"].to_list() == [row[4] for row in rows]
    assert clean_log.scan_quarantine().collect().height == 0
    report = clean_log.report
    assert (report.num_rows_read, report.num_rows, report.num_clicks) == (300, 300, sum(row[0] for row in rows))
    assert (report.first_time, report.last_time) == (START * 1_000_000, (START + 60 * 299) * 1_000_000)
    assert all(result.holds for result in report.results)
    assert {result.is_exact for result in report.results} == {True, False}

    saved = tmp_path / "saved"
    saved.mkdir()
    clean_log.save(saved)
    again = CleanLog.load(saved)
    assert again == clean_log
    assert again.scan().collect().equals(table)
    page = (saved / "html" / "index.html").read_text()
    assert "price" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_rows_that_break_a_promise_are_set_aside_with_source_number_and_reason(
    tmp_path: Path, workbench: Workbench
) -> None:
    rows = make_rows(300)
    rows[7] = (2, *rows[7][1:])
    rows[8] = (None, *rows[8][1:])
    rows[9] = (*rows[9][:4], "cheap")
    rows[10] = (*rows[10][:4], -3)
    rows[11] = (*rows[11][:4], 1000)
    rows[12] = (*rows[12][:2], None, *rows[12][3:])
    rows[13] = (rows[13][0], None, *rows[13][2:])
    rows[14] = (rows[14][0], 12, *rows[14][2:])
    clean_log = check(tmp_path, workbench, rows)
    aside = clean_log.scan_quarantine().collect()
    assert aside["_source"].unique().to_list() == ["day.csv"]
    assert {number: words for number, *words in aside.select("_number", "_reason", "_value").iter_rows()} == {
        7: ["click is not 0 or 1", "2"],
        8: ["click is missing", None],
        9: ["field 'price' is not a finite number", "cheap"],
        10: ["field 'price' is below 0", "-3.0"],
        11: ["field 'price' is above 100", "1000.0"],
        12: ["the impression's key is missing", None],
        13: ["time is missing", None],
        14: ["time is not between the years 1990 and 2100", "12000000"],
    }
    report = clean_log.report
    assert report.num_quarantined == 8 == sum(report.quarantine_reasons.values())
    assert clean_log.scan().collect()["_impression"].to_list() == [
        row[2] for number, row in enumerate(rows) if not 7 <= number <= 14
    ]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1.234,50", "row 5 (from 0): '1.234,50', a decimal comma? write numbers with a point"),
        ("-12,5", "row 5 (from 0): '-12,5', a decimal comma? write numbers with a point"),
        ("12,5 EUR", "row 5 (from 0): '12,5 EUR'"),
        ("x" * 61, f"row 5 (from 0): '{'x' * 57}...'"),
    ],
)
def test_a_refusal_shows_the_first_value_that_breaks_the_promise(
    tmp_path: Path, workbench: Workbench, written: str, said: str
) -> None:
    rows = make_rows(300)
    for number in range(5, 300):
        rows[number] = (*rows[number][:4], f'"{written}"')
    with pytest.raises(DataError) as error:
        check(tmp_path, workbench, rows)
    assert f"the first of them: day.csv, {said}; once the source is mended, fetch it anew" in str(error.value)


@pytest.mark.parametrize("num_bad", [0, 3])
def test_the_account_of_rows_adds_up(tmp_path: Path, workbench: Workbench, num_bad: int) -> None:
    rows = [*make_rows(200), *make_rows(30)]  # thirty copies
    for number in range(num_bad):
        rows[number + 100] = (5, *rows[number + 100][1:])
    window = Window(
        datetime.fromtimestamp(START + 600, UTC), datetime.fromtimestamp(START + 60 * 190, UTC), None
    )  # rows 10 to 189
    report = check(tmp_path, workbench, rows, request=make_request(window=window)).report
    assert report.num_rows_outside_window == 20 + 10
    assert report.num_duplicates == 20
    assert report.num_quarantined == num_bad
    assert report.num_rows == 180 - num_bad
    assert report.num_rows_read == 230
    assert report.num_rows_read == (
        report.num_rows + report.num_rows_outside_window + report.num_duplicates + report.num_quarantined
    )


def test_copies_are_only_counted_where_no_key_is_declared(tmp_path: Path, workbench: Workbench) -> None:
    request = make_request(replace(SCHEMA, impression=None))
    rows = [row[:2] + row[3:] for row in make_rows(100)]
    header = ("click", "time", "site", "price")
    raw_log = write_log(tmp_path / "raw", {"day.csv": [*rows, *rows[:7]]}, request, header)
    report = check_log(raw_log, request, PARAMS, workbench).report
    counted = [result.found for result in report.results if "repeat" in result.promise]
    assert counted == [7.0]
    assert (report.num_rows, report.num_duplicates) == (107, 0)


# ------------------------------------------------------------------------------------------- a log that is refused


def refusal(tmp_path: Path, workbench: Workbench, rows: Sequence[Row], **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        check(tmp_path, workbench, rows, **changes)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_too_many_broken_rows_are_refused_with_reasons_and_figures(tmp_path: Path, workbench: Workbench) -> None:
    rows = [(2, *row[1:]) if number % 10 == 0 else row for number, row in enumerate(make_rows(200))]
    said = refusal(tmp_path, workbench, rows)
    assert "20 of 200 rows (10.0%)" in said
    assert "at most 5.0% may" in said
    assert "20 x click is not 0 or 1" in said
    assert "day.csv, row 0" in said


def test_an_empty_field_is_refused_naming_partition_field_and_figures(tmp_path: Path, workbench: Workbench) -> None:
    request = make_request()
    rows = make_rows(400)
    second = [(*row[:3], None, row[4]) if number % 2 else row for number, row in enumerate(rows[200:])]
    raw_log = write_log(tmp_path / "raw", {"2026-03-01.csv": rows[:200], "2026-03-02.csv": second}, request)
    with pytest.raises(
        DataError, match=r"2026-03-02\.csv: field 'site' is empty in 50\.0% of 200 rows \(at most 10\.0%"
    ):
        check_log(raw_log, request, PARAMS, workbench)


@pytest.mark.parametrize(("unit", "factor"), [("milliseconds", 1_000), ("microseconds", 1_000_000)])
def test_times_in_another_unit_are_refused_with_the_unit_that_fits(
    tmp_path: Path, workbench: Workbench, unit: str, factor: int
) -> None:
    rows = [(row[0], row[1] * factor, *row[2:]) for row in make_rows(100)]
    assert unit in refusal(tmp_path, workbench, rows)


def test_a_window_without_rows_is_refused(tmp_path: Path, workbench: Workbench) -> None:
    window = Window(datetime(2027, 1, 1, tzinfo=UTC), None, None)
    said = refusal(tmp_path, workbench, make_rows(100), request=make_request(window=window))
    assert "none of 100 rows" in said
    assert "2026-03-02" in said


@pytest.mark.parametrize("click", [0, 1])
def test_equal_clicks_are_refused(tmp_path: Path, workbench: Workbench, click: int) -> None:
    said = refusal(tmp_path, workbench, [(click, *row[1:]) for row in make_rows(100)])
    assert f"is {click} in all of 100 rows" in said


def test_an_unbelievable_click_rate_is_refused(tmp_path: Path, workbench: Workbench) -> None:
    assert "check.click_rate_band" in refusal(tmp_path, workbench, make_rows(100), click_rate_band=(0.9, 0.95))


def test_too_few_rows_are_refused(tmp_path: Path, workbench: Workbench) -> None:
    assert "100 clean rows of 100 read (at least 101" in refusal(tmp_path, workbench, make_rows(100), min_rows=101)


def test_a_field_that_names_rows_is_refused(tmp_path: Path, workbench: Workbench) -> None:
    rows = [(*row[:3], f"site{number}", row[4]) for number, row in enumerate(make_rows(100))]
    assert "field 'site' has 100 distinct values" in refusal(tmp_path, workbench, rows)


def test_a_log_fetched_for_another_request_is_refused(tmp_path: Path, workbench: Workbench) -> None:
    request = make_request()
    raw_log = write_log(tmp_path / "raw", {"day.csv": make_rows(30)}, request)
    asked = replace(request, window=Window(None, datetime(2026, 3, 3, tzinfo=UTC), None))
    with pytest.raises(ConfigError, match=r"another window than params ask for.*run fetch again"):
        check_log(raw_log, asked, PARAMS, workbench)


# ------------------------------------------------------------------------------------------------- order of files


def test_rows_out_of_order_are_sorted_by_time_with_ties_in_source_order(tmp_path: Path) -> None:
    request = make_request(replace(SCHEMA, impression=None))
    rng = random.Random(5)
    rows = [(0, START + rng.randrange(40), f"s{number}", number % 100) for number in range(3_000)]
    raw_log = write_log(tmp_path / "raw", {"day.csv": rows}, request, ("click", "time", "site", "price"))
    _, ordered = read_and_order(raw_log, tmp_path / "out", sort_rows=100)
    expected = sorted(rows, key=lambda row: row[1])  # Python's sort is stable
    table = pl.read_parquet(ordered.path)
    assert table["site"].to_list() == [row[2] for row in expected]
    assert table["_row"].to_list() == list(range(3_000))


def brute_force(rows: Sequence[Row]) -> list[Row]:
    """The clean rows by a loop: earliest time, any click, the first fields in alphabetical order; sorted by time and key."""
    chosen: dict[str, Row] = {}
    for click, time, key, site, price in sorted(rows, key=lambda row: (row[1], row[3], row[4])):
        chosen.setdefault(key, (0, time, key, site, price))
        first = chosen[key]
        chosen[key] = (max(first[0], click), *first[1:])
    return sorted(chosen.values(), key=lambda row: (row[1], row[2]))


impressions = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(START, START + 4),
        st.sampled_from([f"k{number}" for number in range(12)]),
        st.sampled_from("abc"),
        st.integers(0, 9).map(float),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(rows=impressions, cut=st.integers(0, 40), seed=st.integers(0, 99), sort_rows=st.sampled_from([1, 3, 1_000]))
def test_the_order_of_files_and_their_copies_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], cut: int, seed: int, sort_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("case")
    request = make_request()
    rng = random.Random(seed)
    shuffled = [*rows, *rng.choices(rows, k=len(rows) // 3)]  # 30 % doubled, and late ones before early ones
    rng.shuffle(shuffled)
    files = {name: part for name, part in (("a.csv", shuffled[:cut]), ("b.csv", shuffled[cut:])) if part}
    straight = write_log(folder / "straight", {"all.csv": brute_force(rows)}, request)
    crooked = write_log(folder / "crooked", files, request)
    _, wanted = read_and_order(straight, folder / "wanted")
    reading, found = read_and_order(crooked, folder / "found", sort_rows)
    assert found.path.read_bytes() == wanted.path.read_bytes()
    assert reading.num_kept == found.num_rows + found.num_duplicates
    assert pl.read_parquet(found.path).select(
        "_click", pl.col("_time") // 1_000_000, "_impression", "site", "price"
    ).rows() == (brute_force(rows))


def test_many_groups_of_rows_come_out_the_same_in_order_or_shuffled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("reading", "ordering"):
        monkeypatch.setattr(f"components.checking.{module}.ROW_GROUP_ROWS", 256)
    request = make_request()
    rows = make_rows(2_000)
    shuffled = [*rows[1_500:], *rows[:700], *rows[:300], *rows[700:1_500]]
    _, straight = read_and_order(write_log(tmp_path / "a", {"all.csv": rows}, request), tmp_path / "wanted")
    _, crooked = read_and_order(
        write_log(tmp_path / "b", {"x.csv": shuffled[:900], "y.csv": shuffled[900:]}, request), tmp_path / "found", 170
    )
    assert straight.path.read_bytes() == crooked.path.read_bytes()
    assert crooked.num_duplicates == 300


# -------------------------------------------------------------------------------------------------- the same bytes


def line_digest(folder: Path, workbench: Workbench) -> str:
    """check, split and encode of one made log, saved; the digest of every byte."""
    rows = [*make_rows(400), *make_rows(50)]
    rows[30] = (9, *rows[30][1:])
    request = make_request()
    raw_log = write_log(folder / "raw", {"b.csv": rows[200:], "a.csv": rows[:200]}, request)
    clean_log = check_log(raw_log, request, PARAMS, workbench)
    splits = split_log(clean_log, SplitParams("time", 0.2, 0.2, 0.2, 0.1, 1))
    encoded = encode_log(clean_log, splits, EncodeParams(2, 100, 0, 8), workbench)
    saved: list[tuple[str, CleanLog | Splits | Encoded]] = [("c", clean_log), ("s", splits), ("e", encoded)]
    for name, artifact in saved:
        (folder / "saved" / name).mkdir(parents=True)
        artifact.save(folder / "saved" / name)
    return digest_of(folder / "saved")


def test_the_bytes_do_not_depend_on_path_time_zone_hash_seed_or_threads(tmp_path: Path, workbench: Workbench) -> None:
    elsewhere = tmp_path / "ein anderer Ort"
    elsewhere.mkdir()
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from pathlib import Path; from test_checking import line_digest\n"
        "from components.workbench import Workbench\n"
        "place = Path(sys.argv[1]); (place / 'scratch').mkdir()\n"
        "bench = Workbench(place / 'scratch', place, lambda *said: None, 'cpu', 'never', None, lambda: None, 1)\n"
        "print(line_digest(place, bench))"
    )
    here = Path(__file__).parent
    environment = {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "77", "POLARS_MAX_THREADS": "3", "LC_ALL": "C.utf8"}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(elsewhere), str(here), str(here.parent)],
        env={**os.environ, **environment},
        cwd=elsewhere,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as other:
        mine = line_digest(tmp_path, workbench)
        said, complained = other.communicate()
    assert complained == ""
    assert said.strip() == mine


def test_the_report_holds_no_figure_that_is_not_a_number(tmp_path: Path, workbench: Workbench) -> None:
    clean_log = check(tmp_path, workbench, make_rows(50))
    (tmp_path / "saved").mkdir()
    clean_log.save(tmp_path / "saved")
    report = json.loads((tmp_path / "saved" / "report.json").read_text())
    found = [result["found"] for result in report["results"] if result["found"] is not None]
    assert found
    assert np.isfinite(found).all()
