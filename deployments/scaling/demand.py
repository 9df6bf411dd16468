"""What all ingress replicas planned for each model, and the replicas that it needs for that."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from deployments.records.snapshot import ModelRow, ReplicaState, app_name
from deployments.scaling.settings import PlanSettings
from policies.scaling import Now, Planned, ReplicaPlan

ASKED_S: Final = 10.0  # a model whose plan Serve has not asked for since is not scaled by it
_GONE_S: Final = 60.0  # an ingress replica that is not heard of for so long does not come back


@dataclass(slots=True)
class _Model:
    plan: ReplicaPlan
    settings: PlanSettings
    asked_s: float = float("-inf")
    may_sleep: bool = False
    slots: float = 1.0  # of one replica, kept while none runs


class Demand:
    """The plans of the models whose apps Serve asks for. `now_s` is the table's clock."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._reported: dict[str, tuple[float, Mapping[str, Planned]]] = {}  # by ingress replica

    def report(self, ingress: str, planned: Mapping[str, Planned], now_s: float) -> None:
        """Take over an ingress replica's sums; what it planned before its first report here is not news."""
        before = self._reported.get(ingress)
        self._reported[ingress] = (now_s, planned)
        for name in [name for name, (heard_s, _) in self._reported.items() if now_s - heard_s > _GONE_S]:
            del self._reported[name]
        if before is None:
            return
        for model, total in planned.items():
            news, entry = total - before[1].get(model, Planned()), self._models.get(app_name(model))
            if entry is not None and (news.requests > 0.0 or news.named > 0.0):
                entry.plan.arrived(news, entry.settings.idle_s, now_s)

    def wanted(self, app: str, settings: PlanSettings, now: Now, row: ModelRow | None, now_s: float) -> int:
        """Replicas that a model should have; `row` None: the table does not know it, so it is loaded once."""
        entry = self._models.setdefault(app, _Model(ReplicaPlan(now_s), settings))
        entry.settings, entry.asked_s, entry.may_sleep = settings, now_s, now.least == 0
        if row is None:
            return entry.plan.wanted(settings.goal(), replace(now, least=max(now.least, 1)), now_s)
        warm = [one.slots for one in row.replicas if one.state is ReplicaState.WARM]
        if warm:
            entry.slots = sum(warm) / len(warm)
        starts = any(one.state is ReplicaState.COLD for one in row.replicas)  # which is not called off
        least = max(now.least, int(starts))
        seen = replace(now, least=least, slots=entry.slots, in_flight=row.in_flight)
        return entry.plan.wanted(settings.goal(), seen, now_s)

    def told(self, row: ModelRow, now_s: float) -> ModelRow:
        """The row, with when the model would serve if it sleeps."""
        entry = self._models.get(app_name(row.card.model))
        if entry is None or not entry.may_sleep or now_s - entry.asked_s > ASKED_S:
            return row
        if any(one.state is ReplicaState.WARM for one in row.replicas):
            return row
        return replace(row, ready_in_s=entry.plan.ready_in_s(now_s))

    def forget(self, model: str) -> None:
        """The model was taken out of the pool."""
        self._models.pop(app_name(model), None)
