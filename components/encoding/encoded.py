"""The encoded log: an encoder fitted on train, and for each split the ids, clicks and times of its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from components.ahead import done_ahead
from components.artifact import link_files, map_array, read_json, write_json
from components.encoding.codes import MISSING, UNSEEN
from components.encoding.encoder import Encoder, side_by_side
from components.encoding.fitting import fit_codes
from components.encoding.keys import Ids
from components.encoding.params import EncodeParams
from components.errors import IntegrityError
from components.log import CLICK, TIME, CleanLog
from components.splitting import SPLIT_NAMES, Splits
from components.strict import Strict, parse
from components.workbench import Workbench

CHUNK_ROWS = 262_144
CHUNKS_AHEAD = 2  # encoded while one is written; at 40 fields each is some hundred MB
_SPECIAL = (MISSING, UNSEEN)


@dataclass(frozen=True)
class EncodedSplit:
    """One split's rows in the clean log's order, mapped from disk: ids (R, F) int32, clicks (R,) int8, times (R,) int64."""

    ids: Ids
    clicks: np.ndarray[Any, np.dtype[np.int8]]
    times: np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class FieldCoverage(Strict):
    """What an encoder makes of one field; shares of rows by split.

    num_train_values  distinct values in train, before rare ones are left out; null for fields made from the time
    """

    field: str
    num_ids: int
    num_train_values: int | None
    missing_shares: dict[str, float]
    unseen_shares: dict[str, float]


@dataclass(frozen=True)
class Encoded:
    """encoder/, encoded.json, and for each split ids_<split>.npy, clicks_<split>.npy and times_<split>.npy."""

    encoder: Encoder
    coverage: tuple[FieldCoverage, ...]
    num_rows: dict[str, int]
    folder: Path = dataclasses.field(compare=False)

    @property
    def field_names(self) -> tuple[str, ...]:
        """The F fields' names, in the order of the ids' columns."""
        return self.encoder.schema.field_names

    @property
    def field_sizes(self) -> tuple[int, ...]:
        """The number of ids of each field."""
        return self.encoder.field_sizes

    def split(self, name: str) -> EncodedSplit:
        """One split's rows; raises IntegrityError where the files are not of the recorded shape."""
        ids, clicks, times = (map_array(self.folder / f"{kind}_{name}.npy") for kind in ("ids", "clicks", "times"))
        num_rows = self.num_rows[name]
        if ids.shape != (num_rows, len(self.field_names)) or clicks.shape != (num_rows,) or times.shape != (num_rows,):
            raise IntegrityError(
                f"{self.folder}: ids {ids.shape}, clicks {clicks.shape} and times {times.shape} of '{name}' should have "
                f"{num_rows:,} rows and {len(self.field_names)} fields; run the encode stage again"
            )
        return EncodedSplit(ids, clicks, times)

    def equals(self, other: Encoded) -> bool:
        """The same encoder and the same rows, value by value."""
        if self != other:
            return False
        pairs = [(self.split(name), other.split(name)) for name in SPLIT_NAMES]
        return all(
            np.array_equal(getattr(mine, kind), getattr(theirs, kind))
            for mine, theirs in pairs
            for kind in ("ids", "clicks", "times")
        )

    def save(self, folder: Path) -> None:
        """Write the encoder and the account, and link (or copy) the arrays."""
        (folder / "encoder").mkdir()
        self.encoder.save(folder / "encoder")
        write_json(folder / "encoded.json", _Account(self.coverage, self.num_rows))
        link_files(self.folder, folder, but={"encoder", "encoded.json"})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the encoder and the account; the arrays stay on disk."""
        account = parse(_Account, read_json(folder / "encoded.json"), str(folder / "encoded.json"), IntegrityError)
        return cls(Encoder.load(folder / "encoder"), account.coverage, account.num_rows, folder)


@dataclass(frozen=True)
class _Account(Strict):
    coverage: tuple[FieldCoverage, ...]
    num_rows: dict[str, int]


def encode_log(clean_log: CleanLog, splits: Splits, params: EncodeParams, workbench: Workbench) -> Encoded:
    """Fit the encoder on train and stream every split's rows through it."""
    folder = workbench.scratch / "encoded"
    folder.mkdir()
    num_fields = len(clean_log.schema.fields)
    total_rows = len(splits.assignment)

    def tell_fitting(number: int, name: str) -> None:
        workbench.progress(0.5 * number / num_fields, 1.0, f"values of '{name}'")

    codes, distinct = fit_codes(clean_log, splits, params, tell_fitting)
    encoder = Encoder(clean_log.schema, codes)
    writers = [_SplitWriter(folder, name, splits.span(name).num_rows, num_fields) for name in SPLIT_NAMES]
    try:
        for first, shares in _chunks_ahead(clean_log, splits, encoder):
            workbench.progress(0.5 + 0.5 * first / total_rows, 1.0, f"{first:,} of {total_rows:,} rows encoded")
            for share in shares:
                writers[share.split].write(share)
    finally:
        for writer in writers:
            writer.close()
    coverage = tuple(
        FieldCoverage(
            name,
            encoder.field_sizes[place],
            distinct[place],
            {writer.name: writer.share_of(MISSING, place) for writer in writers},
            {writer.name: writer.share_of(UNSEEN, place) for writer in writers},
        )
        for place, name in enumerate(clean_log.schema.field_names)
    )
    workbench.progress(1.0, 1.0, f"{total_rows:,} rows encoded")
    return Encoded(encoder, coverage, {writer.name: writer.num_rows for writer in writers}, folder)


