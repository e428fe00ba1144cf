"""Warm processes that promote at once into one bare repository, round after round: `python -m pipeline bench promotions`.

Each round every process has a bundle of its own, judged against the round's champion, and all begin at once; in every
fifth round one of them rolls back instead. The branch of the repository gives the order in which acts became visible;
a model that does one act at a time then says what each had to give and which tags there must be, and no others.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, get_args

import tqdm

from components.artifact import write_json
from components.errors import CtrError, IntegrityError, RaceError
from components.manifest import write_manifest
from pipeline.registry import PROD, Challenger, Keys, Registry, RegistryParams
from pipeline.registry.records import Bump

LOG = "races"
ROLLBACK_EVERY = 5  # rounds
SEED = 1  # of which act each process is given
_KINDS: tuple[Bump, ...] = get_args(Bump)


@dataclass(frozen=True)
class Order:
    """One act: promote a bundle judged against a champion's digest, or (without a bundle) roll back to a version."""

    bundle: Path | None
    digest: str
    against: str | None
    bump: Bump
    to: str


@dataclass(frozen=True)
class Ended:
    """How an act ended: done (with the version), race (another came first) or error (in words)."""

    how: Literal["done", "race", "error"]
    told: str


@dataclass
class Model:
    """A registry that does one act at a time. `tags` is tag -> digest of the bundle that it must lead to."""

    name: str
    digests: dict[str, str] = field(default_factory=dict)
    champion: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def promote(self, order: Order) -> str | None:
        """The version that the bundle must get; None where its verdict is about another champion, so that it must lose."""
        if order.against != (self.digests[self.champion] if self.champion else None):
            return None
        version = self._next(order.bump)
        self.digests[version] = order.digest
        self.tags[f"{self.name}@{version}"] = order.digest
        self.assign(version)
        return version

    def assign(self, version: str) -> None:
        """Make a version the champion."""
        number = 1 + sum("#" in tag for tag in self.tags)
        self.tags[f"{self.name}#{PROD}#{number}"] = self.digests[version]
        self.champion = version

    def _next(self, bump: Bump) -> str:
        """Count as semantic versions do, going on from the champion's, past every number that was ever given."""
        if self.champion is None:
            return "v1.0.0"
        numbers = [int(part) for part in self.champion.removeprefix("v").split(".")]
        place = ("major", "minor", "patch").index(bump)
        while True:
            numbers = [*numbers[:place], numbers[place] + 1, *[0] * (2 - place)]
            version = f"v{numbers[0]}.{numbers[1]}.{numbers[2]}"
            if not any(known.startswith(_series(version, place)) for known in self.digests):
                return version


