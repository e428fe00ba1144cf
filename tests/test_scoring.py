"""The scorer: raw row -> score, alone or among a thousand, without torch, and its door for JSON rows."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import DataError, IntegrityError
from components.exporting import calibrated_scorer, trained_logits
from components.scoring import Scorer, rows_from_records
from tests.scored_world import CALIBRATE, SCHEMA, Line, make_line, make_ranker

ROOT = Path(__file__).parents[1]
RECORD: dict[str, Any] = {
    "id": "i1",
    "shown_at": "2026-03-01T12:30:00+00:00",
    "user": "u1",
    "item": "é2",
    "device": None,
    "price": 3.5,
}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    torch.set_num_threads(1)
    return make_line(tmp_path_factory.mktemp("line"), 6_000, seed=2)


@pytest.fixture(scope="module")
def scorer(line: Line) -> Scorer:
    """With isotonic calibration, the least smooth, of the network with most kinds of operators."""
    ranker = make_ranker("autopi", line.encoded.field_sizes, seed=4)
    return calibrated_scorer(SCHEMA, line.encoded, ranker, dataclasses.replace(CALIBRATE, method="isotonic"))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_one_row_or_a_thousand_get_the_same_score(scorer: Scorer, line: Line, num_threads: int) -> None:
    facts = dataclasses.replace(scorer.facts, num_threads=num_threads, batch_rows=700)
    same = dataclasses.replace(scorer, facts=facts)
    rows = line.test_rows().head(1_000)
    together = same.score(rows)
    assert together.dtype == np.float64
    alone = np.concatenate([same.score(rows[number : number + 1]) for number in range(0, 1_000, 7)])
    np.testing.assert_allclose(alone, together[::7], rtol=0, atol=1e-12)
    some = np.concatenate([same.score(rows[start : start + 37]) for start in range(0, 1_000, 37)])
    np.testing.assert_allclose(some, together, rtol=0, atol=1e-12)
    np.testing.assert_allclose(same.score(rows[::-1]), together[::-1], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(same.score(rows), together)


def test_a_score_is_the_trained_networks_logit_calibrated(scorer: Scorer, line: Line) -> None:
    rows = line.test_rows()
    logits = trained_logits(make_ranker("autopi", line.encoded.field_sizes, seed=4), line.encoded.split("test").ids)
    assert np.abs(scorer.score(rows) - scorer.calibrator.apply(logits)).max() <= 1e-12


def test_no_rows_get_no_scores(scorer: Scorer, line: Line) -> None:
    assert scorer.score(line.test_rows().head(0)).shape == (0,)


def test_a_row_of_nothing_but_missing_and_unseen_values_gets_a_score(scorer: Scorer) -> None:
    scorer.warm_up()
    unseen = rows_from_records(
        [{**RECORD, "user": "nobody", "item": "", "device": "x" * 10_000, "price": -1e300}], SCHEMA
    )
    assert 0 < scorer.score(unseen)[0] < 1


def test_a_scorer_reads_back_equal_and_scores_the_same(scorer: Scorer, line: Line, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    scorer.save(tmp_path / "one")
    loaded = Scorer.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert loaded == scorer
    assert loaded.equals(scorer)
    assert loaded != dataclasses.replace(scorer, facts=dataclasses.replace(scorer.facts, batch_rows=1))
    assert loaded != dataclasses.replace(scorer, onnx=scorer.onnx + b"\0")
    np.testing.assert_array_equal(loaded.score(line.test_rows()), scorer.score(line.test_rows()))
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:500])])
def test_an_export_that_is_absent_or_cut_is_an_integrity_error(
    scorer: Scorer, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    scorer.save(tmp_path)
    damage(tmp_path / "ranker.onnx")
    with pytest.raises(IntegrityError, match=r"ranker\.onnx"):
        Scorer.load(tmp_path).warm_up()


def test_facts_with_an_unknown_key_are_an_integrity_error(scorer: Scorer, tmp_path: Path) -> None:
    scorer.save(tmp_path)
    content = json.loads((tmp_path / "scorer.json").read_text())
    (tmp_path / "scorer.json").write_text(json.dumps({**content, "more": 1}))
    with pytest.raises(IntegrityError, match="unknown"):
        Scorer.load(tmp_path)


def test_scoring_never_imports_torch_even_indirectly(scorer: Scorer, tmp_path: Path) -> None:
    scorer.save(tmp_path)
    code = (
        "import sys; from pathlib import Path; from components.scoring import Scorer, rows_from_records; "
        f"scorer = Scorer.load(Path({str(tmp_path)!r})); import json; record = json.loads(sys.argv[1]); "
        "print(repr(float(scorer.score(rows_from_records([record], scorer.schema))[0]))); "
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('torch', 'onnxscript', 'sklearn', 'scipy')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(RECORD)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    score, modules = done.stdout.splitlines()
    assert modules == "[]"
    assert float(score) == scorer.score(rows_from_records([RECORD], SCHEMA))[0]


def test_json_rows_become_the_typed_columns_of_the_log(scorer: Scorer, line: Line) -> None:
    rows = rows_from_records([RECORD, {**RECORD, "shown_at": 1_772_368_200_000_000, "price": 3}], SCHEMA)
    assert dict(rows.schema) == {
        "_impression": pl.String,
        "_time": pl.Int64,
        "user": pl.String,
        "item": pl.String,
        "device": pl.String,
        "price": pl.Float64,
    }
    assert rows["_time"].to_list() == [1_772_368_200_000_000] * 2
    assert rows["device"].to_list() == [None, None]
    clean = line.test_rows().head(50)
    records = [
        {
            "id": row["_impression"],
            "shown_at": row["_time"],
            **{name: row[name] for name in ("user", "item", "device", "price")},
        }
        for row in clean.to_dicts()
    ]
    np.testing.assert_array_equal(scorer.score(rows_from_records(records, SCHEMA)), scorer.score(clean))


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-03-01T12:30:00", 12), ("2026-03-01T12:30:00Z", 12), ("2026-03-01T12:30:00+05:00", 7)]
)
def test_a_time_without_a_zone_is_utc(text: str, hour: int) -> None:
    rows = rows_from_records([{**RECORD, "shown_at": text}], SCHEMA)
    assert rows["_time"].cast(pl.Datetime("us")).dt.hour().to_list() == [hour]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": 7}, "row 1: field 'user' is text"),
        ({"user": True}, "field 'user' is text"),
        ({"user": ["u1"]}, "field 'user' is text"),
        ({"user": "\ud800"}, "field 'user' is not valid Unicode"),
        ({"price": "3.5"}, "field 'price' is a number"),
        ({"price": False}, "field 'price' is a number"),
        ({"price": float("nan")}, "field 'price' is a finite number"),
        ({"price": float("inf")}, "field 'price' is a finite number"),
        ({"price": 10**400}, "field 'price' is a finite number"),
        ({"price": 10**9_000}, "field 'price' is a finite number"),
        ({"shown_at": None}, "field 'shown_at' is the row's time"),
        ({"shown_at": 1_772_368_200}, "is it in seconds"),
        ({"shown_at": 10**30}, "beyond all dates"),
        ({"shown_at": 1.5}, "field 'shown_at' is the row's time"),
        ({"shown_at": True}, "field 'shown_at' is the row's time"),
        ({"shown_at": "yesterday"}, "field 'shown_at' is the row's time"),
        ({"id": 3}, "field 'id' is text"),
        ({"clicked": 1}, r"field \['clicked'\] unknown"),
    ],
)
def test_a_bad_value_is_a_data_error_that_names_row_and_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as raised:
        rows_from_records([RECORD, {**RECORD, **change}], SCHEMA)
    assert len(str(raised.value)) < 400


def test_a_missing_key_is_an_error_and_an_explicit_null_a_missing_value() -> None:
    left_out = {key: value for key, value in RECORD.items() if key != "device"}
    with pytest.raises(DataError, match=r"row 0: field \['device'\] missing \(send null"):
        rows_from_records([left_out], SCHEMA)
    with pytest.raises(DataError, match="row 0: a JSON object"):
        rows_from_records(["u1"], SCHEMA)
    nothing = {**RECORD, "user": None, "item": None, "price": None, "id": None}
    assert rows_from_records([nothing], SCHEMA).null_count().sum_horizontal().to_list() == [5]
    assert rows_from_records([], SCHEMA).shape == (0, 6)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([*RECORD, "other"]), JSON_VALUES))
def test_whatever_json_comes_it_is_scored_or_refused_as_data(scorer: Scorer, change: dict[str, Any]) -> None:
    with contextlib.suppress(DataError):
        rows = rows_from_records([{**RECORD, **change}], SCHEMA)
        assert 0 < scorer.score(rows)[0] < 1
