"""Batches: every row once an epoch, in an order that (seed, epoch) alone decides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from components.batching import Batches, pick_device
from components.encoding import EncodedSplit
from components.errors import ConfigError

NUM_ROWS = 103


@pytest.fixture
def split(tmp_path: Path) -> EncodedSplit:
    """Rows that carry their own number in the first field, and its parity as the click; mapped read-only."""
    rows = np.arange(NUM_ROWS)
    np.save(tmp_path / "ids.npy", np.stack([rows, rows * 2, rows * 3], axis=1).astype(np.int32))
    np.save(tmp_path / "clicks.npy", (rows % 2).astype(np.int8))
    ids, clicks = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("ids", "clicks"))
    return EncodedSplit(ids, clicks, rows)


def batches(split: EncodedSplit, batch_rows: int = 10, rows: np.ndarray | None = None, seed: int = 1) -> Batches:
    return Batches(split, rows, batch_rows, torch.device("cpu"), seed)


def row_numbers(some: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> list[list[int]]:
    return [ids_bf[:, 0].tolist() for ids_bf, _ in some]


def joined(seen: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(seen))


def test_an_epoch_holds_every_row_once(split: EncodedSplit) -> None:
    seen = row_numbers(batches(split).epoch(3))
    assert [len(batch) for batch in seen] == [10] * 10 + [3]
    assert sorted(joined(seen)) == list(range(NUM_ROWS))
    assert len(seen) == batches(split).num_batches


def test_ids_and_clicks_of_a_batch_belong_together(split: EncodedSplit) -> None:
    for ids_bf, clicks_b in batches(split).epoch(0):
        assert ids_bf.dtype == torch.int32
        assert clicks_b.dtype == torch.float32
        assert torch.equal(ids_bf[:, 1], ids_bf[:, 0] * 2)
        assert torch.equal(ids_bf[:, 2], ids_bf[:, 0] * 3)
        assert torch.equal(clicks_b, (ids_bf[:, 0] % 2).float())


def test_the_order_depends_on_seed_and_epoch_alone(split: EncodedSplit) -> None:
    one, other = batches(split), batches(split)
    list(other.epoch(0))
    list(other.in_order())
    torch.manual_seed(5)
    assert row_numbers(one.epoch(2)) == row_numbers(other.epoch(2))
    assert row_numbers(one.epoch(2)) != row_numbers(one.epoch(3))
    assert row_numbers(one.epoch(2)) != row_numbers(batches(split, seed=2).epoch(2))


@pytest.mark.parametrize("start", [0, 1, 7, 11])
def test_an_epoch_entered_late_goes_on_as_if_it_had_run(split: EncodedSplit, start: int) -> None:
    assert row_numbers(batches(split).epoch(4, start)) == row_numbers(batches(split).epoch(4))[start:]


def test_a_last_batch_of_one_row_is_left_out_of_learning_but_not_of_scoring(split: EncodedSplit) -> None:
    some = batches(split, rows=np.arange(21))
    assert some.num_batches == 2
    assert [len(batch) for batch in row_numbers(some.epoch(0))] == [10, 10]
    assert [len(batch) for batch in row_numbers(some.in_order())] == [10, 10, 1]


def test_a_subset_of_rows_is_kept_to_and_scored_in_its_own_order(split: EncodedSplit) -> None:
    rows = np.array([5, 3, 99, 42, 17])
    some = batches(split, batch_rows=2, rows=rows)
    assert joined(row_numbers(some.in_order())) == rows.tolist()
    assert set(joined(row_numbers(some.epoch(0)))) <= set(rows.tolist())
    assert some.num_rows == 5


def test_the_ids_are_not_copied_on_a_cpu(split: EncodedSplit) -> None:
    assert batches(split)._ids_rf.data_ptr() == split.ids.ctypes.data


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="--device cuda"):
        pick_device("cuda")
