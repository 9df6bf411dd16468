"""The order in which requests wait for a full model: short ones first, against first come, first served.

A private pool of three simulated models that differ in one thing, what is predicted of answers: nothing
("arrival": then they are served in the order of their arrival), as much as can be told of real prompts (by
"answer_length": a correlation of 0.6 with the log of the real length), or the real length ("known"). All
three get the same requests at the same times, so that each moment of the machine is the same for all of them.
The ingress predicts lengths from prompts with a latency model fitted to the first part of the recorded trace,
as the learner fits it: the share of digits in a prompt tells as much of the length as it is meant to.
Requests of the last part arrive as they were recorded, stretched to a load; a rush of `--seconds` begins with
an empty pool and ends with it. What is refused, or not answered by its deadline, counts as its deadline.
"""

import argparse
import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import orjson
from tqdm import tqdm

from deployments.table.connect import find_table
from policies.arrays import F64
from policies.latency.fit import LatencySample, fit_latency
from policies.latency.model import LatencyModel, length_inputs
from policies.prompt.features import PromptFeatures, extract
from policies.simulator.arrivals import Trace, read_trace, synthetic_trace
from scripts.benchmarks.faults.arrivals import Endpoint, Seen, Sender
from scripts.benchmarks.load.pool import DEADLINE_S, TARGET_S
from scripts.benchmarks.load.study import LENGTH_SKILL, TRAIN_SHARE
from scripts.benchmarks.report import Bar, Report, bar, interval
from scripts.benchmarks.serving.private_pool import document, simulated_model, started
from serve_app.console.text_table import print_table

ARRIVAL, PREDICTED, KNOWN = WAYS = ("arrival", "predicted", "known")
LOADS: Final = (0.7, 1.0, 1.2)
SLOTS: Final = 24  # of each model
STEP_S: Final = 0.04
TOKENS_SHARE: Final = 0.25  # of the recorded length of an answer, so that a rush holds many of them
FITTED: Final = 1500  # requests of the first part
SIMULATED: Final = {
    "decode_step_s": STEP_S,
    "decode_step_per_sequence_s": 0.0,
    "prefill_tokens_per_s": 1e6,
    "mean_output_tokens": 1,  # `min_tokens` says how long an answer is, and no prediction reads it
    "max_sequences": SLOTS,
}
WORDS: Final = 120  # of a prompt, all of five letters or digits
_TOLD: Final = 20  # answers in a row by which both ingress replicas have the latency model
_SETTLE_S: Final = 60.0

Round = Mapping[str, Sequence[Seen]]  # the answers of one rush by way


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--arrivals", type=Path, help="CSV: arrival_s, prompt_tokens, output_tokens (default: synthetic)"
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="of each rush (40)")
    parser.add_argument("--rounds", type=int, default=3, help="rushes at each load (3)")


@dataclass(frozen=True, slots=True)
class Work:
    """N requests: when they come [N], tokens of their answers [N], what two prompts tell of these [N]."""

    arrival_s: F64
    tokens: F64
    told: Mapping[str, F64]  # by way, in standard deviations of the log length

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, first: int, last: int, load: float) -> "Work":
        """Some of them, at `load` times what the slots can do of exactly these."""
        tokens, at_s = self.tokens[first:last], self.arrival_s[first:last]
        seconds = float(tokens.sum()) * STEP_S / SLOTS / load
        at_s = (at_s - at_s[0]) * (seconds / max(float(at_s[-1] - at_s[0]), 1e-9))
        return Work(at_s, tokens, {way: told[first:last] for way, told in self.told.items()})


def prompt(told: float) -> str:
    """A prompt whose share of digits tells so much."""
    digits = int(np.clip(round(WORDS * (0.5 + 0.15 * told)), 1, WORDS - 1))
    return " ".join(["12345"] * digits + ["words"] * (WORDS - digits))


def work_of(trace: Trace, seed: int = 1) -> Work:
    """The trace's requests, with prompts that tell nothing, a part or all of the length of the answers."""
    tokens = np.maximum(np.rint(trace.output_tokens * TOKENS_SHARE), 1.0)
    logs = np.log1p(tokens)
    real = (logs - logs.mean()) / logs.std()
    noise = np.random.default_rng(seed).standard_normal(len(real))
    seen = LENGTH_SKILL * real + np.sqrt(1.0 - LENGTH_SKILL**2) * noise
    return Work(trace.arrival_s, tokens, {ARRIVAL: np.zeros(len(real)), PREDICTED: seen, KNOWN: real})


