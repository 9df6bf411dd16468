"""What became of requests: decisions and outcomes to the log, to the closed loop and to the metrics."""

import asyncio

from deployments.dispatch.settlement import Settlement
from deployments.keys.key import Key
from deployments.records.leases import accounts_of
from deployments.records.operation import OPERATIONS
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.steady_clock import wall_s
from policies.outcome import Outcome, Status
from policies.promotion.rollout import Stage
from serve_app.config import IngressSettings
from serve_app.http.errors import ApiError
from serve_app.metrics import IngressMetrics
from serve_app.routes.request_log import RequestLog, finished_line, refused_line
from serve_app.upstream.job import Job, Result
from serve_app.upstream.replicas import PoolView


class Reporter:
    """The records of one ingress replica. Nothing here waits."""

    def __init__(
        self, view: PoolView, settlement: Settlement, metrics: IngressMetrics, log: RequestLog
    ) -> None:
        self._view = view
        self._settlement = settlement
        self._metrics = metrics
        self._log = log
        self._baseline_model: str | None = None  # with whose prices savings are reckoned

    def reconfigure(self, settings: IngressSettings) -> None:
        """Take new settings at once. Raises RuntimeError where there is no place for the log of requests."""
        self._log.switch(settings.request_log)
        self._baseline_model = settings.baseline_model

    def flush(self) -> None:
        """Write the lines of the request log that wait."""
        self._log.flush()

    def close(self) -> None:
        """End the request log."""
        self._log.close()

    def refused(self, path: str, error: ApiError, key: Key | None, requested: str = "") -> None:
        """A request ended before any model was chosen; only those for a model are counted."""
        if path not in OPERATIONS:
            return
        operation, code, name = OPERATIONS[path].name, error.code or "", key.name if key is not None else None
        self._metrics.refused(requested, operation, code, name)
        if self._log.is_on:
            self._log.write(refused_line(wall_s(), operation, requested, name, error.status, code))

    def decided_soon(self, record: DecisionRecord) -> None:
        """Log a choice two turns of the loop from now: in the first the request goes to the engine."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._decided, record)

    @property
    def keeps_shed(self) -> bool:
        """Whether the log keeps requests that were refused for load.

        While a canary runs it does, which counts every request of a slice of time. Nobody else reads them,
        and an overloaded pool would keep more of what it refuses than of what it answers.
        """
        candidate = self._view.snapshot.rollout.candidate
        return candidate is not None and candidate.stage is Stage.CANARY

    def shed(self, record: DecisionRecord, error: ApiError) -> None:
        """A request that was sent to no model, because nothing had room for it in time."""
        if not record.is_dispatched or not self.keeps_shed:
            return
        outcome = Outcome(Status.REJECTED, error_code=error.code, is_shed=True)
        self._view.outbox.record_decision(record)
        self._view.outbox.record_outcome(
            OutcomeRecord(record.decision_id, wall_s(), record.model, "", outcome)
        )

    def finished(self, job: Job) -> OutcomeRecord:
        """Take the outcome of a request to everyone who counts it."""
        result, dispatch = job.result, job.dispatch
        loop_s, now_s = asyncio.get_running_loop().time(), wall_s()
        decided = dispatch.record
        record = OutcomeRecord(
            decision_id=job.decision_id,
            finished_s=now_s,
            model=result.model or dispatch.decision.model,
            replica=result.replica,
            outcome=result.outcome(job.began_s, loop_s, self._cost_usd(result.model, result) or 0.0),
            fallbacks=tuple(result.fallbacks),
            ingress_s=None if result.sent_s is None else result.sent_s - job.began_s - result.waited_s,
            accounts=accounts_of(decided.key_id, decided.team, decided.profile),
            baseline_usd=self._cost_usd(self._baseline_model, result),
        )
        self._view.outbox.record_outcome(record)
        self._settlement.settle(dispatch, record, now_s, is_counted=not result.tokens_estimated)
        operation = OPERATIONS[job.call.path].name
        self._metrics.finished(record, job.call.model, operation)
        self._metrics.charged(job.key.name, record.outcome)
        if job.trace is not None:
            job.trace.finished(result)
        if self._log.is_on:
            self._log.write(finished_line(job, record, operation))
        return record

    def _cost_usd(self, model: str | None, result: Result) -> float | None:
        """What the tokens cost at a model's prices; None where it is not served."""
        row = self._view.snapshot.models.get(model or "")
        return None if row is None else row.card.cost_usd(result.prompt_tokens, result.output_tokens)

    def _decided(self, record: DecisionRecord) -> None:
        self._view.outbox.record_decision(record)
        self._metrics.decided(record)
