from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from components.errors import DataError, IntegrityError
from components.log import LogSchema
from components.profiling import ReferenceProfile, build_profile, count_rows
from components.profiling.binning import FIRST_VALUE_BIN, MISSING_BIN, OTHER, OTHER_BIN
from tests.served_world import DAY, PROFILE_PARAMS, START, World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=5, num_numeric=1)


@pytest.fixture(scope="module")
def profile(world: World) -> ReferenceProfile:
    champion = world.champion(6_000)
    assert champion.profile is not None
    return champion.profile


def test_counts_are_those_of_a_loop_by_hand(world: World, profile: ReferenceProfile) -> None:
    rows = world.rows(0, 6_000)
    for field in profile.binning.fields:
        by_hand: Counter[tuple[int, int]] = Counter()
        for time, value in zip(rows["_time"], rows[field.name], strict=True):
            hour = time // 3_600_000_000 % 24
            if value is None:
                number = MISSING_BIN
            elif field.kind == "numeric":
                number = FIRST_VALUE_BIN + sum(value >= edge for edge in field.edges)
            else:
                number = FIRST_VALUE_BIN + field.values.index(value) if value in field.values else OTHER_BIN
            by_hand[hour, number] += 1
        counts = profile.tally.counts[f"field:{field.name}"]
        assert {(h, b): counts[h, b] for h, b in zip(*np.nonzero(counts), strict=True)} == dict(by_hand)


def test_top_values_are_the_most_frequent_ones(world: World, profile: ReferenceProfile) -> None:
    values = [value for value in world.rows(0, 6_000)["c4"] if value is not None]
    ordered = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
    field = next(field for field in profile.binning.fields if field.name == "c4")
    assert list(field.values) == [value for value, _ in ordered[:50]]
    assert len(set(values)) > 50


def test_unseen_values_are_those_the_encoder_was_not_fitted_on(world: World, profile: ReferenceProfile) -> None:
    known = set(world.scorer.encoder.vocabulary("c3"))
    by_hand = sum(value is not None and value not in known for value in world.rows(0, 6_000)["c3"])
    assert by_hand > 0
    assert profile.tally.counts["unseen:c3"].sum() == by_hand


def test_the_figures_are_those_of_an_independent_library(world: World, profile: ReferenceProfile) -> None:
    scores = world.scorer.score(world.rows(0, 6_000))
    clicks = world.clicks(1, scores)
    assert profile.metrics["auc"] == pytest.approx(roc_auc_score(clicks, scores), abs=1e-12)
    assert profile.metrics["log_loss"] == pytest.approx(log_loss(clicks, scores), abs=1e-12)
    assert profile.metrics["calibration_ratio"] == pytest.approx(scores.mean() / clicks.mean(), abs=1e-12)
    assert profile.mean_score == pytest.approx(math.fsum(scores) / 6_000)
    assert profile.click_rate == clicks.mean()


def test_clicks_of_one_kind_leave_the_figures_undefined(world: World) -> None:
    rows = world.rows(0, 100)
    scores = world.scorer.score(rows)
    profile = build_profile(rows, scores, np.zeros(100, dtype=np.int8), world.scorer.encoder, PROFILE_PARAMS)
    assert set(profile.metrics.values()) == {None}
    assert profile.click_rate == 0


def test_tallies_of_parts_add_up_to_the_tally_of_the_whole(world: World, profile: ReferenceProfile) -> None:
    rows = world.rows(3, 1_000)
    scores = world.scorer.score(rows)
    clicks = world.clicks(4, scores)
    parts = [
        count_rows(rows[part], scores[part], clicks[part], world.scorer.encoder, profile.binning)
        for part in (slice(0, 300), slice(300, 301), slice(301, 1_000))
    ]
    whole = count_rows(rows, scores, clicks, world.scorer.encoder, profile.binning)
    summed = parts[0] + parts[1] + parts[2]
    assert summed.counts.keys() == whole.counts.keys()
    for name, counts in whole.counts.items():
        np.testing.assert_array_equal(summed.counts[name], counts)
    np.testing.assert_allclose(summed.score_sums, whole.score_sums)


