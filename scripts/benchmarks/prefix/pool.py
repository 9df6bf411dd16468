"""A pool of replicas behind ingress replicas, in virtual time."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final

import numpy as np

from deployments.records.snapshot import ModelCard, ModelRow, ReplicaRow, ReplicaState, Snapshot
from scripts.benchmarks.prefix.engine import SLOTS, BlockCache, Engine
from scripts.benchmarks.prefix.ways import MODEL, PoolView, Way
from scripts.benchmarks.prefix.workload import BLOCK_TOKENS, Turn, Workload

INGRESSES: Final = 2
_PUSH_S: Final = 0.15  # between two reports of a replica
_CARD: Final = ModelCard(MODEL, "vllm", "", 32_768)


class Pool:
    """Runs one workload under one way. Each turn comes to an ingress at random, as behind a balancer."""

    def __init__(self, replicas: int, kv_tokens: int, seed: int) -> None:
        self.now_s = 0.0
        self.kv_tokens = kv_tokens
        self.engines = [Engine(i, BlockCache(kv_tokens // BLOCK_TOKENS)) for i in range(replicas)]
        self.views = [PoolView(lambda: self.now_s) for _ in range(INGRESSES)]
        self.done: list[Turn] = []
        self._rng = np.random.default_rng(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._stepping = [False] * replicas
        self._rows = [
            ReplicaRow(str(i), MODEL, "", ReplicaState.WARM, slots=SLOTS, kv_tokens=kv_tokens)
            for i in range(replicas)
        ]

    def run(self, workload: Workload, way: Way, request_s: float) -> None:
        """Until the last conversation begins."""
        self._way = way
        for turns, start in zip(workload.conversations, workload.starts, strict=True):
            self._at(start * request_s, partial(self._arrive, turns, 0))
        for engine in self.engines:
            self._push(engine)
        until_s = workload.starts[-1] * request_s
        while self.now_s < until_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()

    def _at(self, time_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), event))

    def _arrive(self, turns: Sequence[Turn], number: int) -> None:
        turn = turns[number]
        ingress = int(self._rng.integers(INGRESSES))
        turn.sent_s = self.now_s
        turn.replica = self._way.choose(turn, ingress)
        own = self.views[ingress].own
        name = str(turn.replica)
        own[name] = own.get(name, 0) + 1
        engine = self.engines[turn.replica]
        engine.waiting.append((turn, lambda: self._ended(turns, number, ingress)))
        if not self._stepping[engine.index]:
            self._step(engine)

    def _ended(self, turns: Sequence[Turn], number: int, ingress: int) -> None:
        turn = turns[number]
        self.views[ingress].own[str(turn.replica)] -= 1
        self.done.append(turn)
        if number + 1 < len(turns):
            self._at(self.now_s + turns[number + 1].think_s, lambda: self._arrive(turns, number + 1))

    def _step(self, engine: Engine) -> None:
        """Begin a step; what ends with it is told at its end."""
        if not engine.there:
            self._stepping[engine.index] = False
            return
        self._stepping[engine.index] = True
        end_s, over = engine.step(self.now_s)

        def end() -> None:
            for ended in over:
                ended()
            self._step(engine)

        self._at(end_s, end)

    def _push(self, engine: Engine) -> None:
        """A replica's report, and the snapshot that every ingress gets with it."""
        row = replace(
            self._rows[engine.index],
            running=len(engine.running),
            waiting=len(engine.waiting),
            pushed_at_s=self.now_s,
        )
        self._rows[engine.index] = row
        models = {MODEL: ModelRow(_CARD, tuple(self._rows))}
        names = {str(i): "" for i in range(INGRESSES)}
        for view in self.views:
            version = view.snapshot.version + 1
            view.snapshot = Snapshot("b", version, self.now_s, models, ingresses=names)
        self._at(self.now_s + _PUSH_S * self._rng.uniform(0.9, 1.1), lambda: self._push(engine))
