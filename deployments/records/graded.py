"""How a graded pair lies in the table: two votes on its decision, under metrics that no caller may send."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from deployments.records.records import FeedbackRecord
from policies.promotion.graded import GradedPair

PREFIX: Final = "graded."  # of metrics, reserved
_TESTED: Final = "graded.candidate"
_OTHER: Final = "graded.incumbent"


@dataclass(frozen=True, slots=True)
class Side:
    """One version's choice for a prompt: its model, the predicted score, and the one that was given."""

    model: str
    predicted: float
    score: float


def graded_records(
    decision_id: str, key_id: str, version: int, tested: Side, other: Side, at_s: float
) -> list[FeedbackRecord]:
    """Both sides of a pair; `version` is the candidate."""
    return [
        FeedbackRecord(
            decision_id, key_id, metric, side.score, at_s, f"{version}:{side.predicted:.4f}:{side.model}"
        )
        for metric, side in ((_TESTED, tested), (_OTHER, other))
    ]


def graded_pairs(records: Iterable[FeedbackRecord], version: int) -> dict[str, GradedPair]:
    """The complete pairs of a candidate, by decision."""
    sides: dict[str, dict[str, tuple[float, float]]] = {}
    for record in records:
        if not record.metric.startswith(PREFIX) or record.detail is None:
            continue
        of, predicted, _ = record.detail.split(":", 2)
        if int(of) == version:
            sides.setdefault(record.decision_id, {})[record.metric] = (record.score, float(predicted))
    return {
        decision: GradedPair(found[_TESTED][0], found[_OTHER][0], found[_TESTED][1], found[_OTHER][1])
        for decision, found in sides.items()
        if len(found) == 2
    }
