"""Compiled step of the queue simulator: dispatch, advance to the next arrival, write what a policy sees."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from policies import observation as column
from policies.arrays import F64, I64
from policies.compiled import compiled
from policies.cost import cost_usd
from policies.simulator.queues import COLD, OPEN, WARM, Queues, advance, is_full, pick_replica, submit

_cost_usd = compiled(fused=False)(cost_usd)
DRAIN_S: Final = 1e5  # longer than anything an episode leaves behind


class Stream(NamedTuple):
    """The requests of E episodes; request T is only looked at, it ends the episode."""

    arrival_s: F64  # [E, T + 1]
    prompt_tokens: F64  # [E, T + 1]
    output_tokens: F64  # [E, T + 1] true length, before a model's output_scale
    predicted_tokens: F64  # [E, T + 1] the length in the observation
    row: I64  # [E, T + 1] row of the quality table
    length: I64  # [E] T
    cursor: I64  # [E] request that waits for its decision
    decided: I64  # [E] decisions since the pool was made; request k lives at k % K


class Table(NamedTuple):
    """Quality of Q prompts at M models: the scores of the answers and the predictions of them."""

    score: F64  # [Q, M]
    accuracy: F64  # [Q, M]
    accuracy_std: F64  # [Q, M]
    prompt: F64  # [Q, P] PROMPT_FIELDS; the two lengths are replaced by the request's


class ObservationBatch(NamedTuple):
    """The newest observation of each of E pools, in float32."""

    rows: npt.NDArray[np.float32]  # [E, M, F]
    prompt: npt.NDArray[np.float32]  # [E, P]
    caller: npt.NDArray[np.float32]  # [E, 4]
    mask: npt.NDArray[np.int8]  # [E, M]


@compiled(fused=False)
def predict_idle(q: Queues, e: int, m: int, prompt: float, output: float) -> tuple[float, float, float]:
    """(ttft_s, e2e_s, tpot_s) of a request on an idle replica."""
    p = q.believed[e, m]
    tpot = p.step_base_s + p.step_per_sequence_s
    ttft = max(1.0, prompt / p.chunk_tokens) * p.step_base_s + prompt / p.prefill_tokens_per_s + p.overhead_s
    return ttft, ttft + max(output - 1.0, 0.0) * tpot, tpot


@compiled(fused=False)
def predict(q: Queues, e: int, m: int, r: int, prompt: float, output: float) -> tuple[float, float, float]:
    """(ttft_s, e2e_s, tpot_s) of a request sent to replica `r` now, from what an engine reports.

    A busy replica frees a slot every `mean output * step / slots` seconds; every step also carries
    the prefill work of the requests that replace those which end.
    """
    p = q.believed[e, m]
    model = q.models[e, m]
    replica = q.replicas[e, m, r]
    prefill_s = model.mean_prompt / p.prefill_tokens_per_s
    busy = 1.0 if replica.prefill_id >= 0 else 0.0
    running = replica.decoding + busy
    batch = min(p.slots, running + replica.waiting + 1.0)
    tpot = p.step_base_s + p.step_per_sequence_s * batch + prefill_s * min(1.0, batch / model.mean_output)
    own_step = p.step_base_s + p.step_per_sequence_s * replica.decoding
    wait = busy * replica.prefill_left * (own_step + replica.prefill_chunk / p.prefill_tokens_per_s)
    if replica.status == COLD:
        wait += replica.ready_s - replica.clock_s
    wait += replica.waiting * prefill_s
    missing = replica.waiting + 1.0 - (p.slots - running)
    if missing > 0.0:
        full_step = p.step_base_s + p.step_per_sequence_s * p.slots
        wait += missing * model.mean_output * full_step / p.slots
    ttft = (
        wait + max(1.0, prompt / p.chunk_tokens) * own_step + prompt / p.prefill_tokens_per_s + p.overhead_s
    )
    return ttft, ttft + max(output - 1.0, 0.0) * tpot, tpot


@compiled(fused=False)
def observe_model(
    q: Queues, e: int, m: int, prompt: float, output: float, row: npt.NDArray[np.float32]
) -> None:
    """Write the live columns of one model's row [F]."""
    p = q.believed[e, m]
    waiting, warm, used = 0, 0, 0.0
    for i in range(q.replicas.shape[2]):
        replica = q.replicas[e, m, i]
        if replica.status == WARM:
            warm += 1
            used += replica.kv_used
        waiting += replica.waiting
    output *= p.output_scale
    r = pick_replica(q, e, m)
    if r >= 0:
        row[column.TTFT_S], row[column.E2E_S], row[column.TPOT_S] = predict(q, e, m, r, prompt, output)
    row[column.WEIGHT] = p.weight
    row[column.COST_USD] = _cost_usd(prompt, output, p.prompt_usd_per_mtok, p.completion_usd_per_mtok)
    row[column.IN_FLIGHT] = q.models[e, m].in_flight
    row[column.WAITING] = waiting
    row[column.SLOTS] = warm * p.slots
    row[column.KV_USE] = min(used / (max(warm, 1) * p.kv_tokens), 1.0)
    row[column.ERROR_RATE] = q.models[e, m].error_rate
    row[column.REPLICAS] = warm
    row[column.COLD] = 0.0 if warm else 1.0
    if q.pools[e].blind:
        row[column.TTFT_S], row[column.E2E_S], row[column.TPOT_S] = predict_idle(q, e, m, prompt, output)
        row[column.IN_FLIGHT] = row[column.WAITING] = row[column.KV_USE] = row[column.ERROR_RATE] = 0.0


