"""Which of several replicas gives the first token first: its queue, and what of the prompt it has to read."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from deployments.dispatch.columns import Columns
from deployments.dispatch.request import Prompt
from deployments.records.snapshot import ReplicaRow
from policies.decision import hash64, uniform_from_seed
from policies.latency.model import FirstToken
from serve_app.upstream.prefixes import BLOCK_BYTES, Prefixes

BOUND: Final = 1.3  # of the mean load, beyond which a replica takes no more: consistent hashing's "c"
_SLACK_SHARE: Final = 0.06  # of its slots that a replica may have taken beyond the mean
_NEAR_SHARE: Final = 0.1  # predictions so near to each other are the same
_NEAR_S: Final = 0.002
_MEMORY: Final = 0.02  # weight of the newest choice in what is remembered of them


@dataclass(slots=True)
class Ask:
    """What a choice of replica depends on; its prompt is hashed only where there is a choice."""

    prompt: Prompt
    salt: str  # of the caller's key, as the engine's cache gets it
    columns: Columns
    hashes: list[bytes] | None = field(default=None, init=False)
    size_bytes: int = field(default=0, init=False)  # of what is hashed

    @property
    def tokens(self) -> int:
        """Of the prompt, as far as they are known."""
        return max(self.prompt.estimated_tokens, 1)

    def hashed(self, prefixes: Prefixes) -> list[bytes]:
        """The prompt's blocks, hashed once for all tries; none of several prompts or of token ids."""
        if self.hashes is None:
            prompt = self.prompt
            whole = prompt.generates and prompt.longest is None
            text = prompt.tools + prompt.text.encode("utf-8", "surrogatepass") if whole else b""
            self.size_bytes = len(text)
            self.hashes = prefixes.hashes(text, self.salt)
        return self.hashes


@dataclass(frozen=True, slots=True)
class Choice:
    """A replica, and the share of the prompt that it is predicted to have cached; None: nothing to choose."""

    row: ReplicaRow
    cached_share: float | None


class FirstTokenChoice:
    """Predicts each replica's time to first token and takes the least, with bounded loads.

    Several ingress replicas see a part of the requests each. Where predictions are near each other, all of
    them prefer the same replica for what begins alike, its home (rendezvous hashing), so that a turn which
    comes to another ingress than the one before finds its prefix.
    """

    def __init__(self, in_flight: Callable[[str], int], clock: Callable[[], float] = time.monotonic) -> None:
        """`in_flight` counts this ingress's own requests at a replica."""
        self._in_flight = in_flight
        self._clock = clock
        self._prefixes = Prefixes(clock)
        self._read_s: dict[str, float] = {}  # when it will have read what this ingress has sent there
        self._names: dict[str, int] = {}
        self._home_share = 0.5  # of the conversations' requests that went home
        self._prompt_s = 0.0  # mean time to read what is not cached of a prompt

    def forget(self, known: frozenset[str]) -> None:
        """Drop replicas that the table does not know any more."""
        self._prefixes.forget(known)
        for kept in (self._read_s, self._names):
            for replica in kept.keys() - known:
                del kept[replica]

    def choose(self, rows: Sequence[ReplicaRow], ask: Ask, ingresses: int) -> Choice:
        """One of `rows`, which are at least one, all of one model; remembers what is sent there."""
        now_s = self._clock()
        times = ask.columns.latency.first_token(ask.columns.index[rows[0].model])
        hashes = ask.hashed(self._prefixes)
        homes = self._homes(rows, ask)
        cached = self._cached(rows, ask, hashes, homes, ingresses)
        reading = [times.reading_s(ask.tokens, share) for share in cached]
        there = [self._there(row) for row in rows]
        predicted = {
            i: self._wait_s(rows[i], there[i], times, now_s, ingresses) + reading[i]
            for i in _bounded(rows, there)
        }
        limit_s = min(predicted.values()) * (1 + _NEAR_SHARE) + _NEAR_S
        best = max((i for i, at_s in predicted.items() if at_s <= limit_s), key=lambda i: homes[i])
        self._sent(rows[best], ask, hashes, reading[best], now_s, ingresses)
        went_home = float(homes[best] == max(homes))
        self._home_share += _MEMORY * (went_home - self._home_share)
        return Choice(rows[best], cached[best])

    def _cached(
        self, rows: Sequence[ReplicaRow], ask: Ask, hashes: list[bytes], homes: list[float], ingresses: int
    ) -> list[float]:
        """The share of the prompt that each replica has cached.

        A conversation that goes on may have begun through another ingress, which knows the same home.
        """
        size = max(ask.size_bytes, 1)
        shares = [self._prefixes.cached(row.replica, hashes) * BLOCK_BYTES / size for row in rows]
        if ingresses > 1 and ask.prompt.continues:
            before = (ask.prompt.turns - 1) / ask.prompt.turns
            home = homes.index(max(homes))
            shares[home] = max(shares[home], self._home_share * before)
        return shares

    def _there(self, row: ReplicaRow) -> int:
        """Requests at a replica: what it reported, or this ingress's own if that is more."""
        return max(row.running + row.waiting, self._in_flight(row.replica))

    def _wait_s(self, row: ReplicaRow, there: int, times: FirstToken, now_s: float, ingresses: int) -> float:
        """Until a replica begins to read: prompts ahead, of which others have sent as many as this ingress,
        and requests beyond its slots."""
        own_s = self._read_s.get(row.replica, 0.0) - now_s
        unread_s = max(own_s * ingresses, row.waiting * self._prompt_s)
        beyond = max(there + 1 - max(row.slots, 1), 0)
        return unread_s + beyond * times.service_s / max(row.slots, 1)

    def _homes(self, rows: Sequence[ReplicaRow], ask: Ask) -> list[float]:
        """A number for each replica, the greatest at the home of the prompt's beginning; the same in every
        ingress."""
        names = self._names
        seed = hash64(ask.prompt.text[:BLOCK_BYTES] + ask.salt)
        for row in rows:
            if row.replica not in names:
                names[row.replica] = hash64(row.replica)
        return [uniform_from_seed(seed ^ names[row.replica]) for row in rows]

    def _sent(
        self,
        row: ReplicaRow,
        ask: Ask,
        hashes: list[bytes],
        reading_s: float,
        now_s: float,
        ingresses: int,
    ) -> None:
        self._prefixes.sent(row.replica, hashes, row.kv_tokens, ingresses)
        self._read_s[row.replica] = max(self._read_s.get(row.replica, 0.0), now_s) + reading_s
        self._prompt_s += _MEMORY * (reading_s - self._prompt_s)


def _bounded(rows: Sequence[ReplicaRow], there: Sequence[int]) -> list[int]:
    """Indices of the replicas that may take one more request: at most BOUND times the mean load by slots.

    `there` are the requests at each. Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam
    2018); where the pool is nearly idle a share of the slots is free to use, for there the bound would be a
    request or two.
    """
    slots = [max(row.slots, 1) for row in rows]
    mean = (sum(there) + 1) / sum(slots)
    most = [max(math.ceil(BOUND * mean * slot), (mean + _SLACK_SHARE) * slot) for slot in slots]
    return [i for i in range(len(rows)) if there[i] + 1 <= most[i]]
