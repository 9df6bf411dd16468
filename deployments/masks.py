"""Hard constraints: which models may answer a request at all, and why the others may not."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from policies.observation import BoolArray, FloatArray


class Reason(StrEnum):
    """Why a model is masked; the words appear in explain, in the log and as a metric's label."""

    UNHEALTHY = "unhealthy"  # no replica is warm, recently heard of and not ejected
    EXCLUDED = "already tried"
    CAPABILITY = "missing capability"
    CONTEXT = "context too short"
    OVER_LIMIT = "over its limit"
    NOT_ALLOWED = "not allowed"
    WEIGHT = "weight is 0"
    QUALITY = "below the quality floor"
    LATENCY = "too slow for max_latency_s"
    COST = "too expensive for max_cost_usd"
    BUDGET = "key's daily budget is spent"
    PROBATION = "not known well enough yet"
    NOT_NAMED = "another model was named"
    SESSION = "the session stays with its model"


class NoModelError(RuntimeError):
    """Every model is masked. `reasons` maps model -> why."""

    def __init__(self, reasons: dict[str, str]) -> None:
        listed = (
            ", ".join(f"'{model}': {why}" for model, why in sorted(reasons.items())) or "the pool is empty"
        )
        super().__init__(f"No model can take this request ({listed or 'the pool is empty'}).")
        self.reasons = reasons


@dataclass(slots=True)
class Mask:
    """`allowed` [M] shrinks with every `deny`; `reasons` keeps the first that struck each model."""

    models: tuple[str, ...]
    allowed: BoolArray
    reasons: dict[str, str] = field(default_factory=dict)

    def keep(self, passing: BoolArray, reason: Reason) -> None:
        """Take out the models where `passing` [M] is False."""
        after = self.allowed & passing
        if not np.array_equal(after, self.allowed):
            for i in np.flatnonzero(self.allowed & ~passing).tolist():
                self.reasons[self.models[i]] = reason
            self.allowed = after

    def keep_only(self, names: tuple[str, ...] | frozenset[str], reason: Reason) -> None:
        """Take out the models that `names` does not hold."""
        self.keep(np.fromiter((model in names for model in self.models), bool, len(self.models)), reason)


def is_distribution(probabilities: FloatArray, mask: BoolArray) -> bool:
    """Whether `probabilities` [M] can be sampled: finite, >= 0, sums to 1, all of it inside `mask` [M]."""
    if probabilities.shape != mask.shape or not probabilities.size:
        return False
    inside = float(probabilities @ mask)
    return (
        abs(inside - 1.0) < 1e-6
        and abs(float(probabilities.sum()) - 1.0) < 1e-6
        and float(probabilities.min()) >= 0.0
    )
