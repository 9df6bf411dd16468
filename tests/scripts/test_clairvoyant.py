import numpy as np
import pytest

from policies.observation import PROMPT_FIELDS
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, QualityTable
from scripts.benchmarks.load.clairvoyant import ClairvoyantPolicy, empty_scratch, true_e2e_s


def _loaded(seed: int, n: int = 40) -> tuple[QueueSimulator, Episode]:
    rng = np.random.default_rng(seed)
    score = np.tile([0.3, 0.9], (4, 1))
    table = QualityTable(score, score, score, np.zeros((4, len(PROMPT_FIELDS))))
    episode = Episode(
        np.append(np.cumsum(rng.exponential(0.3, n)), 500.0),
        rng.integers(10, 600, n + 1).astype(float),
        rng.integers(1, 300, n + 1).astype(float),
        np.full(n + 1, 100.0),
        np.zeros(n + 1, dtype=np.int64),
        np.array([1.0, 1.0, 0.2, 10.0]),
    )
    models = [ModelSpec("a", slots=4, kv_tokens=1500), ModelSpec("b", slots=2)]
    simulator = QueueSimulator(models, table, in_flight_per_slot=np.inf)
    simulator.load(0, episode)
    simulator.look(0)
    for step in range(n - 1):
        simulator.step(np.array([step % 2]))
    return simulator, episode


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("model", [0, 1])
def test_the_latency_it_foresees_is_what_happens(seed: int, model: int) -> None:
    simulator, episode = _loaded(seed)
    t = int(simulator.stream.cursor[0])
    scratch = empty_scratch(simulator.queues)
    request = float(episode.arrival_s[t]), float(episode.prompt_tokens[t]), float(episode.output_tokens[t])
    foreseen = true_e2e_s(simulator.queues, scratch, 0, model, *request)
    simulator.step(np.array([model]))
    assert foreseen == pytest.approx(float(simulator.requests(0, t, t + 1)["e2e_s"][0]))


def test_one_that_does_not_know_times_sees_them_as_predicted() -> None:
    simulator, _ = _loaded(0)
    observation = simulator.observation(0)
    caller = observation.caller
    late = np.clip((observation.column("e2e_s") - caller[3]) / caller[3], 0.0, 1.0)
    scores = ClairvoyantPolicy(simulator, price=0.0, knows_times=False).scores(observation)
    expected = np.array([0.3, 0.9]) - late - 0.2 * observation.column("cost_usd") / 1e-3
    assert scores == pytest.approx(expected, abs=1e-3)


def test_looking_ahead_changes_nothing_and_the_better_answer_wins_when_both_are_in_time() -> None:
    simulator, _ = _loaded(0, n=2)
    before = simulator.queues.replicas.copy()
    observation = simulator.observation(0)
    policy = ClairvoyantPolicy(simulator, price=0.0)
    assert policy.distribution(observation).tolist() == [0.0, 1.0]
    assert np.array_equal(before, simulator.queues.replicas)
