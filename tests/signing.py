"""Sign a statement as cosign does: an envelope (DSSE) with a signature by a new key."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

KINDS = ("ed25519", "ec", "rsa")
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def sign(statement: Path, envelope: Path, public_key: Path, kind: str = "ed25519") -> None:
    """Write the envelope of a statement and the public key in PEM."""
    pytest.importorskip("cryptography", reason="needs cryptography")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    payload = statement.read_bytes()
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    key: Any
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
        signature = key.sign(message)
    elif kind == "ec":
        key = ec.generate_private_key(ec.SECP256R1())
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    else:
        key = rsa.generate_private_key(65537, 2048)
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    document = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
    }
    envelope.write_text(json.dumps(document))
    public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
