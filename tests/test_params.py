"""Params are read strictly: nothing unknown, nothing missing, nothing twice, nothing converted in silence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import ConfigError
from components.strict import Strict
from pipeline.params import LOG_SECTIONS, read_settings

SCHEMA = {"click": "click", "time": None, "impression": None, "user": None, "item": None, "fields": []}


@dataclass(frozen=True)
class TrainParams(Strict):
    prior_rows: int
    learning_rate: float


def write(root: Path, knobs: dict[str, Any], preset: dict[str, Any], window: dict[str, Any] | None = None) -> Path:
    (root / "logs").mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump({"log": "mine"} | knobs))
    (root / "logs" / "mine.yaml").write_text(yaml.safe_dump({name: {} for name in LOG_SECTIONS} | preset))
    (root / "window.yaml").write_text(yaml.safe_dump(window or {"start": None, "end": None, "as_of": None}))
    return root


def test_a_section_is_the_union_of_knobs_and_preset(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, {"train": {"prior_rows": 3}}, {"train": {"learning_rate": 0.5}}))
    assert settings.section("train", TrainParams) == TrainParams(3, 0.5)


def test_unknown_and_missing_keys_are_named_together(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, {"train": {"prior_row": 3, "learning_rate": 0.1}}, {}))
    with pytest.raises(
        ConfigError, match=r"\[train\] does not fit TrainParams: unknown \['prior_row'\], missing \['prior_rows'\]"
    ):
        settings.section("train", TrainParams)


def test_a_key_in_both_files_is_refused(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, {"train": {"prior_rows": 3}}, {"train": {"prior_rows": 4}}))
    with pytest.raises(ConfigError, match=r"\['prior_rows'\] stand in both"):
        settings.section("train", TrainParams)


@pytest.mark.parametrize("wrong", ["3", 3.5, True, None])
def test_a_value_of_another_type_is_refused(tmp_path: Path, wrong: object) -> None:
    settings = read_settings(write(tmp_path, {"train": {"prior_rows": wrong, "learning_rate": 0.1}}, {}))
    with pytest.raises(ConfigError, match="prior_rows"):
        settings.section("train", TrainParams)


def test_an_unknown_log_is_refused_with_the_ones_there_are(tmp_path: Path) -> None:
    write(tmp_path, {"log": "theirs"}, {})
    with pytest.raises(ConfigError, match=r"no logs/theirs.yaml; there are \['mine'\]"):
        read_settings(tmp_path)


def test_a_log_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    write(tmp_path, {"log": "../logs/mine"}, {})
    with pytest.raises(ConfigError, match="there are"):
        read_settings(tmp_path)


def test_a_window_that_ends_before_it_starts_is_refused(tmp_path: Path) -> None:
    window = {"start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z", "as_of": None}
    source = {"format": "table", "paths": [], "options": {}}
    settings = read_settings(write(tmp_path, {}, {"schema": SCHEMA, "source": source}, window))
    with pytest.raises(ConfigError, match="must lie before"):
        settings.request()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": "who"}, "'who' is named as user or item"),
        ({"fields": [{"name": "_row", "kind": "categorical"}]}, "not begin with '_'"),
        ({"fields": [{"name": "hour", "kind": "hour"}]}, "needs a time column"),
        ({"fields": [{"name": "price", "kind": "numeric"}]}, "say their buckets"),
        ({"fields": [{"name": "a", "kind": "categorical"}] * 2}, "must be unique"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    rest = {"buckets": None, "max_missing_share": 1.0, "minimum": None, "maximum": None}
    schema = SCHEMA | change
    schema["fields"] = [rest | field for field in schema["fields"]]
    source = {"format": "table", "paths": [], "options": {}}
    settings = read_settings(write(tmp_path, {}, {"schema": schema, "source": source}))
    with pytest.raises(ConfigError, match=words):
        settings.request()


def test_every_setting_says_its_file(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, {"train": {"prior_rows": 3}}, {"train": {"learning_rate": 0.5}}))
    found = {one.key: (one.value, one.file) for one in settings.every_setting()}
    assert found["train.prior_rows"] == (3, "params.yaml")
    assert found["train.learning_rate"] == (0.5, "logs/mine.yaml")
    assert found["start"] == (None, "window.yaml")


def test_a_log_without_all_sections_is_told_where_to_copy_them_from(tmp_path: Path) -> None:
    write(tmp_path, {}, {})
    sections: dict[str, Any] = {name: {} for name in LOG_SECTIONS if name != "split"}
    (tmp_path / "logs" / "mine.yaml").write_text(yaml.safe_dump({**sections, "splits": {}}))
    with pytest.raises(
        ConfigError, match=r"missing \['split'\] \(copy them from logs/example_table.yaml\), unknown \['splits'\]"
    ):
        read_settings(tmp_path)


def test_a_log_must_name_its_column_of_clicks(tmp_path: Path) -> None:
    write(tmp_path, {}, {"schema": {**SCHEMA, "click": ""}, "source": {"format": "table", "paths": [], "options": {}}})
    with pytest.raises(ConfigError, match="click must name the column"):
        read_settings(tmp_path).request()
