"""Finds a caller's key without telling its timing apart; the keys themselves come from the table."""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from deployments.keys.entries import KeyLimits
from deployments.keys.internal import internal_credential
from deployments.keys.key import Key

_INTERNAL: Final = Key(
    "internal", "internal", frozenset({"infer"}), KeyLimits(), "internal", priority="batch"
)


class KeyView(Protocol):
    """What a KeyRing needs of the ingress's copy of the table."""

    @property
    def secret(self) -> str:
        """The pool's; empty before the table gave it."""

    @property
    def keys(self) -> Mapping[bytes, Key]:
        """By SHA-256."""

    @property
    def keys_problem(self) -> str:
        """Why no key is accepted now."""


class KeyRing:
    """The keys that hold now, as the table says."""

    def __init__(self, view: KeyView, wall: Callable[[], float] = time.time) -> None:
        self._view = view
        self._wall = wall
        self._internal: tuple[str, bytes] = ("", b"")  # the pool's secret, and what of it callers show

    @property
    def keys(self) -> tuple[Key, ...]:
        """All users' keys that are known."""
        return tuple({key.key_id: key for key in self._view.keys.values()}.values())

    @property
    def problem(self) -> str:
        """Why no user's key is accepted now; empty where they are."""
        return self._view.keys_problem

    def find(self, authorization: bytes | None) -> Key | None:
        """The key behind an `Authorization` header; None where there is none, or `problem`.

        What is looked up is a hash, so the time taken tells nothing about any key's text.
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        digest = hashlib.sha256(authorization[7:].strip()).digest()
        if self._is_internal(digest):
            return _INTERNAL
        if self.problem:
            return None
        for known, key in self._view.keys.items():
            if hmac.compare_digest(known, digest):
                return key if self._wall() < key.expires_s else None
        return None

    def _is_internal(self, digest: bytes) -> bool:
        """Whether it is the credential of the evaluator, made of the pool's secret."""
        secret = self._view.secret
        if not secret:
            return False
        if self._internal[0] != secret:
            self._internal = (secret, hashlib.sha256(internal_credential(secret).encode()).digest())
        return hmac.compare_digest(self._internal[1], digest)
