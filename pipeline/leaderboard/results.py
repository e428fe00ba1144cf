"""What one (ranker, seed) left behind: figures and test scores, kept by the identity of data, code and params.

A result is a folder, seen whole or not at all, so a board that was killed goes on with what is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.artifact import map_array, read_json, write_array, write_json
from components.autopi.architecture import FoundArchitecture
from components.errors import IntegrityError
from components.evaluating import Figures
from components.strict import Strict, parse
from pipeline.run import put_in_place

Identity = dict[str, Any]


@dataclass(frozen=True)
class Tuned(Strict):
    """What tuning may change of a ranker's preset params."""

    embedding_l2: float
    learning_rate: float
    dropout: float


@dataclass(frozen=True)
class Spent(Strict):
    """What it took to find an architecture, or good params: paid once, before the training that is measured.

    seconds       on the wall
    core_seconds  of all threads together
    rows          that passed through a network forwards and backwards, each as often as it did
    """

    seconds: float
    core_seconds: float
    rows: int

    @staticmethod
    def total(parts: Iterable[Spent]) -> Spent | None:
        """All together; None of nothing."""
        several = list(parts)
        if not several:
            return None
        return Spent(
            sum(one.seconds for one in several),
            sum(one.core_seconds for one in several),
            sum(one.rows for one in several),
        )


@dataclass(frozen=True)
class Search(Strict):
    """What one seed's search found."""

    identity: Identity
    line: str
    spent: Spent


@dataclass(frozen=True)
class Cost(Strict):
    """What a ranker took; None where it was not trained here.

    num_flops_per_row      of matrix products and convolutions, beside the look-ups
    train_seconds          wall clock of the whole training with its looks at tune
    train_core_seconds     processor time of the same
    num_train_rows_seen    rows of train that passed forwards and backwards, each as often as it did
    rows_per_second        rows of train seen in a second of wall clock, looks at tune included
    peak_memory_mb         the largest resident set of its process, data and libraries included
    milliseconds_per_1000  to score 1,000 encoded rows through the export on one core
    """

    num_parameters: int
    num_embedding_parameters: int
    num_flops_per_row: int
    num_threads: int
    num_epochs: int
    train_seconds: float
    train_core_seconds: float
    num_train_rows_seen: int
    rows_per_second: float
    peak_memory_mb: float
    milliseconds_per_1000: float


@dataclass(frozen=True)
class Result(Strict):
    """One row of the board and seed, on test.

    row           the name in the table; the ranker's own but for yardsticks
    identity      what it belongs to: digests of data and code, params, versions
    raw_log_loss  before calibration (after the exact correction of downsampling and weights)
    raw_calibration_error  the same of ECE
    calibration   the method that calibrate chose
    parity        largest distance of an exported score from the trained network's own
    architecture  one line, of a searched network
    searched      what the search of this architecture took; None where there was none, or nobody wrote it down
    """

    row: str
    seed: int
    identity: Identity
    tuned: Tuned
    tune_auc: float
    figures: Figures
    raw_log_loss: float
    raw_calibration_error: float
    calibration: str
    parity: float
    architecture: str | None
    searched: Spent | None
    cost: Cost


@dataclass(frozen=True)
class Trial(Strict):
    """What tuning sees of a training: nothing of test."""

    row: str
    seed: int
    identity: Identity
    tuned: Tuned
    tune_auc: float
    spent: Spent


@dataclass(frozen=True)
class Failure:
    """A (ranker, seed) that came to nothing, and why."""

    row: str
    seed: int
    reason: str


def key_of(identity: Identity) -> str:
    """A short name for an identity; equal identities have equal names."""
    text = json.dumps(identity, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Results:
    """The folder in which results and trials are kept, each under its identity's key."""

    folder: Path

    def place(self, identity: Identity) -> Path:
        """Where the result of this identity lies or will lie."""
        return self.folder / key_of(identity)

    def write(self, result: Result | Trial, scores_r: np.ndarray[Any, Any] | None) -> None:
        """Keep a result with its test scores (R,), or a trial without any."""
        with self._appearing_at(self.place(result.identity)) as hidden:
            write_json(hidden / "result.json", result)
            if scores_r is not None:
                write_array(hidden / "scores.npy", scores_r)

    def write_search(self, search: Search, found: FoundArchitecture | None) -> None:
        """Keep what a search found, AutoPI's with its course."""
        with self._appearing_at(self.place(search.identity)) as hidden:
            write_json(hidden / "search.json", search)
            if found is not None:
                found.save(hidden)

    @contextmanager
    def _appearing_at(self, place: Path) -> Iterator[Path]:
        hidden = place.with_name(f".{place.name}.{os.getpid()}")
        hidden.mkdir(parents=True)
        try:
            yield hidden
            put_in_place(hidden, place)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def search(self, identity: Identity) -> Search | None:
        """The search of this identity, None where it was not run yet; raises IntegrityError for a damaged one."""
        path = self.place(identity) / "search.json"
        return parse(Search, read_json(path), str(path), IntegrityError) if path.is_file() else None

    def architecture(self, search: Search) -> FoundArchitecture:
        """What a kept search of AutoPI's space found."""
        return FoundArchitecture.load(self.place(search.identity))

    def result(self, identity: Identity) -> Result | None:
        """The result of this identity, None where it was not made yet; raises IntegrityError for a damaged one."""
        path = self.place(identity) / "result.json"
        return parse(Result, read_json(path), str(path), IntegrityError) if path.is_file() else None

    def trial(self, identity: Identity) -> Trial | None:
        """The same of a trial."""
        path = self.place(identity) / "result.json"
        return parse(Trial, read_json(path), str(path), IntegrityError) if path.is_file() else None

    def scores(self, result: Result) -> np.ndarray[Any, Any]:
        """The test scores (R,) of a result, in the encoded rows' order."""
        return np.array(map_array(self.place(result.identity) / "scores.npy"))