def fitted(work: Work, count: int) -> LatencyModel:
    """What the learner makes of the first `count` requests, each way's prompts for its model."""
    rows = np.unique(np.linspace(0, count - 1, FITTED).astype(int)).tolist()
    return fit_latency(
        [_sample(way, extract(prompt(work.told[way][i])), int(work.tokens[i])) for way in WAYS for i in rows],
        revision="order",
    )


def _sample(way: str, features: PromptFeatures, tokens: int) -> LatencySample:
    dense = tuple(features.dense.tolist())
    return LatencySample(way, dense, features.style, 0.0, SLOTS, 1.0, tokens, STEP_S, STEP_S)


def skill(model: LatencyModel, work: Work, way: str) -> float:
    """Correlation of predicted and real log length."""
    told = [extract(prompt(one)) for one in work.told[way]]
    inputs = np.stack([length_inputs(one.dense, one.style) for one in told])
    said = inputs @ np.array(model.parameters[way].length)
    return float(np.corrcoef(said, np.log1p(work.tokens))[0, 1])


@dataclass(frozen=True, slots=True)
class Pool:
    """The endpoint, and the one key of all requests."""

    url: str
    key: str

    def rush(self, work: Work) -> dict[str, list[Seen]]:
        """The same requests for every model at the same times; the answers by way."""
        plan = [
            (float(work.arrival_s[i]), self._sender(way, work, i)) for i in range(len(work)) for way in WAYS
        ]
        found = asyncio.run(Endpoint(self.url, "").replay(plan))
        return {way: [one for one in found if one.sender == way] for way in WAYS}

    def _sender(self, way: str, work: Work, i: int) -> Sender:
        said = prompt(work.told[PREDICTED if way == ARRIVAL else way][i])
        body = {
            "model": way,
            "messages": [{"role": "user", "content": said}],
            "min_tokens": int(work.tokens[i]),
            "fastserve": {"deadline_s": DEADLINE_S},
        }
        return Sender(way, self.key, 0.0, body)

    async def learn(self, model: LatencyModel) -> None:
        """Publish a latency model, and wait until both ingress replicas predict by it.

        Raises SystemExit where they do not.
        """
        await find_table().put_artifact("latency", model.revision, model.to_bytes())
        until_s, told = time.monotonic() + _SETTLE_S, 0
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {self.key}"}) as session:
            while told < _TOLD:
                if time.monotonic() > until_s:
                    raise SystemExit(f"The ingress did not take the latency model within {_SETTLE_S:.0f} s.")
                told = told + 1 if await self._writes_longer(session) else 0
                await asyncio.sleep(0.05)

    async def _writes_longer(self, session: aiohttp.ClientSession) -> bool:
        """Whether the answer to a prompt that tells of a long one is predicted to take longer."""
        short_s, long_s = [await self._writing_s(session, prompt(told)) for told in (-2.0, 2.0)]
        return long_s > 2.0 * short_s

    async def _writing_s(self, session: aiohttp.ClientSession, said: str) -> float:
        body = orjson.dumps({"model": KNOWN, "messages": [{"role": "user", "content": said}]})
        headers = {"content-type": "application/json"}
        async with session.post(
            f"{self.url}/v1/dispatch/explain", data=body, headers=headers, raise_for_status=True
        ) as response:
            candidates = (await response.json())["candidates"]
        own = next(one for one in candidates if one["model"] == KNOWN)
        return float(own["e2e_s"] - own["ttft_s"])


@contextmanager
def _pool() -> Iterator[Pool]:
    key = f"fs-{secrets.token_urlsafe(24)}"
    models = [simulated_model(way, SIMULATED) for way in WAYS]
    with started(document(models), [{"name": "one", "key": key}]) as pool:
        yield Pool(pool.base_url, key)


