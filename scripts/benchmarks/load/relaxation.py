"""An upper bound on the utility of any dispatch of an episode: hindsight, with capacity as its only limit.

Every request may go to the model, and end in the time window, that are best for it alone, with the true score
and length known and no queue before it, if it pays for the seconds of the model's capacity that it takes. The
prices are Lagrange multipliers of `work done at model m in window k <= its replicas * seconds of the window`.
By weak duality the total is an upper bound at any prices >= 0; they are moved until it is nearly the least.
(Fisher 1981, The Lagrangian relaxation method for solving integer programming problems.)

What makes it a bound: with b sequences in a batch a token takes at least (step of a full batch) / slots
seconds of the replica; an answer lasts at least as long as on an idle replica; it is at least as late as its
window begins; one that has not begun at the deadline is given up, so only some windows can do its work.
"""

from typing import Final, NamedTuple

import numpy as np

from policies.arrays import F64
from policies.compiled import compiled
from policies.cost import cost_usd
from policies.reward import lateness
from policies.simulator.spec import ModelSpec, step_s
from policies.simulator.workload import Episode
from scripts.benchmarks.load.pool import DEADLINE_S
from scripts.benchmarks.load.study import Study

WINDOW_S: Final = 5.0
_ROUNDS: Final = 600
_FIRST_STEP: Final = 0.3  # of the prices, in utility a second of capacity
_MOMENTUM, _SQUARES, _TINY = 0.9, 0.99, 1e-9  # of Adam (Kingma and Ba, 2015)


class Relaxed(NamedTuple):
    """N requests, M models, K windows."""

    arrival_s: F64  # [N] from the first on
    worth: F64  # [N, M] utility of the answer but for its lateness
    work_s: F64  # [N, M] least seconds of a replica
    least_s: F64  # [N, M] seconds on an idle replica
    most_s: F64  # [N, M] seconds after which the answer has certainly ended, or was given up
    capacity_s: F64  # [M] seconds of all replicas in a window
    latency_weight: float
    target_s: float
    windows: int  # K


def relaxed(study: Study, episode: Episode) -> Relaxed:
    """The relaxation of an episode; its last request is only looked at and left out."""
    accuracy, latency, cost, target_s = episode.caller.tolist()
    arrival_s = episode.arrival_s[:-1] - episode.arrival_s[0]
    score = study.table.score[episode.row[:-1]]
    found = [_answers(model, episode) for model in study.models]
    work_s, least_s, most_s, usd = (np.stack(columns, axis=1) for columns in zip(*found, strict=True))
    windows = int(np.ceil((arrival_s[:, None] + most_s).max() / WINDOW_S)) + 1
    capacity_s = WINDOW_S * np.array([model.max_replicas for model in study.models])
    worth = accuracy * score - cost * usd / study.cost_scale_usd
    return Relaxed(arrival_s, worth, work_s, least_s, most_s, capacity_s, latency, target_s, windows)


def _answers(model: ModelSpec, episode: Episode) -> tuple[F64, F64, F64, F64]:
    """Of each request's answer, each [N]: work_s, least_s, most_s, US dollars."""
    prompt = episode.prompt_tokens[:-1]
    output = np.maximum(np.rint(episode.output_tokens[:-1] * model.output_scale), 1.0)
    prefill_s = prompt / model.prefill_tokens_per_s
    work_s = prefill_s + (output - 1.0) * step_s(model, model.slots) / model.slots
    least_s = prefill_s + model.step_base_s + (output - 1.0) * step_s(model, 1.0) + model.overhead_s
    longest_step_s = step_s(model, model.slots) + model.chunk_tokens / model.prefill_tokens_per_s
    steps = np.ceil(prompt / model.chunk_tokens) + output
    prices = model.prompt_usd_per_mtok, model.completion_usd_per_mtok
    usd = [cost_usd(*tokens, *prices) for tokens in zip(prompt.tolist(), output.tolist(), strict=True)]
    return work_s, least_s, DEADLINE_S + model.overhead_s + steps * longest_step_s, np.array(usd)


def upper_bound(study: Study, episode: Episode) -> float:
    """Utility per request that no dispatch of the episode exceeds."""
    r = relaxed(study, episode)
    prices = np.zeros((len(study.models), r.windows))
    mean, square, least = np.zeros_like(prices), np.zeros_like(prices), np.inf
    for turn in range(1, _ROUNDS + 1):
        total, slope = dual(r, prices)
        least = min(least, total)
        mean = _MOMENTUM * mean + (1.0 - _MOMENTUM) * slope
        square = _SQUARES * square + (1.0 - _SQUARES) * slope**2
        scaled = mean / (1.0 - _MOMENTUM**turn) / (np.sqrt(square / (1.0 - _SQUARES**turn)) + _TINY)
        prices = np.maximum(prices - _FIRST_STEP / np.sqrt(turn) * scaled, 0.0)
    return least / len(r.arrival_s)


@compiled(fused=False)
def dual(r: Relaxed, prices: F64) -> tuple[float, F64]:
    """(bound on the total utility, its subgradient [M, K]) at prices [M, K] >= 0 a second of capacity."""
    models, windows = prices.shape
    slope = np.empty((models, windows))
    total = 0.0
    for m in range(models):
        slope[m] = r.capacity_s[m]
        total += prices[m].sum() * r.capacity_s[m]
    for n in range(len(r.arrival_s)):
        first = int(r.arrival_s[n] / WINDOW_S)
        best, model, window = -r.latency_weight, -1, -1  # not answered
        for m in range(models):
            cheapest = first
            last = int((r.arrival_s[n] + r.most_s[n, m]) / WINDOW_S)
            for k in range(first, min(last + 1, windows)):
                if prices[m, k] < prices[m, cheapest]:
                    cheapest = k
                lasts_s = max(k * WINDOW_S - r.arrival_s[n], r.least_s[n, m])
                gain = r.worth[n, m] - r.latency_weight * lateness(lasts_s, r.target_s)
                gain -= r.work_s[n, m] * prices[m, cheapest]
                if gain > best:
                    best, model, window = gain, m, cheapest
        total += best
        if model >= 0:
            slope[model, window] -= r.work_s[n, model]
    return total, slope
