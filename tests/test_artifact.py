"""Facts go into JSON and come back, the same bytes each time; what JSON cannot say is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from components.artifact import link_files, map_array, read_json, read_table, write_array, write_json
from components.errors import IntegrityError
from components.log import Window
from components.strict import parse


@dataclass(frozen=True)
class Facts:
    place: Path
    count: np.int64
    shares: tuple[float, ...]


def test_facts_become_plain_sorted_json(tmp_path: Path) -> None:
    write_json(tmp_path / "facts.json", Facts(Path("a/b"), np.int64(3), (0.5, 1.0)))
    assert (tmp_path / "facts.json").read_text() == (
        '{\n  "count": 3,\n  "place": "a/b",\n  "shares": [\n    0.5,\n    1.0\n  ]\n}\n'
    )


def test_a_window_with_times_comes_back_equal(tmp_path: Path) -> None:
    window = Window(datetime(2026, 3, 2, 6, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC), None)
    write_json(tmp_path / "window.json", window)
    assert parse(Window, read_json(tmp_path / "window.json"), "window.json", IntegrityError) == window


def test_an_array_is_no_number_however_small(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="ndarray"):
        write_json(tmp_path / "facts.json", {"count": np.array([3])})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float64("-inf")])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="use None where a figure is undefined"):
        write_json(tmp_path / "facts.json", {"share": number})


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text("{")
    (tmp_path / "rows.parquet").write_text("no table")
    (tmp_path / "ids.npy").write_bytes(b"\x93NUMPY")
    for read, name in ((read_json, "facts.json"), (read_table, "rows.parquet"), (map_array, "ids.npy")):
        with pytest.raises(IntegrityError, match=name):
            read(tmp_path / name)
        with pytest.raises(IntegrityError, match="absent"):
            read(tmp_path / f"absent-{name}")


def test_an_array_is_mapped_as_it_was_written(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int32).reshape(3, 2)
    write_array(tmp_path / "ids.npy", array)
    assert np.array_equal(map_array(tmp_path / "ids.npy"), array)


def test_files_are_linked_with_their_folders_but_not_those_left_out(tmp_path: Path) -> None:
    (tmp_path / "from" / "deep").mkdir(parents=True)
    for place in ("one", "two", "deep/one"):
        (tmp_path / "from" / place).write_text(place)
    link_files(tmp_path / "from", tmp_path / "to", but={"one"})
    found = {str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert found == {"two", "deep/one"}
