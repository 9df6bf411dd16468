"""What the outcome log says was used and spent, summed exactly: by day, key, model and profile."""

import math
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from deployments.records.leases import NANO
from deployments.records.records import OutcomeRecord
from deployments.table.api import TableApi, Transition

_PAGE: Final = 5_000


@dataclass(slots=True)
class Spending:
    """Requests that ended, their tokens and their cost."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    saved_nano_usd: int = 0  # against the baseline model, of the requests that had one

    def add(self, record: OutcomeRecord) -> None:
        """One more outcome."""
        outcome = record.outcome
        self.requests += 1
        self.prompt_tokens += outcome.prompt_tokens
        self.output_tokens += outcome.output_tokens
        nano_usd = round(outcome.cost_usd * NANO)
        self.nano_usd += nano_usd
        if record.baseline_usd is not None:
            self.saved_nano_usd += round(record.baseline_usd * NANO) - nano_usd


async def read(table: TableApi, after_s: float) -> AsyncIterator[Transition]:
    """All decisions after `after_s`, each once, also where many were made in the same instant."""
    seen: set[str] = set()
    while True:
        page = await table.transitions(after_s, _PAGE)
        new = [pair for pair in page if pair[0].decision_id not in seen]
        for pair in new:
            yield pair
        if len(page) < _PAGE:
            return
        last_s = page[-1][0].created_s
        seen = {record.decision_id for record, _ in page if record.created_s == last_s}
        after_s = math.nextafter(last_s, -math.inf) if new else last_s


def summed(log: Iterable[Transition]) -> list[dict[str, object]]:
    """One row for each day (UTC, of the end), key, model that answered and profile."""
    sums: dict[tuple[str, str, str, str], Spending] = {}
    for decision, record in log:
        if record is not None:
            day = datetime.fromtimestamp(record.finished_s, UTC).date().isoformat()
            name = (day, decision.key_id, record.model, decision.profile)
            sums.setdefault(name, Spending()).add(record)
    return [
        {
            **dict(zip(("day", "key_id", "model", "profile"), name, strict=True)),
            "requests": spending.requests,
            "prompt_tokens": spending.prompt_tokens,
            "output_tokens": spending.output_tokens,
            "cost_usd": spending.nano_usd / NANO,
            "saved_usd": spending.saved_nano_usd / NANO,
        }
        for name, spending in sorted(sums.items())
    ]
