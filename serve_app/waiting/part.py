"""Which part of a model's slots one ingress replica may use, without asking the others."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from deployments.records.snapshot import Snapshot


class DemandView(Protocol):
    """What the table has told: live ingress replicas, and what each has in flight at every model."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest."""

    @property
    def ingress(self) -> str:
        """This replica's own name in it."""


def fair_part(slots: int, others: Collection[int]) -> int:
    """What one of several may use of `slots` where the `others` have so many requests each, waiting ones too.

    Max-min fairness: who wants less than an equal part gets what it wants, the rest is shared equally. This
    one's own demand is taken as endless, so that it need not be known to it whether it has any.
    """
    left, parts = slots, len(others) + 1
    for demand in sorted(others):
        if demand * parts >= left:
            break
        left -= demand
        parts -= 1
    return math.ceil(left / parts)


class Parts:
    """This ingress's part of every model's slots, worked out once a snapshot."""

    def __init__(
        self, view: DemandView, slots: Callable[[str], int], ejected: Callable[[], frozenset[str]]
    ) -> None:
        """`slots` sums those of a model's replicas that can be asked; `ejected` are replicas to avoid."""
        self._view, self._slots, self._ejected = view, slots, ejected
        self._key: tuple[object, ...] = ()
        self._known: dict[str, int] = {}

    def of(self, model: str) -> int:
        """Requests of this ingress that the model may work on at once; 0 where no replica can be asked."""
        snapshot = self._view.snapshot
        key = (snapshot.boot_id, snapshot.version, self._ejected())
        if key != self._key:
            self._key, self._known = key, {}
        part = self._known.get(model)
        if part is None:
            part = self._known[model] = self._part(snapshot, model)
        return part

    def _part(self, snapshot: Snapshot, model: str) -> int:
        row, slots = snapshot.models.get(model), self._slots(model)
        if row is None or not slots:
            return 0
        demands: Mapping[str, int] = row.in_flight_by_ingress
        return fair_part(slots, [n for name, n in demands.items() if name != self._view.ingress])
