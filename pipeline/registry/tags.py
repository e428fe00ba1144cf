"""Versions and assignments as git tags in GTO's form, made and read by GTO itself.

GTO and DVC sort assignments by their tag's time in whole seconds and guess at ties, so no assignment is ever made in
the second of another, or in its past.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from components.errors import ConfigError, IntegrityError, OutsideError
from pipeline.registry.clone import Clone
from pipeline.registry.records import Bump, Event

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_FIRST_VERSION = "v1.0.0"


def events(clone: Clone, name: str) -> list[Event]:
    """Every registration and assignment of an artifact, oldest first."""
    from gto.constants import ACTION, COUNTER, NAME, STAGE, VERSION, Action
    from gto.tag import parse_name

    found, versions = [], {}
    for tag in clone.tags:
        parsed = parse_name(tag.name, raise_on_fail=False)
        if parsed.get(NAME) != name or not tag.seconds or parsed.get(ACTION) not in (Action.REGISTER, Action.ASSIGN):
            continue
        if VERSION in parsed:
            versions[tag.commit] = parsed[VERSION]
        found.append((int(tag.seconds), parsed.get(STAGE), int(parsed.get(COUNTER, 0)), tag))
    return [
        Event(
            tag.name,
            "register" if stage is None else "assign",
            _version_of(tag.name, tag.commit, versions),
            stage,
            tag.commit,
            datetime.fromtimestamp(seconds, UTC).isoformat(),
            seconds,
            tag.by,
            tag.why,
        )
        for seconds, stage, _, tag in sorted(found, key=lambda one: (one[0], one[1] or "", one[2]))
    ]


def leave_what_gto_asks_for(clone: Clone, name: str) -> None:
    """Delete from the clone the tags of other artifacts and those that a later assignment to the same stage outdates.

    GTO's time grows with the square of the tags (2.6 s for a promotion after 100 of them). Where somebody has unassigned,
    deregistered or deprecated with plain GTO, an older assignment may count again, so all tags of the artifact stay.
    """
    from gto.constants import ACTION, COUNTER, NAME, Action
    from gto.tag import parse_name

    parsed = {tag.name: parse_name(tag.name, raise_on_fail=False) for tag in clone.tags}
    own = {tag for tag, parts in parsed.items() if parts.get(NAME) == name}
    highest = max((parsed[tag][COUNTER] for tag in own if COUNTER in parsed[tag]), default=None)
    if all(parsed[tag][ACTION] in (Action.REGISTER, Action.ASSIGN) for tag in own):
        past = events(clone, name)
        last = {one.stage: one for one in past if one.kind == "assign"}
        asked = [one for one in past if one.kind == "assign" and one.seconds == last[one.stage].seconds]
        asked += [one for one in past if one.kind == "assign" and parsed[one.tag][COUNTER] == highest]
        commits = {one.commit for one in asked}
        own = {one.tag for one in asked} | {one.tag for one in past if one.kind == "register" and one.commit in commits}
    outdated = sorted(parsed.keys() - own)
    if outdated:
        clone.git("tag", "--delete", *outdated)


def assigned(folder: Path, name: str, stage: str) -> str | None:
    """The version that was assigned to a stage last, as `gto show` says; None where there is none.

    `gto.api.find_versions_in_stage` would give the highest version that ever was in the stage: it does not see a rollback.
    """
    import gto.api
    from gto.exceptions import ArtifactNotFound

    with _gto_errors(folder):
        try:
            versions = gto.api.show(str(folder), f"{name}#{stage}")
        except ArtifactNotFound:
            return None
    return str(versions[0]["version"]) if versions else None


def register(folder: Path, name: str, version: str, why: str) -> str:
    """Register HEAD as `version`; gives the tag."""
    import gto.api

    with _gto_errors(folder):
        return str(gto.api.register(str(folder), name, "HEAD", version=version, message=why).tag)


def assign(clone: Clone, name: str, stage: str, version: str, why: str) -> str:
    """Assign a registered version to a stage, again if it must be; gives the tag."""
    import gto.api

    for tag in clone.tags:
        if tag.name == f"{name}@{version}":
            clone.git("update-ref", f"refs/tags/{tag.name}", tag.object)
    with _gto_errors(clone.folder):
        return str(gto.api.assign(str(clone.folder), name, stage, version=version, message=why, force=True).tag)


def wait_for_the_clock(past: Sequence[Event], most_seconds: float) -> None:
    """Wait until the clock's second is after every assignment's; raises OutsideError where it is far behind."""
    last = max((event.seconds for event in past if event.kind == "assign"), default=0)
    missing = last + 1 - time.time()
    if missing > most_seconds:
        raise OutsideError(
            f"this machine's clock is {missing:,.0f} s behind the last promotion's: set it right, or the newer promotion "
            "would seem the older one"
        )
    while (missing := last + 1 - time.time()) > 0:
        time.sleep(missing)


def next_version(known: Sequence[str], champion: str | None, bump: Bump) -> str:
    """The next free number: a patch stays on the champion's minor version, a minor on its major, whatever came later."""
    if not known:
        return _FIRST_VERSION
    numbers = [number_of(version) for version in known]
    if bump == "major" or champion is None:
        return f"v{max(major for major, _, _ in numbers) + 1}.0.0"
    major, minor, _ = number_of(champion)
    if bump == "minor":
        return f"v{major}.{max(one[1] for one in numbers if one[0] == major) + 1}.0"
    return f"v{major}.{minor}.{max(one[2] for one in numbers if one[:2] == (major, minor)) + 1}"


def number_of(version: str) -> tuple[int, int, int]:
    """The three numbers of vMAJOR.MINOR.PATCH; raises ConfigError."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ConfigError(f"'{version}' is no version such as v1.2.0; `history` lists those that there are")
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def _version_of(tag: str, commit: str, versions: dict[str, str]) -> str:
    if commit not in versions:
        raise IntegrityError(f"tag {tag}: its commit {commit} has no registered version; delete the tag with git")
    return versions[commit]


@contextmanager
def _gto_errors(folder: Path) -> Iterator[None]:
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (GTOException, SCMError, OSError) as error:
        raise OutsideError(f"{folder}: the tags could not be read or made ({error}); nothing was promoted") from error
