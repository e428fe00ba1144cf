"""Encoded rows as batches on a device; stands between the encoded splits and whatever learns from or scores them.

The ids stay memory-mapped (CPU) or are copied once (CUDA, where they fit): a batch costs two `index_select`s and no
other work. Shape letters: R rows of a split, B rows of a batch, F fields.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from components.encoding import EncodedSplit
from components.errors import ConfigError

# A resident copy may take this share of the memory that is free on a CUDA device; larger splits stream from the host.
_RESIDENT_SHARE = 0.5


class Batches:
    """Rows of one split, batch by batch: shuffled for learning, in order for scoring.

    The order of an epoch depends on (seed, epoch number) only, never on what was iterated before, so a resumed run
    continues at (epoch, batch). The last batch of an epoch is partial; it is left out where it would hold a single row,
    because batch norm cannot learn from one row (another epoch shuffles that row elsewhere).
    """

    def __init__(
        self, split: EncodedSplit, rows: np.ndarray[Any, Any] | None, batch_rows: int, device: torch.device, seed: int
    ) -> None:
        """Take the rows numbered `rows` of `split` (None: all of them)."""
        self.device = device
        self.batch_rows = batch_rows
        self._seed = seed
        self._ids_rf = _on_device(split.ids, device)
        self._clicks_r = _on_device(split.clicks, device)
        if rows is None:
            rows = np.arange(len(split.clicks), dtype=np.int64)
        self._rows = np.array(rows, dtype=np.int64)

    @property
    def num_rows(self) -> int:
        """How many rows there are to go through."""
        return len(self._rows)

    @property
    def num_batches(self) -> int:
        """How many batches one epoch of learning has."""
        whole, rest = divmod(self.num_rows, self.batch_rows)
        return whole + (rest > 1)

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (ids (B, F) int32, clicks (B,) float32) in the order of epoch `number`, from batch `start_batch` on."""
        shuffled = np.random.default_rng([self._seed, number]).permutation(self._rows)
        return self._walk(shuffled, range(start_batch, self.num_batches))

    def in_order(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (ids (B, F) int32, clicks (B,) float32) of every row as given, the last partial batch included."""
        return self._walk(self._rows, range(-(-self.num_rows // self.batch_rows)))

    def _walk(self, rows: np.ndarray[Any, Any], batches: range) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.from_numpy(rows).to(self._ids_rf.device)
        for batch in batches:
            chosen = order[batch * self.batch_rows : (batch + 1) * self.batch_rows]
            ids_bf = self._ids_rf.index_select(0, chosen)
            clicks_b = self._clicks_r.index_select(0, chosen)
            yield (
                ids_bf.to(self.device, non_blocking=True),
                clicks_b.to(self.device, non_blocking=True).to(torch.float32),
            )


def pick_device(wish: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device; raises ConfigError where CUDA is asked for and absent."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this machine offers torch no CUDA device; use --device auto or cpu")
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")


def _on_device(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """See an array as a tensor without copying it on a CPU; copy it to a CUDA device that has room."""
    with warnings.catch_warnings():
        # A read-only map is no danger here: index_select never writes to its source.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        tensor = torch.from_numpy(np.asarray(array))
    if device.type != "cuda":
        return tensor
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return tensor.to(device) if tensor.nbytes <= _RESIDENT_SHARE * free_bytes else tensor
