"""A graded pair comes out of the table as it went in, and only for its candidate."""

import pytest

from deployments.records.graded import PREFIX, Side, graded_pairs, graded_records
from deployments.records.records import FeedbackRecord


def test_a_pair_is_two_votes_and_comes_back_whole() -> None:
    tested, other = Side("org/small:7b", 0.62345, 0.4), Side("large", 0.7, 0.9)
    records = graded_records("d1", "key", 7, tested, other, 5.0)
    assert all(record.metric.startswith(PREFIX) for record in records)
    (pair,) = graded_pairs([*records, FeedbackRecord("d2", "key", "quality", 1.0, 6.0)], 7).values()
    assert (pair.tested, pair.other) == (0.4, 0.9)
    assert pair.residual == pytest.approx((0.4 - 0.9) - (0.6234 - 0.7), abs=1e-3)


def test_half_a_pair_and_another_candidates_are_left() -> None:
    records = graded_records("d1", "key", 7, Side("a", 0.5, 1.0), Side("b", 0.5, 0.0), 5.0)
    assert graded_pairs(records[:1], 7) == {}
    assert graded_pairs(records, 8) == {}
