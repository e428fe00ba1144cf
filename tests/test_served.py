from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml

from components.errors import ConfigError, DataError, IntegrityError
from components.log import Field, Partition, RawLog, ServedLog, TimeColumn, Window
from pipeline import acts
from pipeline.score_batch import score_raw_log
from pipeline.served.columns import served_schema, served_table
from pipeline.served.joining import bring_served, join_clicks, served_log_of
from pipeline.served.reading import served_rows
from pipeline.served.writing import ServedWriter
from tests.served_world import DAY, DIGEST, START, World, make_world

EVERYTHING = Window(None, None, None)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=2, num_numeric=1)


def read(folder: Path, world: World, scratch: Path, window: Window = EVERYTHING) -> pl.DataFrame:
    scratch.mkdir(exist_ok=True)
    return served_rows(folder, world.schema, window, scratch).rows.collect()


def test_what_is_written_is_read_back_to_the_last_bit(world: World, tmp_path: Path) -> None:
    rows = world.rows(1, 300).with_columns(
        pl.when(pl.col("_impression") == "1-7").then(pl.lit('é "\\\n\t€𝒳')).otherwise(pl.col("c0")).alias("c0"),
        pl.when(pl.col("_impression") == "1-8").then(pl.lit(1e-310)).otherwise(pl.col("n0")).alias("n0"),
    )
    scores = world.scorer.score(rows)
    writer = ServedWriter(tmp_path / "log", world.schema, DIGEST)
    for start in range(0, 300, 100):
        writer.append(rows[start : start + 100], scores[start : start + 100])
    expected = served_table(rows, scores, DIGEST, world.schema)
    found = read(tmp_path / "log", world, tmp_path / "scratch").sort("_time", "_impression")
    assert found.equals(expected.sort("_time", "_impression"))
    assert found.schema == served_schema(world.schema)


def test_rows_lie_in_files_named_by_their_day_and_hour(world: World, tmp_path: Path) -> None:
    rows = world.rows(1, 200)
    ServedWriter(tmp_path, world.schema, DIGEST).append(rows, np.full(200, 0.5))
    for path in tmp_path.glob("*/*.jsonl"):
        for line in path.read_text().splitlines():
            time = datetime.fromtimestamp(json.loads(line)["_time"] / 1e6, UTC)
            assert path.parent.name == f"{time:%Y-%m-%d}"
            assert path.name.startswith(f"{time:%H}-")
    assert len({path.name.split("-")[1] for path in tmp_path.glob("*/*.jsonl")}) == 1


def test_a_window_gives_its_own_rows_and_opens_no_other_file(world: World, tmp_path: Path) -> None:
    rows = world.rows(1, 500)
    ServedWriter(tmp_path, world.schema, DIGEST).append(rows, np.full(500, 0.5))
    start, end = START + 5 * DAY // 48, START + 7 * DAY // 24
    expected = rows.filter((pl.col("_time") >= start) & (pl.col("_time") < end))
    assert 0 < expected.height < 200
    (tmp_path / "2024-10-04").joinpath("20-x.jsonl").write_text("not JSON\n" * 3)
    (tmp_path / "2024-10-05").mkdir()
    (tmp_path / "2024-10-05").joinpath("batch-x-00000.parquet").write_text("not Parquet")
    window = Window(datetime.fromtimestamp(start / 1e6, UTC), datetime.fromtimestamp(end / 1e6, UTC), None)
    found = read(tmp_path, world, tmp_path / "scratch", window)
    assert sorted(found["_impression"]) == sorted(expected["_impression"])
    naive = Window(*(moment.replace(tzinfo=None) for moment in (window.start, window.end) if moment), None)
    assert read(tmp_path, world, tmp_path / "scratch", naive).equals(found)