def test_scores_that_are_no_probabilities_are_counted_apart(world: World, profile: ReferenceProfile) -> None:
    rows = world.rows(3, 5)
    scores = np.array([0.1, math.nan, -0.01, 1.01, 1.0])
    tally = count_rows(rows, scores, np.full(5, -1), world.scorer.encoder, profile.binning)
    assert tally.counts["scores"][:, 0].sum() == 3
    assert tally.score_sums.sum() == pytest.approx(1.1)
    assert tally.counts["settled"].sum() == 0


def test_not_a_number_is_missing_and_numbers_outside_the_promise_are_counted(
    world: World, profile: ReferenceProfile
) -> None:
    numeric = next(field for field in profile.binning.fields if field.kind == "numeric")
    values = pl.Series([math.nan, None, -1.0, 0.0, 1_000.0, 1_000.1])
    assert numeric.bins_of(values)[:2].tolist() == [MISSING_BIN, MISSING_BIN]
    assert numeric.is_out_of_range(values).tolist() == [False, False, True, False, False, True]


def test_a_log_without_time_has_one_hour(world: World) -> None:
    schema = LogSchema("click", None, None, None, None, world.schema.column_fields)
    encoder = type(world.scorer.encoder)(schema, world.scorer.encoder.codes[:-1])
    rows = world.rows(0, 500)
    scores = world.scorer.score(rows)
    profile = build_profile(rows, scores, world.clicks(1, scores), encoder, PROFILE_PARAMS)
    assert profile.tally.rows_by_hour.tolist() == [500] + [0] * 23
    assert (profile.first_time, profile.last_time) == (None, None)


def test_a_saved_profile_is_read_back_equal_from_the_same_bytes(profile: ReferenceProfile, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        profile.save(tmp_path / name)
    assert ReferenceProfile.load(tmp_path / "one") == profile
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    assert START <= (profile.first_time or 0) < (profile.last_time or 0) < START + DAY


def test_other_rows_make_another_profile(world: World, profile: ReferenceProfile) -> None:
    assert world.champion(5_999).profile != profile


def test_a_profile_of_forty_fields_takes_a_few_hundred_kilobytes(tmp_path: Path) -> None:
    profile = make_world(num_categorical=36, num_numeric=4).champion(5_000).profile
    assert profile is not None
    profile.save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 400_000


def test_the_sample_is_folded_to_the_top_values(profile: ReferenceProfile) -> None:
    assert profile.sample.height == 2_000
    assert profile.sample["c4"].n_unique() == 52  # fifty values, others, none
    assert OTHER in profile.sample["c4"]


@pytest.mark.parametrize("damage", ["another field", "an hour of 30", "other columns", "no rows", "no file"])
def test_a_damaged_profile_is_refused_by_name(profile: ReferenceProfile, tmp_path: Path, damage: str) -> None:
    profile.save(tmp_path)
    place = tmp_path / "counts.parquet"
    counts = pl.read_parquet(place)
    if damage == "another field":
        counts.with_columns(pl.col("what").replace("field:c0", "field:x")).write_parquet(place)
    elif damage == "an hour of 30":
        counts.with_columns(pl.lit(30, pl.Int64).alias("hour")).write_parquet(place)
    elif damage == "no rows":
        counts.clear().write_parquet(place)
    elif damage == "no file":
        place.unlink()
    else:
        place = tmp_path / "sample.parquet"
        pl.read_parquet(place).drop("c0").write_parquet(place)
    with pytest.raises(IntegrityError, match=place.name):
        ReferenceProfile.load(tmp_path)


def test_no_rows_make_no_profile(world: World) -> None:
    with pytest.raises(DataError, match="needs rows"):
        build_profile(
            world.rows(0, 10).clear(), np.empty(0), np.empty(0, np.int8), world.scorer.encoder, PROFILE_PARAMS
        )


def test_profiling_and_watching_never_import_torch() -> None:
    program = "import sys, components.profiling, components.watching; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
