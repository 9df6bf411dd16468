import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.observation import PROMPT_FIELDS
from policies.simulator.queues import COLD, DONE, EXPIRED, FAILED, OPEN, REJECTED, WARM
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import PARAMS, ModelSpec, capacity_per_s, params
from policies.simulator.workload import Episode, QualityTable

CALLER = np.array([1.0, 1.0, 0.5, 10.0])


def _table(models: int, rows: int = 4) -> QualityTable:
    score = np.tile(np.linspace(0.2, 0.8, models), (rows, 1))
    return QualityTable(score, score, np.full_like(score, 0.1), np.zeros((rows, len(PROMPT_FIELDS))))


def _episode(times: list[float], prompt: float = 100.0, output: float = 50.0) -> Episode:
    n = len(times)
    return Episode(
        np.array(times),
        np.full(n, prompt),
        np.full(n, output),
        np.full(n, output),
        np.zeros(n, dtype=np.int64),
        CALLER,
    )


def _serve(simulator: QueueSimulator, episode: Episode, actions: list[int]) -> np.ndarray:
    simulator.load(0, episode)
    simulator.look(0)
    for action in actions:
        simulator.step(np.array([action]))
    return simulator.requests(0, 0, len(actions))


MODEL = ModelSpec(
    "a", prefill_tokens_per_s=1000.0, step_base_s=0.02, step_per_sequence_s=0.001, overhead_s=0.01, slots=4
)


def test_a_lone_request_takes_prefill_then_one_step_a_token() -> None:
    request = _serve(QueueSimulator([MODEL], _table(1)), _episode([0.0, 100.0]), [0])[0]
    ttft = 0.01 + 0.02 + 100 / 1000.0
    assert request["outcome"] == DONE
    assert request["ttft_s"] == pytest.approx(ttft)
    assert request["e2e_s"] == pytest.approx(ttft + 49 * 0.021)


def test_reward_is_score_minus_lateness_minus_cost_share() -> None:
    simulator = QueueSimulator([MODEL], _table(1), cost_scale_usd=1e-4)
    slow = _episode([0.0, 100.0], output=500.0)
    request = _serve(simulator, slow, [0])[0]
    cost = (100 * 0.1 + 500 * 0.4) * 1e-6
    late = (request["e2e_s"] - 10.0) / 10.0
    assert 0.0 < late < 1.0
    assert request["cost_usd"] == pytest.approx(cost)
    assert request["reward"] == pytest.approx(0.2 - late - 0.5 * cost / 1e-4)


def test_sequences_in_one_batch_slow_each_other() -> None:
    alone = _serve(QueueSimulator([MODEL], _table(1)), _episode([0.0, 100.0]), [0])[0]["e2e_s"]
    both = _serve(QueueSimulator([MODEL], _table(1)), _episode([0.0, 0.0, 100.0]), [0, 0])
    # The second's prefill stalls the first's decode, and batches of two take 1 ms more a step.
    assert both["e2e_s"][0] == pytest.approx(alone + 0.1 + 0.001 * 48, abs=0.01)
    assert both["ttft_s"][1] > both["ttft_s"][0]


def test_a_full_replica_makes_requests_wait_in_order() -> None:
    n = 9
    requests = _serve(QueueSimulator([MODEL], _table(1)), _episode([0.0] * n + [100.0]), [0] * n)
    assert np.all(np.diff(requests["ttft_s"]) > 0.0)
    assert requests["ttft_s"][4] > requests["e2e_s"][:4].min() - 0.01


def test_the_cache_limits_the_batch() -> None:
    roomy = _serve(QueueSimulator([MODEL], _table(1)), _episode([0.0] * 4 + [100.0]), [0] * 4)
    small = ModelSpec(**{**_fields(MODEL), "kv_tokens": 310.0})  # two requests of 150 tokens
    tight = _serve(QueueSimulator([small], _table(1)), _episode([0.0] * 4 + [100.0]), [0] * 4)
    assert tight["ttft_s"][2] > roomy["ttft_s"][2] + 0.5
    tiny = ModelSpec(**{**_fields(MODEL), "kv_tokens": 100.0})
    assert _serve(QueueSimulator([tiny], _table(1)), _episode([0.0, 1.0]), [0])["outcome"][0] == REJECTED


def _fields(model: ModelSpec) -> dict[str, object]:
    return {"name": model.name} | {name: getattr(model, name) for name in PARAMS.names or ()}


def test_requests_that_wait_past_the_deadline_are_given_up() -> None:
    n = 40
    simulator = QueueSimulator([MODEL], _table(1), deadline_s=2.0, in_flight_per_slot=np.inf)
    requests = _serve(simulator, _episode([0.0] * n + [100.0]), [0] * n)
    expired = requests["outcome"] == EXPIRED
    assert 0 < expired.sum() < n
    assert np.all(requests["reward"][expired] == -1.0)
    assert np.all(requests["cost_usd"][expired] == 0.0)
    assert np.all(requests["ttft_s"][requests["outcome"] == DONE] < 2.0 + 0.5)


