"""Signatures over a bundle's folder with model-signing and a key pair (elliptic curve, PEM), beside the bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.errors import ConfigError, IntegrityError

SIGNATURE = "bundle.sig"


def sign(bundle: Path, private_key: Path) -> bytes:
    """The signature of every file of a bundle; raises ConfigError for a key that cannot sign."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "signature")
        try:
            from model_signing.signing import Config

            Config().use_elliptic_key_signer(private_key=private_key).sign(bundle, target)
        except ImportError as error:
            raise ConfigError(
                f"CTR_SIGNING_KEY is set, but model-signing cannot be used ({error}); install it with pyOpenSSL"
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{private_key}: cannot sign with this key ({error}); see CTR_SIGNING_KEY") from error
        return target.read_bytes()


def check_signature(bundle: Path, signature: bytes | None, public_key: Path, where: str) -> None:
    """Raise IntegrityError unless the signature is of this bundle and by this key."""
    if signature is None:
        raise IntegrityError(f"{where}: the bundle is not signed, but CTR_PUBLIC_KEY asks for a signature")
    if not public_key.is_file():
        raise ConfigError(f"{public_key}: no such key file; see CTR_PUBLIC_KEY")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "signature")
        source.write_bytes(signature)
        try:
            from cryptography.exceptions import InvalidSignature
            from model_signing.verifying import Config

            try:
                verifying = Config().use_elliptic_key_verifier(public_key=public_key)
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{public_key}: no public key ({error}); see CTR_PUBLIC_KEY") from error
            try:
                verifying.verify(bundle, source)
            except (ValueError, TypeError, KeyError, InvalidSignature) as error:
                raise IntegrityError(f"{where}: the signature is not this key's over this bundle ({error})") from error
        except ImportError as error:
            raise ConfigError(
                f"CTR_PUBLIC_KEY is set, but model-signing cannot be used ({error}); install it with pyOpenSSL"
            ) from error


def check_signature_beside(bundle: Path, public_key: Path | None) -> bool:
    """Hold a bundle's folder to `bundle.sig` beside it, as the registry's commits have it; False where no key asks for one."""
    if public_key is None:
        return False
    beside = bundle.absolute().parent / SIGNATURE
    check_signature(
        bundle, beside.read_bytes() if beside.is_file() else None, public_key, f"{bundle} with {beside.name}"
    )
    return True
