"""Which API keys hold: from the environment, the key file or the first key, looked at again and again."""

import os
import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deployments.keys.entries import ALL_ROLES, KeyEntry
from deployments.keys.file import read_key_file, write_secret
from deployments.keys.key import Key, by_digest
from deployments.logger import get_logger

logger = get_logger(__name__)

KEY_ENV: Final = "FASTSERVE_API_KEY"
FIRST_NAME: Final = "default"  # of the first key


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What every ingress replica uses. `revision` is empty while it is not known which keys hold."""

    revision: str = ""
    problem: str = ""  # why no key is accepted now; empty while keys are
    keys: Mapping[bytes, Key] = field(default_factory=dict)  # by SHA-256


class KeyWatch:
    """The keys of one pool. Only the table watches them, so that all nodes agree; see `look`.

    A key in the environment replaces everything. Else the key file holds. Where there never was one, the
    first key is the only one; the table makes it once and keeps it in the store. A key file that was there
    and cannot be used any more closes the pool: which keys it would have revoked is not known.
    """

    def __init__(
        self,
        file: Path,
        first_key_file: Path,
        *,
        is_named: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`is_named`: the file must exist, as it was asked for."""
        self.file, self._first_key_file = file, first_key_file
        self.known = KnownKeys()
        self.first_key: str | None = None  # once the store was read: its text, empty where there is none
        self.file_was_seen = is_named
        self._override = environ.get(KEY_ENV) or None
        self._stamp: tuple[int, ...] = ()
        self._failure = ""  # of the last look; the first one is only noted, as a file may be half replaced

    @property
    def source(self) -> str:
        """Where the keys come from, in words."""
        if self._override is not None:
            return f"environment variable {KEY_ENV}"
        return f"file '{self.file}'" if self.file_was_seen else "the first key, in the store"

    @property
    def wants_first_key(self) -> bool:
        """Whether the first key has to be made."""
        return self._override is None and not self.file_was_seen and self.first_key == ""

    def look(self) -> None:
        """Read what has changed. Keys that cannot be read any more stop to hold at the second look."""
        if self._override is not None:
            self._take([KeyEntry(name="environment", key=self._override, roles=ALL_ROLES)])
            return
        try:
            stamp = _stamp(self.file)
            if stamp == self._stamp and not self._failure:
                return
            entries = read_key_file(self.file).keys
        except FileNotFoundError:
            self._without_file()
        except (OSError, ValueError) as error:
            self.file_was_seen = True
            self._fail(str(error))
        else:
            self.file_was_seen = True
            self._stamp = stamp
            self._take(entries)

    def propose_first_key(self) -> str:
        """The text that an earlier version left in the home, else a new one."""
        try:
            return self._first_key_file.read_text().strip()
        except OSError:
            return f"fs-{secrets.token_urlsafe(32)}"

    def leave_first_key(self) -> None:
        """Write the first key's text where commands on this machine look for it."""
        text = f"{self.first_key}\n"
        try:
            if self._first_key_file.read_text() == text:
                return
        except OSError:
            pass
        write_secret(self._first_key_file, text)

    def _without_file(self) -> None:
        if self.file_was_seen:
            self._fail(
                f"Key file '{self.file}' is gone. Restore it, or make a new one: `fastserve keys create`."
            )
        elif self.first_key:
            self._take([KeyEntry(name=FIRST_NAME, key=self.first_key, roles=ALL_ROLES)])

    def _take(self, entries: Iterable[KeyEntry]) -> None:
        self._failure = ""
        keys = by_digest(entries)
        if keys != self.known.keys or self.known.problem:
            self.known = KnownKeys(uuid.uuid4().hex[:12], "", keys)
            logger.info("%d API keys hold, from %s.", len(keys), self.source)

    def _fail(self, problem: str) -> None:
        first, self._failure = not self._failure, problem
        if (first and self.known.keys) or self.known.problem == problem:
            return
        self.known = KnownKeys(uuid.uuid4().hex[:12], problem)
        logger.error("No API key is accepted: %s", problem)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes with the file, its mode included."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