def test_waiting_places_are_bounded() -> None:
    n = 20
    simulator = QueueSimulator([MODEL], _table(1), waiting_places=8, in_flight_per_slot=np.inf)
    requests = _serve(simulator, _episode([0.0] * n + [100.0]), [0] * n)
    assert (requests["outcome"] == REJECTED).sum() == n - 8


def test_a_full_model_is_passed_over_and_refuses_where_every_model_is_full() -> None:
    slots = int(MODEL.slots)
    simulator = QueueSimulator([MODEL, MODEL], _table(2), in_flight_per_slot=2.0)
    actions = [0] * (2 * slots) + [1] * (2 * slots) + [0, 1]
    simulator.load(0, _episode([0.0] * len(actions) + [100.0, 101.0]))
    simulator.look(0)
    masks = []
    for action in [*actions, 0]:
        masks.append(simulator.observation(0).mask.tolist())
        simulator.step(np.array([action]))
    outcomes = simulator.requests(0, 0, len(actions))["outcome"]
    assert masks[0] == masks[2 * slots - 1] == [True, True]
    assert masks[2 * slots] == masks[4 * slots - 1] == [False, True], "the first is full"
    assert masks[4 * slots] == [True, True], "both are full: whichever is chosen, it refuses"
    assert outcomes.tolist() == [DONE] * (4 * slots) + [REJECTED] * 2
    assert masks[-1] == [True, True]


def test_throughput_at_full_batches_is_the_stated_capacity() -> None:
    rate = capacity_per_s(MODEL, 100.0, 50.0)
    n = 400
    requests = _serve(
        QueueSimulator([MODEL], _table(1), deadline_s=1e6, in_flight_per_slot=np.inf),
        _episode([0.0] * n + [1.0]),
        [0] * n,
    )
    measured = (n - 8) / np.sort(requests["e2e_s"])[-8]
    assert measured == pytest.approx(rate, rel=0.1)


def test_replicas_share_the_load_and_a_killed_one_fails_what_it_held() -> None:
    double = ModelSpec(**{**_fields(MODEL), "min_replicas": 2, "max_replicas": 2, "cold_start_s": 5.0})
    simulator = QueueSimulator([double], _table(1))
    simulator.load(0, _episode([0.0] * 8 + [0.5, 20.0]))
    for _ in range(8):
        simulator.step(np.array([0]))
    assert simulator.queues.replicas["decoding"][0, 0].tolist() == [4, 4]
    simulator.kill(0, 0)
    assert (simulator.requests(0, 0, 8)["outcome"] == FAILED).all()
    assert (simulator.queues.replicas["status"][0, 0] == COLD).all()
    simulator.look(0)
    assert simulator.observation(0).column("cold")[0] == 1.0
    simulator.step(np.array([0]))
    assert (simulator.queues.replicas["status"][0, 0] == WARM).all()
    late = simulator.requests(0, 8, 9)[0]
    assert late["outcome"] == DONE
    assert late["ttft_s"] > 5.0


def test_autoscaling_waits_then_starts_cold_and_later_drains() -> None:
    elastic = ModelSpec(
        **{
            **_fields(MODEL),
            "max_replicas": 3,
            "scale_in_flight": 2,
            "upscale_delay_s": 1.0,
            "cold_start_s": 3.0,
            "downscale_delay_s": 5.0,
        }
    )
    simulator = QueueSimulator([elastic], _table(1), in_flight_per_slot=np.inf)
    times = [0.1 * i for i in range(60)] + [200.0 + i for i in range(20)]
    simulator.load(0, _episode(times, output=200.0))
    warm = []
    for _ in range(len(times) - 1):
        simulator.step(np.array([0]))
        warm.append(int((simulator.queues.replicas["status"][0, 0] == WARM).sum()))
    assert warm[8] == 1
    assert (simulator.requests(0, 0, 60)["outcome"] == DONE).all()
    assert [warm[20], warm[45], max(warm)] == [1, 2, 3]
    assert warm[-1] == 2  # four in flight, two a replica


def test_failures_happen_at_the_stated_rate_and_are_reproducible() -> None:
    fragile = ModelSpec(**{**_fields(MODEL), "failures_per_s": 0.05, "cold_start_s": 1.0})
    times = [0.5 * i for i in range(400)]

    def outcomes(seed: int) -> list[int]:
        requests = _serve(QueueSimulator([fragile], _table(1), seed=seed), _episode(times), [0] * 399)
        return requests["outcome"].tolist()

    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)
    assert 2 <= outcomes(1).count(FAILED) <= 60