@compiled(fused=False)
def observe(q: Queues, s: Stream, table: Table, observations: ObservationBatch, e: int) -> None:
    """What a policy sees of the request at the cursor of pool `e`.

    The mask is the one that serves: models with a warm replica that are not full. While there is none, those
    with a warm replica, whose requests are then refused; while there is none of these, those with a cold one.
    """
    t = s.cursor[e]
    prompt, output = s.prompt_tokens[e, t], s.predicted_tokens[e, t]
    usable, warm = 0, 0
    for m in range(q.params.shape[1]):
        row = observations.rows[e, m]
        observe_model(q, e, m, prompt, output, row)
        row[column.ACCURACY] = table.accuracy[s.row[e, t], m]
        row[column.ACCURACY_STD] = table.accuracy_std[s.row[e, t], m]
        serves = q.models[e, m].enabled and row[column.REPLICAS] > 0
        observations.mask[e, m] = 1 if serves and not is_full(q, e, m) else 0
        usable += observations.mask[e, m]
        warm += 1 if serves else 0
    if usable == 0:
        for m in range(q.params.shape[1]):
            serves = warm == 0 or observations.rows[e, m, column.REPLICAS] > 0
            observations.mask[e, m] = 1 if q.models[e, m].enabled and serves else 0
    for i in range(observations.prompt.shape[1]):
        observations.prompt[e, i] = table.prompt[s.row[e, t], i]
    observations.prompt[e, column.PROMPT_TOKENS] = prompt
    observations.prompt[e, column.OUTPUT_TOKENS] = output
    pool = q.pools[e]
    observations.caller[e, column.ACCURACY_WEIGHT] = pool.accuracy_weight
    observations.caller[e, column.LATENCY_WEIGHT] = pool.latency_weight
    observations.caller[e, column.COST_WEIGHT] = pool.cost_weight
    observations.caller[e, column.TARGET_S] = pool.target_s


@compiled(fused=False)
def dispatch(q: Queues, s: Stream, table: Table, e: int, m: int) -> bool:
    """Send the request at the cursor to model `m`. False where its place still holds an open request."""
    t = s.cursor[e]
    k = s.decided[e] % q.requests.shape[1]
    request = q.requests[e, k]
    if request.outcome == OPEN:
        return False
    p = q.params[e, m]
    request.arrival_s = s.arrival_s[e, t]
    request.prompt_tokens = s.prompt_tokens[e, t]
    request.output_tokens = max(np.rint(s.output_tokens[e, t] * p.output_scale), 1.0)
    request.score = table.score[s.row[e, t], m]
    request.cost_usd = _cost_usd(
        request.prompt_tokens, request.output_tokens, p.prompt_usd_per_mtok, p.completion_usd_per_mtok
    )
    submit(q, e, m, k)
    s.decided[e] += 1
    return True


@compiled(fused=False)
def step(
    q: Queues,
    s: Stream,
    table: Table,
    observations: ObservationBatch,
    actions: I64,
    active: npt.NDArray[np.bool_],
    ended: npt.NDArray[np.bool_],
) -> bool:
    """One decision in every active pool; inactive ones are only observed. False on an overrun ring.

    `actions` [E] models, `active` [E], `ended` [E] out: the episode's last request was dispatched,
    and everything still open has been served without further arrivals.
    """
    fine = True
    for e in range(q.params.shape[0]):
        q.pools[e].earned = 0.0
        ended[e] = False
        if active[e]:
            before = s.arrival_s[e, s.cursor[e]]
            fine &= dispatch(q, s, table, e, actions[e])
            s.cursor[e] += 1
            now = s.arrival_s[e, s.cursor[e]]
            advance(q, e, now, now - before)
            ended[e] = s.cursor[e] == s.length[e]
        observe(q, s, table, observations, e)
        if ended[e]:
            advance(q, e, s.arrival_s[e, s.cursor[e]] + DRAIN_S, 0.0)
    return fine
