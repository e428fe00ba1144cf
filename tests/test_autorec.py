"""AutoRec's space and the three searches in it: every network they propose is one, and they find what was planted."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from components.errors import ConfigError, Stopped
from components.rankers import RANKERS, parse_ranker_params
from components.rankers.autorec import KINDS, MAX_BLOCKS, AutoRecParams, Block, read_line, to_line
from components.strict import parse
from components.training import TrainParams, train_ranker
from components.workbench import Workbench
from pipeline.leaderboard.autorec import STRATEGIES, Candidate, Ground, search_autorec
from tests.search_world import PARAMS, Log

ROOT = Path(__file__).parents[1]
SHAPE = AutoRecParams(
    embedding_width=4, hidden_widths=(), dropout=0.0, use_batch_norm=True, network="mlp(0)", mlp_tokens=3
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def proposals(strategy: str, num_fields: int, seed: int, count: int) -> list[str]:
    """What a strategy asks for where the AUC is any function of the line."""
    propose = STRATEGIES[strategy](Ground(num_fields, 3), seed, count)
    measured: list[Candidate] = []
    for _ in range(count):
        line = propose(measured)
        measured.append(Candidate(line, sum(map(ord, line)) % 97 / 97, 10, None))
    return [one.line for one in measured]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("num_fields", [1, 5])
def test_every_network_proposed_is_one(strategy: str, num_fields: int) -> None:
    lines = proposals(strategy, num_fields, 1, 25)
    sizes = (3, 5, 4, 6, 2)[:num_fields]
    ids = torch.zeros((1, num_fields), dtype=torch.int32)
    for line in lines:
        blocks = read_line(line)
        assert to_line(blocks) == line
        assert 1 <= len(blocks) <= MAX_BLOCKS
        network = RANKERS["autorec"](sizes, dataclasses.replace(SHAPE, network=line)).eval()
        assert network(ids).shape == (1,)


def test_chance_reaches_every_kind_and_number_of_blocks() -> None:
    networks = [read_line(line) for line in proposals("random", 4, 1, 60)]
    assert {block.kind for blocks in networks for block in blocks} == set(KINDS)
    assert {len(blocks) for blocks in networks} == set(range(1, MAX_BLOCKS + 1))
    assert {block.depth for blocks in networks for block in blocks} == {1, 2, 3}


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_proposals_are_decided_by_the_seed_and_what_was_measured(strategy: str) -> None:
    assert proposals(strategy, 4, 1, 20) == proposals(strategy, 4, 1, 20)
    assert proposals(strategy, 4, 1, 20) != proposals(strategy, 4, 2, 20)


def test_chance_and_greed_propose_nothing_twice_and_greed_begins_with_a_perceptron() -> None:
    for strategy in ("random", "greedy"):
        lines = proposals(strategy, 4, 3, 40)
        assert len(set(lines)) == 40
    assert lines[0] == "mlp(0)"


def test_greed_changes_the_best_network_by_one_block() -> None:
    propose = STRATEGIES["greedy"](Ground(4, 3), 5, 30)
    best = "mlp(0); crossnet*2(0); self_attention(2); product(1, 3)"
    measured = [Candidate(best, 0.9, 10, None), Candidate("fm(0)", 0.5, 10, None)]
    before = read_line(best)
    for _ in range(30):
        blocks = read_line(propose(measured))
        # A prefix stays, one block differs, and what could not stay behind it went.
        same = next(
            (n for n, (a, b) in enumerate(zip(before, blocks, strict=False)) if a != b), min(len(before), len(blocks))
        )
        assert blocks[same + 1 :] == before[same + 1 : len(blocks)]
        assert len(blocks) <= len(before) + 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "is not KIND"),
        ("cnn(0)", "is not KIND.*one of mlp, fm, crossnet, self_attention, product"),
        ("mlp(1)", "block 1 reads block 1, only earlier ones"),
        ("product(0)", "a product reads two sources"),
        ("mlp(0, 0)", "a product reads two sources, every other block one"),
        ("mlp*4(0)", "mlp has 1 to 3 layers"),
        ("fm*2(0)", "fm has 1 to 1 layers"),
        ("; ".join(["mlp(0)"] * 7), "7 blocks, at most 6"),
        ("fm(0); fm(1)", "block 2 makes pairs of a single token"),
    ],
)
def test_what_is_no_network_is_refused_with_the_reason(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        RANKERS["autorec"]((3, 4), dataclasses.replace(SHAPE, network=line))


def test_a_line_is_read_as_it_was_written() -> None:
    blocks = (Block("mlp", 3, (0,)), Block("fm", 1, (1,)), Block("product", 1, (2, 0)))
    assert to_line(blocks) == "mlp*3(0); fm(1); product(2, 0)"
    assert read_line(to_line(blocks)) == blocks


def test_the_unit_at_the_end_reads_what_no_block_reads() -> None:
    network = RANKERS["autorec"]((3, 4, 5), dataclasses.replace(SHAPE, network="mlp(0); fm(0); crossnet(1)"))
    assert network.get_submodule("output").in_features == (1 + 3) * 4  # the pairs' one token and the crossed three


def train_params(**changes: Any) -> TrainParams:
    """The project's own, small."""
    knobs = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"]
    preset = {"batch_rows": 256, "num_threads": 1, "max_epochs": 5, "embedding_l2": {"others": 1e-4}}
    params = parse(TrainParams, knobs | preset, "the tests", ConfigError)
    rates = {"learning_rate": params.learning_rate | {"autorec": 0.02}}
    return dataclasses.replace(
        params, **{"ranker": "autorec", "ranker_params": params.ranker_params | {"autorec": SHAPE}} | rates | changes
    )


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_each_search_finds_a_network_that_learns_a_planted_pair(strategy: str, workbench: Workbench) -> None:
    log: Any = Log(2_000, 8, seed=1)
    line, rows = search_autorec(log, train_params(), PARAMS, strategy, 2, workbench)
    # Six candidates in rungs of 0.5, 1 and 2 epochs, half of them kept: 3 + 1.5 + 2 epochs, so three candidates of two.
    assert rows == 3 * 2 * 2_000
    # The truth itself ranks with an AUC of .92, main effects with .5.
    params = train_params(ranker_params={"autorec": dataclasses.replace(SHAPE, network=line)}, max_epochs=8)
    place = dataclasses.replace(workbench, checkpoints=workbench.checkpoints / "again")
    assert train_ranker(log, None, params, place).tune_auc > 0.85


