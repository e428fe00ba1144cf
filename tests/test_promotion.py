"""Each command around champions on a real bundle, in words and as JSON, and what its exit code says."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.artifact import write_json
from components.champion import Champion
from components.errors import CtrError
from components.judging import Verdict, judge
from components.packing import Bundle
from pipeline.alerting.guard import Block, Blocks, acknowledge
from pipeline.outside import desk_of
from pipeline.promotion import _bump, _version_before
from pipeline.promotion_cli import promotion_app
from pipeline.registry.records import Event
from pipeline.run import Workspace
from tests.bundle_world import JUDGE_PARAMS, World, shared_world

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
ROOT = Path(__file__).parents[1]
RUN_FILES = ("params.yaml", "window.yaml", "dvc.yaml", "dvc.lock")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return shared_world(tmp_path_factory)


class Desk:
    """A workspace with params, a champion that was pinned and a bundle that was packed."""

    def __init__(self, root: Path) -> None:
        (root / "logs").mkdir()
        for file in RUN_FILES:
            shutil.copyfile(ROOT / file, root / file)
        text = (root / "params.yaml").read_text()
        (root / "params.yaml").write_text(text.replace("log: simulated", "log: market", 1))
        shutil.copyfile(ROOT / "logs" / "simulated.yaml", root / "logs" / "market.yaml")
        self.root = root
        self.workspace = Workspace(root)

    def packs(self, bundle: Bundle, champion: Champion) -> None:
        self.workspace.write("champion", champion)
        self.workspace.write("bundle", bundle)

    def pinned(self, version: str) -> Champion:
        """The bundle that lies there, as the champion that `fetch` would pin."""
        place = self.root / "pinned" / version
        place.parent.mkdir(exist_ok=True)
        shutil.copytree(self.workspace.folder("bundle"), place)
        return Champion.from_bundle(place, version)

    def call(self, *arguments: str) -> tuple[int, str]:
        """Exit code and what was said, of one command as a person would type it."""
        done = CliRunner().invoke(promotion_app, [*arguments, "--workspace", str(self.root)])
        if isinstance(done.exception, CtrError):
            return done.exception.exit_code, str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    def facts(self, *arguments: str) -> Any:
        """What a command that succeeds says with --json."""
        done = CliRunner().invoke(promotion_app, [*arguments, "--json", "--workspace", str(self.root)])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


def test_the_life_of_a_champion_command_by_command(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CTR_REGISTRY", "CTR_STORE", "CTR_SIGNING_KEY", "CTR_PUBLIC_KEY"):
        monkeypatch.delenv(variable, raising=False)
    desk = Desk(tmp_path)
    first = world.pack()
    desk.packs(first, Champion.none())
    assert desk.facts("champion")["version"] is None
    assert desk.facts("history") == []
    assert desk.facts("promote", "--dry-run")["would_be"] == "v1.0.0"
    assert desk.facts("champion")["version"] is None
    assert desk.facts("promote")["promoted"]["version"] == "v1.0.0"
    assert desk.facts("promote")["promoted"]["version"] == "v1.0.0", "done already"
    champion = desk.facts("champion")
    assert (champion["version"], champion["digest"]) == ("v1.0.0", first.digest)
    assert champion["metrics"]["auc"] == world.evaluation.challenger.auc.value
    assert champion["data"]["last_time"].startswith("2026-01-1")
    assert "all 9 checks of a first promotion passed" in champion["why"]
    git = ["git", "-C", str(tmp_path / ".registry" / "git")]
    at = "ctr-ranker-market@v1.0.0"
    listed = subprocess.run([*git, "ls-tree", "-r", "--name-only", at], capture_output=True, text=True, check=True)
    run_files = {
        f"project/{file}" for file in (*RUN_FILES, "logs/market.yaml", "requirements.lock", "pipeline/stages.py")
    }
    known = {
        f"ctr-ranker-market/{file}"
        for file in ("bundle.dvc", "card.md", "verdict.json", "evaluation.json", "lineage.json")
    }
    assert run_files | known <= set(listed.stdout.split())
    for file in RUN_FILES:
        shown = subprocess.run([*git, "show", f"{at}:project/{file}"], capture_output=True, check=True).stdout
        assert shown == (tmp_path / file).read_bytes()

    pinned = desk.pinned("v1.0.0")
    challenger = world.against(dataclasses.replace(pinned, train_last_time=world.splits.span("train").last_time))
    second = challenger.pack()
    desk.packs(second, pinned)
    code, said = desk.call("promote")
    assert (code, "ctr-ranker-market@v1.0.1 is in prod" in said) == (0, True), said
    compared = desk.facts("compare", "v1.0.0", "v1.0.1")
    assert compared["bundle"] == {"v1.0.0": first.digest, "v1.0.1": second.digest}
    assert {"auc", "log_loss", "data.first_time", "data.last_time", "ranker", "architecture"} <= compared.keys()
    events = desk.facts("history")
    assert [(event["version"], event["stage"]) for event in events] == [
        ("v1.0.0", None), ("v1.0.0", "prod"), ("v1.0.1", None), ("v1.0.1", "prod")
    ]  # fmt: skip

    back = desk.facts("rollback", "--hold", "clicks fell")
    assert (back["version"], back["from"], back["hold"]) == ("v1.0.0", "v1.0.1", "clicks fell")
    code, said = desk.call("champion")
    assert (code, "held: " in said, "clicks fell" in said) == (0, True, True)
    third = dataclasses.replace(
        challenger, verdict=dataclasses.replace(challenger.verdict, reasons=("another",))
    ).pack()
    desk.packs(third, pinned)
    code, said = desk.call("promote")
    assert (code, "held since" in said, "release" in said) == (4, True, True)
    assert desk.facts("release")["released"]["reason"] == "clicks fell"
    assert desk.facts("release")["released"] is None
    assert desk.facts("promote")["promoted"]["version"] == "v1.0.2"
    assert desk.call("rollback", "--to", "v7.0.0")[0] == 2

    assert desk.facts("gc")["objects"] == []
    stray = tmp_path / ".registry" / "store" / "ctr-ranker-market" / "files" / "md5" / "ab" / ("c" * 30)
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("what a promotion that was stopped had pushed")
    assert desk.facts("gc")["deleted"] == 0, "nobody was there to ask"
    assert stray.is_file()
    assert desk.facts("gc", "--yes")["deleted"] == 1
    assert not stray.exists()


def test_a_bundle_is_verified_and_a_changed_byte_is_named(world: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    bundle = world.pack()
    desk.packs(bundle, Champion.none())
    folder = desk.workspace.folder("bundle")
    assert desk.facts("verify", str(folder)) == {"digest": bundle.digest, "is_signed": None}
    card = folder / "card.md"
    card.write_bytes(card.read_bytes().replace(b"AUC", b"auc", 1))
    code, said = desk.call("verify", str(folder))
    assert (code, "card.md" in said) == (6, True)
    assert desk.call("promote")[0] == 6


def test_a_verdict_that_says_no_keeps_the_champion_and_says_why(world: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    strict = dataclasses.replace(JUDGE_PARAMS, first_min_auc=0.99)
    verdict: Verdict = judge(world.scorer, world.evaluation, strict)
    desk.packs(dataclasses.replace(world, verdict=verdict).pack(), Champion.none())
    for arguments in (("promote",), ("promote", "--dry-run"), ("promote", "--json")):
        code, said = desk.call(*arguments)
        assert (code, "a first promotion must reach 0.99" in said) == (4, True)
    assert desk.facts("champion")["version"] is None


def test_a_broken_contract_blocks_promotion_until_somebody_has_acknowledged_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a dry run says so, and an acknowledged one is no obstacle; who is in prod may always be rolled back."""
    monkeypatch.setenv("CTR_ALERTS", str(tmp_path / "alerts"))
    desk = Desk(tmp_path)
    desk.packs(world.pack(), Champion.none())
    book = desk_of(desk.workspace).book
    block = Block(
        "ctr/dev/ctr-ranker-market/unit/price", "price is 100 times larger", "2026-01-14T00:00:00+00:00", *[None] * 3
    )
    book.write("blocks.json", Blocks((block,)))
    for arguments in (("promote",), ("promote", "--dry-run"), ("promote", "--stage", "shadow"), ("promote", "--json")):
        code, said = desk.call(*arguments)
        assert code == 2
        assert f"training and promotion are blocked by {block.key} (price is 100 times larger)" in said
        assert f"`python -m pipeline acknowledge '{block.key}' --by NAME --because WHY`" in said
    assert desk.facts("champion")["version"] is None
    acknowledge(book, block.key, "Ada", "the supplier says so", datetime.now(UTC))
    assert desk.facts("promote")["promoted"]["version"] == "v1.0.0"
    book.write("blocks.json", Blocks((block,)))
    assert desk.call("rollback", "--to", "v1.0.0", "--hold", "prices")[0] == 0


