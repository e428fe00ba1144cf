"""Whatever is wrong with a file of a log, the answer is a DataError that says which file, where, what and how much."""

from __future__ import annotations

import gzip
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import sources
from components.errors import ConfigError, DataError
from components.log import Field, LogRequest, LogSchema, Partition, RawLog, SourceParams, TimeColumn, Window
from components.strict import parse

ROOT = Path(__file__).parents[1]
OPEN = Window(None, None, None)
NUM_ROWS = 40


def preset(name: str) -> LogRequest:
    content = yaml.safe_load((ROOT / "logs" / f"{name}.yaml").read_text(encoding="utf-8"))
    source = parse(SourceParams, content["source"], name, ConfigError)
    return LogRequest(name, source, parse(LogSchema, content["schema"], name, ConfigError), OPEN)


def categorical(name: str) -> Field:
    return Field(name, "categorical", None, 1.0, None, None)


SHOP = LogSchema(
    "clicked",
    TimeColumn("shown_at", "seconds"),
    "key",
    None,
    None,
    (categorical("device"), Field("price", "numeric", "quantiles", 1.0, None, None)),
)


def table(**options: str | None) -> LogRequest:
    every = {"separator": None, "ignored_columns": None, "partition_pattern": None, **options}
    return LogRequest("shop", SourceParams("table", (), {**every}), SHOP, OPEN)


def shop_rows() -> list[dict[str, object]]:
    return [
        {"key": f"k{n}", "shown_at": 1_772_452_800 + n, "clicked": n % 2, "device": "phone", "price": n / 4}
        for n in range(NUM_ROWS)
    ]


def shop_csv(separator: str = ",") -> bytes:
    rows = [list(shop_rows()[0]), *([str(value) for value in row.values()] for row in shop_rows())]
    return "".join(separator.join(row) + "\n" for row in rows).encode()


def shop_json() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in shop_rows())


def shop_parquet(rows: pl.DataFrame | None = None) -> bytes:
    content = io.BytesIO()
    (pl.DataFrame(shop_rows()) if rows is None else rows).write_parquet(content)
    return content.getvalue()


CRITEO_LINE = "\t".join(["0", *["1"] * 13, *["68fd1e64"] * 26]) + "\n"
AVAZU_HEADER = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
    "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21\n"
)
LIBFM_LINE = "-1 " + " ".join(f"{n}:1" for n in range(10)) + "\n"
USERS = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t00501\n"
ITEMS = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n7\tFilm\t1995\tDrama\n"
RATINGS = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "1\t7\t4\t881250949\n" * NUM_ROWS

# For each source: the request, its sound files, the file that is spoilt, and its separator.
SOUND: dict[str, tuple[LogRequest, dict[str, bytes], str, str]] = {
    "csv": (table(), {"shop.csv": shop_csv()}, "shop.csv", ","),
    "tsv": (table(), {"shop.tsv": shop_csv("\t")}, "shop.tsv", "\t"),
    "criteo": (preset("criteo"), {"day.txt": (CRITEO_LINE * NUM_ROWS).encode()}, "day.txt", "\t"),
    "avazu": (
        preset("avazu"),
        {"avazu.csv": (AVAZU_HEADER + "".join(f"{n},0,14102105{',x' * 21}\n" for n in range(NUM_ROWS))).encode()},
        "avazu.csv",
        ",",
    ),
    "libfm": (
        LogRequest(
            "frappe",
            SourceParams("libfm", (), {"train": "tr.libfm", "valid": "va.libfm", "test": "te.libfm"}),
            preset("frappe").schema,
            OPEN,
        ),
        {name: (LIBFM_LINE * NUM_ROWS).encode() for name in ("tr.libfm", "va.libfm", "te.libfm")},
        "va.libfm",
        " ",
    ),
    "movielens": (
        preset("movielens"),
        {"ml.inter": RATINGS.encode(), "ml.user": USERS.encode(), "ml.item": ITEMS.encode()},
        "ml.inter",
        "\t",
    ),
}
TEXT = sorted(SOUND)
HAS_HEADER = {"csv", "tsv", "avazu", "movielens"}


def kept(folder: Path, request: LogRequest, files: dict[str, bytes]) -> RawLog:
    """A raw log whose files nobody has looked at, so that `scan` itself must find what is wrong."""
    (folder / "files").mkdir(parents=True, exist_ok=True)
    found = []
    for number, (name, content) in enumerate(files.items()):
        digest = f"{number:064x}"
        (folder / "files" / digest).write_bytes(content)
        found.append(Partition(name, digest, len(content), 1, None))
    return RawLog(request, tuple(found), (), folder)


