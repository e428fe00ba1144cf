"""Rows to ids, the same while training and while serving: the encoder goes with the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from components.artifact import read_json, read_table, write_json, write_table
from components.encoding.codes import Buckets, Calendar, Code, Vocabulary
from components.encoding.keys import Ids
from components.errors import IntegrityError
from components.log import LogSchema
from components.strict import Strict, parse

# Up to so many rows are looked up one by one: the engine's start costs more than the rows (a choice of speed alone).
FEW_ROWS = 128
_BLOCK_ROWS = 4_096


@dataclass(frozen=True)
class Encoder:
    """A code for each field, in schema order (shapes: R rows, F fields)."""

    schema: LogSchema
    codes: tuple[Code, ...]

    @property
    def field_sizes(self) -> tuple[int, ...]:
        """Ids of each field: 0 for a missing value, 1 for one unseen in train, then what is known."""
        return tuple(code.size for code in self.codes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `encode` reads, each once."""
        return tuple(dict.fromkeys(code.column for code in self.codes))

    def vocabulary(self, field: str) -> list[str]:
        """What the ids of one field stand for, from id 2 on, in words."""
        return self.codes[self.schema.field_names.index(field)].words()

    def encode(self, rows: pl.DataFrame | pl.LazyFrame) -> Ids:
        """Ids of all fields of rows that have _time (where a field needs it) and the column fields. (R, F) int32."""
        table = rows.select(self.columns).collect() if isinstance(rows, pl.LazyFrame) else rows
        return self.encode_few(table) if table.height <= FEW_ROWS else self.encode_many(table)

    def encode_few(self, rows: pl.DataFrame) -> Ids:
        """The ids, value by value; the same as `encode_many`, without the engine's start."""
        ids = np.empty((rows.height, len(self.codes)), np.int32)
        for place, code in enumerate(self.codes):
            look_up: Any = code.id_of
            ids[:, place] = [look_up(value) for value in rows.get_column(code.column).to_list()]
        return ids

    def encode_many(self, rows: pl.DataFrame) -> Ids:
        """The ids, by the engine."""
        return side_by_side(self.encode_columns(rows))

    def encode_columns(self, rows: pl.DataFrame) -> list[Ids]:
        """The ids of each field. F times (R,) int32."""
        return [
            rows.select(code.expression).to_series().to_numpy()
            if isinstance(code, Calendar)
            else code.ids_of(rows.get_column(code.column))
            for code in self.codes
        ]

    def save(self, folder: Path) -> None:
        """Write encoder.json and the vocabularies as one Parquet table."""
        fields = [
            _FieldAccount(
                name,
                code.size,
                code.num_hash_buckets if isinstance(code, Vocabulary) else 0,
                code.edges if isinstance(code, Buckets) else (),
            )
            for name, code in zip(self.schema.field_names, self.codes, strict=True)
        ]
        write_json(folder / "encoder.json", _Account(self.schema, tuple(fields)))
        tables = [
            pl.DataFrame({"field": pl.repeat(name, len(code.values), eager=True), "value": code.values})
            for name, code in zip(self.schema.field_names, self.codes, strict=True)
            if isinstance(code, Vocabulary)
        ]
        empty = pl.DataFrame(schema={"field": pl.String, "value": pl.String})
        write_table(folder / "vocabularies.parquet", pl.concat([empty, *tables]).rechunk())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote; raises IntegrityError where the parts do not belong together."""
        place = folder / "encoder.json"
        account = parse(_Account, read_json(place), str(place), IntegrityError)
        if tuple(field.name for field in account.fields) != account.schema.field_names:
            raise IntegrityError(f"{place}: its fields are not the schema's; run the encode stage again")
        table = read_table(folder / "vocabularies.parquet")
        values = dict(_by_field(table))
        codes: list[Code] = []
        for field, of_schema in zip(account.fields, account.schema.fields, strict=True):
            if of_schema.kind == "categorical":
                nothing = pl.Series(field.name, [], dtype=pl.String)
                codes.append(Vocabulary(field.name, values.get(field.name, nothing), field.num_hash_buckets))
            elif of_schema.kind == "numeric":
                codes.append(Buckets(field.name, field.edges))
            else:
                codes.append(Calendar(of_schema.kind))
            if codes[-1].size != field.size:
                raise IntegrityError(
                    f"{folder / 'vocabularies.parquet'}: field '{field.name}' has {codes[-1].size:,} ids where "
                    f"encoder.json says {field.size:,}; run the encode stage again"
                )
        return cls(account.schema, tuple(codes))


@dataclass(frozen=True)
class _FieldAccount(Strict):
    name: str
    size: int
    num_hash_buckets: int
    edges: tuple[float, ...]


@dataclass(frozen=True)
class _Account(Strict):
    schema: LogSchema
    fields: tuple[_FieldAccount, ...]


def _by_field(table: pl.DataFrame) -> list[tuple[str, pl.Series]]:
    """Each field's values, in the order they were written in."""
    parts = table.partition_by("field", maintain_order=True) if table.height else []
    return [(part["field"][0], part["value"].alias(part["field"][0])) for part in parts]


def side_by_side(columns: Sequence[Ids]) -> Ids:
    """F columns as (R, F), a block at a time, so that a block stays in the cache while it is filled."""
    ids = np.empty((len(columns[0]), len(columns)), np.int32)
    for first in range(0, len(ids), _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        for place, column in enumerate(columns):
            ids[block, place] = column[block]
    return ids
