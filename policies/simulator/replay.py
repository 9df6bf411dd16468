"""Replays an episode of the simulated pool against one policy, one decision at a time."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.decision import Decision
from policies.observation import Observation
from policies.outcome import Outcome, Status, Transition
from policies.policy import Policy
from policies.simulator.queues import DONE, FAILED, OPEN
from policies.simulator.simulator import QueueSimulator
from policies.simulator.workload import Episode

Requests = npt.NDArray[np.void]  # [N] REQUEST of policies.simulator.queues

_CHECK_EVERY: Final = 16  # decisions between looks for finished requests


def replay(simulator: QueueSimulator, policy: Policy, episode: Episode, seed: int = 0) -> Requests:
    """Every request of the episode, as it ended. A policy that learns online gets each outcome."""
    simulator.load(0, episode)
    simulator.look(0)
    first = int(simulator.stream.decided[0])
    count = episode.arrival_s.shape[0] - 1
    learns = type(policy).learn is not Policy.learn
    pending: dict[int, tuple[Observation, Decision]] = {}
    for number in range(first, first + count):
        observation = simulator.observation(0)
        decision = policy.decide(observation, seed=seed * 1_000_003 + number)
        simulator.step(np.array([decision.index], dtype=np.int64))
        if learns:
            pending[number] = observation, decision
            if number % _CHECK_EVERY == 0:
                for transition in _finished(simulator, pending):
                    policy.learn(transition)
    return simulator.requests(0, first, first + count)


def _finished(
    simulator: QueueSimulator, pending: dict[int, tuple[Observation, Decision]]
) -> Iterator[Transition]:
    for number in list(pending):
        request = simulator.requests(0, number, number + 1)[0]
        if request["outcome"] != OPEN:
            observation, decision = pending.pop(number)
            yield Transition(observation, decision, _outcome_of(request), float(request["reward"]))


def _outcome_of(request: np.void) -> Outcome:
    """The outcome an ingress would record; for an expired or rejected request there was no room."""
    status = {DONE: Status.OK, FAILED: Status.FAILED}.get(int(request["outcome"]), Status.REJECTED)
    ok = status is Status.OK
    return Outcome(
        status=status,
        ttft_s=float(request["ttft_s"]) if ok else None,
        e2e_s=float(request["e2e_s"]) if ok else None,
        output_tokens=int(request["output_tokens"]) if ok else 0,
        cost_usd=float(request["cost_usd"]),
        quality=float(request["score"]) if ok else None,
        is_shed=status is Status.REJECTED,
    )
