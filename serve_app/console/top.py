"""What `fastserve top` shows: the snapshot as it is now, with the requests a second between two of them."""

import time
from collections import deque
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from deployments.records.snapshot import Snapshot
from serve_app.console.rendering import duration, models_table

SPAN_S: Final = 10.0  # of the rate of requests


class Rates:
    """Requests a second of the whole pool over the last `SPAN_S` seconds of snapshots."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()

    def per_s(self, snapshot: Snapshot) -> float:
        """The rate with this snapshot; 0 for the first, and when the table's counts began anew."""
        requests = sum(row.requests for row in snapshot.models.values())
        if self._counts and requests < self._counts[-1][1]:
            self._counts.clear()
        self._counts.append((snapshot.taken_at_s, requests))
        while len(self._counts) > 2 and snapshot.taken_at_s - self._counts[0][0] > SPAN_S:
            self._counts.popleft()
        (first_s, first), (last_s, last) = self._counts[0], self._counts[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


def top_page(snapshot: Snapshot, requests_per_s: float, now_s: float | None = None) -> RenderableType:
    """The page: totals, then a line a model."""
    age_s = max(0.0, (time.time() if now_s is None else now_s) - snapshot.taken_at_s)
    in_flight = sum(row.in_flight for row in snapshot.models.values())
    waiting = sum(replica.waiting for row in snapshot.models.values() for replica in row.replicas)
    head = f"{requests_per_s:.1f} requests/s, {in_flight} in flight, {waiting} waiting; {duration(age_s)} old"
    return Group(Text(head, style="bold"), models_table(snapshot))
