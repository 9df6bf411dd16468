"""The view Now: the pool as it is this second."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from deployments.records.snapshot import ModelRow, ReplicaRow, Snapshot
from deployments.table.api import Transition
from policies.outcome import Status
from serve_app.dashboard.log_tail import LogTail

WINDOW_S: Final = 60.0  # of rates and shares
STEP_S: Final = 2.0  # between two points of the chart
POINTS: Final = 300


class Rates:
    """Points of the chart: requests that ended, failed and were rescued by another model, a second."""

    def __init__(self) -> None:
        self.points: deque[dict[str, float]] = deque(maxlen=POINTS)

    def add(self, at_s: float, finished: Iterable[Transition]) -> None:
        """The point of the last STEP_S."""
        ended = [outcome for _, outcome in finished if outcome is not None]
        failed = sum(one.outcome.status is Status.FAILED for one in ended)
        rescued = sum(bool(one.fallbacks) for one in ended)
        self.points.append(
            {
                "at_s": at_s,
                "requests": len(ended) / STEP_S,
                "errors": failed / STEP_S,
                "fallbacks": rescued / STEP_S,
            }
        )


def now(snapshot: Snapshot, tail: LogTail, rates: Rates, now_s: float) -> dict[str, Any]:
    """All that the view shows; times are wall clock in seconds."""
    recent = list(tail.since(now_s - WINDOW_S))
    answered = Counter(outcome.model for _, outcome in recent if outcome is not None)
    statuses = Counter(outcome.outcome.status for _, outcome in recent if outcome is not None)
    return {
        "at_s": now_s,
        "snapshot_at_s": snapshot.taken_at_s,
        "models": [_model(row, answered, now_s) for _, row in sorted(snapshot.models.items())],
        "window_s": WINDOW_S,
        "requests_per_s": len(recent) / WINDOW_S,
        "errors": statuses[Status.FAILED],
        "rejected": statuses[Status.REJECTED],
        "cancelled": statuses[Status.CANCELLED],
        "fallbacks": sum(bool(outcome.fallbacks) for _, outcome in recent if outcome is not None),
        "requests": len(recent),
        "today": asdict(tail.today),
        "points": list(rates.points),
    }


def _model(row: ModelRow, answered: Counter[str], now_s: float) -> dict[str, Any]:
    card, total = row.card, sum(answered.values())
    return {
        "model": card.model,
        "engine": card.engine,
        "weight": card.weight,
        "context_tokens": card.context_tokens,
        "capabilities": sorted(card.capabilities),
        "prompt_usd_per_mtok": card.prompt_usd_per_mtok,
        "completion_usd_per_mtok": card.completion_usd_per_mtok,
        "replicas": [_replica(one, now_s) for one in row.replicas],
        "in_flight": row.in_flight,
        "waiting": sum(one.waiting for one in row.replicas),
        "ttft_s": asdict(row.ttft_s),
        "tpot_s": asdict(row.tpot_s),
        "e2e_s": asdict(row.e2e_s),
        "tokens_per_s": row.tokens_per_s,
        "error_rate": row.error_rate,
        "requests": row.requests,
        "cost_usd": row.cost_usd,
        "accuracy": {task: asdict(one) for task, one in sorted(row.accuracy.items())},
        "share": answered[card.model] / total if total else None,
    }


def _replica(one: ReplicaRow, now_s: float) -> dict[str, Any]:
    return {
        "replica": one.replica,
        "state": one.state.value,
        "running": one.running,
        "waiting": one.waiting,
        "slots": one.slots,
        "kv_use": one.kv_use,
        "cpu_share": one.cpu_share,
        "gpu_share": one.gpu_share,
        "memory_bytes": one.memory_bytes,
        "age_s": max(0.0, now_s - one.pushed_at_s),
    }
