"""Text logs in blocks of whole lines: the same rows as read at once, whatever stands in them, and the same refusals."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import sources
from components.errors import DataError
from components.log import Field, LogRequest, LogSchema, Partition, RawLog, SourceParams, TimeColumn, Window
from components.sources import blocks
from components.sources.avazu import COLUMNS as AVAZU_COLUMNS
from components.sources.criteo import COLUMNS as CRITEO_COLUMNS

NUMERIC = ("I1", "I2")
CATEGORICAL = ("C1", "C26")
CRITEO = LogSchema(
    "click",
    None,
    None,
    None,
    None,
    (
        *(Field(name, "numeric", "quantiles", 1.0, None, None) for name in NUMERIC),
        *(Field(name, "categorical", None, 1.0, None, None) for name in CATEGORICAL),
    ),
)
ODD_NUMBERS = ("", "7", "-0", "+3", "1.5", ".5", "5.", "1e3", " 1", "1 ", "nan", "inf", "1e999", "1_0", "x", "0x1", "é")
ODD_CLICKS = ("0", "1", "", "2", "1.0", "true", "FALSE", "-1", "300", "9007199254740993", " 1", "x")
ODD_TEXTS = ("", "a", " b", "0", "é", "68fd1e64", "a b", '"')


def raw_log_of(folder: Path, contents: list[bytes], format_name: str = "criteo", schema: LogSchema = CRITEO) -> RawLog:
    (folder / "files").mkdir(parents=True, exist_ok=True)
    request = LogRequest("tried", SourceParams(format_name, (), {}), schema, Window(None, None, None))  # type: ignore[arg-type]
    partitions = []
    for number, content in enumerate(contents):
        digest = f"{number:064x}"
        (folder / "files" / digest).write_bytes(content)
        ending = ".gz" if content.startswith(b"\x1f\x8b") else ""
        partitions.append(Partition(f"day_{number}.txt{ending}", digest, len(content), 1, None))
    return RawLog(request, tuple(partitions), (), folder)


def at_once(raw_log: RawLog) -> pl.DataFrame:
    return sources.scan(raw_log, raw_log.folder / "scratch").collect(engine="streaming").sort("_number")


def in_blocks(raw_log: RawLog, block_bytes: int) -> pl.DataFrame:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blocks, "BLOCK_BYTES", block_bytes)
        return pl.concat([piece() for piece in sources.pieces(raw_log, raw_log.folder / "scratch")])


def criteo_line(click: str, numbers: tuple[str, ...], texts: tuple[str, ...]) -> str:
    values = {"click": click, **dict(zip(NUMERIC, numbers, strict=True)), **dict(zip(CATEGORICAL, texts, strict=True))}
    return "\t".join(values.get(name, "") for name in CRITEO_COLUMNS)


rows = st.tuples(
    st.sampled_from(ODD_CLICKS),
    st.tuples(st.sampled_from(ODD_NUMBERS), st.sampled_from(ODD_NUMBERS)),
    st.tuples(st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_TEXTS)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(rows, min_size=1, max_size=12), block_bytes=st.integers(1, 400), ends=st.sampled_from(["\n", ""]))
def test_odd_values_read_the_same_in_blocks_of_any_size_as_all_at_once(
    tmp_path: Path, lines: list[tuple[str, tuple[str, str], tuple[str, str]]], block_bytes: int, ends: str
) -> None:
    content = "\n".join(criteo_line(*line) for line in lines) + ends
    raw_log = raw_log_of(tmp_path, [content.encode()])
    assert in_blocks(raw_log, block_bytes).equals(at_once(raw_log))


@pytest.mark.parametrize("number", ODD_NUMBERS)
@pytest.mark.parametrize("click", ODD_CLICKS)
def test_a_block_with_one_odd_value_reads_as_it_does_at_once(tmp_path: Path, number: str, click: str) -> None:
    sound = criteo_line("0", ("3", ""), ("a", ""))
    lines = [sound, sound, criteo_line(click, (number, "2"), ("b", "")), sound]
    raw_log = raw_log_of(tmp_path, ["\n".join(lines).encode()])
    assert in_blocks(raw_log, 1 << 20).equals(at_once(raw_log))


def test_files_follow_each_other_and_their_rows_are_numbered_on(tmp_path: Path) -> None:
    sound = criteo_line("0", ("3", ""), ("a", "")) + "\n"
    contents = [(sound * 5).encode(), gzip.compress((sound * 4).encode().removesuffix(b"\n")), (sound * 3).encode()]
    raw_log = raw_log_of(tmp_path, contents)
    table = in_blocks(raw_log, 100)
    assert table["_number"].to_list() == list(range(12))
    assert table["_source"].to_list() == ["day_0.txt"] * 5 + ["day_1.txt.gz"] * 4 + ["day_2.txt"] * 3
    assert table.equals(at_once(raw_log))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_header_is_no_row_and_may_have_its_columns_in_any_order(tmp_path: Path, mark: bytes, line_end: str) -> None:
    schema = LogSchema(
        "click",
        TimeColumn("hour", "%y%m%d%H"),
        "id",
        None,
        None,
        (Field("C14", "numeric", "quantiles", 1.0, None, None), Field("site_id", "categorical", None, 1.0, None, None)),
    )
    names = sorted(AVAZU_COLUMNS)
    values = {"id": "k", "click": "1", "hour": "14102103", "C14": "7", "site_id": "s"}
    line = ",".join(values.get(name, "z") for name in names)
    content = mark + (line_end.join([",".join(names), line, line]) + line_end).encode()
    raw_log = raw_log_of(tmp_path, [content], "avazu", schema)
    table = in_blocks(raw_log, 30)
    assert table.equals(at_once(raw_log))
    assert table.select("_click", "_impression", "C14", "site_id").rows() == [(1, "k", 7.0, "s")] * 2


def test_a_short_line_and_a_long_one_of_the_same_block_do_not_even_out(tmp_path: Path) -> None:
    sound = criteo_line("0", ("3", ""), ("a", "b"))
    short, long = sound.removesuffix("\tb"), sound + "\tc"
    for lines in ([sound, short, long], [sound, long, short], [long, short], [short, long], [sound, "", sound]):
        raw_log = raw_log_of(tmp_path, ["\n".join(lines).encode()])
        for block_bytes in (1, 1 << 20):
            with pytest.raises(DataError, match=r"line [12] has \d+ columns? where 40 were expected"):
                in_blocks(raw_log, block_bytes)


def test_most_blocks_are_read_as_numbers_at_once() -> None:
    assert blocks.quick_kinds(CRITEO) == {"I1": pl.Float64(), "I2": pl.Float64(), "click": pl.Int8()}
