"""Alarms compare with the version before: they ring when the active one is worse, not when life is harder."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from policies.promotion.alarms import Alarms, AlarmSettings, Detector, SliceAlarm
from policies.promotion.compared import ComparedRequest
from policies.promotion.rollout import Candidate, Stage, Step
from policies.promotion.slices import SlicedRequest, serves

KEYS = 40


def usual(rng: np.random.Generator, at: int) -> ComparedRequest:
    """A request as it usually goes; one in twenty is decided by the version before."""
    return ComparedRequest(
        tested=bool(rng.random() > 0.05),
        reward=float(np.clip(rng.normal(0.6, 0.2), 0.0, 1.0)),
        expected=0.6,
        failed=bool(rng.random() < 0.01),
        at_s=at / 10.0,
        e2e_s=2.5 if rng.random() < 0.05 else 1.0,
        cost_usd=1e-4,
        key_id=f"key-{rng.integers(KEYS)}",
    )


Change = Callable[[ComparedRequest], ComparedRequest]


def first_alarm(
    change: Change, requests: int = 4_000, seed: int = 0, good: int = 0
) -> tuple[int, str | None]:
    """After `good` usual requests, the number of changed ones until an alarm, and its reason."""
    rng = np.random.default_rng(seed)
    alarms = Alarms()
    for at in range(good + requests):
        request = usual(rng, at)
        reason = alarms.update(change(request) if at >= good else request)
        if reason is not None:
            return at - good, reason
    return requests, None


def to_active(**fields: object) -> Change:
    """A change of what the active version decides, and of nothing else."""
    return lambda one: replace(one, **fields) if one.tested else one  # type: ignore[arg-type]


def to_all(**fields: object) -> Change:
    return lambda one: replace(one, **fields)  # type: ignore[arg-type]


def test_nothing_rings_while_all_is_as_before() -> None:
    assert all(first_alarm(to_all(), seed=seed) == (4_000, None) for seed in range(5))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"reward": 0.1}, "reward"),
        ({"failed": True}, "errors"),
        ({"e2e_s": 9.0}, "latency"),
        ({"cost_usd": 1e-3}, "cost"),
    ],
)
@pytest.mark.parametrize("good", [200, 8_000])
def test_what_gets_worse_rings_soon_however_long_all_was_well(
    fields: dict[str, object], what: str, good: int
) -> None:
    at, reason = first_alarm(to_active(**fields), requests=1_500, good=good)
    assert reason is not None
    assert reason.startswith(what)
    assert at <= 1_200


@pytest.mark.parametrize("fields", [{"reward": 0.1}, {"failed": True}, {"e2e_s": 9.0}, {"cost_usd": 1e-2}])
def test_what_gets_harder_for_both_versions_rings_no_alarm(fields: dict[str, object]) -> None:
    assert first_alarm(to_all(**fields), good=200) == (4_000, None)


def test_a_version_that_always_chooses_one_model_and_is_right_stays() -> None:
    assert first_alarm(to_active(reward=0.8)) == (4_000, None)


@pytest.mark.parametrize("fields", [{"reward": 0.0}, {"failed": True}])
def test_one_key_with_a_fifth_of_the_traffic_rings_no_alarm(fields: dict[str, object]) -> None:
    def change(one: ComparedRequest) -> ComparedRequest:
        fifth = int(one.key_id.removeprefix("key-")) < KEYS // 5
        mine = replace(one, key_id="loud") if fifth else one
        return to_active(**fields)(mine) if fifth else mine

    assert first_alarm(change) == (4_000, None)


def test_a_lone_key_is_heard() -> None:
    change = to_active(failed=True)
    assert first_alarm(lambda one: change(replace(one, key_id="lone")), good=0)[1] is not None


def test_requests_without_any_of_the_version_before_are_counted() -> None:
    alarms, rng = Alarms(AlarmSettings()), np.random.default_rng(0)
    for at in range(300):
        assert alarms.update(replace(usual(rng, at), tested=True)) is None
    assert alarms.unmatched == 300


def test_a_detector_rarely_rings_at_its_null() -> None:
    rng = np.random.default_rng(3)
    rang = 0
    for _ in range(40):
        detector = Detector(0.525, 1_000.0)
        rang += any(detector.update(x) for x in rng.binomial(1, 0.525, 200).astype(float))
    assert rang <= 8  # at most 200 / 1000 of the runs


SLICE_S = 30.0
BLOCK_S = 20 * SLICE_S
BEFORE = Candidate(3, Stage.CANARY, seed=11, slice_s=SLICE_S, steps=(Step(0.0, 0.05),))


def sliced_alarm(
    loss: float, blocks: int, noise: float = 0.25, seed: int = 0, requests: Alarms | None = None
) -> tuple[float | None, bool]:
    """Blocks until the alarm on slices rings, and whether those on `requests` did.

    What the active version does costs `loss` in every request of its slices, whoever decides it.
    """
    rng = np.random.default_rng(seed)
    slices, rang = SliceAlarm(AlarmSettings()), False
    times_s = np.arange(0.0, blocks * BLOCK_S, 3.0)
    rewards = 0.6 + 0.05 * np.sin(times_s / 900.0) + rng.normal(0.0, noise, len(times_s))  # weather for all
    left = rng.random(len(times_s)) < 0.05
    for at_s, reward, is_left in zip(times_s.tolist(), rewards.tolist(), left.tolist(), strict=True):
        own = serves(BEFORE, at_s)
        reward -= 0.0 if own else loss
        tested = not own and not is_left
        if requests is not None:
            score = float(np.clip(reward, 0.0, 1.0))
            one = ComparedRequest(tested, score, 0.6, False, at_s, 1.0, 1e-4, "lone")
            rang = rang or requests.update(one) is not None
        if own or tested:
            slices.finished(BEFORE, SlicedRequest(own, at_s, reward - 0.6, failed=False))
        if at_s % BLOCK_S == 0.0 and slices.looked(BEFORE, at_s) is not None:
            return at_s / BLOCK_S, rang
    return None, rang


def test_a_version_that_harms_all_rings_by_slices_of_time_and_not_by_requests() -> None:
    at, rang = sliced_alarm(0.15, 60, requests=Alarms())
    assert at is not None
    assert not rang, "requests of the same time bear the same loss"


@pytest.mark.parametrize("loss", [0.0, -0.1, 0.02])
def test_slices_ring_no_alarm_for_what_is_borne(loss: float) -> None:
    assert all(sliced_alarm(loss, 30, seed=seed)[0] is None for seed in range(3))


def test_by_slices_a_false_alarm_is_as_rare_as_the_setting_says() -> None:
    """At the loss that is just borne, with more noise than a reward in [0, 1] can have."""
    found = [sliced_alarm(AlarmSettings().reward_margin, 25, noise=1.0, seed=seed)[0] for seed in range(12)]
    assert sum(at is not None for at in found) <= 4  # 25 blocks of 125 between two false alarms
