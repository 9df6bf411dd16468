"""Calibration: fits a simulated model to recorded requests, and scores the simulator on others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.optimize import minimize, nnls

from policies.arrays import F64
from policies.observation import PROMPT_FIELDS
from policies.simulator.queues import DONE
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, QualityTable

FITTED: Final = ("step_base_s", "step_per_sequence_s", "prefill_tokens_per_s", "overhead_s")
_FLOORS: Final = (1e-5, 1e-7, 1.0, 1e-5)
_LEAST_INVERSE_RATE: Final = 1e-7  # seconds a prompt token: below it, prefill takes no time that shows
LEAST: Final = 20  # requests needed to fit four parameters
_QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


Times = tuple[F64, F64]  # ttft_s, e2e_s, each [N]


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request of a recorded load, as the decision log has it; times in seconds."""

    model: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True, slots=True)
class Columns:
    """The same for one model as arrays [N], in order of arrival."""

    arrival_s: F64
    prompt: F64
    output: F64
    ttft_s: F64
    e2e_s: F64


def columns(served: Sequence[Served], model: str) -> Columns:
    """One model's requests. Raises ValueError where there are fewer than are needed to fit anything."""
    rows = sorted(
        (s.arrival_s, s.prompt_tokens, s.output_tokens, s.ttft_s, s.e2e_s) for s in served if s.model == model
    )
    if len(rows) < LEAST:
        raise ValueError(f"Model '{model}' has {len(rows)} recorded requests, needs at least {LEAST}.")
    return Columns(*np.array(rows, dtype=np.float64).T)


def fit_model(spec: ModelSpec, served: Sequence[Served]) -> ModelSpec:
    """`spec` with step time, prefill rate and overhead fitted to its recorded requests.

    A least-squares start (`first_guess`), then Nelder-Mead on the log parameters: each candidate replays
    the recorded arrivals and is judged by the log errors of each request and of the quantiles.
    """
    data = columns(served, spec.name)
    guess = first_guess(spec, data)
    start = np.log([max(getattr(guess, name), floor) for name, floor in zip(FITTED, _FLOORS, strict=True)])

    def loss(x: F64) -> float:
        return _misfit(_with(guess, x), data)

    options = {"maxfev": 300, "xatol": 0.01, "fatol": 1e-4}
    result = minimize(loss, start, method="Nelder-Mead", options=options)
    best = result.x if result.fun < loss(start) else start
    return _with(guess, best)


def _with(spec: ModelSpec, x: F64) -> ModelSpec:
    values = np.maximum(np.exp(np.clip(x, -16.0, 16.0)), _FLOORS).tolist()
    return replace(spec, **dict(zip(FITTED, values, strict=True)))


def first_guess(spec: ModelSpec, data: Columns) -> ModelSpec:
    """TPOT = base + per_sequence * mean batch + (prompt tokens prefilled meanwhile / own tokens) / rate.

    Where too few answers are longer than a token to tell, `spec` keeps its step time and prefill rate.
    """
    long = data.output >= 2.0
    if int(long.sum()) < LEAST:
        return replace(spec, overhead_s=_overhead_s(data, spec.step_base_s, spec.prefill_tokens_per_s))
    tpot = (data.e2e_s - data.ttft_s)[long] / (data.output[long] - 1.0)
    first, last = data.arrival_s + data.ttft_s, data.arrival_s + data.e2e_s
    batch, meanwhile = [], []
    for start, end in zip(first[long], last[long], strict=True):
        overlap = np.clip(np.minimum(last, end) - np.maximum(first, start), 0.0, None)
        batch.append(overlap.sum() / max(end - start, 1e-9))
        meanwhile.append(data.prompt[(first > start) & (first < end)].sum())
    design = np.column_stack([np.ones(len(batch)), batch, np.array(meanwhile) / (data.output[long] - 1.0)])
    (base, per_sequence, inverse_rate), _ = nnls(design, tpot)
    rate = 1.0 / inverse_rate if inverse_rate > _LEAST_INVERSE_RATE else spec.prefill_tokens_per_s
    return replace(
        spec,
        step_base_s=max(float(base), 1e-5),
        step_per_sequence_s=float(per_sequence),
        prefill_tokens_per_s=float(rate),
        overhead_s=_overhead_s(data, float(base), float(rate)),
    )


def _overhead_s(data: Columns, step_s: float, rate: float) -> float:
    """What is left of the quickest quarter's TTFT."""
    quick = data.ttft_s <= np.quantile(data.ttft_s, 0.25)
    return max(float(np.median((data.ttft_s - data.prompt / rate)[quick])) - step_s, 1e-5)


def simulate(spec: ModelSpec, data: Columns) -> Times:
    """(ttft_s, e2e_s) [N] of the recorded arrivals in the simulator; NaN where one was not answered."""
    count = len(data.arrival_s)
    table = QualityTable(
        np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, len(PROMPT_FIELDS)))
    )
    simulator = QueueSimulator(
        [spec],
        table,
        deadline_s=1e9,
        in_flight_per_slot=np.inf,  # what is replayed was let in
        waiting_places=count + 1,
        requests_kept=count + 1,
    )

    def padded(values: F64) -> F64:
        return np.append(values, values[-1])

    output = np.maximum(padded(data.output), 1.0) / spec.output_scale
    simulator.load(
        0,
        Episode(
            padded(data.arrival_s),
            padded(data.prompt),
            output,
            output,
            np.zeros(count + 1, dtype=np.int64),
            np.array([1.0, 1.0, 0.0, 10.0]),
        ),
    )
    action = np.zeros(1, dtype=np.int64)
    for _ in range(count):
        simulator.step(action)
    requests = simulator.requests(0, 0, count)
    done = requests["outcome"] == DONE
    return np.where(done, requests["ttft_s"], np.nan), np.where(done, requests["e2e_s"], np.nan)


def _misfit(spec: ModelSpec, data: Columns) -> float:
    total = 0.0
    for simulated, measured in zip(simulate(spec, data), (data.ttft_s, data.e2e_s), strict=True):
        if not np.isfinite(simulated).all():
            return 1e3
        logs = np.log(simulated) - np.log(np.maximum(measured, 1e-6))
        spread = np.log(np.quantile(simulated, _QUANTILES)) - np.log(np.quantile(measured, _QUANTILES))
        total += float(np.abs(logs).mean()) + 2.0 * float(np.abs(spread).mean())
    return total


def errors(simulated: Times, measured: Times) -> dict[str, float]:
    """Relative error of the simulator's p50 and p95 of TTFT and end-to-end against the recorded ones.

    Each of (ttft_s, e2e_s), [N] seconds. Keys `ttft_p50`, `ttft_p95`, `e2e_p50`, `e2e_p95`; 0.1 is 10 % too
    slow, -0.1 as much too fast.
    """
    relative: dict[str, float] = {}
    for name, simulated_s, measured_s in zip(("ttft", "e2e"), simulated, measured, strict=True):
        for label, share in (("p50", 0.5), ("p95", 0.95)):
            ratio = np.nanquantile(simulated_s, share) / np.quantile(measured_s, share)
            relative[f"{name}_{label}"] = float(ratio) - 1.0
    return relative
