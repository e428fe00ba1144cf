"""What is exported is what was trained: parity, the same bytes anywhere, silence; and the scorer made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch

from components.calibrating import Calibrator, sigmoid
from components.encoding import Encoder
from components.exporting import calibrated_scorer, count_flops, export_ranker, trained_logits
from components.scoring import Scorer, ScorerFacts
from components.training.trained import joined_weights
from tests.scored_world import CALIBRATE, INTERCEPT, SCHEMA, SLOPE, Line, make_line, make_ranker, with_keep_rate

ROOT = Path(__file__).parents[1]
SIZES = (12, 30, 7, 9, 26)
EXPORT_ELSEWHERE = """
import hashlib, torch
torch.set_num_threads(1)
from components.exporting import export_ranker
from tests.scored_world import make_ranker
print(hashlib.sha256(export_ranker(make_ranker("mlp", (12, 30, 7, 9, 26), 3).build(), 5)).hexdigest())
"""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    torch.set_num_threads(1)
    return make_line(tmp_path_factory.mktemp("line"), 6_000, seed=1)


@pytest.fixture(scope="module")
def scorer(line: Line) -> Scorer:
    return calibrated_scorer(SCHEMA, line.encoded, line.ranker, CALIBRATE)


def scorer_of(onnx_bytes: bytes) -> Scorer:
    facts = ScorerFacts("tests", 0, 0, 0, 1.0, 1, 256)
    return Scorer(SCHEMA, Encoder(SCHEMA, ()), Calibrator.identity(1.0), onnx_bytes, facts)


def some_ids(num_rows: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.stack([generator.integers(0, size, num_rows) for size in SIZES], axis=1).astype(np.int32)


@pytest.mark.parametrize("name", ["linear", "mlp", "autopi"])
def test_the_export_gives_the_trained_networks_scores_for_any_number_of_rows(name: str) -> None:
    ranker = make_ranker(name, SIZES, seed=3)
    exported = scorer_of(export_ranker(ranker.build(), len(SIZES)))
    for num_rows in (1, 2, 777):
        ids = some_ids(num_rows)
        scores = sigmoid(exported.logits(ids))
        assert np.abs(scores - sigmoid(trained_logits(ranker, ids))).max() <= 1e-12
        assert np.abs(scores - sigmoid(ranker.logits(ids))).max() <= 1e-5


@pytest.mark.parametrize("name", ["mlp", "autopi"])
def test_several_members_are_exported_as_the_mean_of_their_logits(name: str) -> None:
    alone = [make_ranker(name, SIZES, seed=seed) for seed in (3, 4, 5)]
    weights = [safetensors.torch.load(one.weights) for one in alone]
    together = dataclasses.replace(
        alone[0],
        members=tuple(one.members[0] for one in alone),
        weights=safetensors.torch.save(joined_weights(weights)),
    )
    exported = scorer_of(export_ranker(together.build(), len(SIZES)))
    ids = some_ids(777)
    expected = np.mean([trained_logits(one, ids) for one in alone], axis=0)
    assert np.allclose(exported.logits(ids), expected, rtol=0, atol=1e-9)
    assert count_flops(together.build(), 5) == 3 * count_flops(alone[0].build(), 5)


def test_the_export_has_the_same_bytes_in_another_folder_and_process(tmp_path: Path) -> None:
    here = export_ranker(make_ranker("mlp", SIZES, seed=3).build(), len(SIZES))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", EXPORT_ELSEWHERE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(here).hexdigest()


def test_the_export_is_a_valid_model_that_says_nothing_of_where_it_was_made(capfd: pytest.CaptureFixture[str]) -> None:
    exported = export_ranker(make_ranker("mlp", SIZES, seed=3).build(), len(SIZES))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert str(ROOT).encode() not in exported
    assert b".py" not in exported
    model = onnx.load_model_from_string(exported)
    onnx.checker.check_model(model, full_check=True)
    assert not model.producer_name
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    # What is as it was trained stays float32; only what batch norm was folded into is wider.
    weights = {
        tensor.name.removesuffix(".float32"): onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    trained = dict(make_ranker("mlp", SIZES, seed=3).build().named_parameters())
    for name in ("embedding.table", "output.weight", "output.bias"):
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], trained[name].numpy())


def test_flops_are_those_of_the_matrix_products() -> None:
    assert count_flops(make_ranker("linear", SIZES, 3).build(), 5) == 0
    by_hand = 2 * (5 * 4 * 16 + 16 * 8 + 8 * 1)
    assert count_flops(make_ranker("mlp", SIZES, 3).build(), 5) == by_hand


def test_the_scorer_is_calibrated_on_the_calibrate_split_with_the_planted_line(scorer: Scorer, line: Line) -> None:
    rows = line.clean_log.scan().collect()[line.splits.rows_of("calibrate")]
    scores = scorer.score(rows)
    assert scores.mean() == pytest.approx(rows["_click"].mean(), rel=1e-5)
    assert scorer.calibrator.facts.slope == pytest.approx(SLOPE, abs=0.4)
    assert scorer.calibrator.facts.intercept == pytest.approx(INTERCEPT, abs=0.4)
    assert scorer.facts.num_embedding_parameters == 4 * sum(line.encoded.field_sizes)
    # Two hidden layers with batch norm in the place of a bias, and the output.
    assert scorer.facts.num_parameters == (20 * 16 + 2 * 16) + (16 * 8 + 2 * 8) + (8 + 1)


def test_a_downsampled_rankers_logits_are_corrected_before_they_are_calibrated(line: Line) -> None:
    forced = dataclasses.replace(CALIBRATE, method="identity")
    ranker = with_keep_rate(make_ranker("linear", line.encoded.field_sizes, seed=1), 0.25)
    scorer = calibrated_scorer(SCHEMA, line.encoded, ranker, forced)
    rows = line.test_rows().head(100)
    p = 1.0 / (1.0 + np.exp(-scorer.logits_of_rows(rows).astype(np.float64)))
    np.testing.assert_allclose(scorer.score(rows), p / (p + (1 - p) / 0.25), rtol=1e-12)
    assert scorer.facts.negative_keep_rate == 0.25


def test_a_stage_run_again_gives_an_equal_scorer_with_the_same_bytes(
    scorer: Scorer, line: Line, tmp_path: Path
) -> None:
    again = calibrated_scorer(SCHEMA, line.encoded, line.ranker, CALIBRATE)
    assert again == scorer
    for name, one in (("one", scorer), ("two", again)):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert Path("ranker.onnx") in files
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