def read(raw_log: RawLog) -> pl.DataFrame:
    scratch = raw_log.folder / "scratch"
    with sources.reading(raw_log, scratch):
        return sources.scan(raw_log, scratch).collect(engine="streaming")


def read_in_pieces(raw_log: RawLog) -> pl.DataFrame:
    """The way of `check`."""
    scratch = raw_log.folder / "scratch"
    with sources.reading(raw_log, scratch):
        return pl.concat([piece() for piece in sources.pieces(raw_log, scratch)])


def refusals(folder: Path, request: LogRequest, files: dict[str, bytes]) -> list[str]:
    """What is said of these files when they are fetched, and when they are read without having been looked at, in both ways."""
    raw_log = kept(folder, request, files)
    found = tuple(sources.SourceFile(p.name, raw_log.path_of(p)) for p in raw_log.partitions)
    with pytest.raises(DataError) as fetching:
        sources.partitions(request, found)
    with pytest.raises(DataError) as reading:
        read(raw_log)
    with pytest.raises(DataError) as in_pieces:
        read_in_pieces(raw_log)
    assert fetching.value.exit_code == reading.value.exit_code == in_pieces.value.exit_code == 3
    return [str(fetching.value), str(reading.value), str(in_pieces.value)]


def spoilt(kind: str, content: bytes) -> tuple[LogRequest, dict[str, bytes], str]:
    request, files, name, _ = SOUND[kind]
    return request, {**files, name: content}, name


def sound(kind: str) -> bytes:
    _, files, name, _ = SOUND[kind]
    return files[name]


def line_number(kind: str, row: int) -> int:
    return row + 1 + (kind in HAS_HEADER)


@pytest.mark.parametrize("kind", TEXT)
def test_the_sound_files_themselves_are_read(tmp_path: Path, kind: str) -> None:
    request, files, _, _ = SOUND[kind]
    raw_log = kept(tmp_path, request, files)
    rows = read(raw_log)
    assert rows["_broken"].null_count() == rows.height == NUM_ROWS * (3 if kind == "libfm" else 1)
    assert read_in_pieces(raw_log).sort("_number").equals(rows.sort("_number"))


@pytest.mark.parametrize("kind", TEXT)
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    request, files, name, _ = SOUND[kind]
    raw_log = kept(tmp_path, request, files)
    raw_log.path_of(next(p for p in raw_log.partitions if p.name == name)).unlink()
    with pytest.raises(DataError, match=rf"'{name}': the file is missing"):
        read(raw_log)


@pytest.mark.parametrize("kind", TEXT)
def test_an_empty_file_is_named(tmp_path: Path, kind: str) -> None:
    for said in refusals(tmp_path, *spoilt(kind, b"")[:2]):
        assert re.search(rf"'{SOUND[kind][2]}': the file is empty \(0 bytes\)", said)


@pytest.mark.parametrize("kind", sorted(HAS_HEADER))
def test_a_file_with_a_header_and_no_rows_is_empty(tmp_path: Path, kind: str) -> None:
    header = sound(kind).splitlines(keepends=True)[0]
    for said in refusals(tmp_path, *spoilt(kind, header)[:2]):
        assert re.search(rf"'{SOUND[kind][2]}': the file is empty: 1 line\(s\) and no rows", said)


@pytest.mark.parametrize("kind", TEXT)
@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_stream_that_is_cut_off_is_named_with_its_bytes(tmp_path: Path, kind: str, ending: str) -> None:
    request, files, name, _ = SOUND[kind]
    packed = gzip.compress(sound(kind)) if ending == ".gz" else zstandard.compress(sound(kind))
    content = packed[: len(packed) - 9]
    options = {key: f"{name}{ending}" if value == name else value for key, value in request.source.options.items()}
    request = LogRequest(request.log, SourceParams(request.source.format, (), options), request.schema, OPEN)
    renamed = {key if key != name else f"{name}{ending}": content if key == name else files[key] for key in files}
    for said in refusals(tmp_path, request, renamed):
        assert f"'{name}{ending}'" in said
        assert f"cut off: its {len(content)} bytes" in said


@pytest.mark.parametrize("name", ["shop.csv.gz", "shop.csv.zst"])
def test_a_compressed_name_with_other_bytes_is_damaged(tmp_path: Path, name: str) -> None:
    for said in refusals(tmp_path, table(), {name: shop_csv()}):
        assert re.search(rf"'{name}': not readable as (gzip|Zstandard) after 0 plain bytes", said)


