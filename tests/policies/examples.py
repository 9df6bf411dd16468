"""Small observations for the tests of policies."""

import numpy as np

from policies.observation import CALLER_COLUMN, MODEL_COLUMN, MODEL_FIELDS, PROMPT_FIELDS, Observation
from policies.utility import Weights

EVEN = Weights(1.0, 1.0, 0.0)


def observe(
    accuracy: list[float],
    e2e_s: list[float],
    weights: Weights = EVEN,
    mask: list[bool] | None = None,
    models: tuple[str, ...] | None = None,
    prompt: dict[str, float] | None = None,
    **columns: list[float],
) -> Observation:
    """An observation of len(accuracy) models named a, b, c ...; importance weights 1 unless given."""
    m = len(accuracy)
    rows = np.zeros((m, len(MODEL_FIELDS)))
    rows[:, MODEL_COLUMN["weight"]] = 1.0
    rows[:, MODEL_COLUMN["slots"]] = 8.0
    rows[:, MODEL_COLUMN["accuracy"]] = accuracy
    rows[:, MODEL_COLUMN["e2e_s"]] = e2e_s
    for name, values in columns.items():
        rows[:, MODEL_COLUMN[name]] = values
    fields = np.zeros(len(PROMPT_FIELDS))
    for i, field in enumerate(PROMPT_FIELDS):
        fields[i] = (prompt or {}).get(field.name, 0.0)
    caller = np.zeros(len(CALLER_COLUMN))
    caller[:3] = weights.accuracy, weights.latency, weights.cost
    allowed = np.array(mask if mask is not None else [True] * m, dtype=bool)
    names = models or tuple(chr(ord("a") + i) for i in range(m))
    return Observation(names, rows, fields, caller, allowed)
