"""What each replica probably holds in its prefix cache, by what this ingress has sent there.

Of a prompt only hashes are kept, of its beginnings in steps of a block, under a key of this process that is
drawn anew every hour and with the salt of the caller's API key, as the engine's own cache: they say nothing
of a prompt, and nothing of one key's prompts to another. They are never stored and never sent.
"""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from deployments.dispatch.request import CHARS_PER_TOKEN

BLOCK_BYTES: Final = 256  # of text; 8 kB are hashed in 23 us, blocks of half the size take 36 us
_BLOCK_TOKENS: Final = BLOCK_BYTES // CHARS_PER_TOKEN
_MOST_BLOCKS: Final = 131_072  # over all replicas, about 25 MiB
_UNKNOWN_KV_TOKENS: Final = 65_536  # of a replica that does not say how much its cache holds
_KEY_S: Final = 3600.0


class Prefixes:
    """An estimate of every replica's cache: least recently used blocks go first, a prompt's end before its
    beginning, as in vLLM's block pool."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, OrderedDict[bytes, None]] = {}
        self._key = b""
        self._until_s = float("-inf")

    def hashes(self, text: bytes, salt: str) -> list[bytes]:
        """One hash for each whole block of `text`, over all that stands up to its end."""
        now_s = self._clock()
        if now_s >= self._until_s:
            self._key, self._until_s = os.urandom(32), now_s + _KEY_S
            self._kept.clear()
        begun = hashlib.blake2b(key=self._key, digest_size=8)
        begun.update(salt.encode() + b"\0")
        view, update, digest = memoryview(text), begun.update, begun.digest
        found = []
        for end in range(BLOCK_BYTES, len(text) + 1, BLOCK_BYTES):
            update(view[end - BLOCK_BYTES : end])
            found.append(digest())
        return found

    def cached(self, replica: str, hashes: Sequence[bytes]) -> int:
        """How many of the first blocks the replica probably holds.

        A block is never kept without those before it, so that the end is found by halving.
        """
        kept = self._kept.get(replica)
        if not kept:
            return 0
        low, high = 0, len(hashes)
        while low < high:
            middle = (low + high) // 2
            if hashes[middle] in kept:
                low = middle + 1
            else:
                high = middle
        return low

    def sent(self, replica: str, hashes: Sequence[bytes], kv_tokens: int, ingresses: int) -> None:
        """A prompt went to a replica with so large a cache, which `ingresses` fill alike."""
        kept = self._kept.setdefault(replica, OrderedDict())
        for one in reversed(hashes):
            kept[one] = None
            kept.move_to_end(one)
        room = (kv_tokens or _UNKNOWN_KV_TOKENS) // _BLOCK_TOKENS // max(ingresses, 1)
        room = min(room, _MOST_BLOCKS // len(self._kept))
        while len(kept) > room:
            kept.popitem(last=False)

    def forget(self, known: frozenset[str]) -> None:
        """Drop the replicas that the table does not know any more."""
        for replica in self._kept.keys() - known:
            del self._kept[replica]
