"""The static best mix: the share of traffic per model that serves a demand at the best utility."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deployments.dispatch.columns import Observer
from deployments.records.snapshot import Snapshot
from policies.baselines.static_mix import best_mix
from policies.formula import utility
from policies.latency.model import LatencyModel
from policies.observation import MODEL_COLUMN, PROMPT_COLUMN, PROMPT_FIELDS
from policies.prompt.style import STYLE_SIZE
from policies.utility import Weights


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """What the mix needs of one model: mean score, end-to-end latency, cost per request, requests/s, w_i."""

    model: str
    accuracy: float
    latency_s: float
    cost_usd: float
    capacity_per_s: float
    weight: float = 1.0


def plan_mix(
    models: list[PlannedModel], demand_per_s: float, weights: Weights, budget_usd: float | None = None
) -> dict[str, Any]:
    """The mix as JSON-able numbers. Raises ValueError for models without a usable number."""
    if not models:
        raise ValueError("No model to plan with: the table has none. Give some with --model.")
    accuracy, latency_s, cost_usd, capacity_per_s, weight = np.array(
        [(m.accuracy, m.latency_s, m.cost_usd, m.capacity_per_s, m.weight) for m in models]
    ).T
    value = utility(accuracy, latency_s, cost_usd, weights, np.ones(len(models), dtype=bool))
    mix = best_mix(
        value,
        cost_usd,
        budget_usd=budget_usd,
        capacity_per_s=capacity_per_s,
        demand_per_s=demand_per_s,
        weight=weight,
    )
    rows = [
        asdict(m) | {"utility": float(u), "share": float(x), "per_s": float(x) * demand_per_s}
        for m, u, x in zip(models, value, mix.shares, strict=True)
    ]
    return {
        "demand_per_s": demand_per_s,
        "unserved_per_s": mix.unserved * demand_per_s,
        "utility": mix.value,
        "cost_usd": mix.cost_usd,
        "models": rows,
    }


def measured(snapshot: Snapshot, prompt_tokens: float) -> list[PlannedModel]:
    """The models of a snapshot, for a typical prompt without other load."""
    columns = Observer().columns(snapshot, 0.0, LatencyModel())
    prompt = np.zeros(len(PROMPT_FIELDS))
    prompt[PROMPT_COLUMN["prompt_tokens"]] = prompt_tokens
    m = len(columns.models)
    predicted = columns.latency.predict(prompt, np.zeros(STYLE_SIZE, dtype=np.float32), np.zeros(m), None)
    cards = [snapshot.models[model].card for model in columns.models]
    return [
        PlannedModel(
            model,
            float(columns.rows[i, MODEL_COLUMN["accuracy"]]),
            float(predicted.e2e_s[i]),
            cards[i].cost_usd(prompt_tokens, float(predicted.output_tokens[i])),
            float(columns.latency.capacity_per_s[i]),
            float(columns.rows[i, MODEL_COLUMN["weight"]]),
        )
        for i, model in enumerate(columns.models)
    ]
