"""Predicts each model's TTFT, end-to-end latency and answer length for one prompt at the present load."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple

import numpy as np

from policies import observation as column
from policies.arrays import F32, F64
from policies.compiled import array, compiled, readonly, types
from policies.observation import CJK_SHARE, PROMPT_FIELDS
from policies.prompt.style import STYLE_SIZE

_SHARES: Final = len(PROMPT_FIELDS) - CJK_SHARE  # shares and hints, the last of PROMPT_FIELDS
_STYLE: Final = 3 + _SHARES  # where the style begins among the inputs of the answer's length
LENGTH_INPUTS: Final = _STYLE + STYLE_SIZE
MOST_LOG_TOKENS: Final = 12.0
BOUND: Final = (
    "length",  # its rows are the coefficients of the answer's length
    "base_s",
    "prefill_s",
    "wait_s",
    "slots",
    "replicas",
    "busy",
    "alone_s",
    "each_s",
)
_BASE, _PREFILL, _WAIT, _SLOTS, _REPLICAS, _BUSY, _ALONE, _EACH = range(LENGTH_INPUTS, LENGTH_INPUTS + 8)

_F64, _F64_2 = readonly(types.float64), readonly(types.float64, 2)
_STYLE_FIELDS: Final = readonly(types.float32)


@compiled(types.void(_F64, _STYLE_FIELDS, array(types.float64)))
def write_length_inputs(prompt: F64, style: F32, inputs: F64) -> None:
    """What the answer's length is regressed on: 1, logs of lengths, shares and hints from `prompt` [P], then
    `style` [S], how it is written."""
    inputs[0] = 1.0
    inputs[1] = math.log1p(prompt[column.PROMPT_TOKENS])
    inputs[2] = math.log1p(prompt[column.TURNS])
    inputs[3:_STYLE] = prompt[column.CJK_SHARE :]
    inputs[_STYLE:] = style


@compiled(types.void(_F64_2, _F64, _STYLE_FIELDS, _F64, types.float64, array(types.float64, 2)))
def predict_latency(
    bound: F64, prompt: F64, style: F32, in_flight: F64, most_tokens: float, out: F64
) -> None:
    """Write [3, M]: TTFT, end-to-end latency, output tokens, as BoundLatency.predict gives them.

    `bound` [69, M] holds one row for each part of BOUND; `most_tokens` caps the answer.
    """
    inputs = np.empty(LENGTH_INPUTS)
    write_length_inputs(prompt, style, inputs)
    lengths = np.zeros(len(in_flight))
    for i in range(LENGTH_INPUTS):
        for m in range(len(in_flight)):
            lengths[m] += bound[i, m] * inputs[i]
    for m in range(len(in_flight)):
        tokens = max(math.expm1(min(lengths[m], MOST_LOG_TOKENS)), 1.0)
        tokens = min(tokens, most_tokens)
        there = max(in_flight[m], bound[_BUSY, m]) + 1.0
        ttft_s = bound[_BASE, m] + bound[_PREFILL, m] * prompt[column.PROMPT_TOKENS]
        ttft_s += bound[_WAIT, m] * max(there, bound[_SLOTS, m])
        running = max(min(there, bound[_SLOTS, m]), bound[_REPLICAS, m])
        out[0, m] = ttft_s
        out[1, m] = ttft_s + (bound[_ALONE, m] + bound[_EACH, m] * running) * (tokens - 1.0)
        out[2, m] = tokens


VERSION: Final = 2
_FULL_TRUST: Final = 10.0  # live count at which half of a live deviation is believed
_LIVE_SCALE: Final = (0.05, 50.0)
_PRIOR_TOKENS: Final = 128.0  # of an answer


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
class LiveLoad:
    """What the table measured, one entry a model [M]; NaN where nothing is measured yet."""

    models: tuple[str, ...]
    slots: F64
    replicas: F64
    running: F64
    waiting: F64
    cold: F64
    ttft_s: F64  # median
    queue_s: F64  # median wait inside the engine
    tpot_s: F64  # mean
    output_tokens: F64  # mean
    count: F64  # outcomes in the window
    ready_in_s: F64 | None = None  # until a model that sleeps serves, 0 where it is not known


class LatencyPrediction(NamedTuple):
    """[M] each: seconds to the first token, seconds to the last, tokens of the answer."""

    ttft_s: F64
    e2e_s: F64
    output_tokens: F64


def length_inputs(prompt: F64, style: F32) -> F64:
    """[L] inputs of the answer-length regression: 1, logs of lengths, shares and hints from `prompt` [P], and
    `style` [S]."""
    inputs = np.empty(LENGTH_INPUTS)
    write_length_inputs(prompt, style, inputs)
    return inputs


class FirstToken(NamedTuple):
    """Seconds of one model: until a prompt of no length is answered, for each token that is read, and from
    first to last of a mean request."""

    base_s: float
    prefill_s: float
    service_s: float

    def reading_s(self, tokens: float, cached_share: float) -> float:
        """To the first token of a prompt of which a share need not be read, where nothing waits.

        The share is taken off the whole: fits put the cost of reading into `base_s`, because queues and
        caches hide how TTFT grows with the prompt.
        """
        return (self.base_s + self.prefill_s * tokens) * (1.0 - cached_share)


class BoundLatency:
    """The parameters of M models joined with one live reading: what one snapshot costs is paid here once."""

    def __init__(self, parameters: Sequence[LatencyParameters], live: LiveLoad) -> None:
        columns = np.array([(p.base_s, p.prefill_s, p.tpot_s, p.batch_slope, p.cold_s) for p in parameters])
        base_s, prefill_s, tpot_s, slope, cold_s = columns.reshape(-1, 5).T
        fitted = np.array([p.count > 0 for p in parameters], dtype=bool)
        self._ready = live.replicas > 0
        if live.ready_in_s is not None:
            cold_s = np.where(live.ready_in_s > 0.0, live.ready_in_s, cold_s)
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
        self._first = base_s, prefill_s, full_s
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
    def capacity_per_s(self) -> F64:
        """[M] requests/s that the ready replicas finish with every slot busy; 0 without a replica."""
        return np.where(self._ready, 1.0 / self._wait_s, 0.0)

    def alone_s(self, tokens: float) -> F64:
        """[M] seconds to the first token of a prompt of so many tokens, where nothing waits."""
        base_s, prefill_s, _ = self._first
        seconds: F64 = base_s + prefill_s * tokens
        return seconds

    def _stretch(self, slope: F64, sequences: F64) -> F64:
        """[M] factor on TPOT while `sequences` [M] run over all replicas of a model."""
        return 1.0 + slope * np.maximum(sequences / self._replicas - 1.0, 0.0)

    def first_token(self, model: int) -> FirstToken:
        """What the first token of one of the models takes."""
        base_s, prefill_s, service_s = self._first
        return FirstToken(float(base_s[model]), float(prefill_s[model]), float(service_s[model]))

    def predict(self, prompt: F64, style: F32, in_flight: F64, max_tokens: int | None) -> LatencyPrediction:
        """Predictions for one more request with `prompt` [P] and `style` [S] behind `in_flight` [M]."""
        out = np.empty((3, len(in_flight)))
        most_tokens = math.inf if max_tokens is None else max(float(max_tokens), 1.0)
        predict_latency(self._bound, prompt, style, in_flight, most_tokens, out)
        return LatencyPrediction(*out)


def _scale(measured: F64, expected: F64, trust: F64) -> F64:
    """[M] factor that brings `expected` to `measured`, as far as `trust` in [0, 1] goes; 1 where NaN."""
    ratio = np.clip(np.nan_to_num(measured / np.maximum(expected, 1e-9), nan=1.0), *_LIVE_SCALE)
    scale: F64 = np.power(ratio, trust)
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
        models = {model: asdict(entry) for model, entry in self.parameters.items()}
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
                entry = LatencyParameters(**{**values, "length": tuple(values["length"])})
            except (TypeError, KeyError) as error:
                raise ValueError(f"Latency model of '{model}': {error}.") from error
            _check(model, entry)
            parameters[model] = entry
        return LatencyModel(parameters, str(stored.get("revision", "")))


def _check(model: str, entry: LatencyParameters) -> None:
    numbers: Mapping[str, float] = {k: v for k, v in asdict(entry).items() if k != "length"}
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"Latency model of '{model}', '{name}': {value}, must be finite and >= 0.")
    if len(entry.length) != LENGTH_INPUTS or not all(math.isfinite(value) for value in entry.length):
        raise ValueError(f"Latency model of '{model}', 'length': must be {LENGTH_INPUTS} finite numbers.")