@pytest.mark.parametrize("kind", TEXT)
def test_a_wrong_separator_is_told_with_the_one_it_seems_to_be(tmp_path: Path, kind: str) -> None:
    separator = SOUND[kind][3]
    content = sound(kind).replace(b";", b"").replace(separator.encode(), b";")
    for said in refusals(tmp_path, *spoilt(kind, content)[:2]):
        assert f"'{SOUND[kind][2]}'" in said
        assert "separated by a semicolon" in said


@pytest.mark.parametrize("kind", TEXT)
def test_a_column_that_is_missing_everywhere_is_named(tmp_path: Path, kind: str) -> None:
    separator = SOUND[kind][3].encode()
    lines = [separator.join(line.split(separator)[:-1]) + b"\n" for line in sound(kind).splitlines()]
    last = {
        "csv": "price",
        "tsv": "price",
        "criteo": "C26",
        "avazu": "C21",
        "libfm": "city",
        "movielens": "timestamp:float",
    }
    width = sound(kind).splitlines()[0].count(separator) + 1
    for said in refusals(tmp_path, *spoilt(kind, b"".join(lines))[:2]):
        assert f"'{SOUND[kind][2]}'" in said
        assert f"'{last[kind]}'" in said
        assert f"{width - 1} columns" in said
        assert re.search(rf"\b{width} were expected", said)


@pytest.mark.parametrize("kind", TEXT)
def test_an_extra_column_everywhere_is_refused(tmp_path: Path, kind: str) -> None:
    lines = [line + SOUND[kind][3].encode() + b"1234:1\n" for line in sound(kind).splitlines()]
    width = lines[0].count(SOUND[kind][3].encode()) + 1
    for said in refusals(tmp_path, *spoilt(kind, b"".join(lines))[:2]):
        assert f"'{SOUND[kind][2]}'" in said
        assert f"{width} columns" in said
        assert re.search(rf"\b{width - 1} were expected", said)


@pytest.mark.parametrize("kind", TEXT)
def test_one_line_that_is_too_short_is_found_by_its_number(tmp_path: Path, kind: str) -> None:
    separator = SOUND[kind][3].encode()
    lines = sound(kind).splitlines(keepends=True)
    at = line_number(kind, 17)
    lines[at - 1] = separator.join(lines[at - 1].split(separator)[:-1]) + b"\n"
    for said in refusals(tmp_path, *spoilt(kind, b"".join(lines))[:2]):
        assert f"'{SOUND[kind][2]}': line {at} has" in said
        assert f"(1 of {len(lines)} lines" in said


@pytest.mark.parametrize("kind", TEXT)
def test_a_short_line_that_a_long_one_makes_up_for_is_found_all_the_same(tmp_path: Path, kind: str) -> None:
    separator = SOUND[kind][3].encode()
    lines = sound(kind).splitlines(keepends=True)
    short, long = line_number(kind, 5), line_number(kind, 25)
    *others, last = lines[short - 1].rstrip().split(separator)
    lines[short - 1] = separator.join(others) + b"\n"
    lines[long - 1] = lines[long - 1].rstrip() + separator + last + b"\n"
    for said in refusals(tmp_path, *spoilt(kind, b"".join(lines))[:2]):
        assert f"'{SOUND[kind][2]}': line {short} has" in said
        assert f"(2 of {len(lines)} lines" in said


@pytest.mark.parametrize("kind", TEXT)
def test_an_empty_line_is_found_by_its_number(tmp_path: Path, kind: str) -> None:
    lines = sound(kind).splitlines(keepends=True)
    lines.insert(4, b"\n")
    for said in refusals(tmp_path, *spoilt(kind, b"".join(lines))[:2]):
        assert f"'{SOUND[kind][2]}': line 5 has 1 columns" in said


@pytest.mark.parametrize("kind", TEXT)
def test_a_byte_that_is_not_utf8_is_found_by_line_and_column(tmp_path: Path, kind: str) -> None:
    separator = SOUND[kind][3].encode()
    lines = sound(kind).splitlines(keepends=True)
    at = line_number(kind, 9)
    values = lines[at - 1].split(separator)
    values[1] = b"caf\xe9"
    lines[at - 1] = separator.join(values)
    second = {
        "csv": "shown_at",
        "tsv": "shown_at",
        "criteo": "I1",
        "avazu": "click",
        "libfm": "user",
        "movielens": "item_id:token",
    }
    for said in refusals(tmp_path, *spoilt(kind, b"".join(lines))[:2]):
        assert f"'{SOUND[kind][2]}': line {at}, column '{second[kind]}': byte 0xe9 is not UTF-8" in said