@pytest.mark.parametrize("cut", [1, 30, 10_000])
def test_a_line_torn_by_a_crash_is_left_out_and_counted(world: World, tmp_path: Path, cut: int) -> None:
    rows = world.rows(1, 50).with_columns(pl.lit(START).alias("_time"))
    ServedWriter(tmp_path, world.schema, DIGEST).append(rows, np.full(50, 0.5))
    path = next(tmp_path.glob("*/*.jsonl"))
    content = path.read_bytes()
    path.write_bytes(content[: max(len(content) - cut, 20)])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    served = served_rows(tmp_path, world.schema, EVERYTHING, scratch)
    assert served.num_torn_lines == 1
    whole = content[: max(len(content) - cut, 20)].count(b"\n")
    assert served.rows.collect()["_impression"].to_list() == rows["_impression"].to_list()[:whole]
    log, kept = served_log_of(served, world.request(), None, None, scratch), tmp_path / "kept"
    kept.mkdir()
    log.save(kept)
    assert ServedLog.load(kept).num_unreadable == 1, "what could not be read is said to whoever watches"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace('"_time":', '"_time":!', 1), "line 1 is not JSON"),
        (lambda text: text.replace('"score":', '"scores":'), "line 1 has no"),
        (lambda text: text + '{"_time": "yesterday", "score": 1, "bundle": "x"}\n', "another type"),
        (lambda text: text + "[1]\n" + text, "line 4 has no"),
        (lambda text: "[1]\n" + text, "line 1 has no"),
    ],
)
def test_damage_before_the_last_line_is_an_error_that_names_file_and_line(
    world: World, tmp_path: Path, damage: object, words: str
) -> None:
    rows = world.rows(1, 3).with_columns(pl.lit(START).alias("_time"))
    ServedWriter(tmp_path, world.schema, DIGEST).append(rows, np.full(3, 0.5))
    path = next(tmp_path.glob("*/*.jsonl"))
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=words) as caught:
        read(tmp_path, world, tmp_path / "scratch")
    assert str(path) in str(caught.value)


def test_a_disk_that_is_full_leaves_no_half_line_behind(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = world.rows(1, 20).with_columns(pl.lit(START).alias("_time"))
    writer = ServedWriter(tmp_path, world.schema, DIGEST)
    writer.append(rows[:10], np.full(10, 0.5))
    real_write = os.write

    def write_some(handle: int, content: memoryview) -> int:
        if len(content) < 300:
            raise OSError(errno.ENOSPC, "no space")
        return real_write(handle, content[:300])

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="no space"):
        writer.append(rows[10:], np.full(10, 0.5))
    monkeypatch.undo()
    writer.append(rows[10:], np.full(10, 0.5))
    found = read(tmp_path, world, tmp_path / "scratch")
    assert sorted(found["_impression"]) == sorted(rows["_impression"])


def test_a_time_in_another_unit_is_refused_by_row(world: World, tmp_path: Path) -> None:
    rows = world.rows(1, 3)
    for wrong in (-1, START * 1_000):
        bad = rows.with_columns(pl.when(pl.col("_impression") == "1-1").then(wrong).otherwise("_time").alias("_time"))
        with pytest.raises(DataError, match=f"row 1: time {wrong}"):
            ServedWriter(tmp_path, world.schema, DIGEST).append(bad, np.full(3, 0.5))
    assert list(tmp_path.iterdir()) == []


def test_a_field_that_takes_a_name_of_the_served_log_is_refused(world: World, tmp_path: Path) -> None:
    fields = (*world.schema.fields, Field("score", "numeric", "quantiles", 1.0, None, None))
    with pytest.raises(ConfigError, match=r"\['score'\]"):
        ServedWriter(tmp_path, replace(world.schema, fields=fields), DIGEST)


def test_clicks_are_joined_by_impression_and_rows_settle_with_time(world: World) -> None:
    rows = pl.LazyFrame(
        {"_impression": ["a", "b", "c", "d"], "_time": [1, 2, 3, 4], "_click": [None, None, 1, None]},
        schema={"_impression": pl.String, "_time": pl.Int64, "_click": pl.Int8},
    )
    clicks = pl.LazyFrame({"_impression": ["b", "b", "c", "x", None], "_click": [0, 1, 0, 1, 1]})
    joined = join_clicks(rows, clicks, settled_before=4).collect()
    assert joined["_click"].to_list() == [0, 1, 1, None]
    assert joined["_impression"].to_list() == ["a", "b", "c", "d"]
    assert joined.columns == ["_impression", "_time", "_click"]
    assert join_clicks(rows, clicks, None).collect()["_click"].to_list() == [None, 1, 1, None]


