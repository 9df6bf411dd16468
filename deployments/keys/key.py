"""A caller as the ingress knows it: everything about a key except its text."""

import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from deployments.keys.entries import KeyEntry, KeyLimits, Priority


@dataclass(frozen=True, slots=True)
class Key:
    """A caller. `key_id` is a short hash that may be stored and logged."""

    key_id: str
    name: str
    roles: frozenset[str]
    limits: KeyLimits
    cache_salt: str  # keeps one key's prefix cache from being timed by another
    expires_s: float = math.inf  # wall clock
    team: str = ""
    weight: float = 1.0  # where requests wait
    priority: Priority = "interactive"  # at most

    def may_use(self, model: str) -> bool:
        """Whether the key's limits allow the model; of others its holder learns nothing."""
        return self.limits.models is None or model in self.limits.models


def by_digest(entries: Iterable[KeyEntry]) -> dict[bytes, Key]:
    """The keys by SHA-256; one that was replaced is there twice, the older text with its own end."""
    keys = {}
    for entry in entries:
        key = keys[entry.digest] = Key(
            key_id=entry.identity,
            name=entry.name,
            roles=frozenset(entry.roles),
            limits=entry.limits,
            cache_salt=hmac.new(entry.digest, b"prefix cache", "sha256").hexdigest()[:32],
            expires_s=entry.expires_at.timestamp() if entry.expires_at else math.inf,
            team=entry.team,
            weight=entry.weight,
            priority=entry.priority,
        )
        if entry.previous_sha256 and entry.previous_until:
            until_s = min(key.expires_s, entry.previous_until.timestamp())
            keys[bytes.fromhex(entry.previous_sha256)] = replace(key, expires_s=until_s)
    return keys