@pytest.mark.parametrize("kind", TEXT)
def test_a_sign_cut_off_at_the_files_end_is_not_utf8(tmp_path: Path, kind: str) -> None:
    for said in refusals(tmp_path, *spoilt(kind, sound(kind).rstrip() + "é".encode()[:1])[:2]):
        assert "byte 0xc3 is not UTF-8" in said


@pytest.mark.parametrize("kind", ["csv", "tsv", "criteo", "avazu", "libfm"])
def test_a_click_of_two_comes_through_as_found_for_the_check_to_refuse(tmp_path: Path, kind: str) -> None:
    separator = SOUND[kind][3].encode()
    lines = sound(kind).splitlines(keepends=True)
    column = {"csv": 2, "tsv": 2, "avazu": 1}.get(kind, 0)
    values = lines[-1].split(separator)
    values[column] = b"2"
    request, files, name = spoilt(kind, b"".join([*lines[:-1], separator.join(values)]))
    rows = read(kept(tmp_path, request, files)).filter(pl.col("_source") == name)
    assert rows.filter(pl.col("_click") == 2)["_number"].len() == 1
    assert rows["_broken"].null_count() == rows.height


def test_a_time_in_the_wrong_unit_is_suspected_and_the_fitting_unit_named(tmp_path: Path) -> None:
    for declared, factor, actual in (
        ("seconds", 1_000, "milliseconds"),
        ("seconds", 1_000_000, "microseconds"),
        ("milliseconds", 1, "seconds"),
    ):
        schema = LogSchema("clicked", TimeColumn("shown_at", declared), "key", None, None, SHOP.fields)
        request = LogRequest("shop", table().source, schema, OPEN)
        rows = pl.DataFrame(shop_rows()).with_columns(pl.col("shown_at") * factor)
        times = read(kept(tmp_path / f"{declared}{factor}", request, {"shop.csv": rows.write_csv().encode()}))["_time"]
        assert times.null_count() == 0
        said = sources.suspect_time_unit(int(times.min()), int(times.max()), schema.time)  # type: ignore[arg-type]
        assert said is not None
        assert f"they would fit as {actual}" in said
        assert "1990 to 2100 is plausible" in said
    good = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * 1_000_000
    assert sources.suspect_time_unit(good, good, TimeColumn("shown_at", "seconds")) is None


def test_a_time_no_date_can_hold_is_a_number_all_the_same(tmp_path: Path) -> None:
    content = b"key,shown_at,clicked,device,price\na,1e300,1,x,1\nb,-1e300,1,x,1\nc,nan,1,x,1\n"
    rows = read(kept(tmp_path, table(), {"shop.csv": content}))
    assert rows["_time"].to_list() == [2**62, -(2**62), None]
    assert rows["_broken"].to_list() == [None, None, "time does not fit 'seconds'"]


def test_a_column_named_twice_and_one_too_many_are_refused(tmp_path: Path) -> None:
    doubled = shop_csv().replace(b"device", b"key", 1)
    assert (
        "named twice: ['key']"
        in refusals(tmp_path, table(ignored_columns="*"), {"shop.csv": doubled.replace(b",price", b",device", 1)})[0]
    )
    extra = shop_csv().replace(b"\n", b",1\n").replace(b"price,1", b"price,bid", 1)
    assert "too many: ['bid']" in refusals(tmp_path, table(), {"shop.csv": extra})[0]
    for ignored in ("bid", "other, bid", "*"):
        assert read(kept(tmp_path / ignored, table(ignored_columns=ignored), {"shop.csv": extra})).height == NUM_ROWS


@pytest.mark.parametrize("name", ["shop.jsonl", "shop.parquet"])
def test_missing_and_extra_columns_of_other_kinds_of_table_are_named(tmp_path: Path, name: str) -> None:
    for number, (rows, words) in enumerate(
        (
            (pl.DataFrame(shop_rows()).drop("device"), r"4 columns found, 5 expected; missing \['device'\]"),
            (
                pl.DataFrame(shop_rows()).with_columns(bid=1),
                r"6 columns found, 5 expected; not in the schema \['bid'\]",
            ),
        )
    ):
        content = rows.write_ndjson().encode() if name.endswith("jsonl") else shop_parquet(rows)
        for said in refusals(tmp_path / str(number), table(), {name: content}):
            assert re.search(rf"'{name}': {words}", said)