def run(args: argparse.Namespace) -> Report:
    """Rushes at each load in turn, round after round."""
    trace = read_trace(args.arrivals) if args.arrivals is not None else synthetic_trace(20_000, 1)
    work, split = work_of(trace), int(len(trace) * TRAIN_SHARE)
    model = fitted(work, split)
    found: dict[float, list[Round]] = {load: [] for load in LOADS}
    first, sent = split, list[Work]()
    with _pool() as pool, tqdm(total=args.rounds * len(LOADS), unit="rush") as progress:
        asyncio.run(pool.learn(model))
        for _ in range(args.rounds):
            for load in LOADS:
                last = first + _count(work, load, args.seconds)
                sent.append(work.part(first, last, load))
                found[load].append(pool.rush(sent[-1]))
                first = last
                progress.update()
    whole = Work(np.empty(0), np.concatenate([one.tokens for one in sent]), _joined(sent))
    skills = {way: skill(model, whole, way) for way in (PREDICTED, KNOWN)}
    results = {str(load): _summaries(rounds) for load, rounds in found.items()}
    print_table(("load", "way", "sent", "mean s", "p99 s", "in target", "not answered"), _rows(results))
    return Report("order", tuple(_bars(found)), {"correlation": skills, "loads": results})


def _count(work: Work, load: float, seconds: float) -> int:
    return max(round(seconds * load * SLOTS / STEP_S / float(work.tokens.mean())), 2)


def _joined(sent: Sequence[Work]) -> dict[str, F64]:
    return {way: np.concatenate([one.told[way] for one in sent]) for way in WAYS}


def _took_s(seen: Sequence[Seen]) -> F64:
    """[N] seconds from arrival to the end of the answer; the deadline where there was none."""
    return np.array([min(one.took_s, DEADLINE_S) if one.status == 200 else DEADLINE_S for one in seen])


def passed_over(seen: Sequence[Seen]) -> int:
    """Requests that got no answer by their deadline, while one that came later was served before it came."""
    begun = [(one.due_s, one.due_s + one.waited_ms / 1e3) for one in seen if one.status == 200]
    late = [one.due_s for one in seen if one.status == 504]
    return sum(any(due_s > at_s and began_s < at_s + DEADLINE_S for due_s, began_s in begun) for at_s in late)


def _summaries(rounds: Sequence[Round]) -> dict[str, Any]:
    return {way: _summary([one for found in rounds for one in found[way]]) for way in WAYS}


def _summary(seen: Sequence[Seen]) -> dict[str, Any]:
    took_s = _took_s(seen)
    statuses = [one.status for one in seen]
    return {
        "sent": len(seen),
        "mean_s": float(took_s.mean()),
        "p50_s": float(np.quantile(took_s, 0.5)),
        "p99_s": float(np.quantile(took_s, 0.99)),
        "in_target": float((took_s <= TARGET_S).mean()),
        "refused": statuses.count(429),
        "expired": statuses.count(504),
        "answered": statuses.count(200),
        "passed_over": passed_over(seen),
    }


def _bars(found: Mapping[float, Sequence[Round]]) -> list[Bar]:
    calm, rush = found[min(LOADS)], found[max(LOADS)]
    ratio, spread = interval(_mean_ratios(rush, PREDICTED))
    known, _ = interval(_mean_ratios(rush, KNOWN))
    idle, idle_spread = interval(_mean_ratios(calm, PREDICTED))
    whole = _summaries(rush)
    p99 = whole[PREDICTED]["p99_s"] / whole[ARRIVAL]["p99_s"]
    answers = [(way, seen) for rounds in found.values() for one in rounds for way, seen in one.items()]
    over = sum(passed_over(seen) for way, seen in answers if way != ARRIVAL)
    strange = sum(one.status not in (200, 429, 504) for _, seen in answers for one in seen)
    return [
        bar("1.2: mean over that of first come, first served", ratio, "<=", 0.7, spread),
        bar("1.2: p99 over that of first come, first served", p99, "<=", 1.1),
        bar("1.2: part of the gain of knowing the lengths", (1.0 - ratio) / (1.0 - known), ">=", 0.5),
        bar("0.7: mean over that of first come, first served", idle, "<=", 1.02, idle_spread),
        bar("without an answer by the deadline while a later one was served", over, "<=", 0),
        bar("answers that are none of 200, 429 and 504", strange, "<=", 0),
    ]


def _mean_ratios(rounds: Sequence[Round], way: str) -> list[float]:
    return [float(_took_s(found[way]).mean() / _took_s(found[ARRIVAL]).mean()) for found in rounds]


def _rows(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[tuple[Any, ...]]:
    return [
        (load, way, one["sent"], one["mean_s"], one["p99_s"], one["in_target"], one["sent"] - one["answered"])
        for load, ways in results.items()
        for way, one in ways.items()
    ]
