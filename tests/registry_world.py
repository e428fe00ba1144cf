"""Small registries and bundles for the tests of promotion: a bundle is here any closed folder with a lineage."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from components.artifact import write_json
from components.manifest import verify_manifest, write_manifest
from pipeline.registry import Challenger, Keys, Registry, RegistryParams
from pipeline.registry.records import Bump, Observe

PARAMS = RegistryParams(git_timeout_seconds=60.0, s3_timeout_seconds=5.0, s3_attempts=2, clock_wait_seconds=5.0)
DAY = 86_400 * 1_000_000


def silent(_effect: str) -> None:
    """Tell nobody."""


def registry_in(folder: Path, observe: Observe = silent, store: str | None = None, git: str | None = None) -> Registry:
    """A registry of log 'shop' below a folder."""
    return Registry(
        git or str(folder / "git"),
        store or str(folder / "store"),
        "shop",
        folder / "scratch",
        PARAMS,
        Keys(None, None),
        observe,
    )


def bundle(folder: Path, content: str) -> Path:
    """A closed folder."""
    (folder / "scorer").mkdir(parents=True)
    write_json(folder / "verdict.json", {"content": content})
    (folder / "scorer" / "weights").write_bytes(hashlib.sha256(content.encode()).digest() * 400)
    write_manifest(folder)
    return folder


def challenger(bundle: Path, against: str | None, bump: Bump = "patch", last_day: int = 10) -> Challenger:
    """A challenger that passed its gates against a digest, with data up to a day."""
    records = {"ctr-ranker-shop/card.md": b"# Card\n", "project/params.yaml": b"log: shop\n"}
    return Challenger(bundle, against, bump, 0, last_day * DAY, ("AUC is not worse",), records)


def promoted(registry: Registry, folder: Path, *contents: str) -> list[str]:
    """Promote a bundle for each content, one after the other; gives the digests."""
    digests: list[str] = []
    for content in contents:
        made = bundle(folder / f"bundle-{content}", content)
        registry.promote(challenger(made, digests[-1] if digests else None))
        digests.append(verify_manifest(made))
    return digests


def tags_of(git: str) -> list[str]:
    """All tags of a repository, by name."""
    return subprocess.run(["git", "tag"], cwd=git, capture_output=True, text=True, check=True).stdout.split()
