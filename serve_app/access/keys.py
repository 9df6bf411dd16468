"""API keys: the key file, who may do what, and finding a caller's key without telling its timing apart."""

import hashlib
import hmac
import math
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import AwareDatetime, Field, model_validator

from deployments.logger import get_logger
from policies.strict import StrictModel
from serve_app.config import KeyLimits

logger = get_logger(__name__)

Role = Literal["infer", "feedback", "read", "admin"]
ALL_ROLES: tuple[Role, ...] = ("infer", "feedback", "read", "admin")
KEY_ENV = "FASTSERVE_API_KEY"
KEY_FILE = "keys.yaml"


class KeyEntry(StrictModel):
    """One key of the file: its text, or only its SHA-256 in hex."""

    # Name of the key in logs and metrics; each name once.
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", examples=["web"])
    # The key itself. Give either this or `sha256`.
    key: str | None = Field(
        default=None, min_length=16, max_length=512, examples=["a-text-of-16-to-512-characters"]
    )
    # SHA-256 of the key in hex, so that the file holds no secret. Give either this or `key`.
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    # What the key may do: `infer` sends requests, `feedback` votes, `read` lists models and explains, `admin`
    # sees the usage of all keys.
    roles: tuple[Role, ...] = ("infer", "feedback")
    # Limits of the key, counted by each ingress replica for itself.
    limits: KeyLimits = KeyLimits()
    # Time, with its zone, from which on the key is refused; without it never.
    expires_at: AwareDatetime | None = Field(default=None, examples=["2027-01-31T00:00:00Z"])
    # Short hash that keeps limits, spending and votes when the text is replaced; `fastserve keys rotate`
    # writes it. Without it, it is made from the text.
    id: str | None = Field(default=None, pattern=r"^[0-9a-f]{12}$", examples=["9f86d081884c"])
    # SHA-256 of the text before, in hex, which is accepted too until `previous_until`.
    previous_sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        examples=["60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"],
    )
    # Time, with its zone, until which the text before is accepted.
    previous_until: AwareDatetime | None = Field(default=None, examples=["2027-01-31T00:00:00Z"])

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError(f"Key '{self.name}': give exactly one of 'key' and 'sha256'.")
        if (self.previous_sha256 is None) != (self.previous_until is None):
            raise ValueError(f"Key '{self.name}': 'previous_sha256' and 'previous_until' go together.")
        return self

    @property
    def identity(self) -> str:
        """The short hash under which logs know the key."""
        return self.id or hashlib.sha256(b"id" + self.digest).hexdigest()[:12]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""
        if self.key is not None:
            return hashlib.sha256(self.key.encode()).digest()
        return bytes.fromhex(self.sha256 or "")


class KeyFile(StrictModel):
    """The whole file; it is read again when it changes."""

    # The keys; at least one. No two may have the same name or text.
    keys: tuple[KeyEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for kind, values in (
            ("name", [k.name for k in self.keys]),
            ("key", [digest for k in self.keys for digest in (k.digest.hex(), k.previous_sha256) if digest]),
            ("id", [k.identity for k in self.keys]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"Two keys have the same {kind}.")
        return self


@dataclass(frozen=True, slots=True)
class Key:
    """A caller. `key_id` is a short hash that may be stored and logged."""

    key_id: str
    name: str
    roles: frozenset[str]
    limits: KeyLimits
    cache_salt: str  # keeps one key's prefix cache from being timed by another
    expires_s: float = math.inf  # wall clock


class KeyRing:
    """The known keys; reads the file again when it changes."""

    def __init__(
        self, path: Path, environ: Mapping[str, str] = os.environ, wall: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._override = environ.get(KEY_ENV) or None
        self._read_at_ns = -1
        self._keys: dict[bytes, Key] = {}  # by digest
        self._wall = wall
        self.refresh()

    def refresh(self) -> None:
        """Take up a changed file. A file that cannot be used is logged and changes nothing.

        Raises ValueError or OSError where there are no keys yet: nothing is served without one.
        """
        if self._override is not None:
            if not self._keys:
                entry = KeyEntry(name="environment", key=self._override, roles=ALL_ROLES)
                self._keys = _keys([entry])
            return
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns == self._read_at_ns:
                return
            entries = read_key_file(self._path).keys
        except (OSError, ValueError) as error:
            if not self._keys:
                raise
            logger.error("Key file unusable, the keys read before stay: %s", type(error).__name__)
            return
        self._read_at_ns = changed_ns
        self._keys = _keys(entries)

    @property
    def keys(self) -> tuple[Key, ...]:
        """All that are known."""
        return tuple({key.key_id: key for key in self._keys.values()}.values())

    def find(self, authorization: bytes | None) -> Key | None:
        """The key behind an `Authorization` header; None where it is unknown or expired.

        What is looked up is a hash, so the time taken tells nothing about any key's text.
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        digest = hashlib.sha256(authorization[7:].strip()).digest()
        for known, key in self._keys.items():
            if hmac.compare_digest(known, digest):
                return key if self._wall() < key.expires_s else None
        return None


def read_key_file(path: Path) -> KeyFile:
    """The checked key file. Raises OSError, or ValueError naming what is wrong (never a key)."""
    if path.stat().st_mode & 0o077:
        raise ValueError(f"Key file '{path}' may be read by others: its mode must be 0600.")
    try:
        document = yaml.safe_load(path.read_text())
    except yaml.YAMLError:
        raise ValueError(f"Key file '{path}' is not YAML.") from None
    return KeyFile.model_validate(document)


def ensure_key(home: Path) -> Path:
    """The file with the text of the first key, made at the first run with the server's `keys.yaml` beside it.

    `keys.yaml` holds the key's hash only; more keys are added there.
    """
    path = home / "key"
    key = f"fs-{secrets.token_urlsafe(32)}"
    if not _create(path, f"{key}\n"):
        key = path.read_text().strip()
    digest = hashlib.sha256(key.encode()).hexdigest()
    document = {"keys": [{"name": "default", "sha256": digest, "roles": list(ALL_ROLES)}]}
    _create(home / KEY_FILE, yaml.safe_dump(document, sort_keys=False))
    return path


def read_key(home: Path) -> str:
    """The text of the first key, for programs on this machine."""
    return os.environ.get(KEY_ENV) or ensure_key(home).read_text().strip()


def _create(path: Path, text: str) -> bool:
    """Write a new file that only its owner may read; whether there was none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return True


def _keys(entries: Iterable[KeyEntry]) -> dict[bytes, Key]:
    """The keys by digest; one that was replaced is there twice, the older text with its own end."""
    keys = {}
    for entry in entries:
        key = keys[entry.digest] = Key(
            key_id=entry.identity,
            name=entry.name,
            roles=frozenset(entry.roles),
            limits=entry.limits,
            cache_salt=hmac.new(entry.digest, b"prefix cache", "sha256").hexdigest()[:32],
            expires_s=entry.expires_at.timestamp() if entry.expires_at else math.inf,
        )
        if entry.previous_sha256 and entry.previous_until:
            until_s = min(key.expires_s, entry.previous_until.timestamp())
            keys[bytes.fromhex(entry.previous_sha256)] = replace(key, expires_s=until_s)
    return keys
