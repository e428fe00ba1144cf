"""A warm process that promotes when it is told, each time in a fork of its own: imports cost nothing, a kill nothing else.

One JSON line on stdin orders one act on a registry, one JSON line on stdout says how its process ended. Started with
tests/faults.c loaded before libc, it can make any call that changes a file fail.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Self

import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.errors import CtrError
from components.manifest import verify_manifest
from pipeline.registry import Registry
from pipeline.registry.collecting import collect, garbage
from tests.registry_world import challenger, promoted, registry_in

IDLE = {"jemalloc_bg_thd", "polars-ooc-clea"}  # threads that importing polars starts; a promotion needs neither
BUG = 1
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
MOST_SECONDS = 120  # of one act, on a busy machine; what takes longer hangs, and its process is ended


class Worker:
    """The other end: starts the process and talks to it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            env=os.environ | dict.fromkeys(ONE_THREAD, "1") | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def order(self, **order: Any) -> dict[str, Any]:
        """Have one act done and wait for its end."""
        self.begin(**order)
        return self._answer()

    def begin(self, **order: Any) -> None:
        """Have one act done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Wait for the act that was begun."""
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def act(order: dict[str, Any]) -> dict[str, Any]:
    """Do what is ordered; says what came out."""
    kill_at = order.get("kill_at")

    def observe(effect: str) -> None:
        if effect == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    folder = Path(order["folder"])
    registry = registry_in(folder, observe, git=order.get("git"))
    while time.time() < order.get("not_before", 0.0):
        time.sleep(0.001)
    if order["act"] == "promote":
        trial = challenger(Path(order["bundle"]), order["against"], last_day=order.get("last_day", 10))
        made = registry.promote(trial, order.get("stage", "prod"))
        return {"version": made.version, "digest": made.digest}
    if order["act"] == "rollback":
        return {"version": registry.assign(order["to"], "prod", "rollback", order.get("hold")).version}
    if order["act"] == "collect":
        return {"deleted": collect(registry, [one.key for one in garbage(registry)])}
    if order["act"] == "look":
        return look(registry, folder)
    raise ValueError(order["act"])


def look(registry: Registry, folder: Path) -> dict[str, Any]:
    """Who is champion, what each registered version's bundle digests to when it is fetched, and every assignment."""
    if not registry.exists():
        return {"champion": None, "versions": {}, "prod": []}
    with registry.cloned() as clone:
        events = registry.events(clone)
        champion = registry.assigned(clone, "prod")
    fetched = {}
    for event in events:
        if event.kind == "register":
            with tempfile.TemporaryDirectory(dir=folder) as place:
                recorded = registry.fetch(event.version, Path(place, "bundle")).digest
                assert verify_manifest(Path(place, "bundle")) == recorded
                fetched[event.version] = recorded
    return {
        "champion": champion.version if champion is not None else None,
        "versions": fetched,
        "prod": [event.version for event in events if event.stage == "prod"],
    }


def serve() -> None:
    """Warm up, then fork for each order."""
    tqdm.tqdm.monitor_interval = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        promoted(registry_in(folder), folder, "warm", "warmer")
        look(registry_in(folder), folder)
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert set(names) - IDLE == {"python"}, f"a fork of a process with threads may hang: {names}"
    assert names.count("python") == 1, f"a fork of a process with threads may hang: {names}"
    say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        source, answer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            os.close(source)
            os._exit(answer_to(order, answer))
        os.close(answer)
        with os.fdopen(source) as lines:
            text = lines.read()
        _, status = os.waitpid(child, 0)
        wait_for_the_group(child)
        code = os.waitstatus_to_exitcode(status)
        say({"code": code, **(json.loads(text) if text and code >= 0 else {})})


def answer_to(order: dict[str, Any], answer: int) -> int:
    """Do an order in the fork; gives the exit code."""
    code, said = 0, {}
    signal.alarm(MOST_SECONDS)
    arm(order.get("fault"))
    try:
        said = act(order)
    except CtrError as error:
        code, said = error.exit_code, {"error": f"{type(error).__name__}: {error}"}
    except BaseException:  # noqa: BLE001 - whatever it is goes to the test
        code, said = BUG, {"error": traceback.format_exc()}
    said["calls"] = arm(None)
    os.write(answer, json.dumps(said).encode())
    return code


def arm(fault: list[int] | None) -> int:
    """Tell faults.c which call fails and how; gives the number of calls since it was told last."""
    path = os.environ.get("FAULT_STATE")
    if path is None:
        return 0
    handle = os.open(path, os.O_RDWR)
    calls = int.from_bytes(os.pread(handle, 8, 0), "little")
    at, how = fault or [0, 0]
    os.pwrite(handle, b"".join(number.to_bytes(8, "little") for number in (0, at, how)), 0)
    os.close(handle)
    return calls


def wait_for_the_group(leader: int) -> None:
    """Wait until the git processes that a killed promotion left behind have ended too."""
    while True:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return
        time.sleep(0.002)


def say(what: dict[str, Any]) -> None:
    """One line to whoever ordered."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def copy_of(template: Path, place: Path) -> Path:
    """A registry, store and bundles of its own for one case."""
    shutil.copytree(template, place)
    return place


def age_locks(folder: Path) -> None:
    """Let a minute pass for the locks that a killed git left behind."""
    for lock in folder.rglob("*.lock"):
        os.utime(lock, (time.time() - 60, time.time() - 60))


if __name__ == "__main__":
    serve()
