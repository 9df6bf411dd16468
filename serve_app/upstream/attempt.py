"""One try at one replica, and the watch that ends tries which take too long, without a timer for each."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from deployments.records.snapshot import ReplicaRow

PERIOD_S = 0.25
NEVER = float("inf")
_GONE_S = 12.0  # of silence, as long as the table still lists a replica for certain


class Contest(Protocol):
    """Tries of one request beside each other, of which one answers; serve_app.upstream.hedge has it."""

    def won(self, attempt: "Attempt") -> None:
        """The try has its first token. Raises OutrunError where another one was first."""


class Attempt:
    """A try in progress. `limit_s` is the loop time at which the watch ends it; `reason` says why it did.

    From `limit_s` to `patient_until_s` it goes on while its engine is in the middle of a long step: what
    another's prompt delays is not broken, and what was begun cannot be had elsewhere. `is_bound`: it cannot
    be had elsewhere, so that a replica which is only late with its report is waited for. `has_begun`: it is
    the one that answers. `timer` is set while it runs.
    """

    __slots__ = (
        "has_begun",
        "is_bound",
        "is_over",
        "limit_s",
        "patient_until_s",
        "race",
        "reason",
        "row",
        "send_limit_s",
        "since_s",
        "timer",
    )

    def __init__(
        self, row: ReplicaRow, limit_s: float, timer: asyncio.Timeout | None = None, since_s: float = 0.0
    ) -> None:
        self.row = row
        self.limit_s = limit_s
        self.patient_until_s = 0.0
        self.is_bound = self.has_begun = self.is_over = False
        self.send_limit_s = NEVER
        self.reason = ""
        self.timer = timer
        self.since_s = since_s
        self.race: Contest | None = None

    def begin(self) -> None:
        """Its first token is there. Raises OutrunError where another try of its request was first."""
        if self.race is not None:
            self.race.won(self)
        self.has_begun = True

    def expire(self, reason: str, now_s: float) -> None:
        """End it: the awaiting code sees TimeoutError and reads `reason`."""
        if not self.reason:
            self.reason = reason
            if self.timer is not None:
                self.timer.reschedule(now_s)


class Silence(Protocol):
    """Where the watch learns which replicas have gone silent."""

    def silent(self, limit_s: float) -> frozenset[str]:
        """Replicas not heard of for `limit_s`."""

    def in_a_step(self, row: ReplicaRow) -> bool:
        """Whether the replica's engine is in the middle of a long step."""


class Watch:
    """Looks at all tries a few times a second."""

    def __init__(self, silence: Silence, silent_s: Callable[[], float]) -> None:
        self._silence = silence
        self._silent_s = silent_s
        self.attempts: set[Attempt] = set()

    def look(self, now_s: float) -> None:
        """End the tries that are over their limit, whose client does not read, or whose replica is silent."""
        if not self.attempts:
            return
        silent_s = self._silent_s()
        silent = self._silence.silent(silent_s)
        gone = self._silence.silent(max(silent_s, _GONE_S)) if silent else silent
        for attempt in tuple(self.attempts):
            if now_s >= attempt.limit_s and not self._is_patient(attempt, now_s):
                attempt.expire("timeout", now_s)
            elif now_s >= attempt.send_limit_s:
                attempt.expire("reader", now_s)
            elif attempt.row.replica in (gone if attempt.is_bound else silent):
                attempt.expire("silent", now_s)

    def _is_patient(self, attempt: Attempt, now_s: float) -> bool:
        return now_s < attempt.patient_until_s and self._silence.in_a_step(attempt.row)
