"""Check the signature of a statement's envelope with a public key, without a network (DSSE 1.0)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.config.reading import read_bytes
from pytest_trustllm.errors import ResultsError, one_line

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_LONGEST_KEY = 2**16


class PublicKey:
    """Whose signature is to be on an envelope.

    Args:
        path: PEM file with an Ed25519, elliptic curve or RSA key, such as the ``cosign.pub`` of ``cosign
            generate-key-pair``.
        flag: Names the file in messages.

    Raises:
        ResultsError: It cannot be read, is no such key, or the package ``cryptography`` is not installed.
    """

    def __init__(self, path: Path, flag: str) -> None:
        self._key = _read_key(path, flag)

    @property
    def sha256(self) -> str:
        """SHA-256 of the key (DER, SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return hashlib.sha256(self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def signed(self, envelope: Mapping[str, Any]) -> bool:
        """Return whether one of the signatures of an envelope is by this key, over the payload and its type."""
        message = _signed_bytes(envelope)
        signatures = envelope.get("signatures")
        if message is None or not isinstance(signatures, list):
            return False
        decoded = [_decoded(entry.get("sig")) for entry in signatures if isinstance(entry, dict)]
        return any(self._verifies(signature, message) for signature in decoded if signature is not None)

    def _verifies(self, signature: bytes, message: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

        key = self._key
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            elif isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            else:
                return False
        except InvalidSignature:
            return False
        return True


def _read_key(path: Path, flag: str) -> PublicKeyTypes:
    pem = read_bytes(path, f"{flag}: {path}", ResultsError, _LONGEST_KEY)
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise ResultsError(
            f"{flag}: needs the package cryptography; pip install 'pytest-trustllm[signatures]'"
        ) from None
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise ResultsError(f"{flag}: {path} is not a public key in PEM: {one_line(e, 100)}") from None
    if not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ResultsError(f"{flag}: {path}: expected an Ed25519, elliptic curve or RSA key")
    return key


def _signed_bytes(envelope: Mapping[str, Any]) -> bytes | None:
    """Return what the signatures of an envelope are over (DSSE's pre-authentication encoding)."""
    payload = _decoded(envelope.get("payload"))
    kind = str(envelope.get("payloadType")).encode()
    if payload is None:
        return None
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _decoded(text: object) -> bytes | None:
    """Return the bytes of a text in base64, of either alphabet; None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        return None
