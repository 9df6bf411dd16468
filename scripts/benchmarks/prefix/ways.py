"""Ways to choose a replica: the product's own classes, and what others do."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import PrefixTree

from deployments.dispatch.columns import Observer
from deployments.dispatch.request import Prompt
from deployments.records.snapshot import Snapshot
from policies.decision import hash64
from policies.latency.model import LatencyModel
from scripts.benchmarks.prefix.engine import Engine
from scripts.benchmarks.prefix.workload import Turn
from serve_app.upstream.choice import Ask
from serve_app.upstream.ejection import Ejections
from serve_app.upstream.replicas import Upstreams

MODEL: Final = "m"
_BOUND: Final = 1.25  # of consistent hashing with bounded loads, as KubeAI sets it
_MATCH_RATE: Final = 0.1  # PrefixCacheAffinityRouter's own


class PoolView:
    """One ingress's copy of the table, and its own requests."""

    secret = ""
    lagging = False

    def __init__(self, clock: Callable[[], float]) -> None:
        self.snapshot = Snapshot("b", 0, 0.0)
        self.own: dict[str, int] = {}
        self._clock = clock

    def age_s(self) -> float:
        """Since the snapshot."""
        return self._clock() - self.snapshot.taken_at_s

    def in_flight(self, model: str) -> int:
        """Of this ingress."""
        return sum(self.own.values())

    def replica_in_flight(self, replica: str) -> int:
        """Of this ingress."""
        return self.own.get(replica, 0)


class Way(Protocol):
    """Chooses a replica's index for a turn that comes to an ingress."""

    def choose(self, turn: Turn, ingress: int) -> int:
        """The index."""


class FirstTokenWay:
    """The product's choice, one in each ingress."""

    def __init__(self, views: Sequence[PoolView], clock: Callable[[], float], latency: LatencyModel) -> None:
        self._views = views
        self._upstreams = [Upstreams(view, Ejections(clock), clock) for view in views]
        self._observers = [Observer() for _ in views]
        self._latency = latency

    def choose(self, turn: Turn, ingress: int) -> int:
        """As the forwarder does."""
        view = self._views[ingress]
        columns = self._observers[ingress].columns(view.snapshot, view.age_s(), self._latency)
        prompt = Prompt(
            turn.text, turn.turns, conversation=f"{turn.conversation:x}", continues=turn.number > 0
        )
        choice = self._upstreams[ingress].pick_for(Ask(prompt, "salt", columns), MODEL)
        assert choice is not None, "every replica is healthy"
        return int(choice.row.replica)


class LeastBusyWay:
    """The product's choice where there is no prompt, and for all until now."""

    def __init__(self, views: Sequence[PoolView], clock: Callable[[], float]) -> None:
        self._upstreams = [Upstreams(view, Ejections(clock), clock) for view in views]

    def choose(self, turn: Turn, ingress: int) -> int:
        """The least busy."""
        row = self._upstreams[ingress].pick(MODEL)
        assert row is not None, "every replica is healthy"
        return int(row.replica)


class RoundRobinWay:
    """In turn, in each ingress."""

    def __init__(self, ingresses: int, replicas: int) -> None:
        self._turns, self._replicas = list(range(ingresses)), replicas

    def choose(self, turn: Turn, ingress: int) -> int:
        """The next."""
        self._turns[ingress] += 1
        return self._turns[ingress] % self._replicas


class BoundedHashWay:
    """Consistent hashing with bounded loads (Mirrokni et al. 2018) by system prompt, which did better
    here than by conversation; it knows every replica's load at once, as one proxy would."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines

    def choose(self, turn: Turn, ingress: int) -> int:
        """The first on the ring that has room."""
        ring = sorted(range(len(self._engines)), key=lambda i: hash64(f"{turn.system}:{i}"))
        loads = [engine.there for engine in self._engines]
        limit = math.ceil(_BOUND * (sum(loads) + 1) / len(loads))
        return next(i for i in ring if loads[i] < limit)


class RayPrefixWay:
    """PrefixCacheAffinityRouter's rule over its own tree, which all routers share as an actor; queues are
    known at once. Its threshold of imbalance is infinite by default: no queue is too long for a match."""

    def __init__(self, engines: Sequence[Engine], clock: Callable[[], float], seed: int) -> None:
        self._engines, self._clock = engines, clock
        self._rng = np.random.default_rng(seed)
        self._tree = PrefixTree()
        self._names = [str(engine.index) for engine in engines]
        self._tree.add_tenants(self._names, 0.0)

    def choose(self, turn: Turn, ingress: int) -> int:
        """Of the replicas that match, or else of the smallest of the tree, the shortest queue."""
        matched, tenants = self._tree.prefix_match(turn.text, self._names)
        if len(matched) / len(turn.text) < _MATCH_RATE:
            tenants = self._tree.get_smallest_tenants()
        candidates = [int(name) for name in tenants or self._names]
        queues = [engine.there for engine in self._engines]
        shortest = [i for i in candidates if queues[i] == min(queues[j] for j in candidates)]
        chosen = int(self._rng.choice(shortest))
        self._tree.insert(turn.text, str(chosen), self._clock())
        return chosen
