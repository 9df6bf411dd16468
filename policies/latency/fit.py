"""Fits the latency model to recorded requests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.arrays import F32, F64
from policies.latency.model import LatencyModel, LatencyParameters, length_inputs
from policies.observation import PROMPT_COLUMN

MIN_FIT: Final = 30  # outcomes of one model below which its parameters stay as they are
_LENGTH_PENALTY: Final = 10.0  # in requests
_LEAST_SPREAD: Final = 0.05  # of an input, below which its slope is shrunk the more


@dataclass(frozen=True, slots=True)
class LatencySample:
    """One finished request as the fit reads it. `in_flight` counts the requests that were ahead of it."""

    model: str
    prompt: tuple[float, ...]  # [P] of PROMPT_FIELDS
    style: F32  # [S] of PromptFeatures
    in_flight: float
    slots: float
    replicas: float
    output_tokens: int
    ttft_s: float
    tpot_s: float | None


def fit_latency(
    samples: Iterable[LatencySample], start: LatencyModel | None = None, revision: str = ""
) -> LatencyModel:
    """Refit every model that has MIN_FIT samples or more; the others keep what `start` holds.

    TTFT and TPOT by non-negative least squares on relative errors, answer length by ridge in logs.
    """
    by_model: dict[str, list[LatencySample]] = {}
    for sample in samples:
        by_model.setdefault(sample.model, []).append(sample)
    parameters = dict(start.parameters) if start else {}
    for model, own in by_model.items():
        if len(own) >= MIN_FIT:
            parameters[model] = _fit_model(own, parameters.get(model, LatencyParameters()))
    return LatencyModel(parameters, revision)


def _fit_model(samples: Sequence[LatencySample], before: LatencyParameters) -> LatencyParameters:
    prompts = np.array([s.prompt for s in samples])
    there = np.array([s.in_flight + 1.0 for s in samples])
    slots = np.maximum([s.slots for s in samples], 1.0)
    replicas = np.maximum([s.replicas for s in samples], 1.0)
    output = np.array([float(s.output_tokens) for s in samples])
    ttft_s = np.maximum([s.ttft_s for s in samples], 1e-4)
    ahead = np.maximum(there - slots, 0.0) / slots
    tokens = prompts[:, PROMPT_COLUMN["prompt_tokens"]]
    base_s, prefill_s, _ = _relative_nnls(np.column_stack([np.ones_like(tokens), tokens, ahead]), ttft_s)
    timed = np.array([s.tpot_s is not None and s.tpot_s > 0.0 for s in samples])
    tpot_s, slope = before.tpot_s, before.batch_slope
    if int(timed.sum()) >= MIN_FIT:
        batch = np.maximum(np.minimum(there, slots) / replicas - 1.0, 0.0)[timed]
        measured = np.array([s.tpot_s or 0.0 for s in samples])[timed]
        first, extra = _relative_nnls(np.column_stack([np.ones_like(batch), batch]), measured)
        tpot_s = max(first, 1e-6)
        slope = extra / tpot_s
    return LatencyParameters(
        base_s=max(base_s, 1e-4),
        prefill_s=prefill_s,
        tpot_s=tpot_s,
        batch_slope=slope,
        length=fit_length(np.stack([length_inputs(np.array(s.prompt), s.style) for s in samples]), output),
        mean_output_tokens=float(output.mean()),
        cold_s=before.cold_s,
        count=len(samples),
    )


def _relative_nnls(inputs: F64, target: F64) -> list[float]:
    """Non-negative coefficients minimising the squared relative error, columns scaled first."""
    from scipy.optimize import nnls

    scale = np.maximum(inputs.max(axis=0), 1e-12)
    coefficients, _ = nnls(inputs / scale / target[:, None], np.ones_like(target))
    return [float(value) for value in coefficients / scale]


def fit_length(inputs: F64, output_tokens: F64) -> tuple[float, ...]:
    """[L] ridge coefficients of log(1 + output_tokens) [N] on `inputs` [N, L], brought to one spread.

    The mean, which the first input carries, is not shrunk.
    """
    target = np.log1p(output_tokens)
    level = float(target.mean())
    centre, spread = inputs[:, 1:].mean(axis=0), inputs[:, 1:].std(axis=0) + _LEAST_SPREAD
    x = (inputs[:, 1:] - centre) / spread
    slope = np.linalg.solve(x.T @ x + _LENGTH_PENALTY * np.eye(x.shape[1]), x.T @ (target - level)) / spread
    return (level - float(slope @ centre), *(float(value) for value in slope))