def test_another_schema_is_major_another_architecture_minor_and_a_retraining_a_patch(tmp_path: Path) -> None:
    """What changed decides, and a changed schema outweighs a changed architecture."""

    def bundle(name: str, schema: str, architecture: str) -> Path:
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "schema.json", {"fields": schema})
        write_json(tmp_path / name / "architecture.json", {"line": architecture})
        return tmp_path / name

    champion = bundle("champion", "a", "fm")
    assert _bump(bundle("retrained", "a", "fm"), champion) == "patch"
    assert _bump(bundle("searched", "a", "cross"), champion) == "minor"
    assert _bump(bundle("renamed", "b", "fm"), champion) == "major"
    assert _bump(bundle("both", "b", "cross"), champion) == "major"
    assert _bump(champion, None) == "major"


@pytest.mark.parametrize(
    ("was_in_prod", "expected"),
    [
        (["v1", "v2"], "v1"),
        (["v1", "v2", "v3", "v2"], "v1"),
        (["v1", "v2", "v1", "v3"], "v1"),
        (["v1", "v2", "v3", "v3"], "v2"),
    ],
)
def test_going_back_goes_on_where_the_last_one_ended(was_in_prod: list[str], expected: str) -> None:
    events = [Event("", "assign", version, "prod", "", "", 0, "", "") for version in was_in_prod]
    assert _version_before(events, "shop") == expected


@pytest.mark.parametrize("was_in_prod", [[], ["v1"], ["v1", "v1"], ["v1", "v2", "v1"]])
def test_where_there_is_nothing_to_go_back_to_a_version_must_be_named(was_in_prod: list[str]) -> None:
    events = [Event("", "assign", version, "prod", "", "", 0, "", "") for version in was_in_prod]
    with pytest.raises(CtrError, match="--to"):
        _version_before(events, "shop")
