"""What each view asks for: from the feed, from the table, or worked out once for all who ask."""

import asyncio
from typing import Any, Final

from deployments.evaluation.client import TransientError
from deployments.evaluation.endpoint import live_endpoint
from deployments.learning.rollout import Rollout
from deployments.table.api import TableApi
from policies.decider import version_name
from policies.policy import Policy
from policies.utility import Weights
from serve_app.access.keys import KeyRing
from serve_app.config import DashboardConfig
from serve_app.dashboard import decisions, trade_off
from serve_app.dashboard.feed import Feed
from serve_app.dashboard.learning import learning
from serve_app.dashboard.operate import Operate
from serve_app.dashboard.playground import Playground
from serve_app.dashboard.serve_pool import Config, Pool, dispatch_of, learner_of
from serve_app.dashboard.sessions import Sessions
from serve_app.dashboard.shared import Shared
from serve_app.dashboard.streams import Hub
from serve_app.dashboard.visit import Visit, Visitor, require_admin
from serve_app.http.errors import not_found, unavailable
from serve_app.http.request import Send, send_json

_CONFIG_S: Final = 5.0  # how old the running config may be
_VIEW_S: Final = 2.0  # how old a view may be that is worked out for all
_MOST_WEIGHT: Final = 100.0


class Desk:
    """The handlers of the views; each takes a visit by somebody who is signed in."""

    def __init__(
        self, table: TableApi, pool: Pool, keys: KeyRing, config: DashboardConfig, hub: Hub, feed: Feed
    ) -> None:
        self.hub, self.feed, self.keys = hub, feed, keys
        self.playground = Playground()
        self._table, self._pool, self._config = table, pool, config
        self._operate = Operate(table, pool)
        self._rollout = Rollout(table, feed.wall)
        self._shared = Shared()
        self._sessions: tuple[str, Sessions] | None = None

    @property
    def sessions(self) -> Sessions:
        """The sign-ins, sealed with the pool's secret. Raises ApiError (503) before the table gave it."""
        secret = self.feed.secret
        if not secret:
            raise unavailable("The performance table has not been heard yet.", "table_silent")
        if self._sessions is None or self._sessions[0] != secret:
            self._sessions = secret, Sessions(self.keys.find, secret, self._config.session_s)
        return self._sessions[1]

    async def now(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """The view Now, once; the stream's topic `now` is the same."""
        await send_json(send, self.feed.now())

    async def decisions(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """A page of the list, filtered by the query."""
        found = decisions.rows(self.feed.tail.newest(), self._key_name)
        await send_json(send, decisions.page(found, visit.query))

    async def decision(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """One decision by its id. Raises ApiError (404)."""
        decision_id = visit.path.rpartition("/")[2]
        found = await self._table.transitions_of([decision_id[:128]])
        if not found:
            raise not_found(visit.path)
        decision, outcome = found[0]
        votes = await self._table.feedback_records(decision.created_s - 1.0)
        policy = await self._rollout.policy(decision.decider.version)
        await send_json(send, decisions.detail(decision, outcome, votes, policy, self._key_name))

    async def trade_off(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """The view Trade-off."""
        await send_json(send, await self._shared.get("trade-off", self._make_trade_off, _VIEW_S))

    async def _make_trade_off(self) -> dict[str, Any]:
        settings = dispatch_of(await self._running())
        weights = {
            "": settings.weights,
            **{n: p.weights or settings.weights for n, p in settings.profiles.items()},
        }
        told = {name: one.model_dump() for name, one in weights.items()}
        active = version_name(self.feed.snapshot.rollout.active)
        return await asyncio.to_thread(trade_off.trade_off, self.feed.tail.newest(), told, active)

    async def counterfactual(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """Which model other weights would have chosen, by the active policy. Raises ApiError (400)."""
        weights = Weights(
            *(visit.number(name, 1.0, 0.0, _MOST_WEIGHT) for name in ("accuracy", "latency", "cost"))
        )
        policy, log = await self._active(), self.feed.tail.newest()
        profile = visit.query.get("profile")
        await send_json(
            send, await asyncio.to_thread(trade_off.counterfactual, log, profile, weights, policy)
        )

    async def learning(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """The view Learning."""
        await send_json(send, await self._shared.get("learning", self._make_learning, _VIEW_S))

    async def _make_learning(self) -> dict[str, Any]:
        log = self.feed.tail.newest()
        oldest_s = log[-1][0].created_s if log else self.feed.wall()
        feedback = await self._table.feedback_records(oldest_s)
        events, state = await self._table.policy_events(), await self._table.rollout()
        settings = learner_of(await self._running())
        return await asyncio.to_thread(learning, self.feed.snapshot, state, log, feedback, events, settings)

    async def operate_state(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """The view Operate. Raises ApiError (403)."""
        require_admin(visitor)
        await send_json(send, await self._operate.state(self.feed.snapshot))

    async def operate(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """Show or make one change. Raises ApiError (400, 403, 404, 409)."""
        require_admin(visitor)
        result = await self._operate.act(visit.path.rpartition("/")[2], visit.json(), visitor)
        if result["done"]:
            self._shared.forget()
        await send_json(send, result)

    async def chat(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """Stream one answer of the endpoint."""
        await self.playground.chat(visit, visitor, self._url(), send)

    async def vote(self, visit: Visit, visitor: Visitor, send: Send) -> None:
        """Hand a vote to the endpoint."""
        await send_json(send, await self.playground.vote(visit, visitor, self._url()))
        self._shared.forget()

    def _url(self) -> str:
        try:
            return live_endpoint(self._config.endpoint_url, self.feed.snapshot)
        except TransientError as error:
            raise unavailable(str(error), "endpoint_away") from None

    async def _running(self) -> Config:
        found: Config = await self._shared.get("config", self._pool.config, _CONFIG_S)
        return found

    async def _active(self) -> Policy:
        return await self._rollout.policy(self.feed.snapshot.rollout.active)

    def _key_name(self, key_id: str) -> str:
        """A key's name, or the short hash of one that is gone."""
        return next((key.name for key in self.keys.keys if key.key_id == key_id), key_id)
