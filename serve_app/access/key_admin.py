"""Changes to the key file: a key is made, replaced with an overlap, or revoked. Each change is audited."""

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from deployments.keys.entries import ALL_ROLES, KeyEntry, KeyFile
from deployments.keys.file import read_key_file, write_secret
from deployments.keys.watch import FIRST_NAME

AUDIT_FILE: Final = "keys.audit.jsonl"  # beside the key file: who did what and when, never a key


class KeyAdmin:
    """Edits one key file on the table's node; all ingress replicas take it up within seconds.

    Where there is no file yet, one is made that begins with the first key, whose text is in another file.
    """

    def __init__(self, path: Path, first_key_file: Path) -> None:
        self._path, self._first_key_file = path, first_key_file

    def entries(self) -> tuple[KeyEntry, ...]:
        """The keys. Raises OSError or ValueError where the file cannot be used."""
        if self._path.exists():
            return read_key_file(self._path).keys
        return tuple(KeyEntry.model_validate(entry) for entry in self._first())

    def create(
        self,
        name: str,
        roles: Sequence[str] = ("infer", "feedback"),
        limits: dict[str, Any] | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """Add a key and return its text, which is shown here only; `expires_at` without a zone is UTC.

        Raises ValueError for a name in use, or what no key may have.
        """
        entries = self._entries()
        if any(entry["name"] == name for entry in entries):
            raise ValueError(f"Key '{name}' exists; rotate it, or take another name.")
        secret, digest = _new_key()
        entry: dict[str, Any] = {"name": name, "sha256": digest, "roles": list(roles)}
        if limits:
            entry["limits"] = limits
        if expires_at is not None:
            entry["expires_at"] = expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)
        self._write([*entries, entry], "create", name)
        return secret

    def rotate(self, name: str, overlap_s: float) -> str:
        """Give a key a new text and return it; the old one works for `overlap_s` more.

        Limits, spending and votes stay with the key. Raises ValueError where there is no such key.
        """
        entries = self._entries()
        before = self._key(name)
        entry = self._entry(entries, name)
        secret, digest = _new_key()
        entry.pop("key", None)
        until = datetime.now(UTC) + timedelta(seconds=overlap_s)
        entry |= {
            "id": before.identity,
            "sha256": digest,
            "previous_sha256": before.digest.hex(),
            "previous_until": until,
        }
        self._write(entries, "rotate", name)
        return secret

    def revoke(self, name: str) -> None:
        """Take a key out at once. Raises ValueError where there is no such key, or it is the last one."""
        entries, revoked = self._entries(), self._key(name)
        entries.remove(self._entry(entries, name))
        if not entries:
            raise ValueError(f"Key '{name}' is the last one; create another first.")
        self._write(entries, "revoke", name)
        if revoked.digest in [_digest(text) for text in self._first_text()]:
            self._first_key_file.unlink()  # commands would use it

    def _entries(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return self._first()
        read_key_file(self._path)  # what cannot be read is not written over
        entries: list[dict[str, Any]] = yaml.safe_load(self._path.read_text())["keys"]
        return entries

    def _key(self, name: str) -> KeyEntry:
        for entry in self.entries():
            if entry.name == name:
                return entry
        raise ValueError(f"There is no key '{name}'. Known: {', '.join(e.name for e in self.entries())}.")

    def _first(self) -> list[dict[str, Any]]:
        return [
            {"name": FIRST_NAME, "sha256": _digest(text).hex(), "roles": list(ALL_ROLES)}
            for text in self._first_text()
        ]

    def _first_text(self) -> list[str]:
        """The text of the first key, where it is known here."""
        return [self._first_key_file.read_text().strip()] if self._first_key_file.exists() else []

    @staticmethod
    def _entry(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
        return next(entry for entry in entries if entry["name"] == name)

    def _write(self, entries: list[dict[str, Any]], action: str, name: str) -> None:
        """Replace the file in one step, and note what was done."""
        KeyFile.model_validate({"keys": entries})
        write_secret(self._path, yaml.safe_dump({"keys": entries}, sort_keys=False))
        line = {"at": datetime.now(UTC).isoformat(), "user": os.environ.get("USER", ""), "action": action}
        descriptor = os.open(self._path.with_name(AUDIT_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(json.dumps(line | {"key": name}) + "\n")


def _new_key() -> tuple[str, str]:
    """The text of a new key, and its SHA-256 in hex."""
    secret = f"fs-{secrets.token_urlsafe(32)}"
    return secret, _digest(secret).hex()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
