"""Sums up what came of a replayed episode."""

from dataclasses import dataclass

import numpy as np

from policies.arrays import F64
from policies.simulator.queues import DONE
from policies.simulator.replay import Requests


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


def blocks(requests: Requests, count: int) -> F64:
    """[count] mean utility of consecutive blocks: the pairs of a paired comparison, long enough that a
    queue's memory ends within a block."""
    return np.array([part["reward"].mean() for part in np.array_split(requests, count)])
