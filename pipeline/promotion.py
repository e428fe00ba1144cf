"""The acts around champions: promote, say who serves and why, go back, hold, compare, verify, tidy up.

Each gives what it has to say as facts (for `--json`) and as words; the registry does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifact import read_json
from components.champion import Champion
from components.errors import ConfigError
from pipeline.comparing import metrics_in, moment_of, recorded
from pipeline.outside import desk_of, home_of, read_environment, registry_of
from pipeline.params import read_settings
from pipeline.run import Workspace
from pipeline.saying import PROJECT, Said

if TYPE_CHECKING:
    from components.packing import Bundle
    from pipeline.registry import Challenger, Event
    from pipeline.registry.records import Bump

EXIT_GATE_SAID_NO = 4
_CODE_ROOT = Path(__file__).resolve().parents[1]
_CODE = ("components", "pipeline", "dags", "logs")
_FILES = (
    "requirements.lock",
    "pyproject.toml",
    "Makefile",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
)
_RUN_FILES = ("params.yaml", "window.yaml", "dvc.yaml", "dvc.lock")
_FROM_BUNDLE = ("card.md", "verdict.json", "evaluation.json", "lineage.json", "architecture.json", "schema.json")
_NOT_CODE = frozenset({"__pycache__", ".pytest_cache"})


def promote(root: Path, stage: str, dry_run: bool) -> Said:
    """Make the packed bundle the champion if its verdict says so; 0 when it is (or was), 4 when the gate said no.

    Raises ConfigError while a broken contract waits for somebody to acknowledge it: who learned from a fault learned the fault.
    """
    from components.packing import Bundle
    from pipeline.alerting.guard import refuse_if_blocked

    workspace = Workspace(root.absolute())
    bundle = workspace.read("bundle", Bundle)
    verdict = bundle.verdict
    facts: dict[str, Any] = {
        "decision": verdict.decision,
        "reasons": list(verdict.reasons),
        "digest": bundle.digest,
        "judged_against": verdict.champion_version,
    }
    reasons = "".join(f"  {reason}\n" for reason in verdict.reasons)
    if not verdict.is_promotion:
        stays = f"The gate said no, the champion stays ({verdict.champion_version or 'none yet'}):\n{reasons.rstrip()}"
        return Said({**facts, "promoted": None}, stays, EXIT_GATE_SAID_NO)
    refuse_if_blocked(desk_of(workspace).book)
    registry = registry_of(workspace)
    challenger = challenger_of(workspace, bundle)
    if dry_run:
        version = registry.examine(challenger, stage)
        words = f"{reasons}Would assign {registry.name}@{version} to {stage}; nothing was changed."
        return Said({**facts, "promoted": None, "would_be": version, "stage": stage}, words, 0)
    made = registry.promote(challenger, stage)
    words = f"{reasons}{registry.name}@{made.version} is in {stage} (bundle {made.digest})"
    return Said({**facts, "promoted": asdict(made), "stage": stage}, words, 0)


def challenger_of(workspace: Workspace, bundle: Bundle) -> Challenger:
    """The packed bundle with all that is committed beside it; raises ConfigError where it is of another log."""
    from pipeline.registry import Challenger

    settings = read_settings(workspace.root)
    if bundle.lineage.log != settings.log:
        raise ConfigError(
            f"the bundle is of log '{bundle.lineage.log}', but params.yaml says '{settings.log}'; run the line again"
        )
    champion = workspace.read("champion", Champion)
    return Challenger(
        bundle.folder,
        bundle.verdict.champion_digest,
        _bump(bundle.folder, champion.folder),
        min((span.first_time for span in bundle.lineage.spans if span.first_time is not None), default=None),
        max((span.last_time for span in bundle.lineage.spans if span.last_time is not None), default=None),
        bundle.verdict.reasons,
        _records(workspace, bundle.folder, f"ctr-ranker-{settings.log}", settings.preset_file),
    )


def describe_champion(root: Path, stage: str) -> Said:
    """What is in a stage, since when, why, and from which data."""
    registry = registry_of(Workspace(root.absolute()))
    facts: dict[str, Any] = {"name": registry.name, "stage": stage, "version": None, "digest": None}
    if not registry.exists():
        return Said(facts, f"{registry.name}: nothing was promoted yet", 0)
    with registry.cloned() as clone:
        version, hold = registry.assigned(clone, stage), registry.hold_in(clone)
        facts["hold"] = asdict(hold) if hold is not None else None
        if version is None:
            return Said(facts, f"{registry.name}: nothing is in {stage} yet", 0)
        event = [one for one in registry.events(clone) if (one.stage, one.version) == (stage, version.version)][-1]
        facts |= {"version": version.version, "commit": version.commit, "digest": version.digest}
        facts |= {"since": event.when, "by": event.by, "why": event.why}
        record = registry.record(clone, version.commit)
        facts["data"] = {"first_time": moment_of(record.data_first_time), "last_time": moment_of(record.data_last_time)}
        evaluation = recorded(registry, clone, version.commit, "evaluation.json")
        facts["metrics"] = metrics_in(evaluation)
    data, held = facts["data"], facts["hold"]
    told = {
        "why": event.why,
        "data": f"{data['first_time']} to {data['last_time']}",
        **{key.replace("_", " "): f"{value:.6g}" for key, value in facts["metrics"].items()},
        "bundle": version.digest,
        "commit": version.commit,
        **({"held": f"since {held['since']}: {held['reason']}"} if held else {}),
    }
    lines = [f"{version.name}@{version.version} is in {stage} since {event.when} (by {event.by})"]
    lines += [f"{key + ':':<20} {words}" for key, words in told.items()]
    return Said(facts, "\n".join(lines), 0)


def history(root: Path) -> Said:
    """Every registration and assignment of this log, oldest first."""
    registry = registry_of(Workspace(root.absolute()))
    if not registry.exists():
        return Said([], f"{registry.name}: nothing was promoted yet", 0)
    with registry.cloned() as clone:
        found = registry.events(clone)
    lines = [f"{one.when}  {one.version:<10} {_words_of(one):<14} {one.by}: {one.why}" for one in found]
    return Said([asdict(one) for one in found], "\n".join(lines) or f"{registry.name}: nothing was promoted yet", 0)


def rollback(root: Path, to: str | None, hold: str | None) -> Said:
    """Assign an older version to prod again: `to`, or the one that was in prod before."""
    registry = registry_of(Workspace(root.absolute()))
    with registry.cloned() as clone:
        now = registry.assigned(clone, "prod")
        if to is None:
            to = _version_before([one for one in registry.events(clone) if one.stage == "prod"], registry.name)
        if now is not None and now.version == to and hold is None:
            return Said({"version": to, "from": to, "hold": None}, f"{registry.name}@{to} is in prod already", 0)
        why = f"rollback from {now.version if now else 'none'}" + (f": {hold}" if hold else "")
        made = registry.assign_in(clone, to, "prod", why, hold)
    words = f"{registry.name}@{made.version} is in prod again (bundle {made.digest})"
    held = "\nNothing is promoted until `python -m pipeline release`." if hold else ""
    return Said({**asdict(made), "from": now.version if now else None, "hold": hold}, words + held, 0)


def hold(root: Path, reason: str) -> Said:
    """Promote nothing until `release`."""
    registry = registry_of(Workspace(root.absolute()))
    registry.hold(reason)
    return Said({"hold": reason}, f"{registry.name} is held: nothing is promoted until `python -m pipeline release`", 0)


def release(root: Path) -> Said:
    """End a hold."""
    registry = registry_of(Workspace(root.absolute()))
    ended = registry.release()
    if ended is None:
        return Said({"released": None}, f"{registry.name} is not held", 0)
    return Said(
        {"released": asdict(ended)}, f"{registry.name}: the hold since {ended.since} is over ({ended.reason})", 0
    )


def verify(root: Path, folder: Path) -> Said:
    """Recompute every digest of a bundle's folder; raises IntegrityError naming the file that is not as recorded."""
    from components.packing import verify_bundle
    from pipeline.registry.signing import check_signature_beside

    digest = verify_bundle(folder)
    is_signed = check_signature_beside(folder, read_environment(home_of(Workspace(root.absolute()))).public_key) or None
    signed = ", and signed" if is_signed else ""
    return Said({"digest": digest, "is_signed": is_signed}, f"{folder}: as it was packed{signed} (bundle {digest})", 0)