def test_a_search_that_was_stopped_goes_on_to_the_same_end(workbench: Workbench) -> None:
    log: Any = Log(1_000, 12, seed=1)
    whole = search_autorec(log, train_params(), PARAMS, "greedy", 2, workbench)
    looks = itertools.count()
    stopping = dataclasses.replace(
        workbench,
        checkpoints=workbench.checkpoints / "other",
        stop_signal=lambda: 15 if next(looks) in (9, 10, 18, 19, 20) else None,
    )
    num_stops = 0
    while True:
        try:
            again = search_autorec(log, train_params(), PARAMS, "greedy", 2, stopping)
            break
        except Stopped:
            num_stops += 1
    assert num_stops >= 2
    assert again == whole


def test_candidates_that_fail_lose_and_a_search_without_any_other_is_refused(workbench: Workbench) -> None:
    log: Any = Log(500, 12, seed=1)
    diverging = train_params(learning_rate={"others": 1e30})
    with pytest.raises(
        ConfigError, match=r"none of 3 candidates of random search could be trained; the last: .*diverged"
    ):
        search_autorec(log, diverging, PARAMS, "random", 2, workbench)


def test_params_of_autorec_are_read_as_such() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"]["ranker_params"]["autorec"]
    shape = parse_ranker_params("autorec", content, "here", ConfigError)
    assert isinstance(shape, AutoRecParams)
    assert read_line(shape.network)
    assert shape.mlp_tokens * shape.embedding_width == 400
    assert not dataclasses.replace(shape, mlp_tokens=0).promises()["mlp_tokens >= 1"]
    assert np.all(list(shape.promises().values()))
