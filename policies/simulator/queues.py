"""Compiled event loop of the queue simulator: one replica's continuous batching, fluid between events.

Between two events (a prefill ends, a sequence ends, the clock is reached) every decoding sequence of
a replica gains tokens at the same rate 1 / step time. So a replica keeps one virtual token count and
each sequence the count at which it ends: an event costs O(1), plus one scan when a sequence ends.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from policies.compiled import compiled
from policies.reward import lateness, reward

OFF: Final = 0
COLD: Final = 1
WARM: Final = 2
DRAINING: Final = 3

OPEN: Final = 0
DONE: Final = 1
FAILED: Final = 2
EXPIRED: Final = 3
REJECTED: Final = 4
ABANDONED: Final = 5  # its episode was broken off

_ERROR_MEMORY: Final = 0.05  # weight of the newest outcome in the error rate
_LENGTH_MEMORY: Final = 0.01  # weight of the newest answer in the mean lengths

REPLICA: Final = np.dtype(
    [
        ("status", np.int64),
        ("ready_s", np.float64),  # end of the cold start
        ("clock_s", np.float64),  # time up to which it has been simulated
        ("tokens", np.float64),  # virtual tokens per sequence
        ("next_end", np.float64),  # virtual token count at which the next sequence ends, inf for none
        ("kv_used", np.float64),  # tokens
        ("decoding", np.int64),  # sequences in decode
        ("prefill_id", np.int64),  # request in prefill, -1 for none
        ("prefill_left", np.float64),  # engine steps left of it
        ("prefill_chunk", np.float64),  # its tokens per step
        ("head", np.int64),  # first waiting place
        ("waiting", np.int64),  # requests waiting
    ]
)
MODEL: Final = np.dtype(
    [
        ("enabled", np.int64),  # 1: part of the pool
        ("in_flight", np.int64),
        ("error_rate", np.float64),
        ("mean_prompt", np.float64),  # tokens, moving mean over finished requests
        ("mean_output", np.float64),  # tokens, likewise
        ("up_since_s", np.float64),  # since when more replicas are needed, inf where none is
        ("down_since_s", np.float64),
    ]
)
REQUEST: Final = np.dtype(
    [
        ("model", np.int64),
        ("outcome", np.int64),
        ("arrival_s", np.float64),
        ("prompt_tokens", np.float64),
        ("output_tokens", np.float64),  # at the model that was chosen
        ("score", np.float64),  # of the answer, once it is finished
        ("cost_usd", np.float64),  # of the answer, once it is finished
        ("ttft_s", np.float64),
        ("e2e_s", np.float64),
        ("reward", np.float64),
    ]
)
POOL: Final = np.dtype(
    [
        ("accuracy_weight", np.float64),
        ("latency_weight", np.float64),
        ("cost_weight", np.float64),
        ("target_s", np.float64),
        ("deadline_s", np.float64),  # a request that waits longer is given up
        ("cost_scale_usd", np.float64),
        ("in_flight_per_slot", np.float64),  # a model that holds so many for each warm slot takes no more
        ("blind", np.int64),  # 1: observations show idle engines, whatever the load
        ("earned", np.float64),  # sum of the rewards that became known in this step
        ("random", np.uint64),  # state of the failures' generator
    ]
)


class Queues(NamedTuple):
    """State of E independent pools. M models, R replicas, S slots, W waiting places, K requests."""

    pools: npt.NDArray[np.void]  # [E] POOL
    params: npt.NDArray[np.void]  # [E, M] policies.simulator.spec.PARAMS
    believed: npt.NDArray[np.void]  # [E, M] the same as the dispatcher believes them: predictions use these
    models: npt.NDArray[np.void]  # [E, M] MODEL
    replicas: npt.NDArray[np.void]  # [E, M, R] REPLICA
    slot_id: npt.NDArray[np.int64]  # [E, M, R, S]
    slot_end: npt.NDArray[np.float64]  # [E, M, R, S] virtual token count at which the sequence ends
    queue: npt.NDArray[np.int64]  # [E, M, R, W]
    requests: npt.NDArray[np.void]  # [E, K] REQUEST


@compiled(fused=False)
def finish(q: Queues, e: int, k: int, outcome: int, at_s: float) -> None:
    """Close request `k`: outcome, times, reward, error rate."""
    request = q.requests[e, k]
    pool = q.pools[e]
    model = q.models[e, request.model]
    request.outcome = outcome
    model.in_flight -= 1
    if outcome == DONE:
        request.e2e_s = at_s - request.arrival_s + q.params[e, request.model].overhead_s
        model.mean_prompt += _LENGTH_MEMORY * (request.prompt_tokens - model.mean_prompt)
        model.mean_output += _LENGTH_MEMORY * (request.output_tokens - model.mean_output)
        model.error_rate -= _ERROR_MEMORY * model.error_rate
    else:
        request.e2e_s = np.inf
        request.score = 0.0
        request.cost_usd = 0.0
        if outcome == FAILED:
            model.error_rate += _ERROR_MEMORY * (1.0 - model.error_rate)
    request.reward = reward(
        request.score,
        lateness(request.e2e_s, pool.target_s),
        request.cost_usd / pool.cost_scale_usd,
        pool.accuracy_weight,
        pool.latency_weight,
        pool.cost_weight,
    )
    pool.earned += request.reward


@compiled(fused=False)
def admit(q: Queues, e: int, m: int, r: int) -> None:
    """Move the first waiting request that is still wanted into prefill, if slot and cache allow."""
    replica = q.replicas[e, m, r]
    p = q.params[e, m]
    while replica.waiting > 0:
        k = q.queue[e, m, r, replica.head]
        request = q.requests[e, k]
        kv = request.prompt_tokens + request.output_tokens
        expired = replica.clock_s - request.arrival_s > q.pools[e].deadline_s
        dropped = expired or kv > p.kv_tokens
        if not dropped and (replica.decoding + 1 > p.slots or replica.kv_used + kv > p.kv_tokens):
            return
        replica.head = (replica.head + 1) % q.queue.shape[3]
        replica.waiting -= 1
        if dropped:
            finish(q, e, k, EXPIRED if expired else REJECTED, replica.clock_s)
            continue
        replica.kv_used += kv
        prompt = max(request.prompt_tokens, 1.0)
        replica.prefill_id = k
        replica.prefill_chunk = min(p.chunk_tokens, prompt)
        replica.prefill_left = prompt / replica.prefill_chunk
        return


@compiled(fused=False)
def end_prefill(q: Queues, e: int, m: int, r: int) -> None:
    """First token: the request joins the decoding batch, or ends if that was all."""
    replica = q.replicas[e, m, r]
    k = replica.prefill_id
    request = q.requests[e, k]
    replica.prefill_id = -1
    request.ttft_s = replica.clock_s - request.arrival_s + q.params[e, m].overhead_s
    if request.output_tokens <= 1.0:
        replica.kv_used -= request.prompt_tokens + request.output_tokens
        finish(q, e, k, DONE, replica.clock_s)
        return
    end = replica.tokens + request.output_tokens - 1.0
    q.slot_id[e, m, r, replica.decoding] = k
    q.slot_end[e, m, r, replica.decoding] = end
    replica.next_end = min(replica.next_end, end)
    replica.decoding += 1


@compiled(fused=False)
def end_sequence(q: Queues, e: int, m: int, r: int) -> None:
    """Last token of the sequence that ends next."""
    replica = q.replicas[e, m, r]
    ends = q.slot_end[e, m, r]
    last = replica.decoding - 1
    slot = 0
    while ends[slot] != replica.next_end:
        slot += 1
    k = q.slot_id[e, m, r, slot]
    q.slot_id[e, m, r, slot] = q.slot_id[e, m, r, last]
    ends[slot] = ends[last]
    replica.decoding = last
    following = np.inf
    for i in range(last):
        following = min(following, ends[i])
    replica.next_end = following
    replica.kv_used -= q.requests[e, k].prompt_tokens + q.requests[e, k].output_tokens
    finish(q, e, k, DONE, replica.clock_s)


@compiled(fused=False)
def advance_replica(q: Queues, e: int, m: int, r: int, until_s: float) -> None:
    """Simulate one replica up to `until_s`."""
    replica = q.replicas[e, m, r]
    p = q.params[e, m]
    while replica.clock_s < until_s:
        if replica.status == COLD and replica.ready_s <= until_s:
            replica.clock_s = max(replica.clock_s, replica.ready_s)
            replica.status = WARM
        if replica.status == COLD or replica.status == OFF:
            replica.clock_s = until_s
            return
        if replica.prefill_id < 0 and replica.waiting > 0:
            admit(q, e, m, r)
        busy = replica.prefill_id >= 0
        if replica.decoding == 0 and not busy:
            replica.tokens = 0.0
            replica.clock_s = until_s
            if replica.status == DRAINING:
                replica.status = OFF
            return
        step = p.step_base_s + p.step_per_sequence_s * replica.decoding
        steps = replica.next_end - replica.tokens
        sequence = True
        if busy:
            step += replica.prefill_chunk / p.prefill_tokens_per_s
            sequence = steps < replica.prefill_left
            steps = min(steps, replica.prefill_left)
        reach = (until_s - replica.clock_s) / step
        event = steps <= reach
        steps = min(steps, reach)
        replica.tokens += steps
        replica.clock_s = replica.clock_s + steps * step if event else until_s
        if busy:
            replica.prefill_left -= steps
        if event and sequence:
            end_sequence(q, e, m, r)
        elif event:
            end_prefill(q, e, m, r)


@compiled(fused=False)
def fail_replica(q: Queues, e: int, m: int, r: int, now_s: float) -> None:
    """The replica dies: what it runs and holds fails, and it starts cold again."""
    replica = q.replicas[e, m, r]
    for slot in range(replica.decoding):
        finish(q, e, q.slot_id[e, m, r, slot], FAILED, now_s)
    if replica.prefill_id >= 0:
        finish(q, e, replica.prefill_id, FAILED, now_s)
    for i in range(replica.waiting):
        finish(q, e, q.queue[e, m, r, (replica.head + i) % q.queue.shape[3]], FAILED, now_s)
    replica.decoding = 0
    replica.next_end = np.inf
    replica.prefill_id = -1
    replica.waiting = 0
    replica.kv_used = 0.0
    replica.status = COLD
    replica.ready_s = now_s + q.params[e, m].cold_start_s


@compiled(fused=False)
def uniform(pool: Any) -> float:
    """A number in [0, 1) from the pool's own xorshift64 generator (Marsaglia 2003)."""
    x = pool.random
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    pool.random = x
    return float(x >> np.uint64(11)) / 9007199254740992.0


