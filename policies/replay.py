"""Replays an episode of the simulated pool against one policy, one decision at a time."""

import numpy as np
import numpy.typing as npt

from policies.policy import Policy
from policies.queue_simulator import QueueSimulator
from policies.workload import Episode

Requests = npt.NDArray[np.void]  # [N] REQUEST of policies.queue_kernel


def replay(simulator: QueueSimulator, policy: Policy, episode: Episode, seed: int = 0) -> Requests:
    """Every request of the episode, as it ended, in pool 0 of the simulator."""
    simulator.load(0, episode)
    simulator.look(0)
    first = int(simulator.stream.decided[0])
    count = episode.arrival_s.shape[0] - 1
    for number in range(first, first + count):
        decision = policy.decide(simulator.observation(0), seed=seed * 1_000_003 + number)
        simulator.step(np.array([decision.index], dtype=np.int64))
    return simulator.requests(0, first, first + count)
