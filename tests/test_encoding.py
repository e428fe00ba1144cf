"""Encode: what train taught, the same ids for the same values wherever they are met, and one way through for one row or many."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.encoding import Encoded, EncodeParams, Encoder, encode_log
from components.encoding.codes import Buckets, Calendar, Vocabulary
from components.encoding.fitting import quantile_edges, squared_log_edges, without_thin_buckets
from components.errors import IntegrityError
from components.log import CheckReport, CleanLog, Field, LogRequest, LogSchema, SourceParams, TimeColumn, Window
from components.splitting import SPLIT_NAMES, SplitParams, Splits, SplitSpan, split_log
from components.workbench import Workbench
from pipeline.bench_encode import make_criteo_file

START = 1_772_409_600_000_000  # Monday, 2026-03-02
PARAMS = EncodeParams(min_count=2, max_vocabulary=1_000, num_hash_buckets=0, num_buckets=10)
FIELDS = (
    Field("city", "categorical", None, 0.5, None, None),
    Field("price", "numeric", "quantiles", 0.5, None, None),
    Field("count", "numeric", "squared_log", 0.5, None, None),
    Field("hour", "hour", None, 0.0, None, None),
    Field("weekday", "weekday", None, 0.0, None, None),
)
SCHEMA = LogSchema("click", TimeColumn("time", "microseconds"), None, None, None, FIELDS)


def make_rows(num_rows: int, seed: int = 2) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    is_missing = rng.random((3, num_rows)) < 0.1
    city = np.char.add("c", np.minimum(rng.zipf(1.4, num_rows), 10_000).astype(str)).astype(object)
    city[is_missing[0]] = None
    price = np.round(rng.lognormal(2, 1, num_rows), 2).astype(object)
    price[is_missing[1]] = None
    count = np.floor(rng.lognormal(2, 2, num_rows)).astype(object) - 2
    count[is_missing[2]] = None
    return pl.DataFrame(
        {
            "_row": np.arange(num_rows),
            "_time": START + np.sort(rng.integers(0, 14 * 86_400_000_000, num_rows)),
            "_click": rng.integers(0, 2, num_rows).astype(np.int8),
            "_impression": pl.Series([None] * num_rows, dtype=pl.String),
            "city": pl.Series(city.tolist(), dtype=pl.String),
            "price": pl.Series(price.tolist(), dtype=pl.Float64),
            "count": pl.Series(count.tolist(), dtype=pl.Float64),
        }
    )


def make_clean_log(folder: Path, rows: pl.DataFrame, schema: LogSchema = SCHEMA) -> CleanLog:
    request = LogRequest("made", SourceParams("table", (), {}), schema, Window(None, None, None))
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "rows.parquet", row_group_size=100)
    return CleanLog(request, CheckReport(rows.height, 0, 0, 0, rows.height, 0, None, None, {}, ()), folder)


def make_splits(assignment: list[int]) -> Splits:
    numbers = np.array(assignment, np.int8)
    spans = tuple(
        SplitSpan(name, int((numbers == place).sum()), 0, None, None) for place, name in enumerate(SPLIT_NAMES)
    )
    return Splits("pairs", spans, int((numbers == -1).sum()), "made", numbers)


def encode_made(
    tmp_path: Path, workbench: Workbench, num_rows: int = 2_000, params: EncodeParams = PARAMS
) -> tuple[pl.DataFrame, Splits, Encoded]:
    rows = make_rows(num_rows)
    clean_log = make_clean_log(tmp_path / "log", rows)
    splits = split_log(clean_log, SplitParams("time", 0.2, 0.1, 0.1, 6.0, 1))
    return rows, splits, encode_log(clean_log, splits, params, workbench)


# ------------------------------------------------------------------------------------------------ the whole stage


@pytest.mark.parametrize("num_hash_buckets", [0, 13])
def test_each_split_holds_the_ids_that_serving_gives_its_raw_rows(
    tmp_path: Path, workbench: Workbench, num_hash_buckets: int
) -> None:
    params = replace(PARAMS, max_vocabulary=20, num_hash_buckets=num_hash_buckets)
    rows, splits, encoded = encode_made(tmp_path, workbench, params=params)
    for name in SPLIT_NAMES:
        split, numbers = encoded.split(name), splits.rows_of(name)
        raw = rows[numbers]
        assert split.ids.dtype == np.int32
        assert split.ids.shape == (len(numbers), 5)
        assert np.array_equal(split.clicks, raw["_click"].to_numpy())
        assert np.array_equal(split.times, raw["_time"].to_numpy())
        assert np.array_equal(encoded.encoder.encode(raw), split.ids)
        one_by_one = np.concatenate([encoded.encoder.encode(raw[number]) for number in range(50)])
        assert np.array_equal(one_by_one, split.ids[:50])
        assert (split.ids >= 0).all()
        assert (split.ids < np.array(encoded.field_sizes)).all()


def test_many_chunks_hold_the_same_ids_as_one(
    tmp_path: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(1_000)
    clean_log = make_clean_log(tmp_path / "log", rows)
    splits = make_splits([int(number) for number in np.random.default_rng(3).integers(-1, 4, 1_000)])
    whole = encode_log(clean_log, splits, PARAMS, workbench)
    monkeypatch.setattr("components.encoding.encoded.CHUNK_ROWS", 97)
    (tmp_path / "other").mkdir()
    parts = encode_log(clean_log, splits, PARAMS, replace(workbench, scratch=tmp_path / "other"))
    assert parts.equals(whole)
    for name in SPLIT_NAMES:
        assert np.array_equal(whole.split(name).ids, whole.encoder.encode(rows[splits.rows_of(name)]))


def test_encoded_reads_back_equal_and_shows_a_changed_array(tmp_path: Path, workbench: Workbench) -> None:
    _, _, encoded = encode_made(tmp_path, workbench)
    saved = tmp_path / "saved"
    saved.mkdir()
    encoded.save(saved)
    again = Encoded.load(saved)
    assert again.equals(encoded)
    assert again.encoder == encoded.encoder
    ids = np.load(saved / "ids_test.npy")
    (saved / "ids_test.npy").unlink()
    ids[0, 0] += 1
    np.save(saved / "ids_test.npy", ids)
    assert not again.equals(encoded)
    (saved / "ids_test.npy").unlink()
    np.save(saved / "ids_test.npy", ids[:-1])
    with pytest.raises(IntegrityError, match="'test' should have"):
        again.split("test")


def test_an_encoder_whose_parts_do_not_fit_is_refused(tmp_path: Path, workbench: Workbench) -> None:
    _, _, encoded = encode_made(tmp_path, workbench)
    encoded.encoder.save(tmp_path)
    table = pl.read_parquet(tmp_path / "vocabularies.parquet")
    table.head(-1).write_parquet(tmp_path / "vocabularies.parquet")
    with pytest.raises(IntegrityError, match="'city' has"):
        Encoder.load(tmp_path)


def test_nothing_but_train_teaches(tmp_path: Path, workbench: Workbench) -> None:
    rows = make_rows(600)
    assignment = [0] * 300 + [1] * 100 + [2] * 100 + [3] * 100
    changed = rows.with_columns(
        pl.when(pl.col("_row") < 300).then("city").otherwise(pl.lit("new")).alias("city"),
        pl.when(pl.col("_row") < 300).then("price").otherwise(1e6).alias("price"),
    )
    encoders = []
    for name, table in (("a", rows), ("b", changed)):
        place = tmp_path / name
        place.mkdir()
        clean_log = make_clean_log(place / "log", table)
        encoded = encode_log(clean_log, make_splits(assignment), PARAMS, replace(workbench, scratch=place))
        encoders.append(encoded.encoder)
    assert encoders[0] == encoders[1]
    of_city = next(one for one in encoded.coverage if one.field == "city")
    assert of_city.unseen_shares["test"] == 1.0


def test_train_rows_that_are_scattered_teach_the_same_as_in_one_run(tmp_path: Path, workbench: Workbench) -> None:
    rows = make_rows(400)
    order = np.random.default_rng(4).permutation(400)
    assignment = np.array([0] * 200 + [1] * 70 + [2] * 60 + [3] * 70)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    run = encode_log(
        make_clean_log(tmp_path / "a" / "log", rows),
        make_splits(assignment.tolist()),
        PARAMS,
        replace(workbench, scratch=tmp_path / "a"),
    )
    scattered = encode_log(
        make_clean_log(tmp_path / "b" / "log", rows[order]),
        make_splits(assignment[order].tolist()),
        PARAMS,
        replace(workbench, scratch=tmp_path / "b"),
    )
    assert run.encoder == scattered.encoder


def test_coverage_counts_missing_and_unseen_values_by_loop(tmp_path: Path, workbench: Workbench) -> None:
    rows, splits, encoded = encode_made(tmp_path, workbench)
    train = Counter(rows[splits.rows_of("train")]["city"].to_list())
    train.pop(None)
    known = {value for value, count in train.items() if count >= 2}
    of_city = encoded.coverage[0]
    assert of_city.num_train_values == len(train)
    assert of_city.num_ids == encoded.field_sizes[0] == len(known) + 2
    for name in SPLIT_NAMES:
        values = rows[splits.rows_of(name)]["city"].to_list()
        assert of_city.missing_shares[name] == values.count(None) / len(values)
        num_unseen = sum(value is not None and value not in known for value in values)
        assert of_city.unseen_shares[name] == num_unseen / len(values)


# --------------------------------------------------------------------------------------------------- single fields


def test_a_vocabulary_has_the_most_frequent_values_first_and_ties_in_alphabetical_order(
    tmp_path: Path, workbench: Workbench
) -> None:
    cities = ["b"] * 3 + ["a"] * 3 + ["z"] * 5 + ["rare"] + [None] * 2
    rows = make_rows(len(cities) + 3).with_columns(pl.Series("city", [*cities, "rare", "rare", "rare"]))
    splits = make_splits([0] * len(cities) + [1, 2, 3])
    encoded = encode_log(make_clean_log(tmp_path / "log", rows), splits, PARAMS, workbench)
    assert encoded.encoder.vocabulary("city") == ["z", "a", "b"]
    assert encoded.split("train").ids[:, 0].tolist() == [4] * 3 + [3] * 3 + [2] * 5 + [1] + [0] * 2


def test_a_vocabulary_that_is_too_large_shares_ids_by_hash() -> None:
    code = Vocabulary("city", pl.Series("city", ["a", "b"]), 5)
    encoder = Encoder(replace(SCHEMA, fields=FIELDS[:1]), (code,))
    values = ["a", None, "b", *(f"other{number}" for number in range(200))]
    table = pl.DataFrame({"city": values})
    ids = encoder.encode_many(table)[:, 0]
    assert ids[:3].tolist() == [2, 0, 3]
    assert set(ids[3:]) == {4, 5, 6, 7, 8}
    assert np.array_equal(encoder.encode_few(table)[:, 0], ids)
    assert len(encoder.vocabulary("city")) == 7 == encoder.field_sizes[0] - 2


def test_quantile_buckets_have_nearly_equal_mass() -> None:
    values = np.sort(np.random.default_rng(5).normal(size=10_000))
    edges = quantile_edges(values, np.ones(len(values), np.int64), 20)
    sizes = np.bincount(np.searchsorted(edges, values, side="right"))
    assert len(sizes) == 20
    assert np.abs(sizes - 500).max() <= 1


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(values=st.lists(st.integers(-5, 30), min_size=1, max_size=80), num_buckets=st.integers(2, 12))
def test_no_quantile_bucket_is_empty_in_train(values: list[int], num_buckets: int) -> None:
    distinct, counts = np.unique(np.array(values, float), return_counts=True)
    edges = quantile_edges(distinct, counts, num_buckets)
    sizes = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    assert len(sizes) == len(edges) + 1 <= num_buckets
    assert sizes.min() > 0


def test_the_squared_log_is_criteos_formula() -> None:
    code = Buckets("count", squared_log_edges(-3.0, 2e5))
    by_formula: dict[tuple[str, int], set[int]] = {}
    for number in range(-3, 200_000):
        bucket = ("log", math.floor(math.log(number) ** 2)) if number > 2 else ("whole", number)
        by_formula.setdefault(bucket, set()).add(code.id_of(float(number)))
    assert all(len(ids) == 1 for ids in by_formula.values())
    assert len({ids.pop() for ids in by_formula.values()}) == len(by_formula)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(values=st.lists(st.integers(0, 60), min_size=1, max_size=80), min_count=st.integers(1, 10))
def test_buckets_with_too_few_rows_are_joined(values: list[int], min_count: int) -> None:
    distinct, counts = np.unique(np.array(values, float), return_counts=True)
    edges = without_thin_buckets(squared_log_edges(0.0, 60.0), distinct, counts, min_count)
    sizes = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    assert len(sizes) == 1 or sizes.min() >= min_count


def test_hours_and_weekdays_are_those_of_the_calendar() -> None:
    rng = random.Random(6)
    times = [rng.randrange(-(10**15), 4 * 10**15) for _ in range(300)]
    for kind, truth in (
        ("hour", lambda moment: f"{moment.hour}:00"),
        ("weekday", lambda moment: moment.strftime("%A")),
    ):
        code = Calendar(kind)
        encoder = Encoder(replace(SCHEMA, fields=(Field("x", kind, None, 0, None, None),)), (code,))  # type: ignore[arg-type]
        ids = encoder.encode_many(pl.DataFrame({"_time": times}))[:, 0]
        words = [code.words()[number - 2] for number in ids]
        assert words == [truth(datetime.fromtimestamp(time // 1_000_000, UTC)) for time in times]


odd_rows = st.lists(
    st.fixed_dictionaries(
        {
            "_time": st.none() | st.integers(-(2**53), 2**53),
            "city": st.none() | st.sampled_from(["c1", "c2", "c3", ""]) | st.text(max_size=3),
            "price": st.none() | st.floats(allow_nan=True, allow_infinity=True),
            "count": st.none() | st.integers(-100, 10_000).map(float) | st.floats(-3, 60),
        }
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(rows=odd_rows)
def test_few_rows_and_many_are_encoded_alike(fitted: Encoder, rows: list[dict[str, Any]]) -> None:
    kinds = {"_time": pl.Int64, "city": pl.String, "price": pl.Float64, "count": pl.Float64}
    table = pl.DataFrame(rows, schema=kinds)
    many = fitted.encode_many(table)
    assert np.array_equal(fitted.encode_few(table), many)
    assert np.array_equal(fitted.encode(table.lazy()), many)


@pytest.fixture(scope="module", params=[0, 7])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """An encoder with and one without hashed ids."""
    place = tmp_path_factory.mktemp("fitted")
    workbench = Workbench(place, place, lambda *said: None, "cpu", "never", None, lambda: None, 1)
    clean_log = make_clean_log(place / "log", make_rows(1_500))
    params = replace(PARAMS, max_vocabulary=30, num_hash_buckets=request.param)
    return encode_log(clean_log, make_splits([0] * 1_497 + [1, 2, 3]), params, workbench).encoder


# ------------------------------------------------------------------------------------------------------ the benchmark


def test_the_benchmarks_file_is_criteos_format_with_fresh_rare_values(research_data: Path, tmp_path: Path) -> None:
    sample = research_data / "criteo-sample" / "criteo.txt.gz"
    tables = []
    for name in ("a.txt", "b.txt"):
        make_criteo_file(sample, 17_000, tmp_path / name)
        tables.append(pl.read_csv(tmp_path / name, separator="\t", has_header=False, infer_schema=False))
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    made, raw = tables[0], pl.read_csv(sample, separator="\t", has_header=False, infer_schema=False)
    assert made.shape == (17_000, 40)
    assert made["column_0"].to_list()[:16_000] == raw["column_0"].to_list() * 2
    for name in made.columns:
        again = pl.concat([raw[name], raw[name], raw[name].head(1_000)])
        assert (made[name].is_null() == again.is_null()).all()  # what is missing stays missing
        assert made[name].drop_nulls().str.contains(r"^(-?\d+|[0-9a-f]{8})$").all()
    assert made["column_16"].n_unique() > raw["column_16"].n_unique()
    assert (
        made["column_14"].value_counts(sort=True)["column_14"][0]
        == raw["column_14"].value_counts(sort=True)["column_14"][0]
    )