def run_bench_promotions(num_rounds: int, num_processes: int, params: RegistryParams) -> dict[str, Any]:
    """Race `num_processes` over `num_rounds` and hold the repository against the model.

    Gives `double` (promotions in the history whose champion had changed before them, or that nobody was told of), `lost`
    (acts that ended well and are not in the history, or whose bundle cannot be fetched as it was), and
    `differs_from_sequential_model` (versions told, tags or champion that are not the model's).
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ctr-races-") as name:
        place = Path(name)
        registry = _registry(place / "git", place, params)
        _warm_up(place / "warm", params)
        orders, ended, draws = [], [], random.Random(SEED)
        with _processes(registry, num_processes) as pipes:
            racing = time.perf_counter()
            for number in range(num_rounds):
                orders += _orders(registry, place / "bundles" / str(number), number, num_processes, draws)
                ended += _race(pipes, orders[-num_processes:])
        seconds = time.perf_counter() - racing
        found = held_against_model(registry, orders, ended, place)
    kinds = [end.how for end in ended]
    return {
        "rounds": num_rounds,
        "processes": num_processes,
        "promotions": sum(
            end.how == "done" and order.bundle is not None for order, end in zip(orders, ended, strict=True)
        ),
        "rollbacks": sum(end.how == "done" and order.bundle is None for order, end in zip(orders, ended, strict=True)),
        "races_lost": kinds.count("race"),
        "errors": [end.told for end in ended if end.how == "error"][:3],
        **found,
        "seconds_a_round": round(seconds / num_rounds, 2),
        "seconds": round(time.perf_counter() - started, 1),
    }


def held_against_model(
    registry: Registry, orders: Sequence[Order], ended: Sequence[Ended], place: Path
) -> dict[str, int]:
    """Count what is double, lost or other than one act at a time would have left it."""
    promoted = {
        order.digest: (order, end) for order, end in zip(orders, ended, strict=True) if order.bundle is not None
    }
    done = [(order, end) for order, end in promoted.values() if end.how == "done"]
    model, told, double, rolled_back, seen = Model(registry.name), 0, 0, 0, set()
    with registry.cloned() as clone:
        for subject in clone.git("log", "--reverse", "--first-parent", "--format=%s", "HEAD").splitlines():
            digest = subject.removeprefix(f"{registry.name}: bundle ")
            if digest in promoted:
                order, end = promoted[digest]
                version = model.promote(order)
                double += version is None or end.how != "done"
                told += version != end.told
                seen.add(digest)
            elif subject.endswith(": a race"):
                model.assign(subject.removeprefix(f"{registry.name}: ").split(" ", 1)[0])
                rolled_back += 1
        commits = {event.version: event.commit for event in registry.events(clone) if event.kind == "register"}
        tags = {event.tag: registry.record(clone, event.commit).digest for event in registry.events(clone)}
        champion = registry.assigned(clone, PROD)
        lost = sum(order.digest not in seen for order, _ in done)
        for version in commits:
            found = registry.registered(clone, version)
            try:
                registry.bring(clone, found, place / "fetched" / version)
            except IntegrityError:
                lost += 1
    told_of_rollbacks = sum(
        order.bundle is None and end.how == "done" for order, end in zip(orders, ended, strict=True)
    )
    differs = told + len(tags.items() ^ model.tags.items())
    differs += (champion.version if champion is not None else None) != model.champion
    return {
        "double": double,
        "lost": lost + max(0, told_of_rollbacks - rolled_back),
        "differs_from_sequential_model": differs + max(0, rolled_back - told_of_rollbacks),
    }


def _orders(registry: Registry, folder: Path, number: int, num_processes: int, draws: random.Random) -> list[Order]:
    """What each process is to do in a round: all against the champion that is there now."""
    champion = registry.champion()
    against = champion.digest if champion is not None else None
    orders = []
    for process in range(num_processes):
        bundle = folder / str(process)
        digest = _make_bundle(bundle, f"{number} {process}")
        orders.append(Order(bundle, digest, against, draws.choice(_KINDS), ""))
    if champion is not None and number % ROLLBACK_EVERY == ROLLBACK_EVERY - 1:
        with registry.cloned() as clone:
            known = [event.version for event in registry.events(clone) if event.kind == "register"]
        orders[draws.randrange(num_processes)] = Order(None, "", None, "patch", draws.choice(known))
    return orders


def _race(pipes: Sequence[Connection], orders: Sequence[Order]) -> list[Ended]:
    for pipe, order in zip(pipes, orders, strict=True):
        pipe.send(order)
    return [pipe.recv() for pipe in pipes]


@contextmanager
def _processes(registry: Registry, number: int) -> Iterator[list[Connection]]:
    """Warm processes, forked from this one, that wait for orders and begin each at once."""
    assert threading.active_count() == 1, f"a fork of a process with threads may hang: {threading.enumerate()}"
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(number)
    ends = [context.Pipe() for _ in range(number)]
    parent = os.getpid()
    workers = [context.Process(target=_work, args=(registry, theirs, gate, parent), daemon=True) for _, theirs in ends]
    for worker in workers:
        worker.start()
    try:
        yield [ours for ours, _ in ends]
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for pipe in (pipe for pair in ends for pipe in pair):
            pipe.close()


def _work(registry: Registry, pipe: Connection, gate: Any, parent: int) -> None:
    """Do orders until the process that gives them is gone."""
    while True:
        while not pipe.poll(1.0):
            if os.getppid() != parent:
                return
        order: Order = pipe.recv()
        gate.wait()
        try:
            pipe.send(Ended("done", _act(registry, order)))
        except RaceError:
            pipe.send(Ended("race", ""))
        except CtrError as error:
            pipe.send(Ended("error", f"{type(error).__name__}: {error}"))


def _act(registry: Registry, order: Order) -> str:
    if order.bundle is None:
        return registry.assign(order.to, PROD, "a race", None).version
    return registry.promote(_challenger(order.bundle, order.against, order.bump)).version


def _challenger(bundle: Path, against: str | None, bump: Bump) -> Challenger:
    return Challenger(
        bundle, against, bump, None, None, ("all checks passed",), {"project/params.yaml": b"log: races\n"}
    )


def _make_bundle(folder: Path, content: str) -> str:
    (folder / "scorer").mkdir(parents=True)
    write_json(folder / "verdict.json", {"content": content})
    (folder / "scorer" / "weights").write_bytes(hashlib.sha256(content.encode()).digest() * 400)
    return write_manifest(folder)


def _warm_up(folder: Path, params: RegistryParams) -> None:
    """Promote once, so that all is imported before the processes are forked."""
    tqdm.tqdm.monitor_interval = 0  # its thread would be in the way of the fork
    _make_bundle(folder / "bundle", "warm")
    _registry(folder / "git", folder, params).promote(_challenger(folder / "bundle", None, "major"))


def _registry(git: Path, folder: Path, params: RegistryParams) -> Registry:
    return Registry(
        str(git), str(folder / "store"), LOG, folder / "scratch", params, Keys(None, None), lambda _effect: None
    )


def _series(version: str, place: int) -> str:
    """What every version begins with that took this number at this place: `v2.` for a major, all of it for a patch."""
    parts = version.split(".")[: place + 1]
    return ".".join(parts) + ("." if place < 2 else "")
