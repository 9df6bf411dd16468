"""More requests than a named model can answer, and a neighbour who floods it.

A private pool: one simulated model of two replicas behind two ingress replicas and HAProxy. Its capacity is
what it answers while twice as many clients as it has slots ask without a pause. Then requests arrive by the
clock (Poisson) at 0.9 and at three times that rate; a burst is refused in part, and whoever was refused comes
again when `Retry-After` said; one key asks for 4 % of the capacity beside another that floods, and beside ten
that share the same total load equally; and `batch` requests compete with interactive ones.
"""

import argparse
import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from scripts.benchmarks.faults.arrivals import Endpoint, Seen, Sender
from scripts.benchmarks.report import Bar, Report, bar
from scripts.benchmarks.serving.private_pool import document, simulated_model, started
from serve_app.console.text_table import print_table

MODEL: Final = "simulated"
REPLICAS: Final = 2
SLOTS: Final = 12  # of a replica
SIMULATED: Final = {
    "decode_step_s": 0.04,
    "decode_step_per_sequence_s": 0.0,
    "mean_output_tokens": 16,
    "max_sequences": SLOTS,
}
BODY: Final = {"max_tokens": 128}
FIXED: Final = {"max_tokens": 16, "ignore_eos": True}  # so that a key's times tell of waiting alone
EVEN: Final = tuple(f"even-{number}" for number in range(10))
NAMES: Final = ("one", "calm", "flood", "batch", *EVEN)
WARM_S: Final = 5.0  # of a phase, not measured
CALM: Final = 0.04  # of the capacity: half of the eleventh part that is its fair share beside ten others
TOTAL: Final = 2.0
BURST: Final = 3  # times what may wait and run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=25.0, help="of each phase (25)")
    parser.add_argument("--rounds", type=int, default=3, help="of the flood and of the even load (3)")


@dataclass(frozen=True, slots=True)
class Pool:
    """The endpoint, and the text of each key by name."""

    endpoint: Endpoint
    keys: dict[str, str]
    seconds: float

    def sender(self, name: str, per_s: float, **body: Any) -> Sender:
        """So many requests a second of one key."""
        return Sender(name, self.keys[name], per_s, {**BODY, **body})

    def phase(self, seed: int, *senders: Sender) -> list[Seen]:
        """What was due after the warm-up of one phase."""
        found = asyncio.run(self.endpoint.open_loop(senders, WARM_S + self.seconds, seed))
        return [one for one in found if one.due_s >= WARM_S]


@contextmanager
def _pool(seconds: float) -> Iterator[Pool]:
    keys = {one: f"fs-{secrets.token_urlsafe(24)}" for one in NAMES}
    entries = [{"name": one, "key": text} for one, text in keys.items()]
    with started(document([simulated_model(MODEL, SIMULATED, replicas=REPLICAS)]), entries) as pool:
        yield Pool(Endpoint(pool.base_url, MODEL), keys, seconds)


def run(args: argparse.Namespace) -> Report:
    """Every phase in turn on one pool."""
    results: dict[str, Any] = {}
    bars: list[Bar] = []
    with _pool(args.seconds) as pool, tqdm(total=5, unit="phase") as progress:
        capacity = results["capacity_per_s"] = _capacity(pool)
        for phase in (_threefold, _burst, _neighbour, _batch):
            progress.set_description(phase.__name__)
            progress.update()
            found, judged = phase(pool, capacity, args)
            results |= found
            bars += judged
    print_table(("phase", "sent", "served/s", "p50 s", "p99 s", "refused"), _rows(results), title="overload")
    return Report("overload", tuple(bars), results)


def _capacity(pool: Pool) -> float:
    """Answers a second while there are always requests; the first half is to warm up."""
    seconds = max(pool.seconds, 20.0)
    clients = 2 * SLOTS * REPLICAS
    found = asyncio.run(pool.endpoint.closed_loop(pool.sender("one", 0.0), clients, seconds))
    ends = [one.due_s + one.took_s for one in found if one.status == 200]
    return sum(seconds / 2 <= end < seconds for end in ends) / (seconds / 2)


Phase = tuple[dict[str, Any], list[Bar]]


def _threefold(pool: Pool, capacity: float, args: argparse.Namespace) -> Phase:
    below = pool.phase(1, pool.sender("one", 0.9 * capacity))
    above = pool.phase(2, pool.sender("one", 3.0 * capacity))
    refused = [one for one in above if one.status == 429]
    found = {"load 0.9": _summary(below, args.seconds), "load 3": _summary(above, args.seconds)}
    strange = sum(one.status not in (200, 429) for one in (*below, *above))
    return found, [
        bar("three times: goodput, share of the capacity", _served(above, args) / capacity, ">=", 0.9),
        bar("three times: p99 of the admitted over that at 0.9", _p99_s(above) / _p99_s(below), "<=", 2.0),
        bar("three times: p99 of the refusals, ms", 1e3 * _quantile(refused, 0.99), "<=", 100.0),
        bar(
            "three times: refusals without Retry-After",
            sum(not one.retry_after_s for one in refused),
            "<=",
            0,
        ),
        bar("three times: answers that are neither 200 nor 429", strange, "<=", 0),
    ]