def test_a_log_that_was_never_served_is_an_empty_table_with_all_columns(world: World, tmp_path: Path) -> None:
    log = bring_served(world.request(), tmp_path / "nowhere", tmp_path)
    table = log.scan().collect()
    assert (table.height, table.schema) == (0, served_schema(world.schema))


def test_rows_served_under_another_schema_are_kept_and_said(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "served").mkdir()
    rows = world.rows(1, 30)
    fields = tuple(field for field in world.schema.fields if field.name != "c1")
    older = replace(world.schema, fields=(*fields, Field("gone", "categorical", None, 1.0, None, None)))
    ServedWriter(tmp_path / "served" / "tests", older, DIGEST).append(
        rows.with_columns(pl.lit("x").alias("gone")), np.full(30, 0.5)
    )
    log = bring_served(world.request(), tmp_path / "served", tmp_path)
    table = log.scan().collect()
    assert table.schema == served_schema(world.schema)
    assert table["c1"].null_count() == 30
    assert table["c0"].to_list() == rows["c0"].to_list()
    assert "written under another schema" in capsys.readouterr().err


def test_the_artifact_is_read_back_equal(world: World, tmp_path: Path) -> None:
    rows = world.rows(1, 40)
    ServedWriter(tmp_path / "log", world.schema, DIGEST).append(rows, world.scorer.score(rows))
    (tmp_path / "scratch").mkdir()
    served = served_rows(tmp_path / "log", world.schema, EVERYTHING, tmp_path / "scratch")
    clicks = pl.LazyFrame({"_impression": ["1-3"], "_click": [1]})
    log = served_log_of(served, world.request(), clicks, START + DAY, tmp_path / "scratch")
    (tmp_path / "saved").mkdir()
    log.save(tmp_path / "saved")
    loaded = ServedLog.load(tmp_path / "saved")
    assert loaded.request == log.request
    assert loaded.scan().collect().equals(log.scan().collect())
    assert loaded.scan().collect()["_click"].sum() == 1


# Whole logs


def raw_log_of(world: World, rows: pl.DataFrame, folder: Path) -> RawLog:
    """A CSV as people have it, made a raw log as fetch would."""
    from components import sources

    (folder / "files").mkdir(parents=True)
    place = folder / "rows.csv"
    times = pl.from_epoch("_time", "us").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").alias("time")
    rows.select(pl.col("_impression").alias("id"), times, "click", "c0", "c1", "n0").write_csv(place)
    request = world.request()
    (partition,) = sources.partitions(request, (sources.SourceFile("rows.csv", place),))
    place.rename(folder / "files" / partition.sha256)
    assert isinstance(partition, Partition)
    return RawLog(request, (partition,), (), folder)


def test_a_scored_log_has_the_scorers_scores_and_the_clicks_that_are_known(world: World, tmp_path: Path) -> None:
    rows = world.rows(1, 200).with_columns(pl.Series("click", [0, 1] * 99 + [2, None]))
    raw_log = raw_log_of(world, rows, tmp_path / "raw")
    counts = []
    for chunk_rows in (10_000, 64):
        scratch = tmp_path / f"scratch {chunk_rows}"
        scratch.mkdir()
        done = score_raw_log(raw_log, world.scorer, DIGEST, tmp_path / "served", chunk_rows, scratch, lambda *_: None)
        counts.append((done.num_rows, done.num_outside_window, sum(done.num_broken.values())))
    assert counts == [(200, 0, 0)] * 2
    found = read(tmp_path / "served" / "tests", world, tmp_path / "scratch").sort("_time", "_impression")
    rows = rows.sort("_time", "_impression")
    assert found["_impression"].to_list() == rows["_impression"].to_list()
    assert found["score"].to_list() == world.scorer.score(rows).tolist()
    assert found["_click"].null_count() == 2
    assert found["_click"].sum() == 99


