"""What an architecture costs is what a hand counts, and a search that pays for cost finds cheaper ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from components.autopi.architecture import Architecture
from components.autopi.network import FoundNetwork
from components.autopi.operators import OPERATORS
from components.autopi.pricing import ExpectedPrice, price_of_line, price_of_trial, trial_shape
from components.autopi.search_params import SearchParams
from components.autopi.searching import search_architecture
from components.autopi.supernet import Space, Supernet
from tests.search_world import PARAMS, Log, bench

FIELD_SIZES = (4, 5, 6)
# Three fields of width four: 12 numbers a node. Skip is free, FM takes 3 operations a number, a perceptron 2 * 12 * 12 + 12.
SPACE = ("skip", "fm", "single_layer_perceptron")
FLOPS, PARAMETERS = (0.0, 36.0, 300.0), (0.0, 0.0, 156.0)
LINE = "3 fields | interaction fm(0) skip(0)+single_layer_perceptron(1) | ensemble skip(0)+skip(1) fm(0)+fm(2)"


def params_of(measure: Literal["flops", "parameters"], price: float) -> SearchParams:
    return dataclasses.replace(PARAMS, operators=SPACE, cost_measure=measure, cost_price=price)


def supernet_of(num_nodes: int) -> Supernet:
    return Supernet(FIELD_SIZES, Space(SPACE, num_nodes, 4, False), torch.Generator().manual_seed(1), None)


@pytest.mark.parametrize(("measure", "costs"), [("flops", FLOPS), ("parameters", PARAMETERS)])
def test_an_undecided_supernet_expects_as_many_mean_operators_as_edges_are_kept(
    measure: Literal["flops", "parameters"], costs: tuple[float, ...]
) -> None:
    # Two nodes a cell and two edges a node: one and two edges are kept in the interaction cell, two and two in the ensemble cell.
    expected = 7 * sum(costs) / 3
    price = ExpectedPrice(supernet_of(2), params_of(measure, 1e6))(1.0)
    assert float(price.detach()) == pytest.approx(expected)


def test_the_expected_price_of_a_decided_supernet_is_that_of_what_it_keeps() -> None:
    supernet = supernet_of(2)
    with torch.no_grad():
        for cell in ("interaction", "ensemble"):
            supernet.get_parameter(f"alpha_{cell}")[:, 1] = 60.0  # FM on every edge
        supernet.get_parameter("alpha_interaction")[1] = torch.tensor([0.0, 0.0, 60.0])  # but on 0 -> 2: a perceptron
        supernet.get_parameter("beta_interaction")[1] = 60.0  # and node 2 takes it from there alone
    one_edge = dataclasses.replace(params_of("flops", 2e6), edges_per_node=1)
    assert float(ExpectedPrice(supernet, one_edge)(1.0).detach()) == pytest.approx(2 * (36 + 300 + 2 * 36))


def test_only_alpha_and_beta_are_pushed_and_towards_what_is_cheap() -> None:
    supernet = supernet_of(2)
    ExpectedPrice(supernet, params_of("flops", 1.0))(1.0).backward()
    for cell in ("interaction", "ensemble"):
        gradient = supernet.get_parameter(f"alpha_{cell}").grad
        assert gradient is not None
        assert bool((gradient[:, 0] < gradient[:, 1]).all())
        assert bool((gradient[:, 1] < gradient[:, 2]).all())
    assert all(weight.grad is None for weight in supernet.weight_parameters())


@pytest.mark.parametrize("name", list(OPERATORS))
def test_an_operators_parameters_on_one_edge_are_those_of_an_edge_that_was_kept(name: str) -> None:
    many, one = OPERATORS[name](3, 4, 5, None), OPERATORS[name](3, 4, 1, None)
    assert many.count_parameters() == one.count_parameters() == sum(weight.numel() for weight in one.parameters())


def test_a_line_costs_what_its_network_counts_and_nothing_without_a_price() -> None:
    architecture = Architecture.from_text(LINE, "here")
    network = FoundNetwork(FIELD_SIZES, architecture, trial_shape(PARAMS))
    for measure, count in (("flops", network.count_flops()), ("parameters", network.count_parameters())):
        assert price_of_line(LINE, FIELD_SIZES, params_of(measure, 3.0)) == pytest.approx(3e-6 * count)  # type: ignore[arg-type]
    before = torch.get_rng_state()
    assert price_of_line(LINE, FIELD_SIZES, params_of("flops", 0.0)) == 0
    assert price_of_line(LINE, FIELD_SIZES, params_of("flops", 1.0)) > 0
    assert torch.equal(before, torch.get_rng_state()), "counting draws nothing, so it changes no search"


@pytest.mark.parametrize("strategy", ["darts", "darts_second_order", "halving", "random"])
def test_a_search_that_pays_much_for_cost_finds_the_cheapest(strategy: str, tmp_path: Path) -> None:
    small: Any = Log(1_000, 20, 1)
    params = dataclasses.replace(PARAMS, strategy=strategy, operators=SPACE, max_epochs=2, alpha_rate=0.3)
    dear = search_architecture(small, dataclasses.replace(params, cost_price=1e6), bench(tmp_path / "dear"))
    if dear.trials:
        longest = [one for one in dear.trials if len(one.steps) == max(len(other.steps) for other in dear.trials)]
        prices = {one.line: price_of_trial(one, dataclasses.replace(params, cost_price=1e6)) for one in longest}
        assert dear.architecture.to_text() == min(prices, key=lambda line: prices[line])
        assert min(one.num_flops for one in dear.trials) == min(one.num_flops for one in longest)
    else:
        assert set(dear.architecture.operators()) == {"skip"}
