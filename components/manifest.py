"""The list of a folder's files with their digests, written when it is closed and checked before it is read.

Stands right after `workbench` in the data's way; `packing` closes a bundle with it and `champion` opens one.
What a manifest says may come from anywhere: a path that leaves the folder, a link, a file named twice, missing, changed
or not named at all is an IntegrityError that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.errors import IntegrityError
from components.strict import Strict, parse

MANIFEST = "manifest.json"
MAX_FILES = 10_000  # a bundle has about twenty; what is far beyond is an attack on memory, not a bundle
MAX_JSON_BYTES = 16 << 20
MAX_PATH_CHARACTERS = 240
MAX_DEPTH = 8
_CHUNK_BYTES = 1 << 20
_MAX_DIGITS = 20
_DIGEST_CHARACTERS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class ManifestEntry(Strict):
    """One file: its path below the folder with forward slashes, the SHA-256 of its bytes, and its size."""

    path: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Manifest(Strict):
    """All files of a folder but the manifest itself, sorted by path."""

    files: tuple[ManifestEntry, ...]


def write_manifest(folder: Path) -> str:
    """List every file below `folder` in its manifest.json and return the digest: the SHA-256 of its bytes."""
    paths = _files_below(folder) - {MANIFEST}
    entries = []
    for place in sorted(paths):
        _refuse_unsafe_path(place, folder)
        sha256, num_bytes = _digest_file(folder, place)
        entries.append(ManifestEntry(place, sha256, num_bytes))
    content = _encode(Manifest(tuple(entries)))
    (folder / MANIFEST).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def verify_manifest(folder: Path) -> str:
    """Recompute every digest and return the folder's own; raises IntegrityError naming the first wrong file."""
    content = _read_guarded(folder / MANIFEST)
    manifest = _parse_manifest(content, folder / MANIFEST)
    named = {entry.path for entry in manifest.files}
    present = _files_below(folder) - {MANIFEST}
    for place in sorted(present - named):
        raise IntegrityError(
            f"{folder / place}: the file is not named in {MANIFEST}; nothing may be added to a closed folder"
        )
    for entry in manifest.files:
        if entry.path not in present:
            raise IntegrityError(f"{folder / entry.path}: the file is named in {MANIFEST} but missing")
        sha256, num_bytes = _digest_file(folder, entry.path)
        if num_bytes != entry.num_bytes:
            raise IntegrityError(
                f"{folder / entry.path}: {num_bytes:,} bytes, but {entry.num_bytes:,} are recorded in {MANIFEST}"
            )
        if sha256 != entry.sha256:
            raise IntegrityError(
                f"{folder / entry.path}: SHA-256 {sha256}, but {entry.sha256} is recorded in {MANIFEST}"
            )
    if content != _encode(manifest):
        raise IntegrityError(f"{folder / MANIFEST}: says what it should, but not in the bytes that close a folder")
    return hashlib.sha256(content).hexdigest()


def digest_folder(folder: Path) -> str:
    """One digest of a folder's content: SHA-256 over path, digest and size of every file, not over its name."""
    whole = hashlib.sha256()
    for place in sorted(_files_below(folder)):
        sha256, num_bytes = _digest_file(folder, place)
        whole.update(f"{sha256} {num_bytes} {place}\n".encode())
    return whole.hexdigest()


def digest_path(path: Path) -> str:
    """The SHA-256 of one file's bytes."""
    return _digest_file(path.parent, path.name)[0]


def _files_below(folder: Path) -> set[str]:
    """Paths of all regular files below `folder`; a link, pipe, socket or device is refused rather than followed."""
    if folder.is_symlink() or not folder.is_dir():
        raise IntegrityError(f"{folder}: expected a folder")
    found: set[str] = set()
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if len(path.relative_to(folder).parts) > MAX_DEPTH:
                        raise IntegrityError(f"{path}: folders lie deeper than {MAX_DEPTH} levels")
                    waiting.append(path)
                elif entry.is_file(follow_symlinks=False):
                    found.add(path.relative_to(folder).as_posix())
                else:
                    raise IntegrityError(f"{path}: a link or special file; only plain files are allowed")
                if len(found) > MAX_FILES:
                    raise IntegrityError(f"{folder}: more than {MAX_FILES:,} files")
    return found


