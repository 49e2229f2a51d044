"""Check the signature of a bundle's manifest, as minisign writes it (Ed25519).

    minisign -Sm outputs/<run>/bundle/manifest.json

signs, and needs nothing of Stratos. The manifest names each file by its SHA-256, so that its
signature is one of the whole bundle. Format: https://jedisct1.github.io/minisign/.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from stratos.core import extras
from stratos.core.errors import StratosError

SUFFIX = ".minisig"
_KEY_BYTES, _SIGNATURE_BYTES = 42, 74
"""Two letters, eight bytes that name the key, and 32 or 64 of Ed25519."""
_COMMENT = "trusted comment: "


def check_signature(path: Path, key: str) -> str:
    """Check the signature beside a file; return its trusted comment.

    Args:
        path: the file; its signature is PATH.minisig.
        key: a public key of minisign, or the file that holds it.

    Raises:
        StratosError: there is no signature, or it is not by this key, or of another content.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise StratosError(
            f"--key needs the package cryptography. Type: {extras.install('sign')}"
        ) from error
    name, public = _public_key(key)
    beside = path.with_name(path.name + SUFFIX)
    try:
        _, line, comment, last = _lines(beside)
        signature, whole = _decoded(line, _SIGNATURE_BYTES), _decoded(last, 64)
        if signature[:2] not in (b"ED", b"Ed") or not comment.startswith(_COMMENT):
            raise ValueError("it is none of minisign")
    except FileNotFoundError:
        raise StratosError(
            f"{beside} is missing: the bundle is not signed. Whoever made it types: "
            f"minisign -Sm {path}"
        ) from None
    except (OSError, ValueError) as error:
        raise StratosError(f"{beside} is no signature ({error}).") from error
    if signature[2:10] != name:
        raise StratosError(
            f"{beside} is by the key {signature[2:10][::-1].hex().upper()}, and --key is "
            f"{name[::-1].hex().upper()}. Give the key of whoever made the bundle."
        )
    if not path.is_file():
        raise StratosError(f"{path} is missing, or no file: give the command of the run again.")
    content, comment = path.read_bytes(), comment.removeprefix(_COMMENT)
    # ED signs the BLAKE2b of a file, Ed (minisign -l) the file itself.
    signed = hashlib.blake2b(content).digest() if signature[:2] == b"ED" else content
    try:
        verifier = Ed25519PublicKey.from_public_bytes(public)
        verifier.verify(signature[10:], signed)
        verifier.verify(whole, signature[10:] + comment.encode())
    except InvalidSignature:
        raise StratosError(
            f"{beside} is not a signature of {path.name} by this key: one of them was changed."
        ) from None
    return comment


def _public_key(key: str) -> tuple[bytes, bytes]:
    """Return the name of a public key, and its 32 bytes."""
    try:
        is_text = not Path(key).exists() and len(key) == len(base64.b64encode(bytes(_KEY_BYTES)))
        line = key if is_text else _lines(Path(key))[-1]
        data = _decoded(line, _KEY_BYTES)
        if data[:2] != b"Ed":
            raise ValueError("it is none of minisign")
    except (OSError, ValueError) as error:
        raise StratosError(
            f"--key {key}: no public key ({error}). Give the file minisign.pub, or its second line."
        ) from error
    return data[2:10], data[10:]


def _lines(path: Path) -> list[str]:
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    return path.read_text(encoding="utf-8").rstrip("\r\n").split("\n")


def _decoded(line: str, n_bytes: int) -> bytes:
    data = base64.b64decode(line.strip(), validate=True)
    if len(data) != n_bytes:
        raise ValueError(f"it has {len(data)} bytes, not {n_bytes}")
    return data