@pytest.mark.parametrize(
    ("bad_line", "words"),
    [
        (b'{"key": "k"\n', "is not JSON"),
        (b"[1, 2]\n", "is a JSON list"),
        (b"12\n", "is a JSON int"),
        (b'{"key": "\xe9"}\n', "byte 0xe9 is not UTF-8"),
        (b"[" * 100_000 + b"\n", "line 31 is n"),
    ],
)
@pytest.mark.parametrize("repeats", [1, 40])
def test_a_line_that_is_no_json_object_is_found_by_its_number(
    tmp_path: Path, bad_line: bytes, words: str, repeats: int
) -> None:
    before = (shop_json() * repeats).splitlines(keepends=True)
    content = b"".join([*before[:30], bad_line, *before[30:]]) if repeats == 1 else b"".join([*before, bad_line])
    with pytest.raises(DataError) as reading:
        read(kept(tmp_path, table(), {"shop.jsonl": content}))
    at = 31 if repeats == 1 else len(before) + 1
    assert f"'shop.jsonl': line {at}" in str(reading.value)
    assert words.replace("31", str(at)) in str(reading.value)


def test_parquet_that_is_cut_off_empty_or_overwritten_is_named(tmp_path: Path) -> None:
    whole = shop_parquet()
    for number, content in enumerate((whole[:-20], whole[:10], b"PAR1" + whole[::-1], shop_csv())):
        for said in refusals(tmp_path / str(number), table(), {"shop.parquet": content}):
            assert "'shop.parquet': not readable as Parquet" in said
            assert f"{len(content):,} bytes" in said
    for said in refusals(tmp_path / "none", table(), {"shop.parquet": shop_parquet(pl.DataFrame(shop_rows()).clear())}):
        assert "'shop.parquet': the file is empty: no rows" in said
    overwritten = whole[:8] + b"\xff" * 300 + whole[308:]
    with pytest.raises(DataError, match=r"'shop\.parquet'"):
        read(kept(tmp_path / "over", table(), {"shop.parquet": overwritten}))


def test_a_parquet_column_of_lists_is_refused(tmp_path: Path) -> None:
    rows = pl.DataFrame(shop_rows()).with_columns(device=pl.concat_list("key", "device"))
    for said in refusals(tmp_path, table(), {"shop.parquet": shop_parquet(rows)}):
        assert "'shop.parquet': column 'device' is List(String)" in said


def test_a_quotation_mark_left_open_is_told_and_a_short_quoted_line_found(tmp_path: Path) -> None:
    open_mark = shop_csv().replace(b"phone", b'"phone', 1)
    assert "is a quotation mark left open?" in refusals(tmp_path / "open", table(), {"shop.csv": open_mark})[0]
    lines = shop_csv().replace(b"phone", b'"pho,ne"').splitlines(keepends=True)
    lines[7] = b'a,1,1,"pho,ne"\n'
    for said in refusals(tmp_path / "short", table(), {"shop.csv": b"".join(lines)}):
        assert "line 8 has 4 columns where 5 were expected, column 'price' is lacking" in said


def test_a_user_described_twice_is_refused(tmp_path: Path) -> None:
    request, files, _, _ = SOUND["movielens"]
    doubled = {**files, "ml.user": files["ml.user"] + b"1\t25\tF\tpilot\t00502\n"}
    with pytest.raises(DataError, match=r"'ml\.user': 1 value\(s\) of 'user' .* such as '1' \(2 times\)"):
        read(kept(tmp_path, request, doubled))


def test_a_part_or_file_that_is_not_there_is_named() -> None:
    libfm = SOUND["libfm"][0]
    with pytest.raises(DataError, match=r"no such part: \['va.libfm'\]; found \['tr.libfm', 'te.libfm'\]"):
        sources.wanted(libfm, ("tr.libfm", "te.libfm"))
    with pytest.raises(DataError, match=r"\['more.libfm'\] is none of the published parts"):
        sources.wanted(libfm, ("tr.libfm", "te.libfm", "va.libfm", "more.libfm"))
    with pytest.raises(DataError, match=r"one file each of .* found \['ml.inter', 'ml.user'\]"):
        sources.wanted(SOUND["movielens"][0], ("ml.inter", "ml.user"))
    for kind in TEXT:
        with pytest.raises(DataError, match=r"no file found|one file each"):
            sources.wanted(SOUND[kind][0], ())


