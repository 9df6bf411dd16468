"""A reference engine that runs every step: token budget, chunked prefill, FIFO, as vLLM's scheduler does.

It shares nothing with the simulator's fluid kernel, so that calibration is not tried on itself.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from policies.simulator.arrivals import Trace
from policies.simulator.fit import Served


@dataclass(frozen=True, slots=True)
class StepEngine:
    """True timing of one engine: a step costs `fixed_s` + `per_sequence_s` each + `per_token_s` per prompt
    token + `per_context_s` per token of context attended to, times log-normal noise of `jitter`."""

    name: str
    fixed_s: float = 0.018
    per_sequence_s: float = 0.0006
    per_token_s: float = 1.0 / 6000.0
    per_context_s: float = 2e-7
    overhead_s: float = 0.008
    slots: int = 16
    budget_tokens: int = 2048
    jitter: float = 0.1


@dataclass(slots=True)
class _Sequence:
    index: int
    arrival_s: float
    prompt_left: int
    context: int
    output_left: int
    ttft_s: float = 0.0


def serve(engine: StepEngine, trace: Trace, seed: int) -> list[Served]:
    """Every request of the trace, served to its end."""
    rng = np.random.default_rng(seed)
    prompts, outputs = trace.prompt_tokens.astype(int), np.maximum(trace.output_tokens, 1).astype(int)
    coming = deque(
        _Sequence(i, float(trace.arrival_s[i]), max(int(prompts[i]), 1), 0, int(outputs[i]))
        for i in range(len(trace))
    )
    running: list[_Sequence] = []
    clock, served = 0.0, []
    while coming or running:
        if not running and coming[0].arrival_s > clock:
            clock = coming[0].arrival_s
        while coming and coming[0].arrival_s <= clock and len(running) < engine.slots:
            running.append(coming.popleft())
        clock += _step(engine, running) * float(np.exp(rng.normal(0.0, engine.jitter)))
        for sequence in [s for s in running if s.prompt_left == 0]:
            if sequence.ttft_s == 0.0:
                sequence.ttft_s = clock - sequence.arrival_s + engine.overhead_s
            if sequence.output_left == 0:
                running.remove(sequence)
                i, e2e_s = sequence.index, clock - sequence.arrival_s + engine.overhead_s
                served.append(
                    Served(
                        engine.name,
                        sequence.arrival_s,
                        int(prompts[i]),
                        int(outputs[i]),
                        sequence.ttft_s,
                        e2e_s,
                    )
                )
    return served


def _step(engine: StepEngine, running: list[_Sequence]) -> float:
    """Advance every sequence by one token or one chunk; returns the step's seconds without noise."""
    budget = engine.budget_tokens
    seconds = engine.fixed_s
    for sequence in running:
        if sequence.prompt_left > 0:
            chunk = min(sequence.prompt_left, budget)
            budget -= chunk
            sequence.prompt_left -= chunk
            sequence.context += chunk
            seconds += chunk * engine.per_token_s
            if sequence.prompt_left > 0:
                continue
        else:
            budget -= 1
            seconds += engine.per_sequence_s + engine.per_context_s * sequence.context
        sequence.context += 1
        sequence.output_left -= 1
    return seconds