@dataclass(frozen=True)
class _Share(EncodedSplit):
    """A chunk's rows of one split, by its place in SPLIT_NAMES, with the number of missing and of unseen values by field. (2, F)."""

    split: int
    num_special: np.ndarray[Any, np.dtype[np.int64]]


def _chunks_ahead(clean_log: CleanLog, splits: Splits, encoder: Encoder) -> Iterator[tuple[int, list[_Share]]]:
    """Chunks of rows by their first row, ready to be written; the next ones are read and encoded while the caller writes this one."""
    lines = clean_log.scan().select(*dict.fromkeys((TIME, CLICK, *encoder.columns)))

    def encode_chunk(first: int) -> tuple[int, list[_Share]]:
        rows = lines.slice(first, CHUNK_ROWS).collect()
        columns = encoder.encode_columns(rows)
        times, clicks = rows[TIME].to_numpy(), rows[CLICK].to_numpy()
        assigned = splits.assignment[first : first + rows.height]
        shares = []
        for number in range(len(SPLIT_NAMES)):
            is_here = assigned == number
            if not is_here.any():
                continue
            chosen = slice(None) if is_here.all() else is_here
            own = [column[chosen] for column in columns]
            num_special = np.array([[np.count_nonzero(column == special) for column in own] for special in _SPECIAL])
            shares.append(_Share(side_by_side(own), clicks[chosen], times[chosen], number, num_special))
        return first, shares

    return done_ahead(encode_chunk, range(0, len(splits.assignment), CHUNK_ROWS), CHUNKS_AHEAD)


class _SplitWriter:
    """Appends rows to one split's three `.npy` files and counts its special ids.

    Plain writes, not a map: pages written through a map would count as the process's own memory.
    """

    def __init__(self, folder: Path, name: str, num_rows: int, num_fields: int) -> None:
        self.name = name
        self.num_rows = num_rows
        self._num_special = np.zeros((len(_SPECIAL), num_fields), np.int64)
        self._files = []
        for kind, code, shape in (
            ("ids", "<i4", (num_rows, num_fields)),
            ("clicks", "|i1", (num_rows,)),
            ("times", "<i8", (num_rows,)),
        ):
            file = (folder / f"{kind}_{name}.npy").open("wb")
            np.lib.format.write_array_header_1_0(file, {"descr": code, "fortran_order": False, "shape": shape})
            self._files.append(file)

    def write(self, share: _Share) -> None:
        for file, part in zip(self._files, (share.ids, share.clicks, share.times), strict=True):
            np.ascontiguousarray(part).tofile(file)
        self._num_special += share.num_special

    def share_of(self, special: int, place: int) -> float:
        return float(self._num_special[_SPECIAL.index(special), place] / self.num_rows)

    def close(self) -> None:
        for file in self._files:
            file.close()
