"""A promotion is whole or not there; the champion is what the registry's tags say, readable with plain gto."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.artifact import write_json
from components.champion import Champion
from components.errors import IntegrityError, RaceError
from components.manifest import write_manifest
from pipeline.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def bundle(folder: Path, content: str) -> Path:
    folder.mkdir()
    write_json(folder / "verdict.json", {"content": content})
    write_manifest(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"), str(tmp_path / "store"), "shop")


def test_before_the_first_promotion_the_champion_is_none(registry: Registry, tmp_path: Path) -> None:
    assert registry.champion() is None
    assert registry.fetch_champion(tmp_path / "nothing") == Champion.none()


def test_promotions_follow_each_other_and_a_late_one_is_refused(registry: Registry, tmp_path: Path) -> None:
    first = registry.promote(bundle(tmp_path / "one", "1"), None, {"card.md": b"# One"}, "major")
    assert (first.name, first.version) == ("ctr-ranker-shop", "v1.0.0")
    assert registry.champion() == first
    second = registry.promote(bundle(tmp_path / "two", "2"), first.digest, {}, "patch")
    assert (second.version, registry.champion()) == ("v1.0.1", second)
    with pytest.raises(RaceError, match="judged against"):
        registry.promote(bundle(tmp_path / "late", "3"), first.digest, {}, "patch")
    assert registry.promote(tmp_path / "two", first.digest, {}, "patch") == second, "done already, not done twice"
    tags = subprocess.run(["git", "tag"], cwd=registry.git, capture_output=True, text=True, check=True).stdout.split()
    assert tags == [
        "ctr-ranker-shop#prod#1",
        "ctr-ranker-shop#prod#2",
        "ctr-ranker-shop@v1.0.0",
        "ctr-ranker-shop@v1.0.1",
    ]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", registry.git, str(clone)], check=True)
    command = [str(Path(sys.executable).parent / "gto"), "show", "ctr-ranker-shop", "--json"]
    shown = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True).stdout
    newest = next(one for one in json.loads(shown) if one["version"] == "v1.0.1")
    assert [assigned["ref"] for assigned in newest["stages"]] == ["ctr-ranker-shop#prod#2"]


def test_a_bundle_changed_after_packing_is_refused(registry: Registry, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "one", "1")
    (folder / "verdict.json").write_text(json.dumps({"content": "forged"}))
    with pytest.raises(IntegrityError, match=r"verdict\.json"):
        registry.promote(folder, None, {}, "major")
    assert registry.champion() is None
