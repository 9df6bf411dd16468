"""Alarms ring soon after a policy goes bad, and not before."""

from dataclasses import replace

import numpy as np
import pytest

from policies.promotion.alarms import Alarms, WatchedRequest
from policies.promotion.rollout import Reference

REFERENCE = Reference(reward=0.6, failure_rate=0.01, late_rate=0.05, late_s=2.0, cost_usd=1e-4, entropy=0.5)


def seen(rng: np.random.Generator) -> WatchedRequest:
    """A request as the reference describes it."""
    return WatchedRequest(
        reward=float(np.clip(rng.normal(0.6, 0.2), 0.0, 1.0)),
        failed=bool(rng.random() < 0.01),
        e2e_s=2.5 if rng.random() < 0.05 else 1.0,
        cost_usd=1e-4,
        entropy=0.5,
        model="small" if rng.random() < 0.7 else "large",
        alternatives=1,
    )


def first_alarm(change: dict[str, object], requests: int = 2000, seed: int = 0) -> tuple[int, str | None]:
    rng = np.random.default_rng(seed)
    alarms = Alarms(REFERENCE)
    for i in range(requests):
        reason = alarms.update(replace(seen(rng), **change))  # type: ignore[arg-type]
        if reason is not None:
            return i, reason
    return requests, None


def test_nothing_rings_while_all_is_as_before() -> None:
    assert all(first_alarm({}, seed=seed) == (2000, None) for seed in range(5))


@pytest.mark.parametrize(
    ("change", "what", "within"),
    [
        ({"reward": 0.2}, "reward", 100),
        ({"failed": True}, "errors", 40),
        ({"e2e_s": 5.0}, "latency", 60),
        ({"cost_usd": 1e-3}, "cost", 100),
        ({"entropy": 0.0}, "entropy", 250),
        ({"model": "large"}, "share", 250),
    ],
)
def test_each_change_rings_its_own_alarm_soon(change: dict[str, object], what: str, within: int) -> None:
    at, reason = first_alarm(change)
    assert reason is not None
    assert reason.startswith(what)
    assert at <= within


def test_one_model_alone_is_no_share_alarm_when_nothing_else_was_allowed() -> None:
    assert first_alarm({"model": "large", "alternatives": 0})[1] is None
