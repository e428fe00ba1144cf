"""With a public key configured, nothing is loaded that its private key has not signed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from components.errors import ConfigError, IntegrityError
from components.manifest import write_manifest
from pipeline.registry import Keys, Registry
from pipeline.registry.signing import check_signature, check_signature_beside, sign
from tests.registry_world import bundle, challenger, registry_in

pytest.importorskip("OpenSSL", reason="model-signing imports pyOpenSSL, which is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@dataclass(frozen=True)
class Pair:
    """A key pair's files."""

    private: Path
    public: Path


def pair(folder: Path, name: str) -> Pair:
    """A new key pair."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = Pair(folder / f"{name}.pem", folder / f"{name}.pub")
    files.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return files


@pytest.fixture
def ours(tmp_path: Path) -> Pair:
    return pair(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Pair:
    return pair(tmp_path, "theirs")


def with_keys(registry: Registry, private: Path | None, public: Path | None) -> Registry:
    return replace(registry, keys=Keys(private, public))


def test_what_is_signed_is_loaded_and_nothing_else_is(tmp_path: Path, ours: Pair, theirs: Pair) -> None:
    plain = registry_in(tmp_path)
    signing = with_keys(plain, ours.private, ours.public)
    first = signing.promote(challenger(bundle(tmp_path / "one", "1"), None))
    signing.fetch("v1.0.0", tmp_path / "signed")
    with pytest.raises(IntegrityError, match=r"ctr-ranker-shop@v1\.0\.0.*not this key's") as refused:
        with_keys(plain, None, theirs.public).fetch("v1.0.0", tmp_path / "wrong key")
    assert refused.value.exit_code == 6
    plain.fetch("v1.0.0", tmp_path / "not asked")
    second = plain.promote(challenger(bundle(tmp_path / "two", "2"), first.digest))
    with pytest.raises(IntegrityError, match=r"ctr-ranker-shop@v1\.0\.1.*not signed") as refused:
        signing.fetch_champion(tmp_path / "unsigned")
    assert refused.value.exit_code == 6
    assert signing.champion() == second
    assert signing.assign("v1.0.0", "prod", "back to what is signed", None).digest == first.digest
    with pytest.raises(IntegrityError, match="not signed"):
        signing.assign("v1.0.1", "prod", "forward again", None)


def test_a_signature_can_be_had_with_plain_git_and_checked_without_the_registry(tmp_path: Path, ours: Pair) -> None:
    registry = with_keys(registry_in(tmp_path), ours.private, None)
    registry.promote(challenger(bundle(tmp_path / "one", "1"), None))
    at = "ctr-ranker-shop@v1.0.0:ctr-ranker-shop/bundle.sig"
    signature = subprocess.run(["git", "show", at], cwd=registry.git, capture_output=True, check=True).stdout
    check_signature(tmp_path / "one", signature, ours.public, "here")


def test_a_folder_is_held_to_the_signature_beside_it(tmp_path: Path, ours: Pair, theirs: Pair) -> None:
    """`verify FOLDER` and `serve --bundle FOLDER`; the file's name is that of the registry's commits, whatever the folder's."""
    folder = bundle(tmp_path / "fetched", "1")
    assert not check_signature_beside(folder, None)
    with pytest.raises(IntegrityError, match="not signed"):
        check_signature_beside(folder, ours.public)
    (tmp_path / "bundle.sig").write_bytes(sign(folder, ours.private))
    assert check_signature_beside(folder, ours.public)
    with pytest.raises(IntegrityError, match="not this key's"):
        check_signature_beside(folder, theirs.public)


def forge(text: bytes) -> bytes:
    content = json.loads(text)
    payload = content["dsseEnvelope"]["payload"]
    content["dsseEnvelope"]["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
    return json.dumps(content).encode()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "another payload": forge,
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "null": lambda text: b"null",
    "a list": lambda text: b"[]",
    "no envelope": lambda text: b"{}",
    "not text": lambda text: b"\xff\xfe\x00",
    "no signature": lambda text: json.dumps(json.loads(text) | {"dsseEnvelope": {}}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_signature_is_refused(tmp_path: Path, ours: Pair, damage: str) -> None:
    folder = bundle(tmp_path / "one", "1")
    signature = sign(folder, ours.private)
    check_signature(folder, signature, ours.public, "here")
    with pytest.raises(IntegrityError, match="here"):
        check_signature(folder, DAMAGES[damage](signature), ours.public, "here")


def test_a_byte_changed_after_signing_is_refused_also_with_a_manifest_that_fits(tmp_path: Path, ours: Pair) -> None:
    folder = bundle(tmp_path / "one", "1")
    signature = sign(folder, ours.private)
    (folder / "verdict.json").write_text("{}")
    (folder / "manifest.json").unlink()
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=r"verdict\.json"):
        check_signature(folder, signature, ours.public, "here")
    (folder / "added").write_text("")
    with pytest.raises(IntegrityError, match="here"):
        check_signature(folder, signature, ours.public, "here")


def test_a_key_that_is_none_is_for_a_person_to_mend(tmp_path: Path, ours: Pair) -> None:
    folder = bundle(tmp_path / "one", "1")
    (tmp_path / "no key").write_text("hello")
    signature = sign(folder, ours.private)
    for key in (tmp_path / "absent", tmp_path / "no key", ours.public):
        with pytest.raises(ConfigError, match="CTR_SIGNING_KEY"):
            sign(folder, key)
    for key in (tmp_path / "absent", tmp_path / "no key", ours.private):
        with pytest.raises(ConfigError, match="CTR_PUBLIC_KEY"):
            check_signature(folder, signature, key, "here")
