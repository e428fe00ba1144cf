"""Killed, out of disk or out of luck anywhere within an act: one champion, every tag can be fetched, the next start ends it.

`make faults` tries CTR_FAULT_CASES calls that change a file; the normal run only some. See tests/faults.c.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.manifest import verify_manifest
from pipeline.registry.collecting import collect, garbage
from tests.promotion_worker import Worker, age_locks, copy_of
from tests.registry_world import bundle, promoted, registry_in

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
NUM_CASES = int(os.environ.get("CTR_FAULT_CASES", "24"))
KILL, FULL_DISK, IO_ERROR = 1, 2, 3
PUSHES = ("push bundle", "read back", "commit", "register", "assign", "push refs")
KILLS = [f"{when} {effect}" for effect in PUSHES for when in ("before", "after")]
ROLLBACK_KILLS = [f"{when} {effect}" for effect in ("assign", "commit", "push refs") for when in ("before", "after")]
COLLECT_KILLS = [f"{when} {effect}" for effect in ("announce gc", "delete") for when in ("before", "after")]


@dataclass
class Shop:
    """A warm worker, a template with one champion and a packed challenger, and where cases are tried."""

    worker: Worker
    template: Path
    cases: Path
    champion: str
    challenger: str

    @functools.cached_property
    def num_calls(self) -> int:
        """How many calls of a promotion change a file."""
        folder = self.case("whole")
        num_calls: int = self.promote(folder)["calls"]
        shutil.rmtree(folder)
        return num_calls

    def case(self, name: str) -> Path:
        """A registry of its own."""
        return copy_of(self.template, self.cases / name.replace(" ", "-"))

    def promote(self, folder: Path, **more: Any) -> dict[str, Any]:
        """Promote the challenger."""
        return self.worker.order(
            act="promote", folder=str(folder), bundle=str(folder / "two"), against=self.champion, **more
        )

    def look(self, folder: Path) -> dict[str, Any]:
        """Fetch every tag's bundle and say who is champion; fails where one cannot be fetched."""
        seen = self.worker.order(act="look", folder=str(folder))
        assert seen["code"] == 0, seen
        return seen

    def check_and_finish(self, folder: Path) -> None:
        """All is whole now, and a new start ends the promotion: once, under one number."""
        seen = self.look(folder)
        assert seen["champion"] in ("v1.0.0", "v1.0.1")
        assert seen["versions"]["v1.0.0"] == self.champion
        age_locks(folder)
        again = self.promote(folder)
        assert again["code"] == 0, again
        assert (again["version"], again["digest"]) == ("v1.0.1", self.challenger)
        after = self.look(folder)
        assert after["versions"] == {"v1.0.0": self.champion, "v1.0.1": self.challenger}
        assert (after["champion"], after["prod"]) == ("v1.0.1", ["v1.0.0", "v1.0.1"])
        assert not list((folder / "scratch").iterdir()), "what the dead left behind is removed"
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        place = Path(name)
        template = place / "template"
        (first,) = promoted(registry_in(template), template, "one")
        second = verify_manifest(bundle(template / "two", "two"))
        with Worker(_faults(place)) as worker:
            yield Shop(worker, template, place / "cases", first, second)