def test_observed_latency_predicts_what_happens_at_steady_load() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    for load in (0.3, 0.8, 1.0):
        simulator = QueueSimulator([MODEL], _table(1), deadline_s=1e6, in_flight_per_slot=np.inf)
        times = np.cumsum(rng.exponential(1.0 / (load * capacity_per_s(MODEL, 100.0, 50.0)), n + 1))
        simulator.load(0, _episode(times.tolist()))
        simulator.look(0)
        predicted = []
        for _ in range(n):
            predicted.append(simulator.observation(0).column("e2e_s")[0])
            simulator.step(np.array([0]))
        measured = simulator.requests(0, 0, n)["e2e_s"]
        assert np.mean(predicted[500:]) == pytest.approx(measured[500:].mean(), rel=0.25)
        assert load < 1.0 or np.corrcoef(predicted, measured)[0, 1] > 0.9


def test_a_blind_pool_looks_idle_whatever_the_load() -> None:
    simulator = QueueSimulator([MODEL], _table(1), blind=True)
    simulator.load(0, _episode([0.0] * 12))
    simulator.look(0)
    before = simulator.observation(0).rows
    for _ in range(10):
        simulator.step(np.array([0]))
    assert np.array_equal(before, simulator.observation(0).rows)


def test_pools_do_not_touch_each_other() -> None:
    models = [MODEL, ModelSpec("b", slots=2)]
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(0.2, 61)).tolist()
    actions = rng.integers(0, 2, 60)
    alone = _serve(QueueSimulator(models, _table(2)), _episode(times), actions.tolist())
    many = QueueSimulator(models, _table(2), pools=3)
    for pool in range(3):
        many.load(pool, _episode(times))
    for step in range(60):
        many.step(np.array([0, actions[step], 1]))
    found = many.requests(1, 0, 60)
    assert found["e2e_s"].tolist() == alone["e2e_s"].tolist()
    assert found["reward"].tolist() == alone["reward"].tolist()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    slots=st.integers(1, 5),
    kv=st.floats(200.0, 3000.0),
    rate=st.floats(0.2, 30.0),
)
def test_every_request_ends_once_and_nothing_is_left_behind(
    seed: int, slots: int, kv: float, rate: float
) -> None:
    rng = np.random.default_rng(seed)
    n = 80
    models = [
        ModelSpec(
            "a",
            slots=slots,
            kv_tokens=kv,
            max_replicas=2,
            scale_in_flight=3,
            upscale_delay_s=0.5,
            cold_start_s=1.0,
        ),
        ModelSpec("b", slots=2, failures_per_s=0.02, cold_start_s=2.0),
    ]
    episode = Episode(
        np.cumsum(rng.exponential(1 / rate, n + 1)), rng.integers(0, 400, n + 1).astype(float),
        rng.integers(0, 300, n + 1).astype(float), np.full(n + 1, 100.0), np.zeros(n + 1, dtype=int), CALLER,
    )  # fmt: skip
    simulator = QueueSimulator(models, _table(2), deadline_s=20.0, seed=seed)
    requests = _serve(simulator, episode, rng.integers(0, 2, n).tolist())
    assert not (requests["outcome"] == OPEN).any()
    assert simulator.queues.models["in_flight"][0].tolist() == [0, 0]
    assert simulator.queues.replicas["kv_used"][0] == pytest.approx(np.zeros((2, 2)), abs=1e-6)
    done = requests["outcome"] == DONE
    assert np.all(requests["e2e_s"][done] >= requests["ttft_s"][done])
    assert np.all(requests["ttft_s"][done] > 0.0)


def test_wrong_use_is_named() -> None:
    with pytest.raises(ValueError, match="knows 2 models, the pool has 1"):
        QueueSimulator([MODEL], _table(2))
    simulator = QueueSimulator([MODEL], _table(1))
    with pytest.raises(RuntimeError, match="No episode"):
        simulator.step(np.array([0]))
    simulator.load(0, _episode([0.0, 1.0]))
    with pytest.raises(ValueError, match="at most 2"):
        simulator.load(0, _episode([0.0, 1.0, 2.0]))
    small = QueueSimulator([MODEL], _table(1), requests_kept=4)
    small.load(0, _episode([0.0] * 12))
    for _ in range(4):
        small.step(np.array([0]))
    with pytest.raises(RuntimeError, match="requests_kept"):
        small.step(np.array([0]))


def test_specs_are_checked_and_become_an_array() -> None:
    with pytest.raises(ValueError, match="step_base_s is 0"):
        ModelSpec("a", step_base_s=0.0)
    with pytest.raises(ValueError, match="slots >= 1"):
        ModelSpec("a", slots=0)
    assert params([MODEL])["prefill_tokens_per_s"].tolist() == [1000.0]
