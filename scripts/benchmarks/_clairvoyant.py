"""The clairvoyant dispatcher: knows every answer's score and length, and serves the queue ahead in its head.

It is greedy, not optimal: for each model it simulates the queue as it stands, with true lengths, until the
new request ends, and takes the model of the largest true utility less a price for the capacity the request
takes there. The price, tuned on the training stretch, stands for the requests that will come.
"""

import numpy as np
from numba import njit

from policies.baselines.greedy import GreedyPolicy
from policies.observation import FloatArray, Observation
from policies.queue_kernel import COLD, Queues, pick_replica
from policies.queue_simulator import QueueSimulator
from policies.reward import lateness


@njit(cache=True)  # type: ignore[untyped-decorator]
def true_e2e_s(q: Queues, e: int, m: int, now_s: float, prompt: float, output: float) -> float:
    """End-to-end seconds of a request sent to model `m` now if nothing came after it; inf if it expires."""
    r = pick_replica(q, e, m)
    if r < 0:
        return np.inf
    replica, p = q.replicas[e, m, r], q.params[e, m]
    clock = max(now_s, replica.ready_s) if replica.status == COLD else now_s
    slots = q.slot_end.shape[3]
    ends, kvs, own = np.empty(slots), np.empty(slots), -1
    decoding, tokens, kv_used = replica.decoding, replica.tokens, replica.kv_used
    for i in range(decoding):
        request = q.requests[e, q.slot_id[e, m, r, i]]
        ends[i], kvs[i] = q.slot_end[e, m, r, i], request.prompt_tokens + request.output_tokens
    busy, steps_left, chunk, kv, length, is_own = False, 0.0, 0.0, 0.0, 0.0, False
    if replica.prefill_id >= 0:
        request = q.requests[e, replica.prefill_id]
        busy, steps_left, chunk = True, replica.prefill_left, replica.prefill_chunk
        kv, length = request.prompt_tokens + request.output_tokens, request.output_tokens
    place = 0
    while True:
        while not busy and place <= replica.waiting:
            is_own = place == replica.waiting
            size, length, arrived = prompt, output, now_s
            if not is_own:
                request = q.requests[e, q.queue[e, m, r, (replica.head + place) % q.queue.shape[3]]]
                size, length, arrived = request.prompt_tokens, request.output_tokens, request.arrival_s
            if clock - arrived > q.pools[e].deadline_s or size + length > p.kv_tokens:
                if is_own:
                    return np.inf
                place += 1
                continue
            kv = size + length
            if decoding + 1 > p.slots or kv_used + kv > p.kv_tokens:
                break
            chunk = min(p.chunk_tokens, max(size, 1.0))
            busy, steps_left, kv_used, place = True, max(size, 1.0) / chunk, kv_used + kv, place + 1
        step = p.step_base_s + p.step_per_sequence_s * decoding
        first, steps = -1, np.inf
        if busy:
            step += chunk / p.prefill_tokens_per_s
            steps = steps_left
        for i in range(decoding):
            if ends[i] - tokens < steps:
                first, steps = i, ends[i] - tokens
        clock += steps * step
        tokens += steps
        steps_left -= steps
        if first < 0:
            busy = False
            if length <= 1.0 and is_own:
                return clock - now_s + p.overhead_s
            if length <= 1.0:
                kv_used -= kv
                continue
            own = decoding if is_own else own
            ends[decoding], kvs[decoding] = tokens + length - 1.0, kv
            decoding += 1
        else:
            if first == own:
                return clock - now_s + p.overhead_s
            decoding -= 1
            kv_used -= kvs[first]
            own = first if own == decoding else own
            ends[first], kvs[first] = ends[decoding], kvs[decoding]


class ClairvoyantPolicy(GreedyPolicy):
    """True score - true lateness - true cost - `price` * pool seconds the request takes.

    Where the request is beyond saving (lateness 1) its queue is too, so no price is charged there.
    """

    name = "clairvoyant"

    def __init__(self, simulator: QueueSimulator, price: float, pool: int = 0) -> None:
        self.simulator, self.price, self.pool = simulator, price, pool

    def scores(self, observation: Observation) -> FloatArray:
        """[M] true utilities less the price."""
        sim, e = self.simulator, self.pool
        stream, q = sim.stream, sim.queues
        t = int(stream.cursor[e])
        now_s, prompt = float(stream.arrival_s[e, t]), float(stream.prompt_tokens[e, t])
        a1, a2, a3, target = observation.caller.tolist()
        scores = sim.table.score[stream.row[e, t]]
        values = np.empty(len(sim.models))
        for m in range(len(values)):
            p = q.params[e, m]
            output = max(float(np.rint(stream.output_tokens[e, t] * p["output_scale"])), 1.0)
            late = lateness(true_e2e_s(q, e, m, now_s, prompt, output), target)
            usd = (prompt * p["prompt_usd_per_mtok"] + output * p["completion_usd_per_mtok"]) * 1e-6
            step = p["step_base_s"] + p["step_per_sequence_s"] * p["slots"]
            busy_s = prompt / p["prefill_tokens_per_s"] + output * step / p["slots"]
            charge = self.price * busy_s if late < 1.0 else 0.0
            values[m] = a1 * scores[m] - a2 * late - a3 * usd / float(q.pools["cost_scale_usd"][e]) - charge
        return values
