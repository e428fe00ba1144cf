"""Digests of what `pack` was given: of each artifact's content, wherever it lies and however its files are linked."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from components.artifact import Artifact, write_json
from components.encoding import Encoded
from components.log import CleanLog
from components.manifest import digest_folder, digest_path
from components.splitting import SPLIT_NAMES


def digest_artifact(artifact: Artifact) -> str:
    """Digest what `save` writes; for artifacts in memory, which are small."""
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Path(folder))
        return digest_folder(Path(folder))


def digest_clean_log(clean_log: CleanLog) -> str:
    """Digest request, account and tables, but not the pages beside them; the tables are hashed where they lie."""
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "request.json", clean_log.request)
        write_json(Path(folder) / "report.json", clean_log.report)
        facts = digest_folder(Path(folder))
    tables = {name: digest_path(clean_log.folder / name) for name in ("rows.parquet", "quarantine.parquet")}
    return _together({"facts": facts, **tables})


def digest_encoded(encoded: Encoded) -> str:
    """Digest the encoder and every split's arrays, which are hashed where they lie."""
    arrays = [f"{kind}_{name}.npy" for name in SPLIT_NAMES for kind in ("ids", "clicks", "times")]
    parts = {name: digest_path(encoded.folder / name) for name in arrays}
    return _together({"encoder": digest_artifact(encoded.encoder), **parts})


def _together(parts: Mapping[str, str]) -> str:
    lines = "".join(f"{digest} {name}\n" for name, digest in sorted(parts.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
