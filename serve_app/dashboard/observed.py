"""What a policy saw of a logged decision, as it saw it, and what a policy makes of that."""

import numpy as np

from deployments.records.records import DecisionRecord
from policies.arrays import F64
from policies.observation import CALLER_FIELDS, OBSERVATION_VERSION, Observation
from policies.utility import Weights


def observation_of(record: DecisionRecord, weights: Weights | None = None) -> Observation | None:
    """The observation, with other weights where given; None where it cannot be read any more."""
    if not record.rows or record.observation_version != OBSERVATION_VERSION:
        return None
    caller = np.asarray(record.caller, dtype=np.float64)
    if len(caller) != len(CALLER_FIELDS):
        return None
    if weights is not None:
        caller[:3] = weights.accuracy, weights.latency, weights.cost
    return Observation(
        record.models,
        np.asarray(record.rows, dtype=np.float64),
        np.asarray(record.prompt, dtype=np.float64),
        caller,
        np.asarray(record.mask, dtype=bool),
    )


def chosen(probabilities: F64) -> int:
    """Index of the model that a policy favours; [M] probabilities."""
    return int(np.argmax(probabilities))
