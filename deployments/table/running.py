"""What running replicas cost by the hour, working or waiting: the bill that prices by token must meet."""

from collections.abc import Iterable
from typing import Final

from deployments.records.leases import NANO, Spent
from deployments.records.snapshot import ModelRow
from deployments.table.store.money import Charge

_LONGEST_S: Final = 60.0  # between two looks; what a table that was away has not seen is not billed
_HOUR_S: Final = 3_600.0


def running_account(model: str) -> str:
    """The account of a model's replicas."""
    return f"running:{model}"


class Running:
    """Bills replicas from look to look."""

    def __init__(self, now_s: float) -> None:
        self._looked_s = now_s

    def charges(self, rows: Iterable[ModelRow], now_s: float) -> list[Charge]:
        """The cost of the replicas there are, since the last look."""
        hours = max(0.0, min(now_s - self._looked_s, _LONGEST_S)) / _HOUR_S
        self._looked_s = now_s
        costs = {row.card.model: len(row.replicas) * row.card.usd_per_hour * hours for row in rows}
        return [
            Charge((running_account(model),), now_s, Spent(nano_usd=round(usd * NANO)))
            for model, usd in costs.items()
            if usd > 0.0
        ]
