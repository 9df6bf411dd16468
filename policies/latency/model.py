"""Predicts each model's TTFT, end-to-end latency and answer length for one prompt at the present load."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from policies.latency_kernel import BOUND, LENGTH_INPUTS, predict_latency, write_length_inputs
from policies.observation import PROMPT_COLUMN, FloatArray

VERSION: Final = 2
MIN_FIT: Final = 30  # outcomes of one model below which its parameters stay as they are
_FULL_TRUST: Final = 10.0  # live count at which half of a live deviation is believed
_LIVE_SCALE: Final = (0.05, 50.0)
_PROMPT_TOKENS: Final = PROMPT_COLUMN["prompt_tokens"]
_PRIOR_TOKENS: Final = 128.0  # of an answer
_LENGTH_PENALTY: Final = 10.0  # in requests
_LEAST_SPREAD: Final = 0.05  # of an input, below which its slope is shrunk the more

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LatencyParameters:
    """One model's latency, batch and queue effects apart.

    ttft = base_s + prefill_s * prompt_tokens + wait, tpot(b) = tpot_s * (1 + batch_slope * (b - 1)) with
    b sequences a replica, log(1 + output_tokens) = length @ length_inputs(...). `wait` follows from
    these: requests ahead beyond the slots, times the mean service time, over the slots.
    """

    base_s: float = 0.1
    prefill_s: float = 0.0005
    tpot_s: float = 0.03
    batch_slope: float = 0.05
    length: tuple[float, ...] = (math.log1p(_PRIOR_TOKENS), *(0.0,) * (LENGTH_INPUTS - 1))
    mean_output_tokens: float = _PRIOR_TOKENS
    cold_s: float = 30.0
    count: int = 0  # outcomes behind the fit; 0 is the prior, which live measurements overrule


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


@dataclass(frozen=True, slots=True)
class LiveLoad:
    """What the table measured, one entry a model [M]; NaN where nothing is measured yet."""

    models: tuple[str, ...]
    slots: FloatArray
    replicas: FloatArray
    running: FloatArray
    waiting: FloatArray
    cold: FloatArray
    ttft_s: FloatArray  # median
    queue_s: FloatArray  # median wait inside the engine
    tpot_s: FloatArray  # mean
    output_tokens: FloatArray  # mean
    count: FloatArray  # outcomes in the window


class LatencyPrediction(NamedTuple):
    """[M] each: seconds to the first token, seconds to the last, tokens of the answer."""

    ttft_s: FloatArray
    e2e_s: FloatArray
    output_tokens: FloatArray


def length_inputs(prompt: FloatArray, style: F32) -> FloatArray:
    """[L] inputs of the answer-length regression: 1, logs of lengths, shares and hints from `prompt` [P], and
    `style` [S]."""
    inputs = np.empty(LENGTH_INPUTS)
    write_length_inputs(prompt, style, inputs)
    return inputs


class BoundLatency:
    """The parameters of M models joined with one live reading: what one snapshot costs is paid here once."""

    def __init__(self, parameters: Sequence[LatencyParameters], live: LiveLoad) -> None:
        columns = np.array([(p.base_s, p.prefill_s, p.tpot_s, p.batch_slope, p.cold_s) for p in parameters])
        base_s, prefill_s, tpot_s, slope, cold_s = columns.reshape(-1, 5).T
        fitted = np.array([p.count > 0 for p in parameters], dtype=bool)
        self._ready = live.replicas > 0
        slots = np.maximum(live.slots, 1.0)
        self._replicas = np.maximum(live.replicas, 1.0)
        trust = np.where(fitted, live.count / (live.count + _FULL_TRUST), live.count > 0)
        scale = _scale(live.tpot_s, tpot_s * self._stretch(slope, np.maximum(live.running, 1.0)), trust)
        tpot_s = tpot_s * scale
        measured_base_s = np.maximum(live.ttft_s - np.nan_to_num(live.queue_s), 1e-4)
        base_s = np.where(fitted, base_s * scale, base_s * _scale(measured_base_s, base_s, trust))
        prefill_s = np.where(fitted, prefill_s * scale, np.where(trust > 0, 0.0, prefill_s))
        unfitted = ~fitted & np.isfinite(live.output_tokens)
        length = np.array([p.length for p in parameters]).reshape(-1, LENGTH_INPUTS)
        length[unfitted] = 0.0
        length[unfitted, 0] = np.log1p(live.output_tokens[unfitted])
        mean_output = np.where(unfitted, live.output_tokens, [p.mean_output_tokens for p in parameters])
        full_s = base_s + tpot_s * self._stretch(slope, slots) * mean_output
        self._wait_s = full_s / slots  # seconds that each request beyond the slots adds
        parts = {
            "length": length.T,
            "base_s": base_s + cold_s * live.cold - full_s,
            "prefill_s": prefill_s,
            "wait_s": self._wait_s,
            "slots": slots,
            "replicas": self._replicas,
            "busy": live.running + live.waiting,
            "alone_s": tpot_s * (1.0 - slope),  # TPOT is affine in the sequences that run
            "each_s": tpot_s * slope / self._replicas,
        }
        self._bound = np.ascontiguousarray(np.vstack([parts[name] for name in BOUND]))

    @property
    def capacity_per_s(self) -> FloatArray:
        """[M] requests/s that the ready replicas finish with every slot busy; 0 without a replica."""
        return np.where(self._ready, 1.0 / self._wait_s, 0.0)

    def _stretch(self, slope: FloatArray, sequences: FloatArray) -> FloatArray:
        """[M] factor on TPOT while `sequences` [M] run over all replicas of a model."""
        return 1.0 + slope * np.maximum(sequences / self._replicas - 1.0, 0.0)

    def predict(
        self, prompt: FloatArray, style: F32, in_flight: FloatArray, max_tokens: int | None
    ) -> LatencyPrediction:
        """Predictions for one more request with `prompt` [P] and `style` [S] behind `in_flight` [M]."""
        found = np.empty((3, len(in_flight)))
        most_tokens = math.inf if max_tokens is None else max(float(max_tokens), 1.0)
        predict_latency(self._bound, prompt, style, in_flight, most_tokens, found)
        return LatencyPrediction(*found)


def _scale(measured: FloatArray, expected: FloatArray, trust: FloatArray) -> FloatArray:
    """[M] factor that brings `expected` to `measured`, as far as `trust` in [0, 1] goes; 1 where NaN."""
    ratio = np.clip(np.nan_to_num(measured / np.maximum(expected, 1e-9), nan=1.0), *_LIVE_SCALE)
    scale: FloatArray = np.power(ratio, trust)
    return scale


@dataclass(slots=True)
class LatencyModel:
    """Fitted parameters by model; models that it does not know get the prior and their live measurements."""

    parameters: dict[str, LatencyParameters] = field(default_factory=dict)
    revision: str = ""

    def bind(self, live: LiveLoad) -> BoundLatency:
        """Join with one live reading."""
        prior = LatencyParameters()
        return BoundLatency([self.parameters.get(model, prior) for model in live.models], live)

    def to_bytes(self) -> bytes:
        """JSON: parameters are few and readable."""
        models = {model: asdict(one) for model, one in self.parameters.items()}
        return json.dumps({"version": VERSION, "revision": self.revision, "models": models}).encode()

    @staticmethod
    def from_bytes(data: bytes) -> "LatencyModel":
        """Raises ValueError for another version, unknown fields or numbers that are not finite and >= 0."""
        stored = json.loads(data)
        if stored.get("version") != VERSION:
            raise ValueError(f"Latency model version {stored.get('version')}: must be {VERSION}.")
        parameters = {}
        for model, values in stored["models"].items():
            try:
                one = LatencyParameters(**{**values, "length": tuple(values["length"])})
            except (TypeError, KeyError) as error:
                raise ValueError(f"Latency model of '{model}': {error}.") from error
            _check(model, one)
            parameters[model] = one
        return LatencyModel(parameters, str(stored.get("revision", "")))


def _check(model: str, one: LatencyParameters) -> None:
    numbers: Mapping[str, float] = {k: v for k, v in asdict(one).items() if k != "length"}
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"Latency model of '{model}', '{name}': {value}, must be finite and >= 0.")
    if len(one.length) != LENGTH_INPUTS or not all(math.isfinite(value) for value in one.length):
        raise ValueError(f"Latency model of '{model}', 'length': must be {LENGTH_INPUTS} finite numbers.")


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
    tokens = prompts[:, _PROMPT_TOKENS]
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


def _relative_nnls(inputs: FloatArray, target: FloatArray) -> list[float]:
    """Non-negative coefficients minimising the squared relative error, columns scaled first."""
    from scipy.optimize import nnls

    scale = np.maximum(inputs.max(axis=0), 1e-12)
    coefficients, _ = nnls(inputs / scale / target[:, None], np.ones_like(target))
    return [float(value) for value in coefficients / scale]


def fit_length(inputs: FloatArray, output_tokens: FloatArray) -> tuple[float, ...]:
    """[L] ridge coefficients of log(1 + output_tokens) [N] on `inputs` [N, L], brought to one spread.

    The mean, which the first input carries, is not shrunk.
    """
    target = np.log1p(output_tokens)
    level = float(target.mean())
    centre, spread = inputs[:, 1:].mean(axis=0), inputs[:, 1:].std(axis=0) + _LEAST_SPREAD
    x = (inputs[:, 1:] - centre) / spread
    slope = np.linalg.solve(x.T @ x + _LENGTH_PENALTY * np.eye(x.shape[1]), x.T @ (target - level)) / spread
    return (level - float(slope @ centre), *(float(value) for value in slope))
