"""Tidying up the store: what no tag of a log needs is deleted, and never what a promotion is about to need.

Deleting is announced with a commit on the log's branch first: a promotion that began before loses the race for that
branch, one that begins while it lasts waits. A tag's bundle can so never lose a file to it, wherever either is killed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from components.artifact import write_json
from components.errors import IntegrityError
from pipeline.registry.champions import COLLECTING, Registry
from pipeline.registry.clone import Clone
from pipeline.registry.records import StoredObject
from pipeline.registry.store import key_of


def garbage(registry: Registry) -> list[StoredObject]:
    """Every object below the log's prefix that no registered version needs."""
    with registry.cloned() as clone:
        needed = _needed(registry, clone)
    return [one for one in registry.bundles().objects() if one.key not in needed]


def collect(registry: Registry, keys: Sequence[str]) -> int:
    """Delete those of `keys` that still no version needs; gives their number. Run again after a stop, it goes on."""
    with registry.cloned() as clone:
        write_json(clone.folder / COLLECTING, {"process": os.getpid()})
        clone.commit(f"{registry.name}: tidying up the store")
        registry.observe("before announce gc")
        clone.push(())
        registry.observe("after announce gc")
        needed = _needed(registry, clone)
    store = registry.bundles()
    doomed = [key for key in keys if key not in needed]
    lists_first = sorted(doomed, key=lambda key: (not key.endswith(".dir"), key))
    registry.observe("before delete")
    store.delete(lists_first)
    registry.observe("after delete")
    end_collecting(registry)
    return len(doomed)


def end_collecting(registry: Registry) -> None:
    """Let promotions go on."""
    with registry.cloned() as clone:
        if not (clone.folder / COLLECTING).exists():
            return
        (clone.folder / COLLECTING).unlink()
        clone.commit(f"{registry.name}: the store is tidy")
        clone.push(())


def _needed(registry: Registry, clone: Clone) -> set[str]:
    store, needed = registry.bundles(), set()
    for event in registry.events(clone):
        if event.kind != "register":
            continue
        md5 = registry.pushed_md5(clone, event.commit)
        needed.add(key_of(md5))
        try:
            needed |= {key for _, key in store.listing(md5, clone.folder.parent)}
        except IntegrityError as error:
            raise IntegrityError(f"{error}; nothing is deleted before {event.version} is whole again") from error
    return needed
