"""Two versions side by side, from what their commits hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import shortened
from pipeline.outside import registry_of
from pipeline.run import Workspace
from pipeline.saying import PROJECT, Said

if TYPE_CHECKING:
    from pipeline.registry import Registry
    from pipeline.registry.clone import Clone


def compare(root: Path, one: str, other: str) -> Said:
    """Two versions side by side: metrics, data window, architecture, params that differ."""
    registry = registry_of(Workspace(root.absolute()))
    with registry.cloned() as clone:
        sides = [_side(registry, clone, version) for version in (one, other)]
    keys = [key for key in dict.fromkeys([*sides[0], *sides[1]]) if key.split(".")[0] != "params"]
    keys += sorted(
        key
        for key in sides[0].keys() | sides[1].keys()
        if key.startswith("params.") and sides[0].get(key) != sides[1].get(key)
    )
    facts = {key: {one: sides[0].get(key), other: sides[1].get(key)} for key in keys}
    width = max(map(len, keys), default=0)
    lines = [f"{'':<{width}}  {one:<28} {other}"]
    lines += [f"{key:<{width}}  {_short(sides[0].get(key)):<28} {_short(sides[1].get(key))}" for key in keys]
    return Said(facts, "\n".join(lines), 0)


def recorded(registry: Registry, clone: Clone, commit: str, file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(clone.read(commit, f"{registry.name}/{file}") or "{}")
    return found


def metrics_in(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The challenger's figures on its own test rows."""
    figures = evaluation.get("challenger", {})
    shown = ("auc", "log_loss", "normalised_entropy", "calibration_ratio")
    values = {name: figures[name]["value"] for name in shown if name in figures}
    return values | {name: figures[name] for name in ("calibration_error", "num_rows") if name in figures}


def moment_of(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds")


def _side(registry: Registry, clone: Clone, version: str) -> dict[str, Any]:
    """All that is recorded of a version, flat."""
    import yaml

    commit = registry.registered(clone, version).commit
    record = registry.record(clone, commit)
    lineage = recorded(registry, clone, commit, "lineage.json")
    architecture = recorded(registry, clone, commit, "architecture.json")
    side: dict[str, Any] = {
        "bundle": record.digest,
        "data.first_time": moment_of(record.data_first_time),
        "data.last_time": moment_of(record.data_last_time),
        **{f"rows.{span['name']}": span["num_rows"] for span in lineage.get("spans", ())},
        **metrics_in(recorded(registry, clone, commit, "evaluation.json")),
        "ranker": architecture.get("ranker"),
        "architecture": architecture.get("line"),
    }
    for file in ("params.yaml", "window.yaml"):
        params = yaml.safe_load(clone.read(commit, f"{PROJECT}/{file}") or "{}") or {}
        side |= {f"params.{file}.{key}": value for key, value in _leaves(params, "")}
    return side


def _leaves(content: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        return [leaf for name, part in content.items() for leaf in _leaves(part, f"{key}.{name}" if key else str(name))]
    return [(key, content)]


def _short(value: Any) -> str:
    return shortened(f"{value:.6g}" if isinstance(value, float) else str(value), 26)
