"""Reproducing a version: its commit in a fresh checkout, its window and its champion fetched again, its own code run.

The code that runs is the tag's, in the libraries that are installed here; where these are others than were locked then,
or the platform is another, the answer says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from components.champion import Champion
from components.errors import ConfigError, IntegrityError, OutsideError
from components.lineage import lock_digest, platform_name, read_lineage
from components.manifest import verify_manifest
from pipeline.outside import home_of, read_environment, registry_of
from pipeline.plan import read_plan
from pipeline.run import Workspace
from pipeline.saying import PROJECT, Said


def reproduce(root: Path, version: str) -> Said:
    """Run a version's line again from its commit, and compare bundle and files; exit 6 where they differ."""
    home = Workspace(root.absolute())
    registry, outside = registry_of(home), read_environment(home_of(home))
    with tempfile.TemporaryDirectory(prefix=f"reproduce-{version}-", dir=home.state("reproduce")) as name:
        place = Path(name)
        with registry.cloned() as clone:
            found = registry.registered(clone, version)
            clone.git("worktree", "add", "--quiet", "--detach", str(place / "checkout"), found.commit)
            project = place / "checkout" / PROJECT
            if not (project / "dvc.yaml").is_file():
                raise ConfigError(f"{found.name}@{version}: its commit holds no dvc.yaml, so there is no line to run")
            registry.bring(clone, found, place / "recorded")
            lineage = read_lineage(place / "recorded")
            judged_against = registry.record(clone, found.commit).judged_against
            champion = Champion.none()
            if judged_against is not None:
                against = registry.version_of(clone, judged_against)
                registry.bring(clone, against, place / "champion")
                champion = Champion.from_bundle(place / "champion", against.version)
            (project / ".home").write_text(str(home_of(home)), encoding="utf-8")
            Workspace(project).write("champion", champion)
            environment = os.environ | {
                "CTR_DATA": str(outside.data),
                "CTR_REGISTRY": outside.registry,
                "CTR_STORE": outside.store,
                "CTR_SERVED": str(outside.served),
            }
            _run(project, environment, "python -m pipeline fetch --only raw_log")
            for step in read_plan(project / "dvc.yaml").up_to("bundle").steps:
                if step.verb != "fetch":
                    _run(project, environment, step.command)
        made = project / "artifacts" / "bundle"
        differing = _differing(place / "recorded", made)
        digest = verify_manifest(made)
    facts: dict[str, Any] = {
        "version": version,
        "recorded": found.digest,
        "reproduced": digest,
        "is_same": digest == found.digest,
        "differing_files": differing,
        "are_libraries_the_same": lineage.lock_sha256 == lock_digest(),
        "is_platform_the_same": lineage.platform == platform_name(),
    }
    if facts["is_same"]:
        return Said(facts, f"{found.name}@{version} was reproduced: bundle {digest}, the same bytes", 0)
    words = f"{found.name}@{version} was not reproduced: bundle {digest}, recorded {found.digest}; other: {differing}"
    if not facts["are_libraries_the_same"]:
        words += "; the libraries here are not the ones that were locked then"
    if not facts["is_platform_the_same"]:
        words += f"; it was made on {lineage.platform}, this is {platform_name()}"
    return Said(facts, words, IntegrityError.exit_code)


def _run(folder: Path, environment: dict[str, str], command: str) -> None:
    words = [sys.executable, *command.split()[1:]]
    done = subprocess.run(words, cwd=folder, env=environment, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise OutsideError(f"{folder}: `{command}` ended with {done.returncode}; see above")


def _differing(one: Path, other: Path) -> list[str]:
    """Paths whose bytes differ or that only one of the folders has."""
    paths = {path.relative_to(folder) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    same = {
        path
        for path in paths
        if (one / path).is_file()
        and (other / path).is_file()
        and (one / path).read_bytes() == (other / path).read_bytes()
    }
    return sorted(str(path) for path in paths - same)
