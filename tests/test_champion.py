"""The champion is pinned: what is loaded is what was promoted, byte for byte, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.champion import Champion, Term
from components.errors import IntegrityError
from components.log import TIME
from components.manifest import write_manifest
from components.packing import Bundle
from tests.bundle_world import World, shared_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return shared_world(tmp_path_factory)


@pytest.fixture(scope="module")
def bundle(world: World) -> Bundle:
    return world.pack()


@pytest.fixture
def pinned(bundle: Bundle, tmp_path: Path) -> Path:
    """A champion's folder."""
    place, folder = tmp_path / "bundle", tmp_path / "champion"
    place.mkdir()
    folder.mkdir()
    bundle.save(place)
    Champion.from_bundle(place, "v2.1.0").save(folder)
    return folder


def test_a_champion_is_saved_and_loaded_equal(world: World, bundle: Bundle, pinned: Path, tmp_path: Path) -> None:
    champion = Champion.load(pinned)
    assert champion == Champion.from_bundle(tmp_path / "bundle", "v2.1.0")
    assert (champion.version, champion.digest) == ("v2.1.0", bundle.digest)
    assert not champion.is_none
    train = world.splits.span("train")
    assert (champion.train_first_time, champion.train_last_time) == (train.first_time, train.last_time)
    assert champion.scorer == world.scorer
    assert champion.profile is not None
    again = tmp_path / "again"
    again.mkdir()
    champion.save(again)
    assert Champion.load(again) == champion
    assert (again / "champion.json").read_bytes() == (pinned / "champion.json").read_bytes()


def test_terms_are_kept_where_they_are_known(bundle: Bundle, tmp_path: Path) -> None:
    terms = (Term("v1.0.0", "ab" * 32, 5), Term("v2.1.0", bundle.digest, 7))
    place, folder = tmp_path / "bundle", tmp_path / "champion"
    for path in (place, folder):
        path.mkdir()
    bundle.save(place)
    Champion.from_bundle(place, "v2.1.0", terms).save(folder)
    assert Champion.load(folder).terms == terms
    (folder / "terms.json").write_text('{"terms": [{"version": 1}]}')
    with pytest.raises(IntegrityError, match=r"terms\.json"):
        Champion.load(folder)


def test_none_is_saved_and_loaded_as_none(tmp_path: Path) -> None:
    Champion.none().save(tmp_path)
    loaded = Champion.load(tmp_path)
    assert loaded == Champion.none()
    assert loaded.is_none
    assert loaded.scorer is None
    assert loaded.profile is None
    assert json.loads((tmp_path / "champion.json").read_text()) == {"version": None, "digest": None}


def test_champions_differ_by_version_and_by_digest(pinned: Path) -> None:
    champion = Champion.load(pinned)
    assert champion != Champion.none()
    assert champion != Champion.from_bundle(pinned / "bundle", "v2.1.1")


def test_a_champion_scores_rows(world: World, pinned: Path) -> None:
    rows = world.clean_log.scan().select(TIME, "user", "item", "device", "price").head(20).collect()
    scorer = Champion.load(pinned).scorer
    assert scorer is not None
    assert (scorer.score(rows) == world.scorer.score(rows)).all()


@pytest.mark.parametrize("place", ["scorer/ranker.onnx", "profile/profile.json", "card.md", "lineage.json"])
def test_a_changed_file_is_refused_before_anything_is_read(pinned: Path, place: str) -> None:
    path = pinned / "bundle" / place
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(IntegrityError, match=Path(place).name.replace(".", r"\.")):
        Champion.load(pinned)


def test_another_bundle_in_its_place_is_refused(pinned: Path) -> None:
    """Whole and consistent in itself, but not the one that was pinned."""
    card = pinned / "bundle" / "card.md"
    card.unlink()
    card.write_text("another card")
    (pinned / "bundle" / "manifest.json").unlink()
    write_manifest(pinned / "bundle")
    with pytest.raises(IntegrityError, match="pins"):
        Champion.load(pinned)


@pytest.mark.parametrize(
    "pin",
    [
        "",
        "{}",
        "null",
        '{"version": null}',
        '{"version": null, "digest": null}',  # but a bundle lies beside it
        '{"version": "v1.0.0", "digest": null}',
        '{"version": null, "digest": "abc"}',
        '{"version": "v1.0.0", "digest": "abc"}',
        '{"version": 1, "digest": 2}',
        '{"version": "v1.0.0", "digest": "abc", "extra": 1}',
        '{"version": "v1.0.0", "version": "v2.0.0", "digest": "abc"}',
        "9" * 6_000,
        "[" * 100_000,
    ],
    ids=range(13),
)
def test_a_pin_that_does_not_fit_is_refused(pinned: Path, pin: str) -> None:
    (pinned / "champion.json").write_text(pin)
    with pytest.raises(IntegrityError):
        Champion.load(pinned)


def test_an_absent_pin_or_bundle_is_refused(pinned: Path) -> None:
    (pinned / "bundle").rename(pinned / "elsewhere")
    with pytest.raises(IntegrityError, match="bundle"):
        Champion.load(pinned)
    (pinned / "champion.json").unlink()
    with pytest.raises(IntegrityError, match=r"champion\.json"):
        Champion.load(pinned)


def test_a_linked_bundle_is_refused(pinned: Path) -> None:
    (pinned / "bundle").rename(pinned / "elsewhere")
    (pinned / "bundle").symlink_to(pinned / "elsewhere")
    with pytest.raises(IntegrityError, match="bundle"):
        Champion.load(pinned)
