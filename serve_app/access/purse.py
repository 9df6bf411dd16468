"""One limit in one ingress replica: the part of it that the table has granted, and what is done with it."""

import math
from dataclasses import dataclass
from typing import Final

from deployments.records.leases import Ask, Grant, Resource

AHEAD: Final = 32  # a purse holds at most this part of what is left, ahead of need
IDLE_S: Final = 2.0  # after that nothing is held ahead


@dataclass(slots=True)
class Purse:
    """Whole numbers: nano-dollars, requests, tokens or slots. Times are of the holder's clock."""

    account: str
    resource: Resource
    limit: float
    per_s: float = 0.0
    window: str = ""
    granted: int = 0
    charged: int = 0  # of `settled`, as the table said with the grant
    settled: int = 0  # since the beginning
    reserved: int = 0
    left: int = 0  # for everybody, beyond all leases
    others: int = 0  # held by other replicas
    spent: int = 0  # of the limit, as the table said
    usual: int = 1  # what a request took last
    used_s: float = -math.inf
    answered_s: float = -math.inf  # when the ask of the last grant was sent

    @property
    def free(self) -> int:
        """What the next request may take."""
        return max(0, self.granted - max(0, self.settled - self.charged) - self.reserved)

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing, and the table knows all that was used."""
        return not self.granted and not self.reserved and self.settled == self.charged

    def ahead(self, now_s: float) -> int:
        """What to hold beyond need: less and less towards the end, then nothing."""
        if now_s - self.used_s > IDLE_S:
            return 0
        part = (self.left + self.free) // AHEAD
        return part if part >= self.usual else 0

    def take(self, amount: int, now_s: float) -> None:
        """A request is admitted. What a rate counts is used at once, anything else is reserved."""
        self.used_s, self.usual = now_s, max(1, amount)
        if self.resource.is_rate:
            self.settled += amount
        else:
            self.reserved += amount

    def settle(self, taken: int, used: int) -> None:
        """What it took is replaced by what it used."""
        if self.resource.is_rate:
            self.settled += used - taken
            return
        self.reserved -= taken
        self.settled += used

    def ask(self, want: int, requests: tuple[str, ...] = ()) -> Ask:
        """What to ask the table, so that `want` is free for `requests`; what is beyond is given back."""
        used = max(0, self.settled - self.charged) + self.reserved
        kept = min(self.granted, used + want)
        self.left += self.granted - kept
        self.granted = kept
        return Ask(
            self.account,
            self.resource,
            self.limit,
            self.per_s,
            self.window,
            self.settled,
            self.reserved,
            want,
            requests,
        )

    def answer(self, grant: Grant, asked_s: float) -> None:
        """Take the table's answer. What it charged and this replica does not know of was before its time."""
        self.granted, self.charged = grant.amount, grant.charged
        self.left, self.others, self.spent = grant.left, grant.others, grant.spent
        self.answered_s = asked_s
        if self.resource is Resource.USD:
            self.settled = max(self.settled, grant.charged)

    def remaining(self, now_s: float) -> float:
        """What is left of the limit for everybody, as far as this replica knows."""
        if self.answered_s == -math.inf:
            return self.limit
        back = min(now_s - self.answered_s, 3600.0) * self.per_s + max(0, self.charged - self.settled)
        return max(0.0, min(self.limit, self.free + self.left + back))