def test_rows_that_cannot_be_read_are_counted_by_reason_and_the_window_is_kept(world: World, tmp_path: Path) -> None:
    rows = world.rows(1, 100).with_columns(pl.lit(0).alias("click"))
    raw_log = raw_log_of(world, rows, tmp_path / "raw")
    path = raw_log.path_of(raw_log.partitions[0])
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([cells[0], "yesterday", *cells[2:]])
    path.write_text("\n".join(lines) + "\n")
    noon = datetime.fromtimestamp((START + DAY // 2) / 1e6, UTC)
    window = Window(noon, None, None)
    raw_log = RawLog(replace(raw_log.request, window=window), raw_log.partitions, (), raw_log.folder)
    (tmp_path / "scratch").mkdir()
    done = score_raw_log(
        raw_log, world.scorer, DIGEST, tmp_path / "served", 1_000, tmp_path / "scratch", lambda *_: None
    )
    assert sum(done.num_broken.values()) == 1
    assert "time" in next(iter(done.num_broken))
    afternoon = rows.filter(pl.col("_time") >= START + DAY // 2).height
    assert (done.num_rows, done.num_outside_window) == (afternoon, 99 - afternoon)


def test_a_log_with_other_fields_than_the_bundle_is_refused(world: World, tmp_path: Path) -> None:
    raw_log = raw_log_of(world, world.rows(1, 5).with_columns(pl.lit(0).alias("click")), tmp_path / "raw")
    schema = replace(world.schema, fields=world.schema.fields[:-1], time=TimeColumn("time", "iso8601"))
    raw_log = RawLog(replace(raw_log.request, schema=schema), raw_log.partitions, (), raw_log.folder)
    with pytest.raises(ConfigError, match="are not those of the bundle"):
        score_raw_log(raw_log, world.scorer, DIGEST, tmp_path / "served", 100, tmp_path, lambda *_: None)
    assert not (tmp_path / "served").exists()


def workspace_of(world: World, folder: Path) -> Path:
    """Params, and a preset of this world's schema."""
    (folder / "logs").mkdir(parents=True)
    repo = Path(__file__).parents[1]
    preset = yaml.safe_load((repo / "logs/example_table.yaml").read_text("utf-8"))
    preset["schema"] = asdict(world.schema)
    preset["source"]["options"]["partition_pattern"] = None
    (folder / "logs/tests.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(preset))))
    params = yaml.safe_load((repo / "params.yaml").read_text("utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump({**params, "log": "tests"}))
    (folder / "window.yaml").write_text(yaml.safe_dump({"start": None, "end": None, "as_of": None}))
    return folder


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_table_that_lacks_the_column_of_clicks_is_scored_without_them(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    champion = SimpleNamespace(scorer=world.scorer, digest=DIGEST, version="v1.0.0")
    monkeypatch.setattr(acts, "champion_near", lambda *_: champion)
    monkeypatch.setenv("CTR_SERVED", str(tmp_path / "served"))
    rows = world.rows(1, 50).sort("_time", "_impression")
    times = pl.from_epoch("_time", "us").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").alias("time")
    unseen = rows.select(pl.col("_impression").alias("id"), times, "c0", "c1", "n0")
    file = tmp_path / f"unseen.{kind}"
    {"csv": unseen.write_csv, "parquet": unseen.write_parquet, "jsonl": unseen.write_ndjson}[kind](file)
    acts.score(workspace_of(world, tmp_path / "workspace"), file, None, None)
    said = capsys.readouterr()
    assert "50 rows scored by v1.0.0" in said.out
    assert "no column 'click': scored without clicks" in said.err
    (line,) = (line for line in said.out.splitlines() if line.startswith("scores: "))
    found = pl.read_parquet(line.removeprefix("scores: ")).sort("_time", "_impression")
    assert found["score"].to_list() == world.scorer.score(rows).tolist()
    assert found["_click"].null_count() == 50


def test_a_table_that_lacks_more_than_the_clicks_is_refused_for_all_of_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = SimpleNamespace(scorer=world.scorer, digest=DIGEST, version="v1.0.0")
    monkeypatch.setattr(acts, "champion_near", lambda *_: champion)
    (tmp_path / "unseen.csv").write_text("id,time,c0,c1\na,2026-03-02T00:00:00,x,y\n")
    with pytest.raises(DataError, match=r"2 columns missing: \['click', 'n0'\]"):
        acts.score(workspace_of(world, tmp_path / "workspace"), tmp_path / "unseen.csv", None, None)
