from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

from deployments.model import autoscaling
from deployments.model.autoscaling import PlannedReplicas, ongoing_requests


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


def asked(replicas: int, app: str = "model-m") -> Any:
    return SimpleNamespace(
        app_name=app,
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=4,
    )


def test_a_plan_is_asked_of_the_table_and_until_it_answers_nothing_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autoscaling, "_ASK_S", 60.0)  # the test asks itself
    shipped = cloudpickle.loads(cloudpickle.dumps(PlannedReplicas))
    assert shipped(idle_s=5.0)(asked(3)) == (3.0, {})
    questions: list[tuple[Any, ...]] = []
    remote = SimpleNamespace(remote=lambda *question: questions.append(question))
    monkeypatch.setattr("ray.get_actor", lambda *_: SimpleNamespace(replicas_wanted=remote))
    monkeypatch.setattr("ray.get", lambda *_, timeout: 2)
    policy = PlannedReplicas(idle_s=5.0)
    assert policy(asked(3)) == (3.0, {})
    policy._exchange.ask()
    assert questions == [("model-m", {"idle_s": 5.0}, 3, 0, 4)]
    assert policy(asked(3)) == (2.0, {})
    policy._exchange.answered_s -= 100.0
    assert policy(asked(3)) == (3.0, {}), "an old answer says nothing"


def test_a_policy_that_another_replaces_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling, "_ASK_S", 60.0)
    policy = PlannedReplicas()
    policy(asked(1))
    thread = policy._exchange.thread
    assert thread is not None
    del policy
    thread.join(10.0)
    assert not thread.is_alive()
