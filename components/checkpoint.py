"""A long work's state on disk, so that a killed stage goes on where it was; stands right after `workbench`.

One safetensors file holds everything: tensors as they are, facts (JSON) and the identity of what it belongs to in the
header. It is written beside its place, fsynced and renamed, so it is seen whole or not at all. Floats in `facts`
survive exactly (JSON keeps the shortest text that reads back to the same double).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from components.artifact import flush
from components.errors import ConfigError, IntegrityError, shortened

FILE_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What `save_checkpoint` was given: tensors on the CPU and JSON facts."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


def save_checkpoint(
    folder: Path, identity: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> None:
    """Put the state into `folder` in place of an older one, whole or not at all, and on the disk when this returns.

    `identity` says what the state belongs to (digests of data, params and code); `load_checkpoint` compares it key by key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = save(
        # Cloned: safetensors refuses tensors that share memory, and views (an expanded buffer) would.
        {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()},
        metadata={"identity": json.dumps(identity, sort_keys=True), "facts": json.dumps(facts, sort_keys=True)},
    )
    unfinished = folder / f"{FILE_NAME}.{os.getpid()}.unfinished"
    unfinished.write_bytes(content)
    flush(unfinished)
    unfinished.replace(folder / FILE_NAME)
    flush(folder)


def forget_checkpoint(folder: Path) -> None:
    """Remove the state in `folder`, if there is one."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def load_checkpoint(
    folder: Path,
    identity: Mapping[str, Any],
    resume: Literal["auto", "never", "always"],
    say: Callable[[str], None],
) -> Checkpoint | None:
    """Give the state in `folder` if it belongs to `identity`, else None.

    One that does not fit, or is damaged, is discarded aloud (through `say`) under "auto" and refused under "always" with
    ConfigError or IntegrityError, saying what differs. "never" does not look.
    """
    for leftover in folder.glob(f"{FILE_NAME}.*.unfinished"):
        leftover.unlink(missing_ok=True)
    path = folder / FILE_NAME
    if resume == "never":
        return None
    if not path.exists():
        if resume == "always":
            raise ConfigError(f"--resume always: there is no checkpoint at {path}; use --resume auto to start anew")
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            found: dict[str, Any] = json.loads(header["identity"])
            facts: dict[str, Any] = json.loads(header["facts"])
            # Cloned, so that nothing maps a file that the next checkpoint replaces.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        if resume == "always":
            raise IntegrityError(f"{path}: not readable as a checkpoint ({error}); use --resume never") from error
        say(f"checkpoint discarded: not readable ({error}); starting anew")
        return None
    expected: dict[str, Any] = json.loads(json.dumps(identity))
    differing = list(_differences("", found, expected))
    if not differing:
        return Checkpoint(tensors, facts)
    if resume == "always":
        raise ConfigError(f"--resume always: {path} belongs to another run: {'; '.join(differing)}; use --resume never")
    say(f"checkpoint discarded, it belongs to another run: {'; '.join(differing)}; starting anew")
    return None


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors named `prefix.NAME`, by NAME: one module's state among all that a checkpoint holds."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def flatten_optimizer(prefix: str, optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Take an optimizer's state apart into tensors (named under `prefix`) and JSON facts; see `restore_optimizer`."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for number, slots in state["state"].items():
        for slot, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}.{number}.{slot}"] = value
            else:
                plain.setdefault(str(number), {})[slot] = value
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    return tensors, {"plain": plain, "groups": groups}


def restore_optimizer(
    prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> None:
    """Put back what `flatten_optimizer` took from an optimizer over the same parameters."""
    slots: dict[int, dict[str, Any]] = {int(number): dict(plain) for number, plain in facts["plain"].items()}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            number, slot = name.removeprefix(f"{prefix}.").split(".", 1)
            slots.setdefault(int(number), {})[slot] = tensor.clone()
    now = optimizer.state_dict()["param_groups"]
    groups = [
        {**{key: _as_before(old.get(key), value) for key, value in saved.items()}, "params": old["params"]}
        for saved, old in zip(facts["groups"], now, strict=True)
    ]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})


def digest_of(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of the parts one after another, for identities; each part's length is hashed too, so borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part if isinstance(part, bytes) else part.cast("B")).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def digest_code(folders: Iterable[str], files: Iterable[str]) -> str:
    """SHA-256 of components' code: all Python and C of the folders, and single files."""
    components = Path(__file__).resolve().parent
    paths = {path for folder in folders for kind in ("*.py", "*.[ch]") for path in (components / folder).glob(kind)}
    paths |= {components / name for name in files}
    return digest_of(part for path in sorted(paths) for part in (path.name.encode(), path.read_bytes()))


def _as_before(old: Any, saved: Any) -> Any:
    """JSON turns tuples (Adam's betas) into lists; give back the type that the optimizer uses now."""
    return tuple(saved) if isinstance(old, tuple) else saved


def _differences(within: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """What differs, in words, each value by its keys on the way there."""
    for key in sorted(found.keys() | expected.keys()):
        one, other = found.get(key), expected.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(f"{within}{key}.", one, other)
        elif one != other:
            yield f"{within}{key} is {_short(one)}, expected {_short(other)}"


def _short(value: Any) -> str:
    return shortened("absent" if value is None else json.dumps(value, sort_keys=True), 120)
