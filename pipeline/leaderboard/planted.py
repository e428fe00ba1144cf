"""Yardsticks that only a simulated log has: its true probabilities, and a regression that is told what was planted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components import sources
from components.encoding import Encoded, EncodedSplit
from components.errors import ConfigError, IntegrityError
from components.log import IMPRESSION, CleanLog, LogRequest, RawLog
from components.sources.reader import options_of
from components.sources.simulated import SimulatedParams, planted_terms
from components.splitting import SPLIT_NAMES, Splits

PLANTED = "linear_planted"
ORACLE = "oracle"


def is_simulated(request: LogRequest) -> bool:
    """Whether it is known what was planted."""
    return request.source.format == "simulated"


def with_planted(request: LogRequest, encoded: Encoded, folder: Path) -> Encoded:
    """The encoded log with one more field for each planted combination; ids from train, 1 for combinations not in it."""
    if not is_simulated(request):
        raise ConfigError(
            f"{PLANTED} needs a simulated log: only there it is known what was planted, not in {request.log}"
        )
    terms = planted_terms(options_of(request, SimulatedParams))
    names = encoded.field_names
    columns = [[names.index(field) for field in term.fields] for term in terms]
    folder.mkdir()
    keys = {name: [_combined(encoded, name, places) for places in columns] for name in SPLIT_NAMES}
    known = [np.unique(keys["train"][number]) for number in range(len(terms))]
    for name in SPLIT_NAMES:
        split = encoded.split(name)
        crossed = [_places(known[number], keys[name][number]) for number in range(len(terms))]
        np.save(folder / f"ids_{name}.npy", np.column_stack([np.asarray(split.ids), *crossed]).astype(np.int32))
        np.save(folder / f"clicks_{name}.npy", np.asarray(split.clicks))
        np.save(folder / f"times_{name}.npy", np.asarray(split.times))
    sizes = (*encoded.field_sizes, *(len(values) + 2 for values in known))
    return _Crossed(encoded.encoder, encoded.coverage, encoded.num_rows, folder, sizes)


@dataclass(frozen=True)
class _Crossed(Encoded):
    """An encoded log with fields that no encoder makes."""

    sizes: tuple[int, ...] = ()

    @property
    def field_sizes(self) -> tuple[int, ...]:
        return self.sizes

    def split(self, name: str) -> EncodedSplit:
        ids, clicks, times = (
            np.load(self.folder / f"{kind}_{name}.npy", mmap_mode="r") for kind in ("ids", "clicks", "times")
        )
        return EncodedSplit(ids, clicks, times)


def _combined(encoded: Encoded, name: str, places: list[int]) -> np.ndarray[Any, Any]:
    ids = np.asarray(encoded.split(name).ids).astype(np.int64)
    key = np.zeros(len(ids), np.int64)
    for place in places:
        key = key * encoded.field_sizes[place] + ids[:, place]
    return key


def _places(known: np.ndarray[Any, Any], keys: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    at = np.clip(np.searchsorted(known, keys), 0, len(known) - 1)
    return np.where(known[at] == keys, at + 2, 1)


def true_scores(raw_log: RawLog, clean_log: CleanLog, splits: Splits) -> np.ndarray[Any, Any] | None:
    """The true click probabilities (R,) of the test rows in their order; None where nobody knows them."""
    truth = sources.scan_truth(raw_log)
    if truth is None:
        return None
    test = clean_log.scan().select(IMPRESSION).collect()[splits.rows_of("test")]
    known = truth.collect().unique(IMPRESSION)
    joined = test.join(known, on=IMPRESSION, how="left", maintain_order="left")["probability"]
    if joined.null_count() > 0:
        raise IntegrityError(
            f"leaderboard: {joined.null_count():,} test rows have no true probability in raw_log; run fetch again"
        )
    probabilities: np.ndarray[Any, Any] = joined.to_numpy()
    return probabilities
