from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

from deployments.model.autoscaling import ongoing_requests


def context(ongoing: dict[str, float] | None, target: float = 4.0, replicas: int = 2) -> Any:
    metrics = None if ongoing is None else {"ongoing": ongoing}
    config = SimpleNamespace(get_target_ongoing_requests=lambda: target)
    return SimpleNamespace(aggregated_metrics=metrics, config=config, target_num_replicas=replicas)


@pytest.mark.parametrize(
    ("ongoing", "replicas"), [({"a": 8.0}, 2.0), ({"a": 8.0, "b": 2.0}, 2.5), ({"a": 0.0, "b": 0.0}, 0.0)]
)
def test_replicas_follow_the_requests_in_them(ongoing: dict[str, float], replicas: float) -> None:
    assert ongoing_requests(context(ongoing)) == (replicas, {})


@pytest.mark.parametrize("ongoing", [None, {}])
def test_without_reports_nothing_changes(ongoing: dict[str, float] | None) -> None:
    assert ongoing_requests(context(ongoing, replicas=3)) == (3.0, {})


def test_the_policy_works_as_serve_ships_it() -> None:
    shipped = cloudpickle.loads(cloudpickle.dumps(ongoing_requests))
    assert shipped(context({"a": 12.0})) == (3.0, {})
