"""The clairvoyant dispatcher: knows every answer's score and length, and serves the queue ahead in its head.

It is greedy, not optimal: for each model it simulates the queue as it stands, with true lengths, until the
new request ends, and takes the model of the largest true utility less a price for the capacity the request
takes there. The price stands for the requests that will come.
"""

import numpy as np

from policies.arrays import F64
from policies.baselines.greedy import GreedyPolicy
from policies.compiled import compiled
from policies.cost import cost_usd
from policies.observation import Observation
from policies.reward import lateness
from policies.simulator.queues import (
    MODEL,
    OPEN,
    POOL,
    REPLICA,
    REQUEST,
    Queues,
    advance_replica,
    pick_replica,
)
from policies.simulator.simulator import QueueSimulator
from policies.simulator.step import DRAIN_S


def empty_scratch(q: Queues) -> Queues:
    """Room for one replica of `q` with everything it can hold, and one request more."""
    slots, places = q.slot_id.shape[3], q.queue.shape[3]
    one = (1, 1, 1)
    return Queues(
        pools=np.zeros(1, dtype=POOL),
        params=np.zeros((1, 1), dtype=q.params.dtype),
        believed=np.zeros((1, 1), dtype=q.params.dtype),
        models=np.zeros((1, 1), dtype=MODEL),
        replicas=np.zeros(one, dtype=REPLICA),
        slot_id=np.zeros((*one, slots), dtype=np.int64),
        slot_end=np.zeros((*one, slots)),
        queue=np.zeros((*one, places + 1), dtype=np.int64),
        requests=np.zeros((1, slots + places + 2), dtype=REQUEST),
    )


@compiled(fused=False)
def copy_replica(q: Queues, e: int, m: int, r: int, scratch: Queues) -> int:
    """Copy one replica with its requests, renumbered from 0; returns how many requests it holds."""
    replica, copy = q.replicas[e, m, r], scratch.replicas[0, 0, 0]
    scratch.pools[0] = q.pools[e]
    scratch.params[0, 0] = q.params[e, m]
    scratch.models[0, 0] = q.models[e, m]
    scratch.replicas[0, 0, 0] = replica
    held = 0
    for slot in range(replica.decoding):
        scratch.requests[0, held] = q.requests[e, q.slot_id[e, m, r, slot]]
        scratch.slot_id[0, 0, 0, slot] = held
        scratch.slot_end[0, 0, 0, slot] = q.slot_end[e, m, r, slot]
        held += 1
    if replica.prefill_id >= 0:
        scratch.requests[0, held] = q.requests[e, replica.prefill_id]
        copy.prefill_id = held
        held += 1
    copy.head = 0
    for i in range(replica.waiting):
        k = q.queue[e, m, r, (replica.head + i) % q.queue.shape[3]]
        scratch.requests[0, held] = q.requests[e, k]
        scratch.queue[0, 0, 0, i] = held
        held += 1
    for k in range(held):
        scratch.requests[0, k].model = 0
    return held


@compiled(fused=False)
def true_e2e_s(
    q: Queues, scratch: Queues, e: int, m: int, now_s: float, prompt: float, output: float
) -> float:
    """End-to-end seconds of a request sent to model `m` now if nothing came after it; inf if it expires."""
    r = pick_replica(q, e, m)
    if r < 0:
        return np.inf
    own = copy_replica(q, e, m, r, scratch)
    replica, request = scratch.replicas[0, 0, 0], scratch.requests[0, own]
    request.model, request.outcome, request.arrival_s = 0, OPEN, now_s
    request.prompt_tokens, request.output_tokens = prompt, output
    scratch.queue[0, 0, 0, replica.waiting] = own
    replica.waiting += 1
    advance_replica(scratch, 0, 0, 0, now_s + DRAIN_S)
    return request.e2e_s if request.outcome != OPEN else np.inf


class ClairvoyantPolicy(GreedyPolicy):
    """True score - true lateness - true cost - `price` * pool seconds the request takes.

    Where the request is beyond saving (lateness 1) its queue is too, so no price is charged there. One that
    does not `knows_times` sees latencies and lengths as predicted, like any policy.
    """

    name = "clairvoyant"

    def __init__(
        self, simulator: QueueSimulator, price: float, pool: int = 0, *, knows_times: bool = True
    ) -> None:
        self.simulator, self.price, self.pool, self.knows_times = simulator, price, pool, knows_times
        self._scratch = empty_scratch(simulator.queues)

    def scores(self, observation: Observation) -> F64:
        """[M] true utilities less the price."""
        sim, e = self.simulator, self.pool
        stream, q = sim.stream, sim.queues
        t = int(stream.cursor[e])
        now_s, prompt = float(stream.arrival_s[e, t]), float(stream.prompt_tokens[e, t])
        a1, a2, a3, target = observation.caller.tolist()
        scores = sim.table.score[stream.row[e, t]]
        lengths = stream.output_tokens if self.knows_times else stream.predicted_tokens
        predicted_s = observation.column("e2e_s")
        values = np.empty(len(sim.models))
        for m in range(len(values)):
            p = q.params[e, m]
            output = max(float(np.rint(lengths[e, t] * p["output_scale"])), 1.0)
            e2e_s = predicted_s[m]
            if self.knows_times:
                e2e_s = true_e2e_s(q, self._scratch, e, m, now_s, prompt, output)
            late = lateness(e2e_s, target)
            usd = cost_usd(prompt, output, p["prompt_usd_per_mtok"], p["completion_usd_per_mtok"])
            step = p["step_base_s"] + p["step_per_sequence_s"] * p["slots"]
            busy_s = prompt / p["prefill_tokens_per_s"] + output * step / p["slots"]
            charge = self.price * busy_s if late < 1.0 else 0.0
            values[m] = a1 * scores[m] - a2 * late - a3 * usd / float(q.pools["cost_scale_usd"][e]) - charge
        return values
