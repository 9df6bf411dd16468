"""Replays an episode against one policy, one decision at a time, and sums up what came of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.decision import Decision
from policies.observation import FloatArray, Observation
from policies.outcome import Outcome, Status, Transition
from policies.policy import Policy
from policies.queue_kernel import DONE, FAILED, OPEN
from policies.queue_simulator import QueueSimulator
from policies.workload import Episode

Requests = npt.NDArray[np.void]  # [N] REQUEST
_CHECK_EVERY = 16  # decisions between looks for finished requests


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over one replay: utility and accuracy per request, share answered within the target, p95 TTFT of
    answered requests in seconds, US dollars per request, share never answered."""

    utility: float
    accuracy: float
    in_target: float
    p95_ttft_s: float
    cost_usd: float
    lost: float


def replay(simulator: QueueSimulator, policy: Policy, episode: Episode, seed: int = 0) -> Requests:
    """Every request of the episode, as it ended. A policy that learns online is told each outcome."""
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
            yield Transition(observation, decision, outcome_of(request), float(request["reward"]))


def outcome_of(request: np.void) -> Outcome:
    """The outcome an ingress would record; an expired or rejected request counts as our own limit."""
    status = {DONE: Status.OK, FAILED: Status.FAILED}.get(int(request["outcome"]), Status.REJECTED)
    ok = status is Status.OK
    return Outcome(
        status=status,
        ttft_s=float(request["ttft_s"]) if ok else None,
        e2e_s=float(request["e2e_s"]) if ok else None,
        output_tokens=int(request["output_tokens"]) if ok else 0,
        cost_usd=float(request["cost_usd"]),
        quality=float(request["score"]) if ok else None,
    )


def summarise(requests: Requests, target_s: float) -> Summary:
    """Means over the requests of one or several replays."""
    done = requests["outcome"] == DONE
    return Summary(
        utility=float(requests["reward"].mean()),
        accuracy=float(requests["score"].mean()),
        in_target=float((requests["e2e_s"] <= target_s).mean()),
        p95_ttft_s=float(np.quantile(requests["ttft_s"][done], 0.95)) if done.any() else float("nan"),
        cost_usd=float(requests["cost_usd"].mean()),
        lost=float(1.0 - done.mean()),
    )


def blocks(requests: Requests, count: int) -> FloatArray:
    """[count] mean utility of consecutive blocks: the pairs of a paired comparison, long enough that a
    queue's memory ends within a block."""
    return np.array([part["reward"].mean() for part in np.array_split(requests, count)])
