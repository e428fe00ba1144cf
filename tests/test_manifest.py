"""A closed folder opens only as it was closed; whatever a hostile manifest says, the answer is an IntegrityError."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.errors import IntegrityError
from components.manifest import MANIFEST, digest_folder, read_guarded_json, verify_manifest, write_manifest
from tests.hostile_manifests import HOSTILE_DIGESTS, HOSTILE_NUMBERS, HOSTILE_PATHS, HOSTILE_WHOLES


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A closed folder of three files."""
    folder = tmp_path / "folder"
    (folder / "scorer").mkdir(parents=True)
    (folder / "card.md").write_bytes(b"abc")
    (folder / "schema.json").write_bytes(b"{}\n")
    (folder / "scorer" / "model.onnx").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "outside.json").write_bytes(b"secret")
    write_manifest(folder)
    return folder


def plain(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return content


def rewrite(folder: Path, content: object) -> None:
    (folder / MANIFEST).write_text(json.dumps(content))


def test_a_closed_folder_verifies_and_its_digest_is_that_of_the_manifest(closed: Path) -> None:
    expected = subprocess.run(
        ["sha256sum", closed / MANIFEST], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert verify_manifest(closed) == expected


def test_the_manifest_holds_what_sha256sum_says(closed: Path) -> None:
    for entry in plain(closed)["files"]:
        path = closed / entry["path"]
        said = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert (entry["sha256"], entry["num_bytes"]) == (said, path.stat().st_size)


def test_the_digest_depends_on_content_and_paths_alone(closed: Path, tmp_path: Path) -> None:
    twin = tmp_path / "elsewhere" / "twin"
    (twin / "scorer").mkdir(parents=True)
    for place in ("scorer/model.onnx", "schema.json", "card.md"):
        (twin / place).write_bytes((closed / place).read_bytes())
    assert write_manifest(twin) == verify_manifest(closed)
    assert digest_folder(twin) == digest_folder(closed)
    (twin / "card.md").rename(twin / "card2.md")
    assert write_manifest(twin) != verify_manifest(closed)
    assert digest_folder(twin) != digest_folder(closed)


@pytest.mark.parametrize("place", ["card.md", "schema.json", "scorer/model.onnx"])
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "empty", "gone", "link", "pipe", "folder"])
def test_a_damaged_file_is_refused_by_its_name(closed: Path, tmp_path: Path, place: str, damage: str) -> None:
    path = closed / place
    content = path.read_bytes()
    (tmp_path / "copy").write_bytes(content)
    path.unlink()
    acts: dict[str, Callable[[], object]] = {
        "flip": lambda: path.write_bytes(bytes([content[0] ^ 1]) + content[1:]),
        "cut": lambda: path.write_bytes(content[:-1]),
        "longer": lambda: path.write_bytes(content + b"\n"),
        "empty": lambda: path.write_bytes(b""),
        "gone": lambda: None,
        "link": lambda: path.symlink_to(tmp_path / "copy"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    acts[damage]()
    with pytest.raises(IntegrityError, match=place.replace(".", r"\.")):
        verify_manifest(closed)


@pytest.mark.parametrize("place", ["extra.json", "scorer/extra.pkl", "new/folder/file", ".hidden"])
def test_a_file_that_was_added_is_refused_by_its_name(closed: Path, place: str) -> None:
    (closed / place).parent.mkdir(parents=True, exist_ok=True)
    (closed / place).write_bytes(b"new")
    with pytest.raises(IntegrityError, match="not named"):
        verify_manifest(closed)


@pytest.mark.parametrize("target", ["..", "/etc", "scorer", "nowhere"])
def test_a_linked_folder_is_refused_even_where_it_leads_inside(closed: Path, target: str) -> None:
    (closed / "linked").symlink_to(target)
    with pytest.raises(IntegrityError, match="linked"):
        verify_manifest(closed)


def test_a_link_to_the_whole_folder_or_to_its_manifest_is_refused(closed: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(closed)
    with pytest.raises(IntegrityError, match="link"):
        verify_manifest(tmp_path / "link")
    (closed / MANIFEST).rename(tmp_path / MANIFEST)
    (closed / MANIFEST).symlink_to(tmp_path / MANIFEST)
    with pytest.raises(IntegrityError, match=MANIFEST):
        verify_manifest(closed)


@pytest.mark.parametrize("name", HOSTILE_PATHS)
@pytest.mark.parametrize("is_added", [True, False])
def test_a_hostile_path_is_refused(closed: Path, name: str, is_added: bool) -> None:
    content = plain(closed)
    entry = {"path": HOSTILE_PATHS[name], "sha256": hashlib.sha256(b"secret").hexdigest(), "num_bytes": 6}
    if is_added:
        content["files"].append(entry)
    else:
        content["files"][0]["path"] = HOSTILE_PATHS[name]
    rewrite(closed, content)
    with pytest.raises(IntegrityError) as refusal:
        verify_manifest(closed)
    assert str(closed) in str(refusal.value)
    assert len(str(refusal.value)) < 2_000


@pytest.mark.parametrize("again", ["card.md", "CARD.md", "Card.MD"])
def test_a_file_named_twice_is_refused_also_in_other_letters(closed: Path, again: str) -> None:
    content = plain(closed)
    content["files"].append(content["files"][0] | {"path": again})
    rewrite(closed, content)
    with pytest.raises(IntegrityError, match="twice"):
        verify_manifest(closed)


@pytest.mark.parametrize("name", HOSTILE_NUMBERS)
def test_a_hostile_size_is_refused(closed: Path, name: str) -> None:
    text = (closed / MANIFEST).read_text()
    assert text.count('"num_bytes": 3,') == 2
    text = text.replace('"num_bytes": 3,', '"num_bytes": SIZE,', 1)
    (closed / MANIFEST).write_text(text.replace("SIZE", HOSTILE_NUMBERS[name]))
    with pytest.raises(IntegrityError):
        verify_manifest(closed)


@pytest.mark.parametrize("name", HOSTILE_DIGESTS)
def test_a_hostile_digest_is_refused(closed: Path, name: str) -> None:
    content = plain(closed)
    content["files"][0]["sha256"] = HOSTILE_DIGESTS[name]
    rewrite(closed, content)
    with pytest.raises(IntegrityError):
        verify_manifest(closed)


@pytest.mark.parametrize("name", HOSTILE_WHOLES)
def test_a_hostile_manifest_is_refused(closed: Path, name: str) -> None:
    (closed / MANIFEST).write_bytes(HOSTILE_WHOLES[name])
    with pytest.raises(IntegrityError):
        verify_manifest(closed)


@pytest.mark.parametrize("length", range(0, 400, 23))
def test_a_manifest_cut_anywhere_is_refused(closed: Path, length: int) -> None:
    content = (closed / MANIFEST).read_bytes()
    (closed / MANIFEST).write_bytes(content[:length])
    with pytest.raises(IntegrityError, match=MANIFEST):
        verify_manifest(closed)


def test_what_is_no_folder_or_has_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        verify_manifest(tmp_path / "absent")
    with pytest.raises(IntegrityError, match=MANIFEST):
        verify_manifest(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IntegrityError):
        verify_manifest(tmp_path / "file")


def test_a_folder_with_an_unsafe_name_or_a_link_cannot_be_closed(tmp_path: Path) -> None:
    (tmp_path / "a\nb").write_bytes(b"")
    with pytest.raises(IntegrityError, match="plain relative path"):
        write_manifest(tmp_path)
    (tmp_path / "a\nb").unlink()
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError, match="link"):
        write_manifest(tmp_path)


def test_json_from_anywhere_is_read_with_care(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{"a": [1, 2.5, null, "é"]}', encoding="utf-8")
    assert read_guarded_json(path) == {"a": [1, 2.5, None, "é"]}
    for text in ('{"a": 1, "a": 2}', "[NaN]", "9" * 6_000, "[" * 100_000, '"\ud800"'):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(IntegrityError, match=r"some\.json"):
            read_guarded_json(path)


def test_the_manifest_does_not_depend_on_locale_or_hash_seed(closed: Path) -> None:
    before = verify_manifest(closed)
    code = f"from pathlib import Path; from components.manifest import write_manifest; print(write_manifest(Path({str(closed)!r})))"
    for seed, locale in (("1", "C"), ("2", "C.UTF-8")):
        environment = {"PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": "Asia/Tokyo", "PATH": os.environ["PATH"]}
        said = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        assert said.stdout.strip() == before
