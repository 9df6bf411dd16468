"""What is measured of requests, decisions, engines and the table, in the words of `METRICS`."""

from collections import Counter
from collections.abc import Iterable

from deployments.metrics.meter import Meter
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.table.view import TableView
from policies.outcome import Outcome, Status
from policies.profile import AUTO, is_auto


def requested_label(requested: str, model: str) -> str:
    """What was asked for: `auto`, `auto:<profile>`, or the model's own name; names of callers stay out."""
    return requested if is_auto(requested) or requested == model else "other"


def refused_label(requested: str) -> str:
    """The same where no model was chosen: what was asked for may be anything."""
    return AUTO if is_auto(requested) else "other"


class IngressMetrics:
    """Measures of one ingress replica."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._dropped: Counter[str] = Counter()
        self._in_flight: set[str] = set()

    def decided(self, record: DecisionRecord) -> None:
        """A decision was made."""
        decider = record.decider
        requested = requested_label(record.requested, record.model)
        self.meter.count("fastserve_dispatches", (requested, record.model, decider.label))
        self.meter.observe("fastserve_decision_time", (decider.label,), record.decide_s)
        if record.probabilities and record.propensity < max(record.probabilities):
            self.meter.count("fastserve_explorations", (record.model,))
        if decider.fallback:
            self.degraded(decider.label)

    def finished(self, record: OutcomeRecord, requested: str, operation: str) -> None:
        """A request ended; `operation` is OpenTelemetry's, such as `chat` or `embeddings`."""
        outcome, model = record.outcome, record.model
        requested = requested_label(requested, model)
        code = outcome.error_code or ""
        status = outcome.status.value
        self.meter.count("fastserve_requests", (operation, requested, model, status, code))
        self.meter.count("fastserve_cost", (model,), outcome.cost_usd)
        self.meter.count("fastserve_baseline_cost", (model,), record.baseline_usd or 0.0)
        self.meter.observe("fastserve_ingress_time", (model,), record.ingress_s)
        self.meter.count("fastserve_hedged_tokens", (model,), outcome.hedged_tokens)
        if outcome.tokens_estimated:
            self.degraded("tokens estimated")
        names = (operation, requested, model)
        error = "" if outcome.status is Status.OK else code or status
        self.meter.observe("gen_ai_server_request_duration", (*names, error), outcome.e2e_s)
        self.meter.observe("gen_ai_server_time_to_first_token", names, outcome.ttft_s)
        self.meter.observe("gen_ai_server_time_per_output_token", names, outcome.tpot_s)
        self._tokens(names, outcome)

    def charged(self, key: str, outcome: Outcome) -> None:
        """A request of the key of this name ended."""
        self.meter.count("fastserve_key_requests", (key, outcome.status.value))
        self.meter.count("fastserve_key_tokens", (key, "input"), outcome.prompt_tokens)
        self.meter.count("fastserve_key_tokens", (key, "output"), outcome.output_tokens)
        self.meter.count("fastserve_key_cost", (key,), outcome.cost_usd)

    def _tokens(self, names: tuple[str, str, str], outcome: Outcome) -> None:
        usage = {"input": outcome.prompt_tokens, "output": outcome.output_tokens}
        for kind, tokens in usage.items():
            self.meter.observe("gen_ai_client_token_usage", (*names, kind), tokens or None)

    def refused(self, requested: str, operation: str, error_code: str, key: str | None = None) -> None:
        """A request ended before any model was chosen; what it asked for may be anything.

        `key` is the name of its key, None where it had none that holds.
        """
        if key is not None:
            self.meter.count("fastserve_key_requests", (key, "rejected"))
        labels = (operation, refused_label(requested), "", "rejected", error_code)
        self.meter.count("fastserve_requests", labels)

    def fell_back(self, model: str, reason: str) -> None:
        """A request left `model` for the next best one."""
        self.meter.count("fastserve_fallbacks", (model, reason))

    def retried(self, model: str, reason: str) -> None:
        """A request is tried once more on `model`."""
        self.meter.count("fastserve_retries", (model, reason))

    def hedged(self, model: str, result: str) -> None:
        """A try of a request that went to a second replica of `model` beside the first has ended."""
        self.meter.count("fastserve_hedges", (model, result))

    def placed(self, model: str, cached_share: float | None) -> None:
        """A request goes to a replica of `model`; None: it had one only."""
        self.meter.observe("fastserve_predicted_cached_share", (model,), cached_share)

    def waited(self, model: str, priority: str, seconds: float) -> None:
        """A request has waited for a slot of `model`, and got it."""
        self.meter.observe("fastserve_queued_time", (model, priority), seconds)

    def shed(self, model: str, priority: str, reason: str) -> None:
        """A request got no slot of `model`."""
        self.meter.count("fastserve_shed", (model, priority, reason))

    def queued(self, depths: Iterable[tuple[str, str, int]]) -> None:
        """How many wait in this ingress, by model and priority."""
        for model, priority, count in depths:
            self.meter.gauge("fastserve_queued", (model, priority), count)

    def degraded(self, mode: str) -> None:
        """Something works in a lesser mode."""
        self.meter.count("fastserve_degraded", (mode,))

    def watch(self, view: TableView) -> None:
        """Gauges of the table as this replica sees it; called about once a second."""
        self.meter.gauge("fastserve_snapshot_age", (), min(view.age_s(), 1e9))
        self.meter.gauge("fastserve_table_lag", (), view.outbox.lag_s())
        self.meter.gauge("fastserve_table_unsent", (), view.outbox.unsent)
        if view.lagging:
            self.degraded("table silent")
        for kind, count in view.outbox.dropped.items():
            self.meter.count("fastserve_table_dropped", (kind,), count - self._dropped[kind])
        self._dropped = view.outbox.dropped.copy()
        own = view.own_in_flight()
        for model in self._in_flight | set(own):
            self.meter.gauge("fastserve_in_flight", (model,), own.get(model, 0))
        self._in_flight |= set(own)
