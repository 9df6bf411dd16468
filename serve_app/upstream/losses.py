"""Prompts under which replicas were lost: one that ends engines must not go from one to the next."""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from deployments.records.snapshot import ReplicaRow
from serve_app.upstream.job import Job

MOST: Final = 2  # replicas that one prompt may be lost with
KEPT_S: Final = 120.0
_PROMPTS: Final = 1_024
_HEARD_S: Final = 1.0  # after its loss a replica that reports so much later was not lost

Find = Callable[[str], ReplicaRow | None]


class Losses:
    """Remembers, for each prompt of late, the replicas that fell silent or broke off while they had it.

    One that reports again was only busy and does not count; an answer to the prompt forgets it all.
    """

    def __init__(self, find: Find, clock: Callable[[], float] = time.monotonic) -> None:
        """`find` gives the row of a replica as the table has it now, None where it is not there any more."""
        self._find = find
        self._clock = clock
        self._prompts: OrderedDict[bytes, dict[str, tuple[float, float]]] = OrderedDict()

    def add(self, job: Job, row: ReplicaRow, *, is_dead: bool = False) -> None:
        """The replica was lost; `is_dead`: for certain, though it may report until it is replaced."""
        digest, heard_s = _digest(job), math.inf if is_dead else self._pushed_at_s(row.replica)
        self._prompts.setdefault(digest, {})[row.replica] = (self._clock(), heard_s)
        self._prompts.move_to_end(digest)
        if len(self._prompts) > _PROMPTS:
            self._prompts.popitem(last=False)

    def answered(self, job: Job) -> None:
        """The prompt was answered."""
        if self._prompts:
            self._prompts.pop(_digest(job), None)

    def count(self, job: Job) -> int:
        """Replicas that were lost under this prompt and have not come back."""
        if not self._prompts:
            return 0
        since_s = self._clock() - KEPT_S
        lost = self._prompts.get(_digest(job), {})
        return sum(
            at_s > since_s and self._pushed_at_s(replica) <= pushed_at_s + _HEARD_S
            for replica, (at_s, pushed_at_s) in lost.items()
        )

    def _pushed_at_s(self, replica: str) -> float:
        row = self._find(replica)
        return 0.0 if row is None else row.pushed_at_s


def _digest(job: Job) -> bytes:
    """Of the prompt where it is a text, else of the whole body."""
    prompt = job.call.prompt
    text = prompt.text.encode("utf-8", "surrogatepass") + prompt.tools if prompt.text else job.raw
    return hashlib.blake2b(text, digest_size=16).digest()
