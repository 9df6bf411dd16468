"""Seals what the store keeps of requests: without a key that is not in the store, records are noise.

A record holds the hashed n-grams of a prompt and numbers computed from them; from those a prompt can be
rebuilt. AES-256-GCM with a random nonce (NIST SP 800-38D) encrypts each record; lengths are rounded up to a
power of two, because the number of n-grams alone tells prompts apart.

The key file holds one key a line, 32 bytes in base64, newest first. The first seals; the others open what
older records were sealed with. Whoever deletes a key has deleted all that was sealed with it.
"""

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from deployments.logger import get_logger

logger = get_logger(__name__)

MARK: Final = b"\xc1"  # the one byte with which no MessagePack begins: records from before are told by it
KEY_BYTES: Final = 32
LEAST_BYTES: Final = 512  # of a sealed record's content

_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_LENGTH_BYTES: Final = 4


class SealError(ValueError):
    """A key file that cannot be used, or a record that none of its keys opens."""


class Sealer:
    """Seals with the first key, opens with any. Raises SealError without a key or for one of a wrong size."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise SealError(f"A store key has {KEY_BYTES} bytes, and there must be one or more.")
        self._ciphers = {_identity(key): AESGCM(key) for key in keys}
        self._newest = _identity(keys[0])
        self.unreadable = 0  # records that no key opened, since the start

    def seal(self, data: bytes, table: str) -> bytes:
        """`data` so that only `open` for the same table gives it back."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, _padded(data), table.encode())
        return MARK + self._newest + nonce + sealed

    def try_open(self, sealed: bytes, table: str) -> bytes | None:
        """As `open`; None for a record that no key opens, which is counted and said once."""
        try:
            return self.open(sealed, table)
        except SealError as error:
            if not self.unreadable:
                logger.error("%s Such records are left out of what is learned.", error)
            self.unreadable += 1
            return None

    def open(self, sealed: bytes, table: str) -> bytes:
        """What was sealed; records from before there were keys come back as they are. Raises SealError."""
        if not sealed.startswith(MARK):
            return sealed
        body = sealed[len(MARK) :]
        cipher = self._ciphers.get(body[:_ID_BYTES])
        if cipher is None:
            raise SealError(f"A record of '{table}' was sealed with a key that is not in the key file.")
        nonce, rest = body[_ID_BYTES : _ID_BYTES + _NONCE_BYTES], body[_ID_BYTES + _NONCE_BYTES :]
        try:
            padded = cipher.decrypt(nonce, rest, table.encode())
        except InvalidTag:
            raise SealError(f"A record of '{table}' was changed after it was sealed.") from None
        length = int.from_bytes(padded[:_LENGTH_BYTES], "big")
        return padded[_LENGTH_BYTES : _LENGTH_BYTES + length]


def read_keys(path: Path) -> list[bytes]:
    """The keys of a file. Raises SealError where others may read or write it, or for a line that is no key.

    Its group may read it: Kubernetes mounts Secrets so.
    """
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o027:
        mode = oct(stat.S_IMODE(status.st_mode))[2:]
        raise SealError(
            f"Key file '{path}' has mode {mode}: only its owner and group may read it (chmod 600)."
        )
    keys = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise SealError(f"Key file '{path}', line {number}: not base64.") from None
        if len(key) != KEY_BYTES:
            raise SealError(f"Key file '{path}', line {number}: {len(key)} bytes, a key has {KEY_BYTES}.")
        keys.append(key)
    if not keys:
        raise SealError(f"Key file '{path}' holds no key.")
    return keys


def ensure_keys(path: Path) -> list[bytes]:
    """The keys of the file, which is made with one key if there is none. Raises SealError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_keys(path)
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return read_keys(path)


def _identity(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_ID_BYTES, person=b"fastserve-store").digest()


def _padded(data: bytes) -> bytes:
    """The length, the data, and zeros up to the next power of two."""
    size = max(LEAST_BYTES, 1 << (len(data) + _LENGTH_BYTES - 1).bit_length())
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data + bytes(size - _LENGTH_BYTES - len(data))
