"""What an ingress replica asks of a limit that all of them share, and what the table grants it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NANO: Final = 1_000_000_000  # of a US dollar: sums of whole numbers are exact


class Resource(StrEnum):
    """What a limit counts: nano-dollars in a window, requests, tokens, or requests at once."""

    USD = "usd"
    REQUESTS = "requests"
    TOKENS = "tokens"
    SLOTS = "slots"

    @property
    def is_rate(self) -> bool:
        """Whether what was used comes back with time."""
        return self in (Resource.REQUESTS, Resource.TOKENS)


@dataclass(frozen=True, slots=True)
class Ask:
    """One limit as one holder of leases sees it: what it has used in all, what it holds, what it wants.

    `settled` counts from the holder's beginning, so that an ask may be lost, or come twice.
    """

    account: str
    resource: Resource
    limit: float  # nano-dollars of a window; the most of a rate at once; slots
    per_s: float = 0.0  # what a rate gets back
    window: str = ""  # of dollars, such as `1d`
    settled: int = 0
    reserved: int = 0  # by requests in flight
    want: int = 0  # to be free beyond
    requests: tuple[str, ...] = ()  # names of those that wait for it, see decision_id.py


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer: `amount` covers what is reserved, what is settled beyond `charged`, and what is free."""

    amount: int
    charged: int
    left: int  # for everybody, beyond all leases
    others: int  # held by other holders: it may come back
    spent: int  # of the limit


@dataclass(frozen=True, slots=True)
class Spent:
    """What an account has used."""

    requests: int = 0
    tokens: int = 0
    nano_usd: int = 0


def accounts_of(key_id: str, team: str, profile: str) -> tuple[str, ...]:
    """The accounts that a request is charged to."""
    names = (("key", key_id), ("team", team), ("profile", profile))
    return tuple(f"{kind}:{name}" for kind, name in names if name)
