"""The view Decisions: a list with filters, and one decision with all that went into it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from deployments.records.records import DecisionRecord, FeedbackRecord, OutcomeRecord
from deployments.table.api import Transition
from policies.formula import observed_utility
from policies.learned.policy import LearnedPolicy
from policies.observation import CALLER_COLUMN, MODEL_COLUMN, PROMPT_COLUMN, Observation
from policies.policy import Policy
from serve_app.dashboard.observed import observation_of

PAGE: Final = 50
_SLOW: Final = 2.0  # times the predicted latency
_E2E: Final = MODEL_COLUMN["e2e_s"]
KeyName = Callable[[str], str]

Row = dict[str, Any]


def rows(log: Iterable[Transition], key_name: KeyName) -> list[Row]:
    """The lines of the list."""
    return [row(decision, outcome, key_name) for decision, outcome in log]


def row(decision: DecisionRecord, outcome: OutcomeRecord | None, key_name: KeyName) -> Row:
    """One line of the list."""
    result = None if outcome is None else outcome.outcome
    predicted_s = _predicted_s(decision)
    e2e_s = None if result is None else result.e2e_s
    return {
        "id": decision.decision_id,
        "at_s": decision.created_s,
        "requested": decision.requested,
        "profile": decision.profile,
        "chosen": decision.model,
        "answered": None if outcome is None else outcome.model,
        "policy": decision.policy,
        "key": key_name(decision.key_id),
        "status": "open" if result is None else result.status.value,
        "error": None if result is None else result.error_code,
        "e2e_s": e2e_s,
        "ttft_s": None if result is None else result.ttft_s,
        "cost_usd": None if result is None else result.cost_usd,
        "fallbacks": [] if outcome is None else list(outcome.fallbacks),
        "slow": bool(e2e_s and predicted_s and e2e_s > _SLOW * predicted_s),
    }


def _predicted_s(decision: DecisionRecord) -> float | None:
    if not decision.rows or decision.model not in decision.models:
        return None
    return decision.rows[decision.models.index(decision.model)][_E2E]


def filtered(found: Sequence[Row], wanted: Mapping[str, str]) -> list[Row]:
    """The lines that match every filter given; `before` is the id of the last line of the page before."""
    exact = {name: wanted[name] for name in ("profile", "policy", "key", "status") if wanted.get(name)}
    matching = [
        line
        for line in found
        if all(line[name] == value for name, value in exact.items())
        and (not wanted.get("model") or wanted["model"] in (line["chosen"], line["answered"]))
        and (wanted.get("slow") != "1" or line["slow"])
        and (wanted.get("fallback") != "1" or line["fallbacks"])
    ]
    ids = [line["id"] for line in matching]
    start = ids.index(wanted["before"]) + 1 if wanted.get("before") in ids else 0
    return matching[start:]


def page(found: Sequence[Row], wanted: Mapping[str, str]) -> Row:
    """One page of the list, and what the filters may be set to."""
    matching = filtered(found, wanted)
    choices = {
        name: sorted({line[name] for line in found}) for name in ("profile", "policy", "key", "status")
    }
    models = sorted({line[name] for line in found for name in ("chosen", "answered") if line[name]})
    return {
        "rows": matching[:PAGE],
        "more": len(matching) > PAGE,
        "of": len(found),
        "choices": {**choices, "model": models},
    }


def detail(
    decision: DecisionRecord,
    outcome: OutcomeRecord | None,
    votes: Iterable[FeedbackRecord],
    policy: Policy,
    key_name: KeyName,
) -> Row:
    """All about one decision; `policy` is the version that decided. No text of a prompt is in it."""
    observation = observation_of(decision)
    return {
        **row(decision, outcome, key_name),
        "propensity": decision.propensity,
        "epsilon": decision.epsilon,
        "decide_s": decision.decide_s,
        "snapshot_age_s": decision.snapshot_age_s,
        "shadow": decision.shadow,
        "caller": _named(CALLER_COLUMN, decision.caller),
        "prompt": _named(PROMPT_COLUMN, decision.prompt),
        "candidates": [] if observation is None else _candidates(decision, observation, policy),
        "outcome": None if outcome is None else {**asdict(outcome.outcome), "replica": outcome.replica},
        "votes": [
            {"metric": vote.metric, "score": vote.score, "at_s": vote.received_s}
            for vote in votes
            if vote.decision_id == decision.decision_id
        ],
    }


def _named(columns: Mapping[str, int], values: Sequence[float]) -> dict[str, float]:
    return {name: values[at] for name, at in columns.items() if at < len(values)}


def _candidates(decision: DecisionRecord, observation: Observation, policy: Policy) -> list[Row]:
    """One entry a model, the most probable first."""
    utility, residual = observed_utility(observation), _residual(observation, policy)
    found = []
    for at, model in enumerate(decision.models):
        masked = not decision.mask[at]
        found.append(
            {
                "model": model,
                "reason": decision.reasons.get(model) if masked else None,
                "probability": decision.probabilities[at] if decision.probabilities else None,
                "utility": None if masked else float(utility[at]),
                "residual": None if masked or residual is None else residual[at],
                **_named(MODEL_COLUMN, decision.rows[at]),
            }
        )
    return sorted(found, key=lambda one: -(one["probability"] or 0.0))


def _residual(observation: Observation, policy: Policy) -> list[float] | None:
    """[M] what the learned policy adds to the rule that it stands on; None where a rule decides."""
    if not isinstance(policy, LearnedPolicy):
        return None
    return [float(g) for g in policy.residuals(observation)]
