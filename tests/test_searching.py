"""The search finds what was planted, starts and stops at any moment, and refuses params that make no search."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional

from components.autopi.architecture import NUM_INPUTS, FoundArchitecture
from components.autopi.darts import DartsSearch
from components.autopi.discretising import discretise
from components.autopi.network import FoundNetwork
from components.autopi.search_params import SearchParams, check_params
from components.autopi.searching import STRATEGIES, search_architecture
from components.autopi.second_order import gradients_ahead
from components.autopi.supernet import Space, Supernet, edges_of
from components.errors import ConfigError, DataError, Stopped
from components.metrics import auc
from components.rankers.ranker import RankerParams
from pipeline.params import read_settings
from tests.search_world import PARAMS, Log, bench, stopped_at_random

ROOT = Path(__file__).parents[1]
LINE = "4 fields | interaction fm(0) skip(0)+fm(1) | ensemble skip(0)+skip(1) fm(0)+senet(2)"


@pytest.mark.parametrize("log", sorted(path.stem for path in (ROOT / "logs").glob("*.yaml")))
def test_the_params_that_come_with_each_log_make_a_search(log: str) -> None:
    preset = yaml.safe_load((ROOT / "logs" / f"{log}.yaml").read_text(encoding="utf-8"))
    check_params(dataclasses.replace(read_settings(ROOT), log=log, preset=preset).section("search", SearchParams))


@pytest.fixture(scope="module")
def small() -> Any:
    return Log(2_000, 20, 1)


@pytest.fixture(scope="module")
def uninterrupted(small: Any, tmp_path_factory: pytest.TempPathFactory) -> FoundArchitecture:
    return search_architecture(small, PARAMS, bench(tmp_path_factory.mktemp("whole")))


def test_the_search_finds_the_planted_interaction(tmp_path: Path) -> None:
    """The product of two traits is invisible to sums of fields: the found network must see it, and prefer to."""
    log: Any = Log(24_000, 30, 7)
    params = dataclasses.replace(PARAMS, max_epochs=3, batch_rows=1024, skip_noise_share=0.0, checkpoint_seconds=60.0)
    params = dataclasses.replace(params, normalises_embeddings=True)
    found = search_architecture(log, params, bench(tmp_path))
    assert found.architecture.to_text().startswith("4 normalised fields |")
    assert found.history[-1].tune_auc > 0.85  # the oracle has .92, main effects have .5
    interacting = {"fm", "self_attention", "single_layer_perceptron", "senet"}
    assert interacting & set(found.architecture.operators())
    torch.manual_seed(1)
    network = FoundNetwork(log.field_sizes, found.architecture, RankerParams(4, (), 0.0, True))
    train, test = log.split("train"), log.split("test")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    ids, clicks = torch.from_numpy(train.ids), torch.from_numpy(train.clicks).float()
    for _ in range(3):
        for rows in torch.randperm(len(ids), generator=torch.Generator().manual_seed(1)).split(500):
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(network(ids[rows]), clicks[rows]).backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        scores = network(torch.from_numpy(test.ids)).numpy()
    assert auc(test.clicks, scores) > 0.85


def test_every_epoch_is_recorded(uninterrupted: FoundArchitecture) -> None:
    assert [record.epoch for record in uninterrupted.history] == [1, 2, 3]
    temperatures = [record.temperature for record in uninterrupted.history]
    assert temperatures[0] == pytest.approx(1 + np.log(3))
    assert temperatures[1] == pytest.approx((1 + np.log(3)) / (1 + np.log(2)))
    assert temperatures[2] == 1.0
    for record in uninterrupted.history:
        assert len(record.alpha_interaction) == len(edges_of("interaction", 2))
        assert len(record.beta_ensemble) == len(edges_of("ensemble", 2))
    assert uninterrupted.rows_seen == 3 * 2_000
    best = min(uninterrupted.history, key=lambda record: record.tune_log_loss)
    assert uninterrupted.best_epoch == best.epoch
    assert uninterrupted.architecture.to_text() == best.line
    assert uninterrupted.collapse is not None
    assert 0.9 < uninterrupted.collapse.alpha_entropy <= 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(
    small: Any, uninterrupted: FoundArchitecture, tmp_path: Path
) -> None:
    again = search_architecture(small, PARAMS, bench(tmp_path / "again"))
    assert again == uninterrupted
    other = search_architecture(small, dataclasses.replace(PARAMS, seed=2), bench(tmp_path / "other"))
    assert other.history != uninterrupted.history


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_search_stopped_at_random_steps_ends_bit_for_bit_as_one_that_was_not(
    small: Any, uninterrupted: FoundArchitecture, tmp_path: Path, seed: int
) -> None:
    found, exit_codes = stopped_at_random(small, PARAMS, tmp_path, seed, 4)
    assert len(exit_codes) >= 2
    assert set(exit_codes) == {143}
    assert found == uninterrupted


def test_a_checkpoint_of_other_params_is_discarded_aloud_or_refused(
    small: Any, uninterrupted: FoundArchitecture, tmp_path: Path
) -> None:
    other = dataclasses.replace(PARAMS, seed=2, max_epochs=1)
    search_architecture(small, other, bench(tmp_path))
    with pytest.raises(ConfigError, match="params"):
        search_architecture(small, PARAMS, bench(tmp_path, resume="always"))
    notes: list[str] = []
    found = search_architecture(small, PARAMS, bench(tmp_path, progress=lambda done, total, note: notes.append(note)))
    assert any("discarded" in note and "params" in note for note in notes)
    assert found == uninterrupted


def test_other_rows_make_another_checkpoint(tmp_path: Path) -> None:
    params = dataclasses.replace(PARAMS, max_epochs=1)
    search_architecture(Log(1_000, 20, 1), params, bench(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="data"):
        search_architecture(Log(1_000, 20, 2), params, bench(tmp_path, resume="always"))  # type: ignore[arg-type]


def test_progress_tells_speed_loss_temperature_and_the_line_so_far(small: Any, tmp_path: Path) -> None:
    notes: list[tuple[float, float, str]] = []
    watching = bench(tmp_path, progress=lambda done, total, note: notes.append((done, total, note)))
    search_architecture(small, PARAMS, watching)
    done, total, note = notes[-1]
    assert done == total
    for words in ("rows/s", "tune log loss", "temperature", "0 s left", "4 fields | interaction"):
        assert words in note


def test_a_quick_look_says_that_it_is_one(small: Any, tmp_path: Path) -> None:
    found = search_architecture(small, PARAMS, bench(tmp_path, limit_batches=1))
    assert found.limit_batches == 1
    assert found.rows_seen == 3 * 2 * 512


def test_a_fixed_architecture_is_taken_over_if_it_fits(small: Any, tmp_path: Path) -> None:
    params = dataclasses.replace(PARAMS, strategy="fixed", fixed_architecture=LINE)
    found = search_architecture(small, params, bench(tmp_path))
    assert found.architecture.to_text() == LINE
    assert found.history == ()
    wrong = dataclasses.replace(params, fixed_architecture=LINE.replace("4 fields", "5 fields"))
    with pytest.raises(ConfigError, match="for 5 fields, this log has 4"):
        search_architecture(small, wrong, bench(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"operators": ("skip", "magic")}, "magic"),
        ({"operators": ()}, "one or more"),
        ({"operators": ("fm", "fm")}, "each once"),
        ({"num_nodes": 0}, "num_nodes: 0"),
        ({"batch_rows": 1}, "batch_rows: 1"),
        ({"strategy": "fixed"}, "needs one line"),
        ({"fixed_architecture": LINE}, "the others take null"),
        ({"trial_rung_epochs": (2.0, 1.0)}, "trial_rung_epochs one or more"),
        ({"trial": dataclasses.replace(PARAMS.trial, kept_share=1.0)}, "0 < trial.kept_share < 1"),
        ({"trial_embedding_l2": -1.0}, "trial_embedding_l2 >= 0"),
    ],
)
def test_params_that_make_no_search_are_refused(small: Any, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        search_architecture(small, dataclasses.replace(PARAMS, **change), bench(tmp_path))


def test_a_log_too_small_to_be_halved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 rows"):
        search_architecture(Log(3, 20, 1), PARAMS, bench(tmp_path))  # type: ignore[arg-type]


def test_every_strategy_can_be_named() -> None:
    assert set(STRATEGIES) == {"darts", "darts_second_order", "random", "halving", "fixed"}


def test_the_second_order_gradient_is_that_of_the_loss_one_step_ahead() -> None:
    """Against differences of L2(w - rate * step(w, a), a) in each direction of alpha and beta."""
    generator = torch.Generator().manual_seed(1)
    supernet = Supernet(
        (4, 5, 6), Space(("skip", "fm", "single_layer_perceptron"), 1, 3, False), generator, None
    ).double()
    architecture = supernet.architecture_parameters()
    weights = [*supernet.weight_parameters(), *supernet.embedding_parameters()]
    for parameter in (*architecture, *weights):
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.01)
    halves = [
        (torch.stack([torch.randint(0, size, (40,), generator=generator) for size in (4, 5, 6)], 1), clicks)
        for clicks in torch.rand(2, 40, dtype=torch.float64, generator=generator).round()
    ]

    def loss(half: int) -> torch.Tensor:
        ids, clicks = halves[half]
        return functional.binary_cross_entropy_with_logits(supernet(ids, 1.0, None), clicks)

    optimizer.zero_grad()
    loss(0).backward()
    optimizer.step()  # so that there is a momentum
    start = [weight.detach().clone() for weight in weights]
    found, _ = gradients_ahead(lambda: loss(0), lambda: loss(1), optimizer, architecture)
    assert all(torch.equal(weight, before) for weight, before in zip(weights, start, strict=True))

    def loss_ahead() -> float:
        gradients = torch.autograd.grad(loss(0), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                momentum = optimizer.state[weight]["momentum_buffer"]
                weight.sub_(0.1 * (gradient + 0.01 * weight + 0.9 * momentum))
            value = float(loss(1))
            for weight, before in zip(weights, start, strict=True):
                weight.copy_(before)
        return value

    first_order = torch.autograd.grad(loss(1), architecture)
    for parameter, gradient, plain in zip(architecture, found, first_order, strict=True):
        for place in range(parameter.numel()):
            sides = []
            for shift in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter.view(-1)[place] += shift
                sides.append(loss_ahead())
                with torch.no_grad():
                    parameter.view(-1)[place] -= shift
            expected = (sides[0] - sides[1]) / 2e-5
            assert float(gradient.view(-1)[place]) == pytest.approx(expected, rel=0.02, abs=1e-5)
        if plain.numel() > 2:
            assert not torch.allclose(gradient, plain, rtol=0.05)


def test_a_second_order_search_goes_on_from_a_stop_as_if_there_had_been_none(small: Any, tmp_path: Path) -> None:
    params = dataclasses.replace(PARAMS, strategy="darts_second_order", max_epochs=1)
    whole = search_architecture(small, params, bench(tmp_path / "whole"))
    assert whole.strategy == "darts_second_order"
    first = dataclasses.replace(params, strategy="darts")
    assert search_architecture(small, first, bench(tmp_path / "first")).history != whole.history
    answers = iter([None, 15])
    with pytest.raises(Stopped):
        search_architecture(small, params, bench(tmp_path / "stopped", lambda: next(answers, 15)))
    assert search_architecture(small, params, bench(tmp_path / "stopped")) == whole


def test_weights_and_alpha_learn_from_different_halves(small: Any, tmp_path: Path) -> None:
    search = DartsSearch(small, PARAMS, bench(tmp_path))
    weight_rows = np.concatenate([ids for ids, _ in search.weight_batches.in_order()])
    alpha_rows = np.concatenate([ids for ids, _ in search.alpha_batches.in_order()])
    both = np.concatenate([weight_rows, alpha_rows])
    assert len(weight_rows) == len(alpha_rows) == 1_000
    train = small.split("train").ids
    assert np.array_equal(np.unique(both, axis=0), np.unique(train, axis=0))


def test_the_strongest_operators_of_the_strongest_sources_are_kept() -> None:
    strengths = {
        "interaction": np.array([[0.2, 0.8], [0.5, 0.1], [0.3, 0.4]]),
        "ensemble": np.array([[0.5, 0.5], [0.4, 0.4], [0.9, 0.0], [0.2, 0.1], [0.1, 0.3]]),
    }
    architecture = discretise(strengths, ("skip", "fm"), 2, 10)
    assert architecture.to_text() == (
        "10 fields | interaction fm(0):0.8 skip(0):0.5+fm(1):0.4 | "
        "ensemble skip(0):0.5+skip(1):0.4 skip(0):0.9+fm(2):0.3"
    )
    one = discretise(strengths, ("skip", "fm"), 1, 10)
    assert [len(edges) for cell in (one.interaction, one.ensemble) for edges in cell.nodes] == [1, 1, 1, 1]
    assert set(strengths) == set(NUM_INPUTS)
