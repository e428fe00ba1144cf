"""A promotion is whole or not there; the champion is what the registry's tags say, readable with plain gto and dvc."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from components.champion import Champion
from components.errors import ConfigError, IntegrityError, OutsideError, RaceError
from components.manifest import verify_manifest
from pipeline.registry import Refused, Registry
from pipeline.registry.tags import next_version
from tests.registry_world import DAY, bundle, challenger, promoted, registry_in, tags_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
BIN = Path(sys.executable).parent


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_in(tmp_path)


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_before_the_first_promotion_the_champion_is_none(registry: Registry, tmp_path: Path) -> None:
    assert registry.champion() is None
    assert registry.fetch_champion(tmp_path / "nothing") == Champion.none()


def test_promotions_follow_each_other_and_a_late_one_is_refused(registry: Registry, tmp_path: Path) -> None:
    first = registry.promote(challenger(bundle(tmp_path / "one", "1"), None, "major"))
    assert (first.name, first.version) == ("ctr-ranker-shop", "v1.0.0")
    assert registry.champion() == first
    second = registry.promote(challenger(bundle(tmp_path / "two", "2"), first.digest))
    assert (second.version, registry.champion()) == ("v1.0.1", second)
    late = challenger(bundle(tmp_path / "late", "3"), first.digest)
    with pytest.raises(RaceError, match="judged against"):
        registry.examine(late)
    with pytest.raises(RaceError, match="judged against"):
        registry.promote(late)
    assert registry.promote(challenger(tmp_path / "two", first.digest)) == second, "done already, not done twice"
    assert tags_of(registry.git) == [
        "ctr-ranker-shop#prod#1",
        "ctr-ranker-shop#prod#2",
        "ctr-ranker-shop@v1.0.0",
        "ctr-ranker-shop@v1.0.1",
    ]


def test_plain_gto_and_dvc_read_the_registry(registry: Registry, tmp_path: Path) -> None:
    digests = promoted(registry, tmp_path, "1", "2")
    shown = json.loads(run("gto", "show", "ctr-ranker-shop", "--json", "--repo", registry.git, cwd=tmp_path))
    newest = next(one for one in shown if one["version"] == "v1.0.1")
    assert [assigned["ref"] for assigned in newest["stages"]] == ["ctr-ranker-shop#prod#2"]
    assert "v1.0.0" in run("gto", "history", "ctr-ranker-shop", "--repo", registry.git, cwd=tmp_path)
    got = tmp_path / "got"
    run(
        "dvc",
        "get",
        registry.git,
        "ctr-ranker-shop/bundle",
        "--rev",
        "ctr-ranker-shop@v1.0.0",
        "-o",
        str(got),
        cwd=tmp_path,
    )
    assert verify_manifest(got) == digests[0]
    art = tmp_path / "artifact"
    run("dvc", "artifacts", "get", registry.git, "ctr-ranker-shop", "--stage", "prod", "-o", str(art), cwd=tmp_path)
    assert verify_manifest(art) == digests[1]


def test_gto_is_shown_few_tags_and_says_the_same_as_of_all(registry: Registry, tmp_path: Path) -> None:
    """Also after somebody has withdrawn an assignment with plain GTO, when an older one counts again."""
    import gto.api

    promoted(registry, tmp_path, "1", "2", "3")
    registry.assign("v1.0.1", "canary", "a trial", None)
    with registry.cloned() as clone:
        left = subprocess.run(["git", "tag"], cwd=clone.folder, capture_output=True, text=True, check=True).stdout
        assert {tag.partition("shop")[2] for tag in left.split()} == {"@v1.0.1", "@v1.0.2", "#prod#3", "#canary#4"}
        for stage in ("prod", "canary"):
            found = registry.assigned(clone, stage)
            assert found is not None
            assert [found.version] == [one["version"] for one in gto.api.show(registry.git, f"{registry.name}#{stage}")]
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "--quiet", registry.git, str(work)], check=True)
    for key, value in (("user.name", "oncall"), ("user.email", "oncall@localhost")):
        subprocess.run(["git", "config", key, value], cwd=work, check=True)
    time.sleep(1)  # GTO orders by whole seconds
    gto.api.unassign(str(work), registry.name, version="v1.0.2", stage="prod")
    subprocess.run(["git", "push", "--quiet", "--tags"], cwd=work, check=True)
    champion = registry.champion()
    assert champion is not None
    shown = [one["version"] for one in gto.api.show(registry.git, f"{registry.name}#prod")]
    assert [champion.version] == shown == ["v1.0.1"]


def test_a_bundle_changed_after_packing_is_refused(registry: Registry, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "one", "1")
    (folder / "verdict.json").write_text(json.dumps({"content": "forged"}))
    with pytest.raises(IntegrityError, match=r"verdict\.json"):
        registry.promote(challenger(folder, None))
    assert registry.champion() is None


def test_older_data_than_the_champions_is_refused_and_data_without_time_is_not(
    registry: Registry, tmp_path: Path
) -> None:
    first = registry.promote(challenger(bundle(tmp_path / "one", "1"), None, last_day=10))
    older = challenger(bundle(tmp_path / "two", "2"), first.digest, last_day=9)
    for act in (registry.examine, registry.promote):
        with pytest.raises(
            Refused, match=r"1970-01-10T00:00:00\+00:00, before that of the champion v1\.0\.0"
        ) as refused:
            act(older)
        assert refused.value.exit_code == 4
    assert registry.champion() == first
    same = registry.promote(replace(older, data_last_time=10 * DAY))
    assert same.version == "v1.0.1"
    timeless = challenger(bundle(tmp_path / "three", "3"), same.digest)
    assert registry.promote(replace(timeless, data_last_time=None)).version == "v1.0.2"


def test_a_rollback_is_an_assignment_and_a_hold_outlasts_tonights_run(registry: Registry, tmp_path: Path) -> None:
    one, two = promoted(registry, tmp_path, "1", "2")
    back = registry.assign("v1.0.0", "prod", "clicks fell", hold="look at the prices")
    assert registry.champion() == back
    assert (back.version, back.digest) == ("v1.0.0", one)
    with registry.cloned() as clone:
        terms = registry.terms(clone, back)
        assert registry.terms(clone, replace(back, version="v1.0.1")) == (), "somebody unassigned with plain gto"
    assert [(term.version, term.digest) for term in terms] == [("v1.0.0", one), ("v1.0.1", two), ("v1.0.0", one)]
    assert all(0 <= time.time() - term.start / 1e6 < 60 for term in terms)
    assert terms[0].start < terms[1].start < terms[2].start
    tonight = challenger(bundle(tmp_path / "three", "3"), one)
    for act in (registry.examine, registry.promote):
        with pytest.raises(Refused, match="look at the prices"):
            act(tonight)
    assert registry.champion() == back
    released = registry.release()
    assert released is not None
    assert released.reason == "look at the prices"
    assert registry.release() is None
    assert registry.promote(tonight).version == "v1.0.2", "v1.0.1 is taken by what was rolled back from"
    again = challenger(tmp_path / "bundle-2", verify_manifest(tmp_path / "three"))
    assert registry.promote(again).version == "v1.0.1", "a bundle has one version for ever"


def test_a_version_that_is_not_there_or_cannot_be_fetched_is_no_rollback(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, "1", "2")
    for version in ("v9.0.0", "latest"):
        with pytest.raises(ConfigError, match=version):
            registry.assign(version, "prod", "why", None)
    for path in (tmp_path / "store").rglob("*.dir"):
        path.unlink()
    with pytest.raises(IntegrityError, match="missing in the store"):
        registry.assign("v1.0.0", "prod", "why", None)
    champion = registry.champion()
    assert champion is not None
    assert champion.version == "v1.0.1"


def test_shadow_and_canary_leave_the_champion_and_prod_takes_the_same_version(
    registry: Registry, tmp_path: Path
) -> None:
    (one,) = promoted(registry, tmp_path, "1")
    trial = challenger(bundle(tmp_path / "two", "2"), one, "minor")
    shadow = registry.promote(trial, "shadow")
    assert (shadow.version, registry.champion("shadow")) == ("v1.1.0", shadow)
    assert registry.promote(trial, "canary") == shadow
    champion = registry.champion()
    assert champion is not None
    assert champion.digest == one
    assert registry.promote(trial) == shadow
    assert registry.champion() == shadow
    with pytest.raises(ConfigError, match="no stage 'live'"):
        registry.champion("live")


def test_each_log_has_champions_of_its_own(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, "1")
    other = replace(registry, log="frappe")
    assert other.champion() is None
    other.promote(challenger(bundle(tmp_path / "frappe", "f"), None))
    assert "ctr-ranker-frappe@v1.0.0" in tags_of(registry.git)
    assert (
        registry.promote(challenger(bundle(tmp_path / "two", "2"), verify_manifest(tmp_path / "bundle-1"))).version
        == "v1.0.1"
    )


@pytest.mark.parametrize(
    ("known", "champion", "bump", "expected"),
    [
        ((), None, "major", "v1.0.0"),
        (("v1.0.0",), "v1.0.0", "patch", "v1.0.1"),
        (("v1.0.0", "v1.0.9"), "v1.0.9", "patch", "v1.0.10"),
        (("v1.0.0", "v1.0.1", "v2.0.0"), "v1.0.0", "patch", "v1.0.2"),
        (("v1.0.0", "v1.0.1", "v2.0.0"), "v1.0.0", "minor", "v1.1.0"),
        (("v1.0.0", "v1.3.1", "v2.0.0"), "v1.0.0", "minor", "v1.4.0"),
        (("v1.0.0", "v2.0.0"), "v1.0.0", "major", "v3.0.0"),
        (("v1.0.0",), None, "patch", "v2.0.0"),
    ],
)
def test_a_version_goes_on_from_the_champions_and_never_takes_a_number_twice(
    known: tuple[str, ...], champion: str | None, bump: str, expected: str
) -> None:
    assert next_version(known, champion, bump) == expected  # type: ignore[arg-type]


def test_a_damaged_store_is_named_and_nothing_is_loaded(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, "1")
    weights = max((tmp_path / "store").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    weights.chmod(0o644)
    weights.write_bytes(b"\0" * weights.stat().st_size)
    with pytest.raises(IntegrityError, match="weights"):
        registry.fetch("v1.0.0", tmp_path / "fetched")


@pytest.mark.parametrize("damaged", [".dir", "file", "both"])
def test_what_an_interrupted_push_left_damaged_is_pushed_again(tmp_path: Path, damaged: str) -> None:
    """DVC takes what lies in the store for whole; only reading it back says that it is not."""
    (one,) = promoted(registry_in(tmp_path), tmp_path, "1")
    store = tmp_path / "store"
    whole = set(store.rglob("*"))

    def damage(effect: str) -> None:
        if effect == "after push bundle":
            new = [path for path in set(store.rglob("*")) - whole if path.is_file()]
            assert len(new) == 4, "list, manifest, verdict and weights"
            for path in new:
                if damaged == "both" or (path.suffix == ".dir") == (damaged == ".dir"):
                    path.chmod(0o644)
                    path.write_bytes(b"half")

    made = registry_in(tmp_path, damage).promote(challenger(bundle(tmp_path / "two", "2"), one))
    registry_in(tmp_path).fetch(made.version, tmp_path / "fetched")
    assert verify_manifest(tmp_path / "fetched") == made.digest


def test_a_lost_answer_is_no_lost_promotion_and_a_real_refusal_is_said(registry: Registry, tmp_path: Path) -> None:
    (one,) = promoted(registry, tmp_path, "1")
    hook = Path(registry.git, "hooks", "post-update")
    hook.write_text("#!/bin/sh\nkill -9 $PPID\n")
    hook.chmod(0o755)
    assert registry.promote(challenger(bundle(tmp_path / "two", "2"), one)).version == "v1.0.1"
    hook.unlink()
    hook = Path(registry.git, "hooks", "pre-receive")
    hook.write_text("#!/bin/sh\necho closed for the holidays >&2; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(OutsideError, match="closed for the holidays"):
        registry.promote(challenger(bundle(tmp_path / "three", "3"), verify_manifest(tmp_path / "two")))


def test_a_clock_that_is_behind_promotes_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = promoted(registry, tmp_path, "1")
    past = time.time() - 3_600
    monkeypatch.setattr("pipeline.registry.tags.time.time", lambda: past)
    with pytest.raises(OutsideError, match=r"clock is 3,6\d\d s behind"):
        registry.promote(challenger(bundle(tmp_path / "two", "2"), one))
    champion = registry.champion()
    assert champion is not None
    assert champion.digest == one