def _burst(pool: Pool, capacity: float, args: argparse.Namespace) -> Phase:
    count = BURST * 4 * SLOTS * REPLICAS
    found = asyncio.run(pool.endpoint.burst(pool.sender("one", 0.0), count))
    first, again = [one for one in found if not one.due_s], [one for one in found if one.due_s]
    told = [one.retry_after_s for one in first if one.status == 429]
    served = sum(one.status == 200 for one in again) / max(len(again), 1)
    summary = {"sent": count, "refused": len(told), "retry_after_s": [min(told), max(told)], "again": served}
    return {"burst": summary}, [bar("burst: served when Retry-After was kept, share", served, ">=", 0.99)]


def _neighbour(pool: Pool, capacity: float, args: argparse.Namespace) -> Phase:
    calm = pool.sender("calm", CALM * capacity, **FIXED)
    rest = (TOTAL - CALM) * capacity
    found: dict[str, list[Seen]] = {"flood": [], "even": []}
    for number in range(args.rounds):
        seed = 10 + 20 * number
        found["flood"] += pool.phase(seed, calm, pool.sender("flood", rest))
        found["even"] += pool.phase(seed, calm, *(pool.sender(name, rest / len(EVEN)) for name in EVEN))
    own = {way: [one for one in seen if one.sender == "calm"] for way, seen in found.items()}
    seconds = args.seconds * args.rounds
    summaries = {f"calm beside {way}": _summary(seen, seconds) for way, seen in own.items()}
    summaries |= {f"all, {way}": _summary(seen, seconds) for way, seen in found.items()}
    refused = sum(one.status != 200 for one in own["flood"])
    ratio = _p99_s(own["flood"]) / _p99_s(own["even"])
    goodput = _served(found["flood"], args) / args.rounds / capacity
    return summaries, [
        bar("neighbour: p99 beside one who floods over that beside ten", ratio, "<=", 1.2),
        bar("neighbour: refused below its share", refused, "<=", 0),
        bar("neighbour: goodput of all, share", goodput, ">=", 0.9),
    ]


def _batch(pool: Pool, capacity: float, args: argparse.Namespace) -> Phase:
    calm = pool.sender("calm", 0.5 * capacity, **FIXED)
    alone = pool.phase(3, calm)
    batch = pool.sender("batch", 2.0 * capacity, fastserve={"priority": "batch"})
    beside = pool.phase(3, calm, batch)
    own = [one for one in beside if one.sender == "calm"]
    found = {
        "interactive alone": _summary(alone, args.seconds),
        "interactive beside batch": _summary(own, args.seconds),
        "batch": _summary([one for one in beside if one.sender == "batch"], args.seconds),
    }
    return found, [
        bar("batch: interactive requests refused beside it", sum(one.status != 200 for one in own), "<=", 0),
        bar("batch: their p99 over that alone", _p99_s(own) / _p99_s(alone), "<=", 1.5),
        bar("batch: goodput of both, share", _served(beside, args) / capacity, ">=", 0.9),
    ]


def _served(seen: Sequence[Seen], args: argparse.Namespace) -> float:
    """Answers a second of the requests that were due in the measured time."""
    return sum(one.status == 200 for one in seen) / float(args.seconds)


def _quantile(seen: Sequence[Seen], share: float) -> float:
    return float(np.quantile([one.took_s for one in seen], share)) if seen else 0.0


def _p99_s(seen: Sequence[Seen]) -> float:
    return _quantile([one for one in seen if one.status == 200], 0.99)


def _summary(seen: Sequence[Seen], seconds: float) -> dict[str, Any]:
    served = [one for one in seen if one.status == 200]
    refused = [one for one in seen if one.status == 429]
    shares = (("p50", 0.5), ("p99", 0.99), ("most", 1.0))
    return {
        "sent": len(seen),
        "served_per_s": len(served) / seconds,
        "p50_s": _quantile(served, 0.5),
        "p99_s": _quantile(served, 0.99),
        "answers": dict(Counter(str(one.status) for one in seen)),
        "waited_ms_p50": float(np.median([one.waited_ms for one in served])) if served else 0.0,
        "refusal_ms": {name: 1e3 * _quantile(refused, share) for name, share in shares},
        "retry_after_s": sorted({one.retry_after_s for one in refused}),
    }


def _rows(results: dict[str, Any]) -> list[tuple[Any, ...]]:
    phases = [(name, one) for name, one in results.items() if isinstance(one, dict) and "p50_s" in one]
    return [
        (name, one["sent"], one["served_per_s"], one["p50_s"], one["p99_s"], one["answers"].get("429", 0))
        for name, one in phases
    ]
