"""The replicas as the ingress reaches them: which one takes a request, and the HTTP client to it."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import aiohttp

from deployments.dispatch.columns import STALE_S, is_usable
from deployments.dispatch.dispatcher import View
from deployments.records.snapshot import ReplicaRow, ReplicaState
from deployments.table.outbox import Outbox
from serve_app.config import Deadlines
from serve_app.upstream.choice import Ask, Choice, FirstTokenChoice
from serve_app.upstream.ejection import Ejections

_KEEPALIVE_S = 60.0  # below the 75 s of a replica's server, so that it is never the replica who closes first
_READ_BYTES = 65_536
_LONG_STEP_S = 2.0


class ReplicaView(View, Protocol):
    """The table view, with this ingress's own counts by replica and the replicas' bearer token."""

    secret: str

    @property
    def lagging(self) -> bool:
        """Whether the table has been silent for too long."""

    def replica_in_flight(self, replica: str) -> int:
        """Requests that this ingress has sent there and that are not finished."""


class Upstreams:
    """Chooses replicas and holds the connections to them."""

    def __init__(
        self, view: ReplicaView, ejections: Ejections, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ejections = ejections
        self._view = view
        self._choice = FirstTokenChoice(view.replica_in_flight, clock)
        self._session: aiohttp.ClientSession | None = None
        self._turn = 0

    def open(self, deadlines: Deadlines) -> None:
        """Make the client; needs a running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, use_dns_cache=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=deadlines.connect_s),
            headers={"content-type": "application/json", "accept-encoding": "identity"},
            skip_auto_headers=("User-Agent", "Accept"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def post(
        self,
        row: ReplicaRow,
        path: str,
        body: bytes,
        decision_id: str,
        more: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request, with `more` headers; returns at its response's head.

        Raises aiohttp.ClientError or OSError.
        """
        assert self._session is not None, "open() comes first"
        headers = {"x-request-id": decision_id, "authorization": f"Bearer {self._view.secret}"}
        if more is not None:
            headers.update(more)
        return await self._session.post(row.url + path, data=body, headers=headers, allow_redirects=False)

    def pick(self, model: str, tried: Collection[str] = ()) -> ReplicaRow | None:
        """The usable replica of `model` with the least load per slot; equals take turns."""
        rows = self._healthy(self.usable(model), tried)
        if len(rows) < 2:
            return rows[0] if rows else None
        self._turn += 1
        start = self._turn % len(rows)
        return min(rows[start:] + rows[:start], key=self._load)

    def pick_for(self, ask: Ask, model: str, tried: Collection[str] = ()) -> Choice | None:
        """The usable replica of `model` that is predicted to give the first token first.

        A model with one replica costs no more than to see that.
        """
        usable = self.usable(model)
        rows = self._healthy(usable, tried)
        if not rows:
            return None
        if len(usable) == 1:
            return Choice(rows[0], None)
        return self._choice.choose(rows, ask, max(len(self._view.snapshot.ingresses), 1))

    def pick_free(self, ask: Ask, model: str, tried: Collection[str]) -> ReplicaRow | None:
        """The same among those that are not ejected and have a slot free; None where there is none."""
        avoided = self.ejections.current() | frozenset(tried)
        rows = [row for row in self.usable(model) if row.replica not in avoided and self._load(row) < 1.0]
        if not rows:
            return None
        return self._choice.choose(rows, ask, max(len(self._view.snapshot.ingresses), 1)).row

    def is_writing(self, row: ReplicaRow) -> bool:
        """Whether tokens come out of a replica, by its own account: one that is slow is not broken."""
        rows = self.usable(row.model)
        return any(one.replica == row.replica and one.tokens_per_s > 0 for one in rows)

    def slots(self, model: str) -> int:
        """Requests that the replicas of `model` can work on at once."""
        return sum(max(row.slots, 1) for row in self._healthy(self.usable(model), ()))

    def forget(self, known: frozenset[str]) -> None:
        """Drop what is remembered of replicas that the table does not know any more."""
        self.ejections.forget(known)
        self._choice.forget(known)

    def _healthy(self, usable: list[ReplicaRow], tried: Collection[str]) -> list[ReplicaRow]:
        """Those not tried. Ejected replicas come in only where no other is left: the last healthy one is
        never left out."""
        rows = [row for row in usable if row.replica not in tried]
        ejected = self.ejections.current()
        if ejected:
            rows = [row for row in rows if row.replica not in ejected] or rows
        return rows

    def usable(self, model: str) -> list[ReplicaRow]:
        """Replicas that are warm and not silent, ejected ones included."""
        snapshot = self._view.snapshot
        row = snapshot.models.get(model)
        if row is None:
            return []
        age_s = self._view.age_s()
        silence_s = age_s if age_s <= STALE_S else 0.0
        return [r for r in row.replicas if is_usable(r, snapshot.taken_at_s, silence_s)]

    def avoided(self) -> frozenset[str]:
        """Ejected replicas; none where nothing would be left: a pool that fails is asked, not given up."""
        ejected = self.ejections.current()
        if not ejected:
            return ejected
        models = self._view.snapshot.models
        if any(row.replica not in ejected for model in models for row in self.usable(model)):
            return ejected
        return frozenset()

    def silent(self, limit_s: float) -> frozenset[str]:
        """Replicas not heard of for `limit_s`; none while it is the table that is silent."""
        age_s = self._view.age_s()
        if age_s > STALE_S:
            return frozenset()
        snapshot = self._view.snapshot
        return frozenset(
            row.replica
            for model in snapshot.models.values()
            for row in model.replicas
            if row.state is not ReplicaState.COLD and snapshot.taken_at_s - row.pushed_at_s + age_s > limit_s
        )

    def in_a_step(self, row: ReplicaRow) -> bool:
        """Whether the replica's engine is in the middle of a step that takes long, by its own account."""
        now = self.row(row.replica)
        return now is not None and now.state is ReplicaState.WARM and now.step_s >= _LONG_STEP_S

    def row(self, replica: str) -> ReplicaRow | None:
        """A replica as the table has it now."""
        models = self._view.snapshot.models.values()
        return next((one for model in models for one in model.replicas if one.replica == replica), None)

    def known(self) -> frozenset[str]:
        """Every replica in the snapshot."""
        return frozenset(r.replica for model in self._view.snapshot.models.values() for r in model.replicas)

    def _load(self, row: ReplicaRow) -> float:
        """Requests per slot: what it reported, or what this ingress has on its way there if that is more."""
        return max(row.running + row.waiting, self._view.replica_in_flight(row.replica)) / max(row.slots, 1)


class PoolView(ReplicaView, Protocol):
    """deployments.table.view.TableView, as the endpoint sees it. Nothing here waits."""

    @property
    def ingress(self) -> str:
        """The name under which the table knows this replica."""

    def begin(self, model: str, replica: str) -> None:
        """A request was sent there."""

    def end(self, model: str, replica: str) -> None:
        """It is finished."""

    def count_waiting(self, model: str, change: int) -> None:
        """So many more wait for the model."""

    @property
    def outbox(self) -> Outbox:
        """Takes decisions and outcomes to the log."""
