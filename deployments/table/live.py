"""The live half of the table: cards, replica rows and in-flight counts, each until it falls silent."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from deployments.records.snapshot import ModelCard, ModelRow, ReplicaRow
from deployments.table.statistics import Statistics

REPLICA_SILENT_S: Final = 15.0
INGRESS_SILENT_S: Final = 5.0
CARD_KEPT_S: Final = 86_400.0
GRACE_S: Final = 5.0
RESTORED_S: Final = 120.0  # age of a dump; a table that dies again and again makes no newer one


@dataclass(slots=True)
class _Ingress:
    heard_s: float
    in_flight: Mapping[str, int]
    url: str


class _Dump(msgspec.Struct):
    saved_s: float
    cards: list[ModelCard]
    replicas: list[ReplicaRow]
    created_s: dict[str, float] = {}


class LiveRows:
    """Who is there now. Rows heal by themselves from pushes; silence removes them."""

    def __init__(self) -> None:
        self.cards: dict[str, ModelCard] = {}
        self._created_s: dict[str, float] = {}  # when each model first registered
        self._replicas: dict[str, ReplicaRow] = {}
        self._ingresses: dict[str, _Ingress] = {}

    def register(self, card: ModelCard, now_s: float) -> bool:
        """Takes over a model's card; tells whether it is new or changed."""
        changed = self.cards.get(card.model) != card
        self.cards[card.model] = card
        self._created_s.setdefault(card.model, now_s)
        return changed

    def retire(self, model: str) -> bool:
        """Forgets a model that was taken out of the pool; tells whether it was there.

        Not while a replica of it is heard of: another app serves it, and the farewell is of the one before.
        """
        if any(row.model == model for row in self._replicas.values()):
            return False
        self._created_s.pop(model, None)
        return self.cards.pop(model, None) is not None

    def push(self, row: ReplicaRow, now_s: float) -> tuple[bool, bool]:
        """Takes over a replica's row; returns (is it new or its state, did more than the time change)."""
        before = self._replicas.get(row.replica)
        self._replicas[row.replica] = after = replace(row, pushed_at_s=now_s)
        if before is None:
            return True, True
        return before.state != after.state, replace(before, pushed_at_s=now_s) != after

    def drop(self, replica: str) -> bool:
        """Removes a replica; tells whether it was there."""
        return self._replicas.pop(replica, None) is not None

    def report(self, ingress: str, in_flight: Mapping[str, int], now_s: float, url: str = "") -> bool:
        """Takes over an ingress replica's counts and address; tells whether they changed."""
        before = self._ingresses.get(ingress)
        counts = {model: count for model, count in in_flight.items() if count}
        self._ingresses[ingress] = _Ingress(now_s, counts, url)
        return before is None or (before.in_flight, before.url) != (counts, url)

    def expire(self, now_s: float) -> bool:
        """Removes who has been silent too long; tells whether anything was removed."""
        replicas = [r.replica for r in self._replicas.values() if now_s - r.pushed_at_s > REPLICA_SILENT_S]
        ingresses = [n for n, i in self._ingresses.items() if now_s - i.heard_s > INGRESS_SILENT_S]
        for name in replicas:
            del self._replicas[name]
        for name in ingresses:
            del self._ingresses[name]
        return bool(replicas or ingresses)

    def models(self, statistics: Mapping[str, Statistics]) -> dict[str, ModelRow]:
        """One row a registered model, its replicas in the order of their names."""
        replicas: dict[str, list[ReplicaRow]] = {}
        for name in sorted(self._replicas):
            row = self._replicas[name]
            replicas.setdefault(row.model, []).append(row)
        return {
            model: self._row(card, tuple(replicas.get(model, ())), statistics.get(model, Statistics()))
            for model, card in self.cards.items()
        }

    def _row(self, card: ModelCard, replicas: tuple[ReplicaRow, ...], statistics: Statistics) -> ModelRow:
        shares = {
            name: ingress.in_flight[card.model]
            for name, ingress in self._ingresses.items()
            if card.model in ingress.in_flight
        }
        return ModelRow(
            card=card,
            created_s=self._created_s.get(card.model, 0.0),
            replicas=replicas,
            in_flight=sum(shares.values()),
            in_flight_by_ingress=shares,
            ttft_s=statistics.ttft_s,
            tpot_s=statistics.tpot_s,
            e2e_s=statistics.e2e_s,
            queue_s=statistics.queue_s,
            output_tokens=statistics.output_tokens,
            tokens_per_s=sum(row.tokens_per_s for row in replicas),
            error_rate=statistics.error_rate,
            cost_usd=statistics.cost_usd,
            requests=statistics.requests,
            accuracy=statistics.accuracy,
        )

    def ingresses(self, now_s: float) -> dict[str, float]:
        """Seconds since each ingress replica reported."""
        return {name: now_s - ingress.heard_s for name, ingress in self._ingresses.items()}

    def urls(self) -> dict[str, str]:
        """Base URL of each ingress replica that has one."""
        return {name: ingress.url for name, ingress in self._ingresses.items() if ingress.url}

    def dump(self, now_s: float) -> bytes:
        """Cards and replicas, to be read by `load`."""
        return msgspec.msgpack.encode(
            _Dump(now_s, list(self.cards.values()), list(self._replicas.values()), self._created_s)
        )

    def load(self, data: bytes, now_s: float) -> None:
        """Takes over a dump unless it is too old to say who is there.

        Replicas count as heard of until GRACE_S from now, so that a restart of the table takes nobody out,
        however long they need to find it again; those that are gone fall silent then. What was heard in this
        life wins.
        """
        dump = msgspec.msgpack.decode(data, type=_Dump)
        if now_s - dump.saved_s < CARD_KEPT_S:
            self.cards.update({card.model: card for card in dump.cards if card.model not in self.cards})
            self._created_s |= dump.created_s
        if now_s - dump.saved_s < RESTORED_S:
            for row in dump.replicas:
                self._replicas.setdefault(row.replica, replace(row, pushed_at_s=now_s + GRACE_S))