@compiled(fused=False)
def autoscale(q: Queues, e: int, m: int, now_s: float) -> None:
    """At most one change a call: start a replica after a lasting shortage, drain after a lasting surplus."""
    model = q.models[e, m]
    p = q.params[e, m]
    alive, spare, warm = 0, -1, -1
    for r in range(q.replicas.shape[2]):
        status = q.replicas[e, m, r].status
        if status in (COLD, WARM):
            alive += 1
        if status == OFF:
            spare = r
        if status == WARM:
            warm = r
    wanted = min(max(np.ceil(model.in_flight / p.scale_in_flight), p.min_replicas), p.max_replicas)
    model.up_since_s = min(model.up_since_s, now_s) if wanted > alive else np.inf
    model.down_since_s = min(model.down_since_s, now_s) if wanted < alive else np.inf
    if now_s - model.up_since_s >= p.upscale_delay_s and spare >= 0:
        q.replicas[e, m, spare].status = COLD
        q.replicas[e, m, spare].ready_s = now_s + p.cold_start_s
        q.replicas[e, m, spare].clock_s = now_s
        model.up_since_s = np.inf
    elif now_s - model.down_since_s >= p.downscale_delay_s and warm >= 0:
        q.replicas[e, m, warm].status = DRAINING
        model.down_since_s = np.inf


