"""Records of finished requests, as the ingress writes them, for tests of what learns from the log."""

import numpy as np

from deployments.records.records import DecisionRecord, OutcomeRecord
from policies.observation import CALLER_FIELDS, MODEL_COLUMN, MODEL_FIELDS, PROMPT_FIELDS
from policies.outcome import Outcome, Status

MODELS = ("large", "small")


def decision(
    decision_id: str,
    created_s: float,
    policy: str = "formula",
    model: str = "small",
    requested: str = "auto",
    assigned: int | None = None,
    key_id: str = "key",
) -> DecisionRecord:
    """A decision between two models of the same predicted latency."""
    rows = np.zeros((2, len(MODEL_FIELDS)))
    rows[:, MODEL_COLUMN["weight"]] = 1.0
    rows[:, MODEL_COLUMN["accuracy"]] = (0.7, 0.5)
    rows[:, MODEL_COLUMN["e2e_s"]] = 1.0
    return DecisionRecord(
        decision_id,
        created_s,
        key_id,
        requested,
        "",
        model,
        policy,
        propensity=0.5,
        epsilon=0.0,
        seed=1,
        models=MODELS,
        rows=tuple(map(tuple, rows.tolist())),
        prompt=(0.0,) * len(PROMPT_FIELDS),
        caller=(1.0, 1.0, 0.0, 2.0)[: len(CALLER_FIELDS)],
        mask=(True, True),
        probabilities=(0.5, 0.5),
        assigned=assigned,
    )


def outcome(
    record: DecisionRecord, finished_s: float, status: Status = Status.OK, e2e_s: float = 1.0
) -> OutcomeRecord:
    """The end of `record`, answered by the model that was chosen."""
    return OutcomeRecord(record.decision_id, finished_s, record.model, "r", Outcome(status, 0.1, 0.01, e2e_s))
