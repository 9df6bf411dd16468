"""Fits from the decision log: samples for the latency model, and the pool as the simulator sees it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from deployments.logger import get_logger
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.snapshot import ModelRow, Snapshot
from policies.latency.fit import LatencySample, fit_latency
from policies.latency.model import LatencyModel
from policies.observation import MODEL_COLUMN, OBSERVATION_VERSION
from policies.outcome import Status
from policies.prompt.features import unpack
from policies.simulator.fit import LEAST, Served, fit_model
from policies.simulator.spec import ModelSpec

KEY_SHARE: Final = 0.2  # of a fit's requests that come from one key at most, or an equal part among few keys
_LEAST_OF_KEY: Final = 200  # which one key may give in any case


def latency_samples(log: Iterable[tuple[DecisionRecord, OutcomeRecord | None]]) -> list[LatencySample]:
    """The requests that tell how long a model takes; no key decides alone what is expected of others."""
    found = [
        (decision.key_id, sample)
        for decision, outcome in log
        if outcome is not None and (sample := _sample(decision, outcome)) is not None
    ]
    most, left = most_of_key(Counter(key for key, _ in found)), Counter[str]()
    newest = []
    for key, sample in reversed(found):
        left[key] += 1
        if left[key] <= most:
            newest.append(sample)
    return newest[::-1]


def most_of_key(counts: Mapping[str, int]) -> int:
    """Requests of one key that may be used, so that it gives KEY_SHARE of all that are used at most."""
    share = max(KEY_SHARE, 1.0 / max(len(counts), 1))
    most = max(counts.values(), default=0)
    while (allowed := int(share * sum(min(count, most) for count in counts.values()))) < most:
        most = allowed
    return max(most, _LEAST_OF_KEY)


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
        ttft_s=outcome.ttft_s - (record.ingress_s or 0.0),  # not what it waited for the model to wake
        tpot_s=outcome.tpot_s,
    )


def fit_from_log(
    log: Iterable[tuple[DecisionRecord, OutcomeRecord | None]], start: LatencyModel, revision: str
) -> LatencyModel:
    """The latency model brought up to date with the newest part of the log; publish it as "latency"."""
    return fit_latency(latency_samples(log), start, revision)


logger = get_logger(__name__)

NEWEST: Final = 200  # requests of a model that it is fitted to
_MISSING_TPOT_S: Final = 0.03
_MISSING_TOKENS: Final = 32.0


class NotEnoughError(ValueError):
    """The table does not yet hold what a training run needs; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class FittedPool:
    """The models that `auto` may choose, and what the parameters of each rest on, in words."""

    specs: tuple[ModelSpec, ...]
    evidence: Mapping[str, str]


def fit_pool(
    snapshot: Snapshot, transitions: Sequence[tuple[DecisionRecord, OutcomeRecord | None]]
) -> FittedPool:
    """Raises NotEnoughError below two models."""
    rows = [row for _, row in sorted(snapshot.models.items()) if row.card.weight > 0.0]
    if len(rows) < 2:
        raise NotEnoughError(f"{len(rows)} models may be chosen, a policy needs 2.")
    mean_tokens = float(np.mean([_tokens(row) for row in rows]))
    recorded = served(transitions)
    specs, evidence = [], {}
    for row in rows:
        name, spec = row.card.model, _from_medians(row, mean_tokens)
        mine = [one for one in recorded if one.model == name][-NEWEST:]
        if len(mine) < LEAST:
            evidence[name] = f"medians of the table, as {len(mine)} recorded requests are too few to fit"
            logger.warning("Simulator of '%s' is set up from %s.", name, evidence[name])
        else:
            spec = fit_model(spec, mine)
            evidence[name] = f"a fit to {len(mine)} recorded requests"
        specs.append(spec)
    return FittedPool(tuple(specs), evidence)


def served(transitions: Sequence[tuple[DecisionRecord, OutcomeRecord | None]]) -> list[Served]:
    """Requests of the log that tell how long a model takes, in order of arrival."""
    return [
        Served(
            model=record.model,
            arrival_s=record.created_s,
            prompt_tokens=result.outcome.prompt_tokens,
            output_tokens=result.outcome.output_tokens,
            ttft_s=result.outcome.ttft_s,
            e2e_s=result.outcome.e2e_s,
        )
        for record, result in transitions
        if result is not None
        and tells_latency(record, result)
        and result.outcome.ttft_s is not None
        and result.outcome.e2e_s is not None
    ]


def _tokens(row: ModelRow) -> float:
    return row.output_tokens.mean if row.output_tokens.count else _MISSING_TOKENS


def _from_medians(row: ModelRow, mean_tokens: float) -> ModelSpec:
    """What a fit starts from."""
    tpot_s = row.tpot_s.p50 if row.tpot_s.count else _MISSING_TPOT_S
    ttft_s = row.ttft_s.p50 if row.ttft_s.count else 4.0 * tpot_s
    replicas = max(len(row.replicas), 1)
    return ModelSpec(
        name=row.card.model,
        step_base_s=max(0.8 * tpot_s, 1e-4),
        step_per_sequence_s=0.2 * tpot_s,
        overhead_s=max(ttft_s - tpot_s, 0.0),
        output_scale=max(_tokens(row) / mean_tokens, 0.05),
        slots=float(max((replica.slots for replica in row.replicas), default=8)),
        prompt_usd_per_mtok=row.card.prompt_usd_per_mtok,
        completion_usd_per_mtok=row.card.completion_usd_per_mtok,
        weight=row.card.weight,
        min_replicas=float(replicas),
        max_replicas=float(replicas),
    )