@compiled(fused=False)
def advance(q: Queues, e: int, now_s: float, elapsed_s: float) -> None:
    """Simulate every replica of pool `e` up to `now_s`; then failures and autoscaling, once."""
    for m in range(q.replicas.shape[1]):
        p = q.params[e, m]
        hazard = p.failures_per_s * elapsed_s
        for r in range(q.replicas.shape[2]):
            advance_replica(q, e, m, r, now_s)
            if hazard > 0.0 and q.replicas[e, m, r].status == WARM and uniform(q.pools[e]) < hazard:
                fail_replica(q, e, m, r, now_s)
        if p.max_replicas > 1.0 or p.min_replicas < 1.0:
            autoscale(q, e, m, now_s)


@compiled(fused=False)
def pick_replica(q: Queues, e: int, m: int) -> int:
    """The warm replica with the fewest requests; else a cold one; -1 where there is none."""
    best = -1
    fewest = np.inf
    for r in range(q.replicas.shape[2]):
        replica = q.replicas[e, m, r]
        if replica.status != WARM and replica.status != COLD:
            continue
        load = replica.waiting + replica.decoding + (1.0 if replica.prefill_id >= 0 else 0.0)
        if replica.status == COLD:
            load += 1e6
        if load < fewest:
            best, fewest = r, load
    return best


@compiled(fused=False)
def is_full(q: Queues, e: int, m: int) -> bool:
    """Whether the model holds as many requests as dispatch lets it, by its warm replicas' slots."""
    warm = 0
    for r in range(q.replicas.shape[2]):
        if q.replicas[e, m, r].status == WARM:
            warm += 1
    slots = max(warm * q.params[e, m].slots, 1.0)
    return bool(q.models[e, m].in_flight >= q.pools[e].in_flight_per_slot * slots)


@compiled(fused=False)
def submit(q: Queues, e: int, m: int, k: int) -> None:
    """Hand request `k`, whose fields are set, to model `m`; rejected where it is full or no place is left."""
    request = q.requests[e, k]
    request.model = m
    request.outcome = OPEN
    request.ttft_s = np.nan
    taken = q.models[e, m].enabled and not is_full(q, e, m)
    q.models[e, m].in_flight += 1
    r = pick_replica(q, e, m) if taken else -1
    if r < 0 or q.replicas[e, m, r].waiting == q.queue.shape[3]:
        finish(q, e, k, REJECTED, request.arrival_s)
        return
    replica = q.replicas[e, m, r]
    q.queue[e, m, r, (replica.head + replica.waiting) % q.queue.shape[3]] = k
    replica.waiting += 1
