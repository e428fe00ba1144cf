"""What people and machines set: `params.yaml` (knobs), `logs/<name>.yaml` (a log's own), `window.yaml` (the time).

A stage's params are the union of its sections in the first two; a key stands in exactly one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from components.errors import ConfigError
from components.log import LogRequest, LogSchema, SourceParams, Window
from components.strict import parse

LOG_SECTIONS = ("source", "schema", "check", "split", "search", "train", "evaluate")

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One value, its dotted key and the file it comes from."""

    key: str
    value: Any
    file: str


@dataclass(frozen=True)
class Settings:
    """The three files as read, unconverted; each part is checked when a stage asks for it."""

    root: Path
    log: str
    knobs: dict[str, Any]
    preset: dict[str, Any]
    window: dict[str, Any]

    @property
    def preset_file(self) -> str:
        """Where what is particular to this log stands, relative to the root."""
        return f"logs/{self.log}.yaml"

    def section(self, name: str, kind: type[T]) -> T:
        """The union of one section over the two files as a `kind`; raises ConfigError naming file, section and keys."""
        knobs = _mapping(self.knobs.get(name), f"params.yaml [{name}]")
        preset = _mapping(self.preset.get(name), f"{self.preset_file} [{name}]")
        twice = sorted(set(knobs) & set(preset))
        if twice:
            raise ConfigError(
                f"params.yaml and {self.preset_file} [{name}]: {twice} stand in both; keep each in one of them"
            )
        where = f"params.yaml + {self.preset_file} [{name}]" if preset else f"params.yaml [{name}]"
        return parse(kind, knobs | preset, where, ConfigError)

    def request(self) -> LogRequest:
        """What the run asks of the world; raises ConfigError."""
        schema = parse(LogSchema, self.preset.get("schema"), f"{self.preset_file} [schema]", ConfigError)
        _refuse_a_crooked_schema(schema, self.preset_file)
        source = parse(SourceParams, self.preset.get("source"), f"{self.preset_file} [source]", ConfigError)
        window = parse(Window, self.window, "window.yaml", ConfigError)
        if window.start and window.end and window.start >= window.end:
            raise ConfigError(f"window.yaml: start {window.start} must lie before end {window.end}")
        return LogRequest(self.log, source, schema, window)

    def every_setting(self) -> list[Setting]:
        """Each value with where it comes from, in the files' order."""
        files = (("params.yaml", self.knobs), (self.preset_file, self.preset), ("window.yaml", self.window))
        return [Setting(key, value, file) for file, content in files for key, value in _leaves(content, "")]


def read_settings(root: Path) -> Settings:
    """Read the three files below `root`; raises ConfigError naming the file that is missing or not YAML."""
    knobs = _read_yaml(root / "params.yaml")
    log = knobs.get("log")
    if not isinstance(log, str):
        raise ConfigError(f"params.yaml: 'log' must name a file in logs/ without '.yaml', got {log!r}")
    path = root / "logs" / f"{log}.yaml"
    if Path(log).name != log or not path.is_file():
        there = sorted(file.stem for file in (root / "logs").glob("*.yaml"))
        raise ConfigError(f"params.yaml: log '{log}' has no {path.relative_to(root)}; there are {there}")
    preset = _read_yaml(path)
    missing, unknown = sorted(set(LOG_SECTIONS) - set(preset)), sorted(set(preset) - set(LOG_SECTIONS))
    if missing or unknown:
        found = [f"missing {missing} (copy them from logs/example_table.yaml)"] if missing else []
        found += [f"unknown {unknown}"] if unknown else []
        raise ConfigError(f"logs/{log}.yaml must hold exactly the sections {list(LOG_SECTIONS)}: {', '.join(found)}")
    return Settings(root, log, knobs, preset, _read_yaml(root / "window.yaml"))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: the file is missing; restore it with `git checkout -- {path.name}`") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    return _mapping(content, str(path))


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected keys with values, got {type(content).__name__}")
    return content


def _leaves(content: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        return [leaf for name, part in content.items() for leaf in _leaves(part, f"{key}.{name}" if key else str(name))]
    return [(key, content)]


def _refuse_a_crooked_schema(schema: LogSchema, file: str) -> None:
    if not schema.click:
        raise ConfigError(f"{file} [schema]: click must name the column that holds 0 or 1, got ''")
    names = [field.name for field in schema.fields]
    doubled = sorted({name for name in names if names.count(name) > 1})
    reserved = sorted(name for name in names if name.startswith("_"))
    if doubled or reserved:
        raise ConfigError(f"{file} [schema]: field names must be unique and not begin with '_': {doubled + reserved}")
    for role in (schema.user, schema.item):
        if role is not None and role not in names:
            raise ConfigError(f"{file} [schema]: '{role}' is named as user or item but is none of the fields {names}")
    if schema.time is None and any(field.is_from_time for field in schema.fields):
        raise ConfigError(f"{file} [schema]: a field of kind hour or weekday needs a time column, but time is null")
    for field in schema.fields:
        if (field.kind == "numeric") != (field.buckets is not None):
            raise ConfigError(f"{file} [schema]: '{field.name}': numeric fields, and only they, say their buckets")