def gc(root: Path, may_delete: Callable[[str], bool]) -> Said:
    """Delete what no version of this log needs from the store, after asking with the list's size."""
    from pipeline.registry.collecting import collect, garbage

    registry = registry_of(Workspace(root.absolute()))
    found = garbage(registry)
    num_bytes = sum(one.num_bytes for one in found)
    facts: dict[str, Any] = {"objects": [asdict(one) for one in found], "num_bytes": num_bytes, "deleted": 0}
    if not found:
        return Said(facts, f"{registry.bundles().url}: every object is needed by a tag", 0)
    if not may_delete(f"{len(found):,} objects ({num_bytes:,} bytes) in {registry.bundles().url} that no tag needs"):
        return Said(facts, "Nothing was deleted.", 0)
    deleted = collect(registry, [one.key for one in found])
    return Said({**facts, "deleted": deleted}, f"{deleted:,} objects deleted ({num_bytes:,} bytes)", 0)


def _records(workspace: Workspace, bundle: Path, name: str, preset: str) -> dict[str, bytes]:
    """What is committed: the project as it ran, so that a checkout of the tag can run again, and the bundle's facts."""
    records: dict[str, bytes] = {}
    for folder in _CODE:
        for path in sorted((_CODE_ROOT / folder).rglob("*")):
            if path.is_file() and not _NOT_CODE & set(path.parts):
                records[f"{PROJECT}/{path.relative_to(_CODE_ROOT).as_posix()}"] = path.read_bytes()
    for file in _FILES:
        if (_CODE_ROOT / file).is_file():
            records[f"{PROJECT}/{file}"] = (_CODE_ROOT / file).read_bytes()
    for file in (*_RUN_FILES, preset):
        if (workspace.root / file).is_file():
            records[f"{PROJECT}/{file}"] = (workspace.root / file).read_bytes()
    return records | {f"{name}/{file}": (bundle / file).read_bytes() for file in _FROM_BUNDLE}


def _bump(challenger: Path, champion: Path | None) -> Bump:
    """Another schema is a major version, another architecture a minor one, a retraining a patch."""
    if champion is None or _differs(challenger, champion, "schema.json"):
        return "major"
    return "minor" if _differs(challenger, champion, "architecture.json") else "patch"


def _differs(one: Path, other: Path, name: str) -> bool:
    first: Any = read_json(one / name)
    return bool(first != read_json(other / name))


def _version_before(assignments: Sequence[Event], name: str) -> str:
    """The champion before the one that is first became it, so that going back twice goes back two; raises ConfigError."""
    versions = [one.version for one in assignments]
    earlier = versions[: versions.index(versions[-1])] if versions else []
    if not earlier:
        raise ConfigError(f"{name}: no version was in prod before this one; name one with --to (`history` lists them)")
    return earlier[-1]


def _words_of(event: Event) -> str:
    return "registered" if event.stage is None else f"to {event.stage}"
