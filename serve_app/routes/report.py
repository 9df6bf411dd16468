"""What became of requests: decisions and outcomes to the log, to the closed loop and to the metrics."""

import asyncio
import time

from deployments.dispatch.settlement import Settlement
from deployments.records.records import DecisionRecord, OutcomeRecord
from serve_app.metrics import IngressMetrics
from serve_app.upstream.job import Job
from serve_app.upstream.replicas import PoolView

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}


class Reporter:
    """The records of one ingress replica. Nothing here waits."""

    def __init__(self, view: PoolView, settlement: Settlement, metrics: IngressMetrics) -> None:
        self._view = view
        self._settlement = settlement
        self._metrics = metrics

    def refused(self, requested: str, path: str, error_code: str | None) -> None:
        """A request ended before any model was chosen."""
        self._metrics.refused(requested, _OPERATIONS[path], error_code or "")

    def decided_soon(self, record: DecisionRecord) -> None:
        """Log a choice two turns of the loop from now: in the first the request goes to the engine."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._decided, record)

    def finished(self, job: Job) -> OutcomeRecord:
        """Take the outcome of a request to everyone who counts it."""
        result, dispatch = job.result, job.dispatch
        loop_s, wall_s = asyncio.get_running_loop().time(), time.time()
        row = self._view.snapshot.models.get(result.model)
        cost_usd = 0.0 if row is None else row.card.cost_usd(result.prompt_tokens, result.output_tokens)
        record = OutcomeRecord(
            decision_id=job.decision_id,
            finished_s=wall_s,
            model=result.model or dispatch.decision.model,
            replica=result.replica,
            outcome=result.outcome(job.began_s, loop_s, cost_usd),
            fallbacks=tuple(result.fallbacks),
            ingress_s=None if result.sent_s is None else result.sent_s - job.began_s,
        )
        self._view.outbox.record_outcome(record)
        self._settlement.settle(dispatch, record, wall_s, is_counted=not result.tokens_estimated)
        self._metrics.finished(record, job.call.model, _OPERATIONS[job.call.path])
        return record

    def _decided(self, record: DecisionRecord) -> None:
        self._view.outbox.record_decision(record)
        self._metrics.decided(record)
