"""Bad input to watching: a clear error or a finding, never silence and never a crash."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.champion import Champion
from components.errors import DataError, IntegrityError
from components.log import ServedLog, Window
from components.watching import Drift, watch_served
from components.watching.reference import read_reference
from components.watching.watch import compare_served
from components.workbench import Workbench
from tests.served_world import (
    MIDNIGHT,
    WATCH_PARAMS,
    Watch,
    World,
    finding_of,
    found,
    make_world,
    watching,
)

NUM_ROWS = 8_000


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=3, num_numeric=1)


@pytest.fixture(scope="module")
def champion(world: World, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return world.champion(10_000, tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def watch(world: World, champion: Champion, tmp_path: Path, workbench: Workbench) -> Watch:
    return watching(world, champion, tmp_path, workbench)


def test_nothing_to_compare_is_a_status_and_no_error(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(33, NUM_ROWS)
    cases = {
        "no champion": (Champion.none(), rows),
        "at least 500": (champion, rows.head(499)),
    }
    for number, (reason, (reference, served)) in enumerate(cases.items()):
        log = world.served_log(tmp_path / str(number), served, None)
        drift = watch_served(reference, log, WATCH_PARAMS, workbench).facts
        assert drift.status == "nothing_to_compare"
        assert reason in drift.reason


def test_a_table_that_is_no_served_log_is_refused(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    world.rows(34, NUM_ROWS).with_columns(pl.lit(0.1).alias("score")).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="column '_click'"):
        watch_served(champion, ServedLog(world.request(), tmp_path), WATCH_PARAMS, workbench)


def test_a_damaged_drift_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drift.json").write_text('{"status": "quiet"}')
    with pytest.raises(IntegrityError, match=r"drift\.json.*missing"):
        Drift.load(tmp_path)


def test_no_rows_are_a_finding_and_never_silence(world: World, watch: Watch) -> None:
    drift = watch(world.rows(67, 1_000).clear(), None)
    assert found(drift) == {("rows", "all")}
    assert drift.status == "contract"
    assert "0 rows were served" in finding_of(drift, "rows").what


@pytest.mark.parametrize("days", [-1, 1])
def test_rows_of_another_day_are_a_finding(world: World, watch: Watch, days: int) -> None:
    shown = MIDNIGHT + timedelta(days=days)
    drift = watch(world.rows(68, 5_000), None, Window(shown, shown + timedelta(days=1), shown + timedelta(days=1)))
    assert ("outside", "all") in found(drift)
    assert finding_of(drift, "outside").kind == "contract"


def test_a_log_of_another_schema_is_found_column_by_column(world: World, watch: Watch) -> None:
    rows = world.rows(69, 2_000)
    served = rows.with_columns(pl.Series("score", world.scorer.score(rows))).rename({"c0": "d0", "n0": "m0"})
    drift = watch(served, None)
    assert {slice_name for check, slice_name in found(drift) if check == "columns"} == {"c0", "n0"}
    assert any("'d0', 'm0'" in note for note in drift.notes)


@pytest.mark.parametrize("damage", ["cut", "noise", "absent"])
def test_a_served_log_that_cannot_be_read_is_refused_by_name(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench, damage: str
) -> None:
    log = world.served_log(tmp_path / "served", world.rows(90, NUM_ROWS), None)
    path = tmp_path / "served" / "rows.parquet"
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"PAR1" + bytes(200) + b"PAR1")
    with pytest.raises(IntegrityError, match=r"rows\.parquet: not readable"):
        compare_served(champion, log, WATCH_PARAMS, workbench)


def test_lines_that_could_not_be_read_back_are_a_finding_of_the_contract(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    log = world.served_log(tmp_path / "served", world.rows(37, NUM_ROWS), None)
    for num_lines, expected in ((8, set()), (80, {("unreadable", "all")})):
        (log.folder / "unreadable.json").write_text(f'{{"num_lines": {num_lines}}}')
        drift = compare_served(champion, log, WATCH_PARAMS, workbench).facts
        assert found(drift) == expected, num_lines
    assert finding_of(drift, "unreadable").measured == pytest.approx(80 / (NUM_ROWS + 80))
    (log.folder / "unreadable.json").write_text('{"num_lines": "some"}')
    with pytest.raises(IntegrityError, match=r"unreadable\.json"):
        compare_served(champion, log, WATCH_PARAMS, workbench)


def test_rows_without_a_time_are_refused_with_their_number(world: World, watch: Watch) -> None:
    rows = world.rows(91, NUM_ROWS)
    untimed = pl.when(pl.Series(np.arange(NUM_ROWS) % 80 == 0)).then(None).otherwise(pl.col("_time")).alias("_time")
    with pytest.raises(DataError, match="'_time' is empty in 100 of 8,000 rows"):
        watch(rows.with_columns(untimed), None)


def test_rows_that_hold_nothing_but_a_time_are_findings(world: World, watch: Watch) -> None:
    rows = world.rows(92, NUM_ROWS)
    fields = [field.name for field in world.schema.column_fields]
    nothing = [pl.lit(None, rows[name].dtype).alias(name) for name in (*fields, "_impression")]
    empty = rows.with_columns(
        *nothing, pl.lit(None, pl.Float64).alias("score"), pl.lit(None, pl.String).alias("bundle")
    )
    drift = watch(empty, None, Window(MIDNIGHT, MIDNIGHT + timedelta(days=1), MIDNIGHT + timedelta(days=3)))
    assert drift.status == "contract"
    expected = {("score_invalid", "all"), ("stale_bundle", "all"), ("clicks_missing", "all")}
    assert expected | {("field_empty", name) for name in fields} <= found(drift)


@pytest.mark.parametrize("number", [np.inf, -np.inf, 1e308, -1e308])
def test_numbers_without_end_are_counted_and_found(world: World, watch: Watch, number: float) -> None:
    drift = watch(world.rows(93, NUM_ROWS).with_columns(pl.lit(number).alias("n0")), None)
    assert {check for check, name in found(drift) if name == "n0"} & {"field_range", "field_unit"}


@pytest.mark.parametrize(
    ("file", "column", "value"),
    [
        ("slices.parquet", "value", "about 3"),
        ("slices.parquet", "value", "up to much"),
        ("reliability.parquet", "click_rate", "x"),
    ],
)
def test_a_damaged_evaluation_is_refused_by_name(
    world: World, tmp_path: Path, file: str, column: str, value: str
) -> None:
    world.champion(4_000, tmp_path)
    table = pl.read_parquet(tmp_path / file)
    is_number = pl.col("field") == "n0" if file == "slices.parquet" else pl.lit(True)
    kind = table.schema[column] if column == "value" else pl.String
    table.with_columns(
        pl.when(is_number).then(pl.lit(value)).otherwise(pl.col(column).cast(kind)).alias(column)
    ).write_parquet(tmp_path / file)
    with pytest.raises(IntegrityError, match=r"evaluation\.json|reliability\.parquet"):
        read_reference(tmp_path, world.schema)
