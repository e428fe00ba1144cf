"""Promotions that race leave what one act at a time would have left; a registry that does not is told from one that does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bench_promotions import Ended, Model, Order, held_against_model
from tests.registry_world import bundle, challenger, registry_in

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
ROOT = Path(__file__).parents[1]


def test_32_processes_promote_at_once_and_one_wins() -> None:
    """In a process of its own, because it forks."""
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "bench", "promotions", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["processes"], said["promotions"], said["races_lost"], said["errors"]) == (32, 1, 31, [])
    assert (said["double"], said["lost"], said["differs_from_sequential_model"]) == (0, 0, 0)


def order(digest: str, against: str | None, bump: str = "patch") -> Order:
    return Order(Path("bundle"), digest, against, bump, "")  # type: ignore[arg-type]


def test_the_model_counts_as_semantic_versions_do() -> None:
    model = Model("m")
    given = [
        model.promote(order("a", None, "major")),
        model.promote(order("b", "a")),
        model.promote(order("late", "a")),
        model.promote(order("c", "b", "minor")),
        model.promote(order("d", "c", "major")),
    ]
    assert given == ["v1.0.0", "v1.0.1", None, "v1.1.0", "v2.0.0"]
    model.assign("v1.0.0")
    assert [model.promote(order("e", "a")), model.promote(order("f", "e", "minor"))] == ["v1.0.2", "v1.2.0"]
    assert model.promote(order("g", "f", "major")) == "v3.0.0"
    assert model.tags["m#prod#8"] == "g"
    assert len(model.tags) == 7 + 8, "versions and assignments"


def test_what_is_lost_or_double_is_seen(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    first = registry.promote(challenger(bundle(tmp_path / "one", "1"), None))
    second = registry.promote(challenger(bundle(tmp_path / "two", "2"), first.digest, "minor"))
    orders = [order(first.digest, None), replace(order(second.digest, first.digest), bump="minor"), order("3", "x")]
    truth = [Ended("done", "v1.0.0"), Ended("done", "v1.1.0"), Ended("race", "")]

    def counted(ended: list[Ended]) -> list[int]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        return list(held_against_model(registry, orders, ended, place).values())

    assert counted(truth) == [0, 0, 0]
    assert counted([*truth[:2], Ended("done", "v1.1.1")]) == [0, 1, 0], (
        "somebody was told of a promotion that is not there"
    )
    assert counted([truth[0], Ended("race", ""), truth[2]]) == [1, 0, 1], "somebody was told to have lost, and won"
    assert counted([truth[0], Ended("done", "v1.0.1"), truth[2]]) == [0, 0, 1], "told another version"
    subprocess.run(["git", "tag", "-d", "ctr-ranker-shop#prod#1"], cwd=registry.git, check=True, capture_output=True)
    assert counted(truth) == [0, 0, 1], "an assignment is gone"
    for path in (tmp_path / "store").rglob("*.dir"):
        path.unlink()
    assert counted(truth)[1] == 2, "no bundle can be fetched"