def _digest_file(folder: Path, place: str) -> tuple[str, int]:
    """SHA-256 and size of one file, opened without following a link."""
    path = folder / place
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            raise IntegrityError(f"{path}: not a plain file ({error.strerror})") from error
        raise
    digest, num_bytes = hashlib.sha256(), 0
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IntegrityError(f"{path}: not a plain file")
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            num_bytes += len(chunk)
    return digest.hexdigest(), num_bytes


def read_guarded_json(path: Path) -> Any:
    """Read a JSON file that may come from anywhere: plain, of bounded size, no key twice, no NaN, no endless number."""
    return _decode(_read_guarded(path), path)


def _read_guarded(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(f"{path}: the file is missing, or no plain file")
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise IntegrityError(f"{path}: {size:,} bytes, more than the {MAX_JSON_BYTES:,} that it may have")
    return path.read_bytes()


def _encode(manifest: Manifest) -> bytes:
    """Give the one way to write a manifest, so that its digest depends on nothing but what it says."""
    return (json.dumps(asdict(manifest), sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _decode(content: bytes, path: Path) -> Any:
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_no_key_twice,
            parse_constant=_no_such_number,
            parse_int=_bounded_integer,
            parse_float=_finite_number,
        )
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: not readable as JSON ({error})") from error


def _parse_manifest(content: bytes, path: Path) -> Manifest:
    """Take a manifest that may be hostile; raises IntegrityError for what no `write_manifest` ever wrote."""
    manifest = parse(Manifest, _decode(content, path), str(path), IntegrityError)
    if len(manifest.files) > MAX_FILES:
        raise IntegrityError(f"{path}: names {len(manifest.files):,} files, at most {MAX_FILES:,} are allowed")
    seen: dict[str, str] = {}
    for entry in manifest.files:
        _refuse_unsafe_path(entry.path, path)
        if entry.path == MANIFEST:
            raise IntegrityError(f"{path}: names itself")
        folded = unicodedata.normalize("NFC", entry.path).casefold()
        if folded in seen:
            raise IntegrityError(f"{path}: names {entry.path!r} twice (also as {seen[folded]!r})")
        seen[folded] = entry.path
        if len(entry.sha256) != 64 or not set(entry.sha256) <= _DIGEST_CHARACTERS:
            raise IntegrityError(
                f"{path}: the digest of {entry.path!r} is not a SHA-256 in lower-case hexadecimal digits"
            )
        if not 0 <= entry.num_bytes < 1 << 50:
            raise IntegrityError(f"{path}: the size of {entry.path!r} is {entry.num_bytes}, which no file has")
    return manifest


def _refuse_unsafe_path(place: str, where: Path) -> None:
    """Raise IntegrityError unless `place` is a plain relative path that stays below its folder on every system."""
    parts = place.split("/")
    is_plain = (
        0 < len(place) <= MAX_PATH_CHARACTERS
        and len(parts) <= MAX_DEPTH
        and all(part not in ("", ".", "..") and part == part.strip() for part in parts)
        and not any(character in '\\:*?"<>|' or not character.isprintable() for character in place)
    )
    if not is_plain:
        raise IntegrityError(
            f"{where}: the path {place[:MAX_PATH_CHARACTERS]!r} is not a plain relative path below the folder"
        )


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError(f"a key stands twice among {sorted(keys)[:8]}")
    return dict(pairs)


def _no_such_number(text: str) -> float:
    raise ValueError(f"{text} is no number that may stand here")


def _bounded_integer(text: str) -> int:
    """Read an integer that 64 bits hold; longer ones are refused before they are even read."""
    number = int(text) if len(text) <= _MAX_DIGITS else 1 << 63
    return number if -(1 << 63) <= number < 1 << 63 else int(_no_such_number(f"an integer of {len(text)} digits"))


def _finite_number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_such_number(text[:40])