def test_a_day_of_the_window_without_a_partition_is_named() -> None:
    window = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC), None)
    request = LogRequest("shop", table(partition_pattern="%Y-%m-%d").source, SHOP, window)
    with pytest.raises(
        DataError, match=r"no such part: 1 partition.* missing: \['2026-03-03'\].* 2026-03-01 to 2026-03-04"
    ):
        sources.wanted(request, ("2026-03-01.csv", "2026-03-02.csv", "2026-03-04.csv"))
    with pytest.raises(DataError, match=r"'README\.csv': no '%Y-%m-%d' in the file's name"):
        sources.wanted(request, ("2026-03-01.csv", "README.csv"))
    with pytest.raises(DataError, match=r"'2026-13-01\.csv'"):
        sources.wanted(request, ("2026-13-01.csv",))


def test_what_a_person_set_wrongly_is_a_config_error(tmp_path: Path) -> None:
    cases: list[tuple[LogRequest, tuple[str, ...], str]] = [
        (table(separator="||"), ("shop.csv",), "separator must be one"),
        (table(partition_pattern="%Y"), ("2026.csv",), "names no hour or day"),
        (table(), ("shop.xlsx",), "a table ends in one of"),
        (table(), ("shop.parquet.gz",), "a table ends in one of"),
        (table(), ("shop.csv", "shop.csv"), "two files have the same name"),
        (
            LogRequest("c", SourceParams("criteo", (), {"sep": ","}), preset("criteo").schema, OPEN),
            ("a.txt",),
            "unknown",
        ),
        (
            LogRequest("f", SourceParams("libfm", (), {"train": "a", "valid": None, "test": None}), SHOP, OPEN),
            ("a",),
            "all null",
        ),
    ]
    for request, names, words in cases:
        with pytest.raises(ConfigError, match=words) as refused:
            sources.wanted(request, names)
        assert refused.value.exit_code == 2
    strange = LogRequest("criteo", preset("criteo").source, SHOP, OPEN)
    with pytest.raises(
        ConfigError, match=r"criteo logs have no column \['clicked', 'shown_at', 'key', 'device', 'price'\]"
    ):
        read(kept(tmp_path, strange, {"a.txt": CRITEO_LINE.encode()}))
    own = LogRequest("own", table().source, LogSchema("_click", None, None, None, None, ()), OPEN)
    with pytest.raises(ConfigError, match="this system's own"):
        sources.wanted(own, ("a.csv",))
    unit = LogRequest(
        "unit", table().source, LogSchema("clicked", TimeColumn("shown_at", "days"), None, None, None, ()), OPEN
    )
    with pytest.raises(ConfigError, match=r"schema.time.unit is 'days'; expected one of"):
        read(
            kept(
                tmp_path,
                LogRequest("unit", table(ignored_columns="*").source, unit.schema, OPEN),
                {"a.csv": shop_csv()},
            )
        )


FUZZED = {kind: (SOUND[kind][0], SOUND[kind][1], SOUND[kind][2]) for kind in TEXT} | {
    "jsonl": (table(), {"shop.jsonl": shop_json()}, "shop.jsonl"),
    "parquet": (table(), {"shop.parquet": shop_parquet()}, "shop.parquet"),
    "gzip": (table(), {"shop.csv.gz": gzip.compress(shop_csv(), mtime=0)}, "shop.csv.gz"),
}
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", sorted(FUZZED))
@given(edits=edits)
def test_spoilt_bytes_are_read_or_refused_but_nothing_else_ever_escapes(
    tmp_path_factory: pytest.TempPathFactory, kind: str, edits: list[tuple[float, int, bytes]]
) -> None:
    request, files, name = FUZZED[kind]
    content = files[name]
    for place, num_removed, inserted in edits:
        at = int(place * len(content))
        content = content[:at] + inserted + content[at + num_removed :]
    raw_log = kept(tmp_path_factory.mktemp("fuzz"), request, {**files, name: content})
    found = tuple(sources.SourceFile(p.name, raw_log.path_of(p)) for p in raw_log.partitions)
    rows: pl.DataFrame | None
    said = ""
    try:
        counted = sum(p.num_rows for p in sources.partitions(request, found))
        rows = read(raw_log)
    except DataError as error:
        said = str(error)
        rows, counted = None, 0
    if rows is None:
        assert "raw_log" in said
        return
    assert rows.height == counted or kind == "movielens"
    assert rows["_number"].sort().to_list() == list(range(rows.height))