def _faults(place: Path) -> dict[str, str]:
    """The environment under which faults.c is loaded; empty without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return {}
    library, state = place / "faults.so", place / "state"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    state.write_bytes(bytes(24))
    return {
        "LD_PRELOAD": str(library),
        "FAULT_STATE": str(state),
        "FAULT_ROOT": str(place / "cases"),
        "TMPDIR": str(place),
    }


def test_the_effects_are_those_that_are_killed_at(tmp_path: Path) -> None:
    seen: list[str] = []
    registry = registry_in(tmp_path, seen.append)
    promoted(registry, tmp_path, "one")
    assert seen == ["before make registry", "after make registry", *KILLS]
    seen.clear()
    registry.assign("v1.0.0", "prod", "again", hold="why")
    assert seen == ROLLBACK_KILLS
    seen.clear()
    collect(registry, [one.key for one in garbage(registry)])
    assert seen == COLLECT_KILLS


@pytest.mark.parametrize("kill_at", KILLS)
def test_a_promotion_killed_around_an_effect_is_finished_by_the_next(shop: Shop, kill_at: str) -> None:
    folder = shop.case(kill_at)
    assert shop.promote(folder, kill_at=kill_at)["code"] == -9
    is_done = kill_at == "after push refs"
    assert shop.look(folder)["champion"] == ("v1.0.1" if is_done else "v1.0.0")
    shop.check_and_finish(folder)


@pytest.mark.parametrize("kill_at", ["before make registry", "after make registry", *KILLS])
def test_the_first_promotion_killed_around_an_effect_is_finished_by_the_next(shop: Shop, kill_at: str) -> None:
    folder = shop.cases / f"first-{kill_at.replace(' ', '-')}"
    bundle(folder / "one", "one")
    order = {"act": "promote", "folder": str(folder), "bundle": str(folder / "one"), "against": None}
    assert shop.worker.order(**order, kill_at=kill_at)["code"] == -9
    assert shop.look(folder)["champion"] == ("v1.0.0" if kill_at == "after push refs" else None)
    done = shop.worker.order(**order)
    assert (done["code"], done["version"]) == (0, "v1.0.0")
    after = shop.look(folder)
    assert (after["champion"], after["prod"], len(after["versions"])) == ("v1.0.0", ["v1.0.0"], 1)


@pytest.mark.parametrize("kill_at", ROLLBACK_KILLS)
def test_a_rollback_killed_around_an_effect_is_done_or_not(shop: Shop, kill_at: str) -> None:
    folder = shop.case(f"rollback {kill_at}")
    assert shop.promote(folder)["code"] == 0
    order = {"act": "rollback", "folder": str(folder), "to": "v1.0.0", "hold": "clicks fell"}
    assert shop.worker.order(**order, kill_at=kill_at)["code"] == -9
    is_done = kill_at == "after push refs"
    assert shop.look(folder)["champion"] == ("v1.0.0" if is_done else "v1.0.1")
    assert shop.worker.order(**order)["code"] == 0
    assert shop.look(folder)["champion"] == "v1.0.0"


@pytest.mark.parametrize("kill_at", COLLECT_KILLS)
def test_tidying_up_killed_anywhere_takes_nothing_that_a_tag_needs(shop: Shop, kill_at: str) -> None:
    folder = shop.case(f"gc {kill_at}")
    assert shop.promote(folder, kill_at="after read back")["code"] == -9
    stored = {path for path in (folder / "store").rglob("*") if path.is_file()}
    assert shop.worker.order(act="collect", folder=str(folder), kill_at=kill_at)["code"] == -9
    shop.look(folder)
    assert shop.promote(folder)["code"] == (0 if kill_at == "before announce gc" else 75), "it waits for the tidying up"
    if kill_at != "before announce gc":
        assert shop.worker.order(act="collect", folder=str(folder))["code"] == 0
        left = {path for path in (folder / "store").rglob("*") if path.is_file()}
        assert left < stored, "what the killed promotion had pushed is gone"
    shop.check_and_finish(folder)


@pytest.mark.parametrize("case", range(NUM_CASES))
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc, to build tests/faults.c")
def test_a_call_that_kills_or_fails_leaves_one_champion_and_a_new_start_finishes(shop: Shop, case: int) -> None:
    how = (KILL, FULL_DISK, IO_ERROR)[case % 3]
    at = 1 + shop.num_calls * case // NUM_CASES
    folder = shop.case(f"fault {case}")
    ended = shop.promote(folder, fault=[at, how])
    assert ended["code"] in ((-9,) if how == KILL else (0, 75)), ended
    if ended["code"] == 75:
        assert "OutsideError" in ended["error"]
    shop.check_and_finish(folder)
