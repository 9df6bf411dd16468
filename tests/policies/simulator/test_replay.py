import numpy as np

from policies.baselines.simple import LeastLoadedPolicy
from policies.outcome import Status, Transition
from policies.simulator.arrivals import Trace
from policies.simulator.queues import DONE
from policies.simulator.replay import replay
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import episode_from_trace, synthetic_quality

COUNT = 40


class Student(LeastLoadedPolicy):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Transition] = []

    def learn(self, transition: Transition) -> None:
        self.told.append(transition)


def test_every_request_is_answered_and_a_policy_that_learns_is_told() -> None:
    models = [ModelSpec("a", step_base_s=0.01, slots=4), ModelSpec("b", step_base_s=0.01, slots=4)]
    trace = Trace(np.arange(COUNT + 1, dtype=np.float64), np.full(COUNT + 1, 50.0), np.full(COUNT + 1, 10.0))
    rng = np.random.default_rng(0)
    episode = episode_from_trace(trace, np.arange(COUNT), np.array([1.0, 1.0, 0.0, 5.0]), 0.6, rng)
    simulator = QueueSimulator(models, synthetic_quality(2, COUNT, seed=0))
    student = Student()
    requests = replay(simulator, student, episode)
    assert (requests["outcome"] == DONE).all()
    assert len(student.told) >= COUNT - 16
    first = student.told[0]
    assert first.outcome.status is Status.OK
    assert first.outcome.output_tokens == requests[0]["output_tokens"]
    assert first.reward == requests[0]["reward"]
