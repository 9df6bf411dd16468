"""From the decision log to what the latency model is fitted on."""

from collections.abc import Iterable

from deployments.records.records import DecisionRecord, OutcomeRecord
from policies.latency.model import LatencyModel, LatencySample, fit_latency
from policies.observation import MODEL_COLUMN, OBSERVATION_VERSION
from policies.outcome import Status
from policies.prompt.features import unpack


def latency_samples(log: Iterable[tuple[DecisionRecord, OutcomeRecord | None]]) -> list[LatencySample]:
    """The requests that tell how long a model takes."""
    return [
        sample
        for decision, outcome in log
        if outcome is not None and (sample := _sample(decision, outcome)) is not None
    ]


def tells_latency(decision: DecisionRecord, record: OutcomeRecord) -> bool:
    """Whether the request was answered in full at the first try by the model chosen, and measured."""
    outcome = record.outcome
    first_try = outcome.status is Status.OK and outcome.attempts == 1 and record.model == decision.model
    return first_try and outcome.ttft_s is not None and outcome.output_tokens >= 1


def _sample(decision: DecisionRecord, record: OutcomeRecord) -> LatencySample | None:
    outcome = record.outcome
    if not tells_latency(decision, record) or outcome.ttft_s is None:
        return None
    if decision.observation_version != OBSERVATION_VERSION or decision.model not in decision.models:
        return None
    row = decision.rows[decision.models.index(decision.model)]
    return LatencySample(
        model=decision.model,
        prompt=(float(outcome.prompt_tokens or decision.prompt[0]), *decision.prompt[1:]),
        style=unpack(decision.features).style,
        in_flight=row[MODEL_COLUMN["in_flight"]],
        slots=row[MODEL_COLUMN["slots"]],
        replicas=row[MODEL_COLUMN["replicas"]],
        output_tokens=outcome.output_tokens,
        ttft_s=outcome.ttft_s,
        tpot_s=outcome.tpot_s,
    )


def fit_from_log(
    log: Iterable[tuple[DecisionRecord, OutcomeRecord | None]], start: LatencyModel, revision: str
) -> LatencyModel:
    """The latency model brought up to date with the newest part of the log; publish it as "latency"."""
    return fit_latency(latency_samples(log), start, revision)
